"""The config beside a checkpoint of another project: where it lies, and what of it concerns us.

taming-transformers keeps a YAML with `model.target` and `model.params` beside the checkpoint, or in `configs` beside
the checkpoint's folder; diffusers a `config.json`; LlamaGen mostly nothing, DALL·E nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from vqgan_core.legacy.checkpoint_file import CheckpointError

__all__ = ["Coordinates", "Project", "TheirConfig", "read_config"]

Project = Literal["taming", "llamagen", "diffusers", "dalle"]

_UNCONDITIONAL = "__is_unconditional__"
_FIRST_STAGE = "__is_first_stage__"


@dataclass(frozen=True)
class Coordinates:
    """How places in an image are told."""

    num_levels: int
    """Into how many levels they are cut."""
    factor: int
    """Pixels a cell along each axis."""


@dataclass(frozen=True)
class TheirConfig:
    """A model's class and its arguments."""

    target: str
    """Name of the class, without its module; empty where the config does not say."""
    params: Mapping[str, Any]
    """Its arguments."""

    @classmethod
    def of(cls, node: Any, where: str) -> TheirConfig:
        """Read a `{target, params}` of OmegaConf's style.

        Raises:
            CheckpointError: it is none.
        """
        if not isinstance(node, Mapping) or not isinstance(node.get("target"), str):
            raise CheckpointError(f"{where}: expected target and params, as in the project's own YAML")
        params = node.get("params") or {}
        if not isinstance(params, Mapping):
            raise CheckpointError(f"{where}.params: expected a mapping, got {type(params).__name__}")
        return cls(node["target"].rpartition(".")[2], params)

    @property
    def first_stage(self) -> TheirConfig:
        """The tokenizer inside a Net2NetTransformer."""
        return TheirConfig.of(self.params.get("first_stage_config"), "first_stage_config")

    @property
    def num_heads(self) -> int | None:
        """Heads of a Net2NetTransformer."""
        params = (self.params.get("transformer_config") or {}).get("params") or {}
        return params.get("n_head")

    @property
    def sos_token(self) -> int | None:
        """Start token of an unconditional Net2NetTransformer; None for a conditional one."""
        unconditional = self.params.get("unconditional") or self.params.get("cond_stage_config") == _UNCONDITIONAL
        return int(self.params.get("sos_token", 0)) if unconditional else None

    @property
    def num_classes(self) -> int | None:
        """Classes of a Net2NetTransformer that is told one; None for another condition, or none."""
        stage = self.params.get("cond_stage_config")
        if self.sos_token is not None or not isinstance(stage, Mapping):
            return None
        return (stage.get("params") or {}).get("n_classes")

    @property
    def condition_stage(self) -> TheirConfig | None:
        """The model whose tokens a Net2NetTransformer is told; None where it is told no image's."""
        stage = self.params.get("cond_stage_config")
        if stage == _FIRST_STAGE:
            return self.first_stage
        return TheirConfig.of(stage, "cond_stage_config") if isinstance(stage, Mapping) else None

    @property
    def condition_key(self) -> str | None:
        """What the project calls the image that a Net2NetTransformer is told."""
        return self.params.get("cond_stage_key")

    @property
    def coordinates(self) -> Coordinates | None:
        """The coordinates that a Net2NetTransformer is told; None: it is told something else.

        Raises:
            CheckpointError: the config does not say which.
        """
        stage = self.condition_stage
        if stage is None or stage.target != "CoordStage":
            return None
        try:
            return Coordinates(stage.params["n_embed"], stage.params["down_factor"])
        except KeyError as error:
            raise CheckpointError(f"cond_stage_config of CoordStage lacks {error}") from None

    @property
    def other_condition(self) -> str | None:
        """What a Net2NetTransformer is told that no import understands, if it is such a thing."""
        stage = self.params.get("cond_stage_config")
        known = ("Labelator", "SOSProvider", "CoordStage")
        if stage == _FIRST_STAGE:
            return "another image's tokens"
        if not isinstance(stage, Mapping) or str(stage.get("target")).endswith(known):
            return None
        return str(stage.get("target"))

    @property
    def condition_size_px(self) -> int | None:
        """To which size a Net2NetTransformer's condition is shrunk first; None: it is not."""
        size = self.params.get("downsample_cond_size", -1)
        return size if size > 0 else None


def read_config(project: Project, weights: Path, given: Path | None) -> TheirConfig | None:
    """The config of a file of weights: the given one, or the only one beside it; None if there is none.

    Raises:
        CheckpointError: it cannot be read, is none, or there are several beside the weights.
    """
    if project == "dalle":
        if given is not None:
            raise CheckpointError(
                "--config: a dVAE of DALL·E has none, its shapes say all; correct fields with key=value"
            )
        return None
    if given is not None:
        return _parsed(project, given)
    found = [(path, config) for path in _beside(project, weights) if (config := _parsed_or_none(project, path))]
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(weights.parent.parent)) for path, _ in found)
        raise CheckpointError(f"{weights.name} has {len(found)} configs beside it ({names}): choose with --config")
    return found[0][1] if found else None


def _beside(project: Project, weights: Path) -> list[Path]:
    if project != "taming":
        path = weights.parent / "config.json"
        return [path] if path.is_file() else []
    folders = (weights.parent, weights.parent.parent / "configs")
    return sorted(path for folder in folders for path in folder.glob("*.yaml"))


def _parsed_or_none(project: Project, path: Path) -> TheirConfig | None:
    """A file beside the weights may be anything (the trainer's own settings); only a model's config counts."""
    content = _content(path)
    is_model = project != "taming" or (isinstance(content, dict) and "model" in content)
    return _parsed(project, path) if is_model else None


def _parsed(project: Project, path: Path) -> TheirConfig:
    content = _content(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a mapping, got {type(content).__name__}")
    if project == "taming":
        return TheirConfig.of(content.get("model"), f"{path}: model")
    return TheirConfig(str(content.get("_class_name", "")), content)


def _content(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read the config {path}: {error}") from None
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from None
