"""The FID Inception network, through torch-fidelity: the field's numbers rest on its weights file and its resize.

Axes: `B batch, H×W pixels`.

Sources: Szegedy et al. 2015 (arXiv 1512.00567) as Heusel et al. 2017 published it; torch-fidelity 0.4. Features are the
2,048 of pool_3. For sFID (Nash et al. 2021, arXiv 2103.03841; ADM's evaluator) they are the first 7 channels of
mixed_6/conv, at 17×17 places. Logits are without the bias, as for every published Inception score.

Departure: the weights are read by us, as tensors only, and handed over; the package would unpickle whatever is in the
file.
"""

from __future__ import annotations

import importlib.metadata
import io
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vqgan_core.config.extractor import InceptionConfig
from vqgan_core.evaluation.extractor import Features, read_weights
from vqgan_core.weights import WeightsError

__all__ = ["Inception"]

_SPATIAL_CHANNELS = 7


class Inception:
    """The network; features of three kinds."""

    name = "inception-v3"
    resize = "299×299 px, bilinear as in TensorFlow 1, not antialiased"

    def __init__(self, config: InceptionConfig, device: torch.device) -> None:
        """Read and build.

        Raises:
            WeightsError: no such weights, or they do not fit.
        """
        state, self.sha256 = read_weights(config)
        self._network = _build(state, config.weights).to(device, memory_format=torch.channels_last)
        self._device = device
        self._spatial: list[Tensor] = []
        self._network.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)
        self.library = f"torch-fidelity {importlib.metadata.version('torch-fidelity')}, torch {torch.__version__}"

    @torch.no_grad()
    def features(self, images: UInt8[Tensor, "B 3 H W"]) -> Features:
        """Of one batch."""
        self._spatial.clear()
        pooled, logits = self._network(images.contiguous().to(self._device))
        return Features(pooled.cpu(), self._spatial.pop().cpu(), logits.cpu())

    def _keep_spatial(self, _module: object, _inputs: object, maps: Float[Tensor, "B C h w"]) -> None:
        self._spatial.append(maps[:, :_SPATIAL_CHANNELS].flatten(1).float())


def _build(state: dict[str, Tensor], place: str) -> Any:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        raise WeightsError(
            "the Inception network comes with torch-fidelity, which is not installed: make setup installs it, and so "
            "does pip install 'torch-fidelity==0.4.0'"
        ) from None
    ours = io.BytesIO()  # what the package unpickles is what we have just written
    torch.save(state, ours)
    ours.seek(0)
    try:
        return FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=ours
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{place} is no state dict of the FID Inception network ({reason}); give torch-fidelity's "
            "weights-inception-2015-12-05-6726825d.pth"
        ) from None
