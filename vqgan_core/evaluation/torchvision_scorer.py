"""A torchvision classifier as a judge of samples: how likely an image shows the class that was asked for.

Axes: B batch, C channels (3, or 1 that is repeated), H×W image in [-1, 1], L outputs of the network.

Source: the rejection of arXiv 2012.09841 §4.4 judges ImageNet samples by a ResNet. Images are brought to the network as
torchvision's own evaluation does, but for the crop: samples are whole.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.config import TorchvisionRejection

__all__ = ["ScorerWeightsError", "TorchvisionScorer"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ScorerWeightsError(ValueError):
    """Weights that are not there, or are not those of the network."""


class TorchvisionScorer:
    """Probability that an image is of a class.

    Args:
        config: network, weights, and which output stands for which class.
        num_classes: of the prior.
        device: where it computes.

    Raises:
        ScorerWeightsError: the weights are missing or do not fit.
        ValueError: there is no such network, or it has no output for a class.
    """

    def __init__(self, config: TorchvisionRejection, num_classes: int, device: torch.device) -> None:
        state = _state(Path(config.weights).expanduser())
        self._network = _network(config, state).to(device).eval().requires_grad_(requires_grad=False)
        indices = range(num_classes) if config.class_indices is None else config.class_indices
        num_outputs = _num_outputs(state)
        if len(indices) != num_classes or not all(0 <= index < num_outputs for index in indices):
            raise ValueError(
                f"class_indices {list(indices)[:8]}: expected one of the {num_outputs} outputs of {config.model} for "
                f"each of {num_classes} classes"
            )
        self._indices = torch.tensor(list(indices), device=device)
        self._size_px, self._device = config.size_px, device

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Score each image for its own label."""
        x = images.to(self._device).expand(-1, 3, -1, -1).add(1).div(2)
        size = (self._size_px, self._size_px)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (torch.tensor(values, device=self._device).view(3, 1, 1) for values in (MEAN, STD))
        probabilities: Tensor = self._network((x - mean) / std).softmax(-1)
        return probabilities.gather(1, self._indices[labels.to(self._device)][:, None])[:, 0]


def _network(config: TorchvisionRejection, state: Mapping[str, Tensor]) -> nn.Module:
    from torchvision import models  # noqa: PLC0415 - takes a second; most runs never need it

    if config.model not in models.list_models(module=models):
        raise ValueError(f"torchvision has no classifier {config.model!r}: for example resnet50 or convnext_tiny")
    network: nn.Module = models.get_model(config.model, weights=None, num_classes=_num_outputs(state))
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ScorerWeightsError(f"{config.weights} are no weights of {config.model}: {reason}") from None
    return network


def _num_outputs(state: Mapping[str, Tensor]) -> int:
    """Rows of the head, the last matrix of a classifier, be it linear or a 1×1 convolution."""
    heads = [value for name, value in state.items() if name.endswith("weight") and value.ndim in (2, 4)]
    if not heads:
        raise ScorerWeightsError("the weights of a classifier hold matrices, these hold none")
    return len(heads[-1])


def _state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ScorerWeightsError(f"rejection.weights {path}: there is no such file; give the path of a state dict")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ScorerWeightsError(f"{path} cannot be read as tensors ({str(error).splitlines()[0]})") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ScorerWeightsError(f"{path}: expected a state dict, got {type(state).__name__}")
    return dict(state)
