"""The domain classifier: a small network that learns the corpus' own classes, in whose features samples are compared.

Axes: `B batch, C channels, H×W pixels, D feature width, L classes`.

It stands in for an ImageNet network where none can be had, and where none would fit (digits, scans, materials). It
knows what tells the classes apart: it sees layout, colour and missing classes, and is nearly blind to blur, noise and
compression. So it judges samples, not reconstructions, and distances in its features are called FD-domain.

Features of a network with random weights rank blurred images above real ones. There is no way here to make an
untrained classifier: one comes from `train` or from files that `train` led to.

Training is a pure function of batches, config and seed, on one device kind with one number of threads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Self

import safetensors.torch
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan_core.config import ClassifierConfig
from vqgan_core.config.base import Config, canonical_json

__all__ = ["ClassifierNetwork", "ClassifierSpec", "DomainClassifier", "shuffled_batches"]

_INFERENCE_BATCH = 256
_SMALLEST_SIDE = 4  # halving stops here: a 4×4 map still tells top from bottom
_WEIGHT_DECAY = 0.01


class ClassifierSpec(Config):
    """Everything that rebuilds a classifier beside its weights."""

    classifier: ClassifierConfig
    """Network and training."""
    image_channels: int
    """Channels of the images."""
    class_names: tuple[str, ...]
    """What label i means."""
    seed: int
    """Seed that the training started from."""


class DomainClassifier:
    """A trained classifier: `features`, `predict`, `accuracy`, and files that hold it."""

    name = "domain-classifier"

    def __init__(self, spec: ClassifierSpec, network: ClassifierNetwork) -> None:
        """Wrap a trained network; use `train` or `from_files`."""
        self.spec = spec
        self._network = network.eval().requires_grad_(requires_grad=False)

    @classmethod
    def train(
        cls,
        batches: Iterable[Mapping[str, Tensor]],
        spec: ClassifierSpec,
        *,
        device: torch.device | str = "cpu",
        report: Callable[[int, float], None] | None = None,
    ) -> Self:
        """Train from scratch.

        Args:
            batches: at least `num_steps` of {"images": B C H W in [-1, 1], "labels": B}; what follows is not read.
            spec: network, classes and seed.
            device: where to train.
            report: called after each step with the number of steps done and the loss.

        Raises:
            ValueError: fewer than two classes, batches that do not fit the spec, or too few of them.
        """
        if len(spec.class_names) < 2:
            raise ValueError(f"a classifier needs at least 2 classes, the corpus has {len(spec.class_names)}")
        network = _build(spec).to(device).train()
        config, stream = spec.classifier, iter(batches)
        optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.num_steps)
        with _exact_convolutions():
            for step in range(config.num_steps):
                images, labels = _next_batch(stream, spec, step)
                loss = F.cross_entropy(network(images.to(device)), labels.to(device))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                if report is not None:
                    report(step + 1, loss.item())
        return cls(spec, network)

    def features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The layer before the class scores, averaged over places."""
        return self._run(self._network.embed, images)

    def predict(self, images: Float[Tensor, "B C H W"]) -> Int[Tensor, " B"]:
        """The likeliest class of each image."""
        return self._run(self._network, images).argmax(dim=1)

    def confidence(self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Probability of each image's own label: a score for rejection sampling."""
        probabilities = self._run(self._network, images).softmax(dim=1)
        return probabilities.gather(1, labels.to(self.device)[:, None])[:, 0]

    def accuracy(self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"]) -> float:
        """Share of images that are taken for the class of their label."""
        return (self.predict(images) == labels.to(self.device)).double().mean().item()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._network.head.weight.device

    @property
    def feature_width(self) -> int:
        """D."""
        return self._network.head.in_features

    @property
    def resize(self) -> str:
        """How images are brought to the network's size, for a metric's protocol."""
        size = self.spec.classifier.size_px
        return f"{size}×{size} px, bilinear, antialiased"

    @property
    def sha256(self) -> str:
        """Digest of the weights file."""
        return hashlib.sha256(self.to_files()["classifier.safetensors"]).hexdigest()

    def to(self, device: torch.device | str) -> Self:
        """Move the network."""
        self._network.to(device)
        return self

    def to_files(self) -> dict[str, bytes]:
        """The classifier as `classifier.json` and `classifier.safetensors`: equal classifiers give equal bytes."""
        state = {name: value.detach().cpu().contiguous() for name, value in self._network.state_dict().items()}
        return {
            "classifier.json": canonical_json(self.spec.model_dump(mode="json")),
            "classifier.safetensors": safetensors.torch.save(state),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Rebuild a classifier from `to_files`.

        Raises:
            ValueError: a file is missing, or the weights do not belong to the spec.
        """
        missing = {"classifier.json", "classifier.safetensors"} - set(files)
        if missing:
            raise ValueError(f"not a classifier: {', '.join(sorted(missing))} missing")
        spec = ClassifierSpec.validated(json.loads(files["classifier.json"]), origin="classifier.json")
        network = _build(spec)
        try:
            network.load_state_dict(safetensors.torch.load(files["classifier.safetensors"]))
        except RuntimeError as error:
            raise ValueError(f"classifier.safetensors does not fit classifier.json: {error}") from None
        return cls(spec, network)

    def _run(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        _require_channels(images, self.spec)
        with torch.no_grad(), _exact_convolutions():
            return torch.cat([function(part.to(self.device)) for part in torch.split(images, _INFERENCE_BATCH)])


class ClassifierNetwork(nn.Module):
    """Convolutions that halve the image down to 4×4 and double the width each time, mean over places, linear head."""

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.size_px = spec.classifier.size_px
        width, side = spec.classifier.base_channels, (self.size_px + 1) // 2
        layers = [_convolution(spec.image_channels, width, stride=2), _convolution(width, width)]
        while side > _SMALLEST_SIDE:
            layers += [_convolution(width, 2 * width, stride=2), _convolution(2 * width, 2 * width)]
            width, side = 2 * width, (side + 1) // 2
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(width, len(spec.class_names))

    def embed(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The features: the last maps' means over places."""
        size = (self.size_px, self.size_px)
        if tuple(images.shape[-2:]) != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        maps: Tensor = self.trunk(images.contiguous(memory_format=torch.channels_last))
        return maps.mean(dim=(2, 3))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L"]:
        """The class scores."""
        scores: Tensor = self.head(self.embed(images))
        return scores


def shuffled_batches(
    images: Float[Tensor, "n C H W"], labels: Int[Tensor, " n"], *, batch_size: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Endless training batches of images in memory: each epoch a new permutation, every batch full.

    Raises:
        ValueError: there is no image, or not one label an image.
    """
    if not len(images) or len(images) != len(labels):
        raise ValueError(f"expected one label an image and at least one image, got {len(images)} and {len(labels)}")
    size = min(batch_size, len(images))
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(images), generator=generator)
        for chosen in torch.split(order[: len(order) // size * size], size):
            yield {"images": images[chosen], "labels": labels[chosen]}


def _convolution(num_inputs: int, num_outputs: int, *, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(num_inputs, num_outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(num_outputs), nn.ReLU())


def _build(spec: ClassifierSpec) -> ClassifierNetwork:
    """Initialise from the spec's seed, and leave the caller's random stream where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed)
        return ClassifierNetwork(spec)


def _exact_convolutions() -> AbstractContextManager[None]:
    """On a GPU: the same algorithm at every call, and fp32 that is fp32."""
    manager: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return manager


def _next_batch(stream: Iterator[Mapping[str, Tensor]], spec: ClassifierSpec, step: int) -> tuple[Tensor, Tensor]:
    batch = next(stream, None)
    if batch is None:
        raise ValueError(f"the training images ended after {step} of {spec.classifier.num_steps} steps")
    images, labels = batch["images"], batch["labels"]
    _require_channels(images, spec)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(spec.class_names):
        raise ValueError(
            f"labels run from {low} to {high}, but there are {len(spec.class_names)} classes: every training image "
            "needs the label of one of them"
        )
    return images, labels


def _require_channels(images: Tensor, spec: ClassifierSpec) -> None:
    if images.ndim != 4 or images.shape[1] != spec.image_channels:
        raise ValueError(
            f"expected images of shape (batch, {spec.image_channels}, height, width), got {tuple(images.shape)}"
        )
