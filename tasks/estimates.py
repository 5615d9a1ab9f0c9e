"""What each stage will compute and write, before it runs: from its config and the extent of the data.

Operations are counted in vqgan_core (`tokenizer.cost`, `prior.cost`, `training.cost`). Bytes are what the stage adds to
the store while it runs: what it publishes, and what stands beside it until then (up to three checkpoints; a second
copy of sample shards). Images are taken to be square and to shrink as photographs do: PNG to 0.6 of their pixels'
bytes, WebP to 0.4, JPEG at the usual quality to 0.25; drawings take less. A tar member and its line of the index take
2 kB, a row of tokens log2 K bits a token and 64 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.config import PipelineConfig
from tasks.device_rate import WorkKind
from tasks.encoded_size import encoded_px, own_grid, plane_px
from tasks.expected_columns import ExpectedColumn
from tasks.sample_plan import large_grid, num_images
from vqgan_core.config import TokenSpec
from vqgan_core.config.tokens import ColumnSpec
from vqgan_core.evaluation.cost import EXTRACTOR_FLOPS, classifier_cost
from vqgan_core.losses.cost import perceptual_flops
from vqgan_core.prior.cost import BACKWARD_FACTOR, prior_cost, sliding_cost
from vqgan_core.tokenizer.cost import tokenizer_cost
from vqgan_core.training.cost import prior_training_cost, tokenizer_training_cost
from vqgan_core.training.precision import Precision

SHARE_OF_PIXELS = {"png": 0.6, "webp": 0.4, "jpeg": 0.25}
RECORD_BYTES = 2000
TOKEN_ROW_BYTES = 64
CHECKPOINTS_AT_ONCE = 3
BASE64 = 4 / 3
SAMPLES_IN_REPORT = 10


@dataclass(frozen=True)
class Extent:
    """How much data there is: what a corpus says, or what its source promises."""

    num_train: int
    num_val: int
    num_classes: int

    @property
    def num_images(self) -> int:
        """Of both splits."""
        return self.num_train + self.num_val


@dataclass(frozen=True)
class Estimate:
    """What a stage takes from its start to its end."""

    num_parameters: int | None
    """Of what it trains; None where it trains nothing."""
    flops: Mapping[WorkKind, float]
    """By kind of work."""
    bytes: float
    """That it adds to the store."""
    precision: Precision = "fp32"


class Estimates:
    """All stages of a pipeline over data of a known extent.

    Args:
        config: of the pipeline.
        extent: of its corpus.
        columns: of condition tokens that it will make.

    Raises:
        ValueError: sizes that do not fit together, as the stage itself would say.
    """

    def __init__(
        self, config: PipelineConfig, extent: Extent, columns: Mapping[str, ExpectedColumn] | None = None
    ) -> None:
        self.config = config
        self.extent = extent
        self._columns = columns or {}
        height, width = own_grid(config.encode, config.tokenizer)
        self.spec = TokenSpec(
            codebook_size=config.tokenizer.codebook_size, height=height, width=width, num_classes=extent.num_classes,
            columns=tuple(column.spec for column in self._columns.values()),
        )  # fmt: skip
        self._tokenizer = tokenizer_cost(config.tokenizer.model())

    def of(self, stage: str) -> Estimate:
        """The estimate of a stage by name."""
        estimate: Estimate = getattr(self, stage)()
        return estimate

    def shard(self) -> Estimate:
        """Decoding and encoding images is no arithmetic that could be counted."""
        config = self.config.shard
        pixels = _image_bytes(config.size_px, config.channels) * SHARE_OF_PIXELS[config.format]
        return Estimate(None, {}, self.extent.num_images * (RECORD_BYTES + pixels))

    def train_tokenizer(self) -> Estimate:
        """All steps and validations."""
        training = self.config.tokenizer.training
        seen = min(training.num_validation_records, self.extent.num_val)
        cost = tokenizer_training_cost(self.config.tokenizer, seen)
        written = cost.published_bytes + CHECKPOINTS_AT_ONCE * cost.checkpoint_bytes
        return Estimate(cost.num_parameters, {"convolution training": cost.flops}, written, training.precision)

    def encode(self) -> Estimate:
        """The encoder and the search of entries, once an image and view; larger windows take more."""
        rows = self.extent.num_images * len(self.config.encode.all_views)
        columns: list[TokenSpec | ColumnSpec] = [self.spec, *self.spec.columns]
        row = TOKEN_ROW_BYTES + sum(column.num_tokens * math.log2(column.codebook_size) / 8 for column in columns)
        encoded = encoded_px(self.config.encode, self.config.tokenizer)
        own = self._tokenizer.encode_flops * encoded[0] * encoded[1] / self.config.tokenizer.window_px**2
        flops = rows * (own + sum(each.encode_flops for each in self._columns.values()))
        return Estimate(None, {"convolution": flops}, rows * row, self.config.encode.precision)

    def train_prior(self) -> Estimate:
        """All steps and validations."""
        training = self.config.prior.training
        seen = min(training.num_validation_records, self.extent.num_val)
        cost = prior_training_cost(self.config.prior, self.spec, seen)
        written = cost.published_bytes + CHECKPOINTS_AT_ONCE * cost.checkpoint_bytes
        return Estimate(cost.num_parameters, {"transformer training": cost.flops}, written, training.precision)

    def sample(self) -> Estimate:
        """Drawing tokens with a cache, or searching for them with beams, and decoding them."""
        config, count = self.config.sample, self._num_samples()
        drawn = count if config.num_beams is None else count // config.num_per_class * config.num_beams
        flops: dict[WorkKind, float] = {
            "token drawing": drawn * self._drawing_flops(),
            "convolution": count * self._tokenizer.decoder_flops * self._enlargement,
        }
        return Estimate(None, flops, 2 * count * (RECORD_BYTES + self._picture_bytes() * self._enlargement))

    def _drawing_flops(self) -> float:
        """Of one image, or beam."""
        prior, config = self.config.prior.model(), self.config.sample
        if config.size_px is None:
            return prior_cost(prior, self.spec).sampling_flops_per_image(config.guidance)
        grid = large_grid(config.size_px, self.config.tokenizer)
        return sliding_cost(prior, self.spec, grid) * (1 if config.guidance == 1 else 2)

    @property
    def _enlargement(self) -> float:
        """Pixels of a sample for each of a training image's; the decoder's attention, which grows faster, is small."""
        model = self.config.tokenizer
        size_px = self.config.sample.size_px or plane_px(encoded_px(self.config.encode, model), model)
        return size_px[0] * size_px[1] / self._size_px**2

    def evaluate(self) -> Estimate:
        """Reconstructions, likelihood of the validation tokens, training and use of the domain classifier."""
        config, extent = self.config.evaluate, self.extent
        held_out = extent.num_val or extent.num_train
        judged = min(config.num_images, held_out)
        flops: dict[WorkKind, float] = {"convolution": judged * self._tokenizer.reconstruct_flops}
        if config.lpips is not None:
            flops["convolution"] += judged * 2 * perceptual_flops(config.lpips, self._size_px)
        prior = prior_cost(self.config.prior.model(), self.spec)
        flops["transformer"] = held_out * prior.num_tokens * prior.forward_flops_per_token
        written = self._picture_bytes() * BASE64 * self._num_pictures()
        if extent.num_classes >= 2:
            judge = classifier_cost(config.classifier, self.config.shard.channels, extent.num_classes)
            trained = config.classifier.num_steps * config.classifier.batch_size
            flops["convolution training"] = BACKWARD_FACTOR * trained * judge.forward_flops
            # Features and classes of held-out images and of samples.
            flops["convolution"] += 2 * (judged + self._num_samples()) * judge.forward_flops
            written += 4 * judge.num_parameters
        flops["convolution"] += self._distances_flops()
        return Estimate(None, flops, written)

    def _distances_flops(self) -> float:
        """Reconstructions, and every set of images through every extractor."""
        config, extent = self.config.evaluate, self.extent
        held_out = extent.num_val or extent.num_train
        judged = min(config.protocol.num_reconstructions, held_out)
        passes = 1 if config.perturbation is None else 2
        seen = (1 + passes) * judged + min(config.protocol.num_reference or extent.num_train, extent.num_train)
        each = sum(EXTRACTOR_FLOPS[extractor.kind] for extractor in config.extractors)
        reconstructing = len(config.extractors) * passes * judged * self._tokenizer.reconstruct_flops
        return reconstructing + each * (seen + self._num_samples())

    @property
    def _size_px(self) -> int:
        return self.config.tokenizer.autoencoder.resolution_px

    def _num_samples(self) -> int:
        return num_images(self.config.sample, self.config.prior, self.spec.num_classes)

    def _num_pictures(self) -> int:
        shown = SAMPLES_IN_REPORT * max(1, self.extent.num_classes)
        return 2 * self.config.evaluate.num_pictures + min(shown, self._num_samples())

    def _picture_bytes(self) -> float:
        return _image_bytes(self._size_px, self.config.shard.channels) * SHARE_OF_PIXELS["png"]


def _image_bytes(size_px: int, channels: int) -> int:
    return size_px**2 * channels
