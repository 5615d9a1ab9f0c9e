"""How a tokenizer lies on disk: `config.json` (canonical JSON) and `model.safetensors`.

Nothing is unpickled. Both files are a pure function of config and weights: safetensors sorts its tensors, and no
metadata is stored (its order in the header is not fixed).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from vqgan_core.config import TokenizerConfig, canonical_json

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "dump_files", "load_into", "read_config"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def dump_files(config: TokenizerConfig, state: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Config and weights as bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return {CONFIG_FILE: canonical_json(config.recipe()), WEIGHTS_FILE: save_safetensors(tensors)}


def read_config(files: Mapping[str, bytes]) -> TokenizerConfig:
    """The config of a tokenizer's files.

    Raises:
        ValueError: it is missing or not the config of a tokenizer.
    """
    try:
        values = json.loads(_file(files, CONFIG_FILE))
    except ValueError as error:
        raise ValueError(f"{CONFIG_FILE} of the tokenizer: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{CONFIG_FILE} of the tokenizer: expected an object, got {type(values).__name__}")
    return TokenizerConfig.validated(values, origin=f"{CONFIG_FILE} of the tokenizer")


def load_into(module: nn.Module, files: Mapping[str, bytes]) -> None:
    """Give a module, which may be on the meta device, the weights of a tokenizer's files.

    Raises:
        ValueError: the weights are missing, damaged or those of another config.
    """
    try:
        state = load_safetensors(_file(files, WEIGHTS_FILE))
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS_FILE} of the tokenizer is damaged ({error}); fetch or train it again") from None
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in expected | given if expected.get(name) != given.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{WEIGHTS_FILE} does not fit {CONFIG_FILE}: {len(wrong)} tensors differ, first {name}: "
            f"config {expected.get(name, 'has none')}, weights {given.get(name, 'have none')}; "
            "take both files from one tokenizer"
        )
    module.load_state_dict(state, assign=True)


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise ValueError(
            f"the tokenizer has no {name}, only {sorted(files)}; it needs {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    return files[name]
