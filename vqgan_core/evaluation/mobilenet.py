"""MobileNetV2 as an extractor: small, and it reacts to blur, noise and compression in the order in which people do.

Axes: `B batch, H×W pixels`.

Source: Sandler et al. 2018 (arXiv 1801.04381) through torchvision. Two kinds of weights are taken. With 1,000 classes
they are torchvision's own: symmetric padding, ImageNet mean and deviation. With 1,001 they were converted from
TensorFlow: class 0 is background, the input is in [-1, 1], and stride-2 layers pad below and to the right alone.
"""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from vqgan_core.config.extractor import MobileNetConfig
from vqgan_core.evaluation.extractor import Features, imagenet_normalised, read_weights, resized
from vqgan_core.weights import WeightsError

__all__ = ["MobileNet"]

_SIZE_PX = 224
_TENSORFLOW_CLASSES = 1001


class MobileNet:
    """The network; its features are the last maps' means over places, 1,280 wide."""

    name = "mobilenet-v2"
    resize = f"{_SIZE_PX}×{_SIZE_PX} px, bicubic, antialiased, in floats"

    def __init__(self, config: MobileNetConfig, device: torch.device) -> None:
        """Read and build.

        Raises:
            WeightsError: no such weights, or they do not fit.
        """
        import torchvision  # noqa: PLC0415 - takes a second; most runs never need it

        state, self.sha256 = read_weights(config)
        self._of_tensorflow = len(state.get("classifier.1.bias", ())) == _TENSORFLOW_CLASSES
        network = torchvision.models.mobilenet_v2(num_classes=_TENSORFLOW_CLASSES if self._of_tensorflow else 1000)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{config.weights} is no state dict of torchvision's mobilenet_v2 ({reason})") from None
        if self._of_tensorflow:
            _pad_as_tensorflow(network)
        self._trunk = network.features.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self._device = device
        self.library = f"torchvision {torchvision.__version__}, torch {torch.__version__}"

    @torch.no_grad()
    def features(self, images: UInt8[Tensor, "B 3 H W"]) -> Features:
        """Of one batch."""
        pixels = resized(images.to(self._device), _SIZE_PX)
        inputs = pixels * 2 - 1 if self._of_tensorflow else imagenet_normalised(pixels)
        return Features(self._trunk(inputs.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3)).cpu())


def _pad_as_tensorflow(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.padding = (0, 0)
                setattr(module, name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), child))
