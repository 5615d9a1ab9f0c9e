"""Training on label maps: both losses learn, resume, and say what they cannot do."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from tests.vqgan_core.training.steps import copied, images_of, tokenizer_config
from vqgan_core.config import ConfigError, TokenizerConfig
from vqgan_core.losses import pixel_loss
from vqgan_core.tokenizer import Tokenizer, one_hot
from vqgan_core.training import Batch, TokenizerStep, images, tokenizer_step

NUM_CLASSES = 5
LOSSES = pytest.mark.parametrize("pixel", ["bce", "cross_entropy"])


def step_of(pixel: str, **overrides: Any) -> TokenizerStep:
    common = {"loss__pixel": pixel, "loss__adversarial": "none", "autoencoder__image_channels": NUM_CLASSES}
    return TokenizerStep(tokenizer_config(**common, **overrides))


def label_maps_of(step: int, size: int = 4) -> Batch:
    """Bands of the test images' brightness, as bytes."""
    images = images_of(step, size)["images"][:, 0]
    return {"label_maps": ((images + 1) / 2 * NUM_CLASSES).long().clamp(0, NUM_CLASSES - 1).to(torch.uint8)}


@LOSSES
def test_it_learns_the_classes(pixel: str) -> None:
    step = step_of(pixel, training__num_steps=60, training__learning_rate=5e-3)
    before = step.validate([label_maps_of(-1, size=16)])
    for index in range(60):
        step.train_step(label_maps_of(index), index)
    after = step.validate([label_maps_of(-1, size=16)])
    assert set(after) == {pixel, "pixel_accuracy", "quantizer", "usage", "perplexity", "dead_codes"}
    assert after[pixel] < 0.9 * before[pixel]
    assert after["pixel_accuracy"] > max(0.35, before["pixel_accuracy"])


@LOSSES
def test_validation_measures_what_it_says(pixel: str) -> None:
    step, batch = step_of(pixel), label_maps_of(3, size=6)
    metrics = step.validate([{"label_maps": batch["label_maps"][:4]}, {"label_maps": batch["label_maps"][4:]}])
    with torch.no_grad():
        logits = step.tokenizer(one_hot(batch["label_maps"], NUM_CLASSES)).reconstruction
    labels = batch["label_maps"].long()
    assert metrics["pixel_accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    expected = pixel_loss(pixel, logits, one_hot(labels, NUM_CLASSES))
    assert metrics[pixel] == pytest.approx(expected.item(), rel=1e-5)


def test_entropies_by_their_definitions() -> None:
    logits, labels = torch.randn(2, NUM_CLASSES, 3, 4), torch.randint(NUM_CLASSES, (2, 3, 4))
    target = one_hot(labels, NUM_CLASSES)
    p = logits.sigmoid()
    binary = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(pixel_loss("bce", logits, target), binary)
    chosen = logits.softmax(1).gather(1, labels[:, None]).log().mean()
    torch.testing.assert_close(pixel_loss("cross_entropy", logits, target), -chosen)


def test_resume_and_files() -> None:
    @functools.cache
    def after(kill_step: int) -> dict[str, bytes]:
        step = step_of("cross_entropy")
        for index in range(4):
            if index == kill_step:
                state = copied(step.state_dict())
                step = step_of("cross_entropy")
                step.load_state_dict(state)
            step.train_step(label_maps_of(index), index)
        return step.result_files()

    assert after(2) == after(-1)
    maps = one_hot(label_maps_of(-1)["label_maps"], NUM_CLASSES)
    tokenizer = Tokenizer.from_files(after(-1))
    assert tokenizer.decode(tokenizer.encode(maps)).shape == maps.shape


def test_labels_stay_bytes_until_they_are_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    step, seen = step_of("bce"), list[torch.dtype]()

    def watched(piece: Batch, config: TokenizerConfig) -> torch.Tensor:
        seen.append(piece["label_maps"].dtype)
        return images.images_of(piece, config)

    monkeypatch.setattr(tokenizer_step, "images_of", watched)
    step.train_step(label_maps_of(0), 0)
    assert seen == [torch.uint8]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pixel bce reconstructs label maps.*adversarial patchgan.*set both to none"):
        tokenizer_config(loss__pixel="bce")
    with pytest.raises(ValueError, match=r"a batch of images, labels: this tokenizer takes label_maps \(loss.pixel"):
        step_of("bce").train_step(images_of(0), 0)
    with pytest.raises(ValueError, match=r"a batch of label_maps: this tokenizer takes images \(loss.pixel"):
        TokenizerStep(tokenizer_config()).validate([label_maps_of(0)])
    with pytest.raises(ValueError, match="label 7 is outside the 5 classes"):
        step_of("bce").train_step({"label_maps": torch.full((4, 16, 16), 7, dtype=torch.uint8)}, 0)
