"""LPIPS, the perceptual distance, with weights from an explicit place.

Axes: B batch, C channels (3, or 1 that is repeated), H×W image in [-1, 1].

Source: arXiv 1801.03924 (version 0.1), through the `lpips` package. Departures from the original's use of it:

- Its dropout is taken out: there, switching the model to training switched it on, and the loss became random.
- It is a fixed function and no part of the model: no parameter of it is trained, moved to another mode or written into
  a checkpoint; the config names its weights.
- It is always fp32. Without weights it is an error, never another loss.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core.config import LpipsConfig, NoPerceptualConfig
from vqgan_core.weights import WeightsError, read_tensors, weights_file

__all__ = ["Lpips", "build_perceptual", "empty_network"]

_WHAT = "LPIPS weights"

# Below this the backbone's poolings leave nothing.
MIN_SIZE_PX = {"vgg": 16, "alex": 31, "squeeze": 17}


class Lpips(nn.Module):
    """Distance of two images as a trained classifier sees them; gradients flow to the images alone."""

    def __init__(self, config: LpipsConfig) -> None:
        super().__init__()
        self.config = config
        # In a tuple, so that it is no submodule: state_dict, parameters and train do not reach it.
        self._frozen = (_build_network(config),)

    def forward(self, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """The distance of each pair of images.

        Raises:
            ValueError: neither 1 nor 3 channels, or an image too small for the backbone.
        """
        self._check(x)
        with torch.autocast(x.device.type, enabled=False):
            distances: Tensor = self._frozen[0](_three_channels(x).float(), _three_channels(y).float())
        return distances.flatten()

    def weights_sha256(self) -> str:
        """Digest of the weights in use, to be stored with every number that depends on them."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._frozen[0].state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What `.to()` does to submodules: the network follows to another device, and keeps its exact fp32 values.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # Call to untyped function "_apply"
        for tensor in [*self._frozen[0].parameters(), *self._frozen[0].buffers()]:
            tensor.data = tensor.data.to(fn(tensor.data).device)
        return self

    def _check(self, images: Tensor) -> None:
        least = MIN_SIZE_PX[self.config.net]
        if images.shape[1] not in (1, 3):
            raise ValueError(f"LPIPS compares images of 1 or 3 channels, got {images.shape[1]}; use perceptual: none")
        if min(images.shape[2:]) < least:
            raise ValueError(
                f"LPIPS with net {self.config.net} needs images of at least {least} px each way, got "
                f"{images.shape[2]}x{images.shape[3]}; use larger images, another net or perceptual: none"
            )


def build_perceptual(config: NoPerceptualConfig | LpipsConfig) -> Lpips | None:
    """The perceptual loss that a config asks for.

    Raises:
        WeightsError: its weights are not there, or do not fit.
    """
    return Lpips(config) if isinstance(config, LpipsConfig) else None


def _three_channels(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3 H W"]:
    return images.expand(-1, 3, -1, -1)


def empty_network(config: LpipsConfig) -> nn.Module:
    """The network of a config on the meta device: its layers and shapes, without weights."""
    import lpips  # noqa: PLC0415 - takes over a second, with torchvision; most runs never need it

    with torch.device("meta"), warnings.catch_warnings():
        # lpips calls torchvision with an argument that is deprecated there; nothing a user can change.
        warnings.simplefilter("ignore", UserWarning)
        network: nn.Module = lpips.LPIPS(net=config.net, pretrained=False, pnet_rand=True, verbose=False)
    return network


def _build_network(config: LpipsConfig) -> nn.Module:
    from lpips.lpips import ScalingLayer  # noqa: PLC0415 - as above

    network = empty_network(config)
    scaling: nn.Module = ScalingLayer()  # fixed numbers of the method, which a state dict may leave out
    network.scaling_layer = scaling
    # `lins` is a second name for lin0, lin1, …
    expected = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("lins.")}
    given = _imagenet_state(config.net, list(expected)) if config.weights == "imagenet" else _given_state(config)
    state = {f"scaling_layer.{name}": tensor for name, tensor in scaling.state_dict().items()}
    state |= {name: tensor for name, tensor in given.items() if not name.startswith("lins.")}
    wrong = sorted(name for name in expected | state if _shape(expected, name) != _shape(state, name))
    if wrong:
        raise WeightsError(
            f"{config.weights} is no state dict of LPIPS with net {config.net}: {len(wrong)} of {len(expected)} "
            f"tensors are missing or differ, first {wrong[0]}; give the whole state of "
            f"lpips.LPIPS(net='{config.net}'), or weights: imagenet"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False, assign=True)
    for module in network.modules():
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Dropout):
            module[0] = nn.Identity()
    return network.requires_grad_(False).eval()


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None


def _imagenet_state(net: str, names: list[str]) -> dict[str, Tensor]:
    """The backbone of torchvision, and the linear layers that come with the lpips package."""
    import lpips  # noqa: PLC0415 - as above
    from torchvision import models  # noqa: PLC0415

    weights = {
        "vgg": models.VGG16_Weights.IMAGENET1K_V1,
        "alex": models.AlexNet_Weights.IMAGENET1K_V1,
        "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    }
    backbone = read_tensors(weights_file(weights[net].url, what=_WHAT, remedy=_remedy(net)), what=_WHAT)
    linear = read_tensors(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth", what=_WHAT)
    # net.slice2.5.weight is torchvision's features.5.weight
    features = {name: "features." + name.split(".", 2)[2] for name in names if name.startswith("net.")}
    return linear | {name: backbone[source] for name, source in features.items() if source in backbone}


def _given_state(config: LpipsConfig) -> dict[str, Tensor]:
    return read_tensors(weights_file(config.weights, what=_WHAT, remedy=_remedy(config.net)), what=_WHAT)


def _remedy(net: str) -> str:
    return f"give the path or URL of the whole state of lpips.LPIPS(net='{net}'), or weights: imagenet"
