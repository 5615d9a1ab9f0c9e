"""Extractors: a real MobileNet, the FID Inception in torch-fidelity's own hands, DINOv2 next to torchvision's ViT."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from vqgan_core.config import DinoV2Config, InceptionConfig, MobileNetConfig
from vqgan_core.evaluation import as_bytes, build_extractor
from vqgan_core.evaluation.dinov2 import VisionTransformer
from vqgan_core.weights import WeightsError

CPU = torch.device("cpu")
WIDTH, LAYERS = 128, 2


@pytest.fixture
def images(photograph: Tensor) -> Tensor:
    """Two crops of a cat, as bytes."""
    crops = [photograph[..., :128, start : start + 128] for start in (0, 60)]
    return as_bytes(torch.cat(crops), "round")


def test_floats_become_the_bytes_that_a_file_would_hold() -> None:
    levels = torch.arange(256)
    floats = (levels.float() / 127.5 - 1).view(1, 1, 16, 16)
    assert torch.equal(as_bytes(floats, "round"), levels.to(torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16))
    between = torch.tensor([-3.0, 0.003, 1.5]).view(1, 1, 1, 3)  # 127.88 of 255
    assert as_bytes(between, "round")[0, 0, 0].tolist() == [0, 128, 255]
    assert as_bytes(between, "truncate")[0, 0, 0].tolist() == [0, 127, 255]


def test_mobilenet_knows_a_cat(shared_weights: Path, photograph: Tensor) -> None:
    path = shared_weights / "mobilenet_v2_imagenet1001_torchvision.pth"
    extractor = build_extractor(MobileNetConfig(weights=str(path)), CPU)
    assert extractor.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    features = extractor.features(as_bytes(photograph, "round")).pooled
    assert features.shape == (1, 1280)
    state = torch.load(path, weights_only=True)
    scores = features @ state["classifier.1.weight"].T + state["classifier.1.bias"]
    cats = range(282, 287)  # tabby … Egyptian cat, one further than in ImageNet, since 0 is background
    assert scores.argmax().item() in cats


def test_features_do_not_depend_on_the_company(shared_weights: Path, images: Tensor) -> None:
    path = shared_weights / "mobilenet_v2_imagenet1001_torchvision.pth"
    extractor = build_extractor(MobileNetConfig(weights=str(path)), CPU)
    together, alone = extractor.features(images).pooled, extractor.features(images[1:]).pooled
    assert torch.allclose(together[1:], alone, atol=1e-4)
    assert torch.equal(together, extractor.features(images).pooled)


def test_inception_is_that_of_torch_fidelity(tmp_path: Path, images: Tensor) -> None:
    """Random weights in the right layout: the published ones cannot be had everywhere."""
    torch.manual_seed(0)
    state = inception_state()
    path = tmp_path / "inception.pth"
    torch.save(state, path)
    extractor = build_extractor(InceptionConfig(weights=str(path)), CPU)
    found = extractor.features(images)
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
    )
    pooled, logits = theirs(images)
    assert torch.allclose(found.pooled, pooled, rtol=1e-3, atol=1e-5)
    assert found.logits is not None
    assert torch.allclose(found.logits, logits, rtol=1e-3, atol=1e-4)
    assert found.spatial is not None
    assert found.spatial.shape == (2, 7 * 17 * 17)
    assert found.spatial.std() > 0


class Blank(FeatureExtractorInceptionV3):
    """The network as PyTorch initialises it: loads nothing."""

    def load_state_dict(self, *arguments: object, **options: object) -> None:
        """Leave it as it is."""


def inception_state() -> dict[str, Tensor]:
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    return Blank("blank", ["2048"], feature_extractor_weights_path=nothing).state_dict()


def dino_state(positions: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    network = VisionTransformer(WIDTH, LAYERS, 14, positions)
    state = {name: torch.randn_like(value) * 0.05 for name, value in network.state_dict().items()}
    return state | {"mask_token": torch.zeros(1, WIDTH)}


def test_dinov2_is_torchvisions_transformer_with_layer_scale(tmp_path: Path, images: Tensor) -> None:
    state = dino_state(1 + 16 * 16)
    path = tmp_path / "dinov2.pth"
    torch.save(state, path)
    ours = build_extractor(DinoV2Config(weights=str(path)), CPU).features(images).pooled
    theirs = torchvision.models.VisionTransformer(224, 14, LAYERS, WIDTH // 64, WIDTH, 4 * WIDTH).eval()
    theirs.heads = torch.nn.Identity()
    theirs.load_state_dict(torchvision_names(state))
    pixels = torch.nn.functional.interpolate(
        images.float() / 255, size=(224, 224), mode="bicubic", antialias=True, align_corners=False
    )
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert torch.allclose(ours, theirs((pixels - mean) / deviation), atol=1e-4)


def torchvision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layer scale is folded into the projections before it, which is the same."""
    named = {
        "class_token": state["cls_token"],
        "encoder.pos_embedding": state["pos_embed"],
        "conv_proj.weight": state["patch_embed.proj.weight"],
        "conv_proj.bias": state["patch_embed.proj.bias"],
        "encoder.ln.weight": state["norm.weight"],
        "encoder.ln.bias": state["norm.bias"],
    }
    for number in range(LAYERS):
        ours, theirs = f"blocks.{number}", f"encoder.layers.encoder_layer_{number}"
        for part in ("weight", "bias"):
            scales = [state[f"{ours}.{name}.gamma"] for name in ("ls1", "ls2")]
            first, second = (scale[:, None] if part == "weight" else scale for scale in scales)
            named |= {
                f"{theirs}.ln_1.{part}": state[f"{ours}.norm1.{part}"],
                f"{theirs}.ln_2.{part}": state[f"{ours}.norm2.{part}"],
                f"{theirs}.self_attention.in_proj_{part}": state[f"{ours}.attn.qkv.{part}"],
                f"{theirs}.self_attention.out_proj.{part}": first * state[f"{ours}.attn.proj.{part}"],
                f"{theirs}.mlp.0.{part}": state[f"{ours}.mlp.fc1.{part}"],
                f"{theirs}.mlp.3.{part}": second * state[f"{ours}.mlp.fc2.{part}"],
            }
    return named


def test_dinov2_takes_positions_of_a_larger_grid(tmp_path: Path, images: Tensor) -> None:
    """The published weights were trained on 37×37 patches and are used on 16×16."""
    path = tmp_path / "dinov2.pth"
    torch.save(dino_state(1 + 37 * 37), path)
    features = build_extractor(DinoV2Config(weights=str(path)), CPU).features(images).pooled
    assert features.shape == (2, WIDTH)
    assert torch.isfinite(features).all()


def test_the_wrong_weights_are_refused_before_they_are_read(tmp_path: Path, shared_weights: Path) -> None:
    path = shared_weights / "mobilenet_v2_imagenet1001_torchvision.pth"
    with pytest.raises(WeightsError, match=r"its sha256 is .*, the config asks for 00000000"):
        build_extractor(MobileNetConfig(weights=str(path), sha256="00000000"), CPU)
    with pytest.raises(WeightsError, match=r"there is no such file; give the path or URL"):
        build_extractor(InceptionConfig(weights=str(tmp_path / "nothing.pth")), CPU)
    with pytest.raises(WeightsError, match="no state dict of the FID Inception network"):
        build_extractor(InceptionConfig(weights=str(path)), CPU)
    with pytest.raises(WeightsError, match=r"no state dict of DINOv2's vision transformer"):
        build_extractor(DinoV2Config(weights=str(path)), CPU)
