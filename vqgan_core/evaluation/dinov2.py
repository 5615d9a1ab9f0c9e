"""DINOv2's vision transformer, for FD-DINOv2: features that were learned without classes.

Axes: `B batch, T tokens (class token first), D width, h×w grid of patches`.

Sources: Oquab et al. 2023 (arXiv 2304.07193), architecture and names of the authors' weights files; Stein et al. 2023
(arXiv 2306.04675), who compare sets in them: ViT-L/14, 224 px bicubic, ImageNet mean and deviation, the normalised
class token. Sizes are read off the weights. Positions that were trained on a larger grid are brought to 16×16 as in
the authors' code: bicubic, by the scale (16 + 0.1) / old.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan_core.config.extractor import DinoV2Config
from vqgan_core.evaluation.extractor import Features, imagenet_normalised, read_weights, resized
from vqgan_core.weights import WeightsError

__all__ = ["DinoV2", "VisionTransformer"]

_SIZE_PX = 224
_HEAD_WIDTH = 64
_NORM_EPS = 1e-6
_POSITION_OFFSET = 0.1


class DinoV2:
    """The network; its features are the normalised class token."""

    name = "dinov2"
    resize = f"{_SIZE_PX}×{_SIZE_PX} px, bicubic, antialiased, in floats"
    library = f"torch {torch.__version__}"

    def __init__(self, config: DinoV2Config, device: torch.device) -> None:
        """Read and build.

        Raises:
            WeightsError: no such weights, or they do not fit.
        """
        state, self.sha256 = read_weights(config)
        self._network = VisionTransformer.of_state(state, config.weights).to(device)
        self._device = device

    @torch.no_grad()
    def features(self, images: UInt8[Tensor, "B 3 H W"]) -> Features:
        """Of one batch."""
        pixels = resized(images.to(self._device), _SIZE_PX)
        return Features(self._network(imagenet_normalised(pixels)).cpu())


class VisionTransformer(nn.Module):
    """Patches, a class token, pre-norm layers with layer scale."""

    def __init__(self, width: int, num_layers: int, patch_px: int, num_positions: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_positions, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch_px, stride=patch_px)})
        self.blocks = nn.ModuleList(_Layer(width) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)

    @classmethod
    def of_state(cls, state: dict[str, Tensor], place: str) -> VisionTransformer:
        """Build what a weights file holds.

        Raises:
            WeightsError: it holds something else.
        """
        state = {name: value for name, value in state.items() if name != "mask_token"}  # used in training alone
        try:
            _, positions, width = state["pos_embed"].shape
            num_layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
            with torch.device("meta"):
                network = cls(width, num_layers, state["patch_embed.proj.weight"].shape[-1], positions)
            network.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(
                f"{place} is no state dict of DINOv2's vision transformer ({reason}); give the authors' file, for "
                "example dinov2_vitl14_pretrain.pth"
            ) from None
        return network.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """The class token after the last norm."""
        patches = self.patch_embed["proj"](images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self._positions(patches.shape[-2:])
        for block in self.blocks:
            tokens = block(tokens)
        features: Tensor = self.norm(tokens)[:, 0]
        return features

    def _positions(self, grid: torch.Size) -> Float[Tensor, "1 T D"]:
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if tuple(grid) == (side, side):
            return self.pos_embed
        old = rearrange(self.pos_embed[:, 1:], "b (h w) d -> b d h w", h=side)
        scale = tuple((size + _POSITION_OFFSET) / side for size in grid)
        new = F.interpolate(old, scale_factor=scale, mode="bicubic")
        assert new.shape[-2:] == grid
        return torch.cat([self.pos_embed[:, :1], new.flatten(2).transpose(1, 2)], dim=1)


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=_NORM_EPS) for _ in range(2))
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": torch.ones(width)}) for _ in range(2))

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        tokens = tokens + self.ls1["gamma"] * self._attend(self.norm1(tokens))
        hidden = F.gelu(self.mlp["fc1"](self.norm2(tokens)))
        result: Tensor = tokens + self.ls2["gamma"] * self.mlp["fc2"](hidden)
        return result

    def _attend(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        heads = rearrange(self.attn["qkv"](tokens), "b t (three h d) -> three b h t d", three=3, d=_HEAD_WIDTH)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        result: Tensor = self.attn["proj"](rearrange(mixed, "b h t d -> b t (h d)"))
        return result
