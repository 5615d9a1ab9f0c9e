"""The domain classifier on real digits: good, fast, and the same bytes each time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.config import ClassifierConfig
from vqgan_core.evaluation import (
    ClassifierSpec,
    DomainClassifier,
    Seen,
    accuracy_metrics,
    domain_metrics,
    keep_best,
    shuffled_batches,
)

NUM_HELD_OUT = 300


def spec_of(*, num_steps: int, channels: int = 1, num_classes: int = 10, **config: int) -> ClassifierSpec:
    return ClassifierSpec(
        classifier=ClassifierConfig(num_steps=num_steps, **config),
        image_channels=channels,
        class_names=tuple(map(str, range(num_classes))),
        seed=7,
    )


def trained(digits: tuple[Tensor, Tensor], num_steps: int, **config: int) -> DomainClassifier:
    torch.set_num_threads(1)  # two threads of such small layers wait for each other on a busy machine
    images, labels = digits
    batches = shuffled_batches(images[NUM_HELD_OUT:], labels[NUM_HELD_OUT:], batch_size=64, seed=0)
    return DomainClassifier.train(batches, spec_of(num_steps=num_steps, **config))


@pytest.fixture(scope="module")
def classifier(digits: tuple[Tensor, Tensor]) -> DomainClassifier:
    return trained(digits, num_steps=200)


def test_held_out_digits_are_read(classifier: DomainClassifier, digits: tuple[Tensor, Tensor]) -> None:
    assert classifier.accuracy(digits[0][:NUM_HELD_OUT], digits[1][:NUM_HELD_OUT]) > 0.95


def test_training_again_gives_the_same_bytes(digits: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    first = trained(digits, num_steps=20).to_files()
    torch.manual_seed(2)  # the caller's random stream must not matter
    assert trained(digits, num_steps=20).to_files() == first


def test_training_leaves_the_callers_random_stream_alone(digits: tuple[Tensor, Tensor]) -> None:
    state = torch.get_rng_state()
    trained(digits, num_steps=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_files_bring_it_back(classifier: DomainClassifier, digits: tuple[Tensor, Tensor]) -> None:
    files = classifier.to_files()
    again = DomainClassifier.from_files(files)
    assert again.to_files() == files
    assert again.sha256 == classifier.sha256
    assert torch.equal(again.features(digits[0][:9]), classifier.features(digits[0][:9]))


def test_confidence_is_the_probability_of_the_label(
    classifier: DomainClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    images = digits[0][:40]
    every = torch.stack([classifier.confidence(images, torch.full((40,), label)) for label in range(10)], dim=1)
    torch.testing.assert_close(every.sum(1), torch.ones(40))
    assert torch.equal(every.argmax(1), classifier.predict(images))


def test_rejection_by_confidence_removes_wrong_images(
    classifier: DomainClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    """A third of the images show another class than was asked for; keeping half of each class removes most of them."""
    images, labels = digits[0][:600], digits[1][:600].clone()
    labels[::3] = (labels[::3] + 1) % 10
    kept = keep_best(classifier.confidence(images, labels), 0.5, labels)
    wrong = (kept % 3 == 0).float().mean()
    assert wrong < 0.02
    assert torch.equal((labels[kept].bincount() / labels.bincount() * 2).round(), torch.ones(10))


def test_broken_files_are_refused(classifier: DomainClassifier) -> None:
    files = classifier.to_files()
    with pytest.raises(ValueError, match=r"classifier\.safetensors missing"):
        DomainClassifier.from_files({"classifier.json": files["classifier.json"]})
    other = spec_of(num_steps=1, base_channels=8).model_dump_json().encode()
    with pytest.raises(ValueError, match="does not fit"):
        DomainClassifier.from_files(files | {"classifier.json": other})


def test_features_do_not_depend_on_the_batch(classifier: DomainClassifier, digits: tuple[Tensor, Tensor]) -> None:
    images = digits[0][:600]  # more than one batch inside
    features = classifier.features(images)
    assert features.shape == (600, classifier.feature_width)
    alone = torch.cat([classifier.features(image) for image in torch.split(images[:5], 1)])
    assert torch.allclose(features[:5], alone, atol=1e-5)


def test_any_size_and_channels_train() -> None:
    images = torch.linspace(-1, 1, 12 * 3 * 40 * 56).reshape(12, 3, 40, 56)
    batches = shuffled_batches(images, torch.arange(12) % 2, batch_size=64, seed=0)
    spec = spec_of(num_steps=2, channels=3, num_classes=2, size_px=24)
    classifier = DomainClassifier.train(batches, spec)
    assert classifier.predict(images).shape == (12,)
    assert classifier.resize == "24×24 px, bilinear, antialiased"


def test_batches_that_do_not_fit_are_refused(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][:8], digits[1][:8]
    with pytest.raises(ValueError, match="at least 2 classes, the corpus has 1"):
        DomainClassifier.train([], spec_of(num_steps=1, num_classes=1))
    with pytest.raises(ValueError, match="ended after 1 of 2 steps"):
        DomainClassifier.train([{"images": images, "labels": labels}], spec_of(num_steps=2))
    with pytest.raises(ValueError, match="labels run from -1"):
        DomainClassifier.train([{"images": images, "labels": labels * 0 - 1}], spec_of(num_steps=1))
    with pytest.raises(ValueError, match=r"\(batch, 3, height, width\), got \(8, 1, 32, 32\)"):
        DomainClassifier.train([{"images": images, "labels": labels}], spec_of(num_steps=1, channels=3))
    with pytest.raises(ValueError, match="one label an image"):
        next(shuffled_batches(images, labels[:3], batch_size=2, seed=0))


def test_an_epoch_of_batches_is_a_permutation() -> None:
    images = torch.arange(10.0).reshape(10, 1, 1, 1)
    batches = shuffled_batches(images, torch.arange(10), batch_size=5, seed=3)
    epochs = [torch.cat([next(batches)["labels"] for _ in range(2)]).tolist() for _ in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_metrics_rank_real_above_noisy_above_one_class(
    classifier: DomainClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    real = classifier.features(images[600:])

    def metrics_of(samples: Tensor) -> dict[str, float]:
        found = domain_metrics(
            classifier, real, classifier.features(samples), reference="digits", num_neighbours=3, seed=0
        )
        assert {metric.n for metric in found} == {len(samples)}
        assert all(metric.extractor_sha256 == classifier.sha256 and metric.floor is not None for metric in found)
        return {metric.name: metric.value for metric in found} | {"floor": found[0].floor or 0}

    others = metrics_of(images[:200])
    inverted = metrics_of(-images[:200])
    one_class = metrics_of(images[labels == 3][:150])
    assert others["FD-domain"] < 2 * others["floor"]
    assert inverted["FD-domain"] > 5 * others["floor"]
    assert one_class["FD-domain"] > 5 * others["floor"]
    assert one_class["recall"] < others["recall"] / 2
    assert inverted["precision"] < others["precision"] / 2


def test_only_as_many_samples_are_judged_as_the_floor_has(classifier: DomainClassifier) -> None:
    generator = torch.Generator().manual_seed(0)
    real, samples = torch.randn(41, 4, generator=generator), torch.randn(100, 4, generator=generator)
    found = domain_metrics(classifier, real, samples, reference="r", num_neighbours=3, seed=0)
    assert [(metric.n, metric.n_reference) for metric in found] == [(20, 21)] * 3


def test_accuracy_of_samples_stands_beside_that_of_real_images(
    classifier: DomainClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    held_out = Seen.of(classifier, [(digits[0][:60], digits[1][:60]), (digits[0][60:100], digits[1][60:100])])
    wrong = Seen.of(classifier, [(digits[0][:50], (digits[1][:50] + 1) % 10)])
    real, asked = accuracy_metrics(classifier, real=held_out, samples=wrong, reference="digits/val")
    assert real.value > 0.95
    assert asked.value < 0.05
    assert (real.n, asked.n) == (100, 50)
    assert real.note == "images that its training did not see"
    seen, _ = accuracy_metrics(classifier, real=held_out, samples=wrong, reference="r", held_out=False)
    assert seen.note == "images that its training saw: too high"
    with pytest.raises(ValueError, match="no image for the classifier"):
        Seen.of(classifier, [])


def test_samples_in_order_of_their_classes_are_judged_of_all_classes(
    classifier: DomainClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    """Sample sets are: the first so many would be those of a generator that lacks classes."""
    images, labels = digits
    real, others = classifier.features(images[600:1000]), classifier.features(images[1000:])
    by_class = others[labels[1000:].argsort()]
    found = domain_metrics(classifier, real, by_class, reference="r", num_neighbours=3, seed=0)
    distance, _, recall = found
    assert distance.n == 200 < len(by_class) / 2
    assert distance.value < 2 * (distance.floor or 0)
    assert recall.value > 0.7 * (recall.floor or 0)
