"""Configs of the tokenizer: its networks, its quantizer, its losses. Defaults are the paper's f16, K 1024 model.

Sources: arXiv 2012.09841 §3.1 and §B; names in the original: n_embed, embed_dim.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from vqgan_core.config.autoencoder import AnyAutoencoderConfig, AutoencoderConfig, Fraction
from vqgan_core.config.base import INPUT, LATER, Config, variant_of
from vqgan_core.config.planes import ImagePlane, PlaneConfig
from vqgan_core.config.quantizer import EmaQuantizerConfig, QuantizerConfig, VectorQuantizerConfig
from vqgan_core.config.training import TokenizerTrainingConfig, TrainingExecution

BOTTOM, TOP = "indices", "indices_top"
"""Columns of a token dataset: a tokenizer's indices and, of two levels, the coarser ones."""


class NoPerceptualConfig(Config):
    """No perceptual loss."""

    kind: Literal["none"] = "none"


class LpipsConfig(Config):
    """LPIPS 0.1 (Zhang et al. 2018) through the lpips package."""

    kind: Literal["lpips"] = "lpips"
    weight: float = Field(1.0, ge=0)
    """Weight of the perceptual term."""
    net: Literal["vgg", "alex", "squeeze"] = "vgg"
    """Backbone; the paper trains with vgg."""
    weights: str = "imagenet"
    """'imagenet' (torchvision's download or torch hub's cache), or a URL or path of a full LPIPS state dict."""


class NoAdversarialConfig(Config):
    """No discriminator."""

    kind: Literal["none"] = "none"


class PatchGanConfig(Config):
    """Patch discriminator (pix2pix) with hinge or vanilla loss and the paper's adaptive weight (eq. 7)."""

    kind: Literal["patchgan"] = "patchgan"
    weight: float = Field(0.8, ge=0)
    """Factor on the adversarial term, after the adaptive weight."""
    adaptive: bool = True
    """Scale by λ = |∇ L_rec| / (|∇ L_GAN| + δ) at the decoder's last layer."""
    adaptive_delta: float = Field(1e-4, gt=0)
    """δ; 1e-4 in the original's code, 1e-6 in the paper."""
    adaptive_max: float = Field(1e4, gt=0)
    """Upper clamp of λ."""
    loss: Literal["hinge", "vanilla"] = "hinge"
    """Discriminator loss."""
    base_channels: int = Field(64, ge=1)
    """Width of the first layer (ndf)."""
    num_layers: int = Field(3, ge=1)
    """Strided layers."""
    norm: Literal["batch", "actnorm", "spectral"] = "batch"
    """Normalisation between layers; spectral normalises every convolution's weight instead."""
    start_step: int = Field(10_000, ge=0)
    """First step whose autoencoder update feels the discriminator."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the adversarial weight then rises linearly to its full value."""
    discriminator_start_step: int | None = Field(None, ge=0)
    """First step that trains the discriminator; null: start_step, as in the original."""
    learning_rate: float | None = Field(None, gt=0)
    """The discriminator's own peak rate; null: the autoencoder's."""
    lecam_weight: Annotated[float, Field(ge=0), LATER] = 0.0
    """Weight of LeCam regularisation in the discriminator's loss, for small corpora; 0: none."""
    lecam_decay: Annotated[float, Field(ge=0, lt=1), LATER] = 0.99
    """Decay of its moving averages of logits."""

    @model_validator(mode="after")
    def _who_is_felt_is_trained(self) -> Self:
        if self.discriminator_start_step is not None and self.discriminator_start_step > self.start_step:
            raise ValueError(
                f"discriminator_start_step {self.discriminator_start_step} comes after start_step {self.start_step}: "
                "the autoencoder would follow a discriminator that nobody trains; make it smaller, or null"
            )
        return self


PerceptualConfig = Annotated[
    NoPerceptualConfig | LpipsConfig, Field(discriminator="kind"), BeforeValidator(variant_of("lpips"))
]
AdversarialConfig = Annotated[
    NoAdversarialConfig | PatchGanConfig, Field(discriminator="kind"), BeforeValidator(variant_of("patchgan"))
]


class TokenizerLossConfig(Config):
    """What the autoencoder minimises: pixel + perceptual + codebook + λ · adversarial."""

    pixel: Literal["l1", "l2", "bce", "cross_entropy", "logit_laplace"] = "l1"
    """Pixel distance; of label maps, whose reconstruction is logits, binary (the original) or categorical entropy; of
    distributions of pixels, DALL·E's likelihood."""
    pixel_weight: float = Field(1.0, ge=0)
    """Weight of the pixel term."""
    codebook_weight: float = Field(1.0, ge=0)
    """Weight of the quantizer's loss."""
    perceptual: PerceptualConfig = LpipsConfig()
    """Perceptual term, or none."""
    adversarial: AdversarialConfig = PatchGanConfig()
    """Adversarial term, or none. With perceptual none too, this is a VQ-VAE."""

    @property
    def of_label_maps(self) -> bool:
        """Whether what is reconstructed are classes instead of images."""
        return self.pixel in ("bce", "cross_entropy")

    @model_validator(mode="after")
    def _label_maps_are_no_pictures(self) -> Self:
        if self.of_label_maps and (self.perceptual.kind, self.adversarial.kind) != ("none", "none"):
            raise ValueError(
                f"pixel {self.pixel} reconstructs label maps, which perceptual {self.perceptual.kind} and adversarial "
                f"{self.adversarial.kind} do not compare: set both to none"
            )
        return self


class TopLevelConfig(Config):
    """A second, coarser grid of indices above the first (VQ-VAE-2)."""

    factor: Literal[2, 4, 8] = 2
    """How many times coarser than the first grid it is, along each axis."""
    codebook_size: int = Field(512, ge=2, le=2**24)
    """K of this level."""
    codebook_dim: int = Field(64, ge=1)
    """Width of its entries."""
    quantizer: QuantizerConfig = EmaQuantizerConfig()
    """How its latents become indices."""

    @property
    def latent_dim(self) -> int:
        """Width of what the quantizer is given."""
        return self.codebook_dim

    @model_validator(mode="after")
    def _codebook_fits_the_quantizer(self) -> Self:
        self.quantizer.check_codebook(self.codebook_size, self.codebook_dim)
        return self


class TokenizerConfig(Config):
    """Everything that is needed to build a tokenizer; stored beside its weights."""

    codebook_size: int = Field(1024, ge=2, le=2**24)
    """K: entries of the codebook."""
    codebook_dim: int = Field(256, ge=1)
    """n_z: width of an entry."""
    autoencoder: AnyAutoencoderConfig = AutoencoderConfig()
    """Encoder and decoder."""
    quantizer: QuantizerConfig = VectorQuantizerConfig()
    """How latents become indices."""
    pixels: Annotated[Literal["values", "logit_laplace"], LATER] = "values"
    """What the decoder gives of a pixel: its value, or a logit-Laplace distribution (loss.pixel logit_laplace)."""

    top: Annotated[TopLevelConfig | None, LATER] = None
    """A second, coarser level; null: one grid of indices."""
    plane: Annotated[PlaneConfig, LATER] = ImagePlane()
    """What of a record it encodes: the image, a label or depth map kept beside it, edges, a low-resolution version."""
    label_maps: Annotated[bool, LATER] = False
    """It encodes label maps, a channel a class, and decodes to logits; training sets it from loss.pixel."""

    @property
    def latent_dim(self) -> int:
        """Width of what the quantizer is given."""
        return self.codebook_dim if self.autoencoder.kind == "vqgan" else self.autoencoder.latent_channels

    @property
    def takes_label_maps(self) -> bool:
        """Whether it is given label maps instead of images."""
        return self.label_maps

    @property
    def batch_name(self) -> str:
        """Under which name a batch holds what it encodes."""
        return "label_maps" if self.takes_label_maps else "images"

    @property
    def window_px(self) -> int:
        """Height and width of the part of an image from which its plane has resolution_px."""
        return self.autoencoder.resolution_px * (self.plane.factor if self.plane.kind == "low_resolution" else 1)

    @property
    def size_multiple(self) -> int:
        """Height and width of images are multiples of it."""
        return self.autoencoder.downsampling_factor * (1 if self.top is None else self.top.factor)

    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width of the indices of an image of this size; of two levels, of the finer."""
        factor = self.autoencoder.downsampling_factor
        return height_px // factor, width_px // factor * self.quantizer.indices_per_latent

    def grids(self, height_px: int, width_px: int) -> dict[str, tuple[int, int]]:
        """The same for each level, by the name of its column in token datasets."""
        grids = {BOTTOM: self.grid(height_px, width_px)}
        if self.top is not None:
            factor = self.size_multiple
            grids[TOP] = height_px // factor, width_px // factor * self.top.quantizer.indices_per_latent
        return grids

    @property
    def codebook_sizes(self) -> dict[str, int]:
        """K of each level, by the name of its column."""
        return {BOTTOM: self.codebook_size} | ({} if self.top is None else {TOP: self.top.codebook_size})

    @model_validator(mode="after")
    def _the_network_of_a_dvae_gives_logits(self) -> Self:
        if self.autoencoder.kind == "dvae" and (self.quantizer.kind != "gumbel" or self.top is not None):
            what = f"quantizer {self.quantizer.kind}" if self.top is None else "a top level"
            raise ValueError(
                f"autoencoder dvae with {what}: its encoder ends in logits of the entries, which only quantizer gumbel "
                "takes, on one level; autoencoder vqgan has all of them"
            )
        return self

    @model_validator(mode="after")
    def _features_of_a_top_divide_into_groups(self) -> Self:
        if self.top is None or self.autoencoder.kind != "vqgan":
            return self
        latent_channels, num_groups = self.autoencoder.latent_channels, self.autoencoder.num_groups
        if latent_channels % num_groups:
            raise ValueError(
                f"latent_channels {latent_channels} is no multiple of num_groups {num_groups}, as a top level needs; "
                "change one of the two"
            )
        return self

    @model_validator(mode="after")
    def _codebook_fits_the_quantizer(self) -> Self:
        self.quantizer.check_codebook(self.codebook_size, self.codebook_dim)
        return self


class AugmentConfig(Config):
    """What is done to training images after decoding; validation images are always cropped at the centre."""

    random_crop: bool = False
    """Crop at a random place instead of the centre."""
    horizontal_flip: bool = False
    """Mirror half of the images."""


class PerturbationConfig(Config):
    """Some images are decoded from indices that are nearly right (RobustTok), so that the decoder bears a prior's."""

    image_fraction: Fraction = 0.1
    """β: share of the images."""
    num_neighbours: int = Field(100, ge=1)
    """δ: an index is replaced by one of so many nearest entries."""
    probability: Fraction = 1.0
    """α: share of their indices that are replaced."""
    final_probability: Fraction = 0.0
    """α from anneal_end_step on."""
    anneal_start_step: int = Field(0, ge=0)
    """Step from which α changes linearly."""
    anneal_end_step: int | None = Field(None, ge=1)
    """Step at which α is final_probability; null: it stays as it is."""

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.anneal_end_step is not None and self.anneal_end_step <= self.anneal_start_step:
            raise ValueError(
                f"anneal_end_step {self.anneal_end_step} must come after anneal_start_step {self.anneal_start_step}"
            )
        return self


class TrainTokenizerConfig(TokenizerConfig):
    """Recipe and execution of the train_tokenizer stage."""

    loss: TokenizerLossConfig = TokenizerLossConfig()
    """What is minimised."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of training images."""
    perturbation: Annotated[PerturbationConfig | None, LATER] = None
    """Perturbation of what the decoder is trained on; null: none."""
    init_from: Annotated[str | None, Field(min_length=4), INPUT] = None
    """Fingerprint (or its beginning), or URI, of a tokenizer whose weights training begins with; null: new weights."""
    freeze_codebook: Annotated[bool, LATER] = False
    """Leave the codebook of init_from as it is, and train what is around it."""
    training: TokenizerTrainingConfig = TokenizerTrainingConfig()
    """Optimiser, schedule and length."""
    damaged_shards: Annotated[Literal["stop", "skip"], LATER] = "stop"
    """What a damaged shard does to training: end it, or be skipped, its images replaced by others and counted."""
    execution: TrainingExecution = TrainingExecution()
    """How it runs; not part of the fingerprint."""

    @model_validator(mode="after")
    def _skipped_shards_are_counted(self) -> Self:
        if self.damaged_shards == "skip" and self.execution.world_size > 1:
            raise ValueError(
                f"damaged_shards skip counts in one process what it skips, and {self.execution.world_size} would "
                f"train: repair the corpus (tessera verify), or train in one"
            )
        return self

    @model_validator(mode="after")
    def _distributions_have_a_likelihood(self) -> Self:
        if (self.pixels == "logit_laplace") != (self.loss.pixel == "logit_laplace"):
            raise ValueError(
                f"pixels {self.pixels} and loss.pixel {self.loss.pixel} do not go together: set both to logit_laplace, "
                "or neither"
            )
        return self

    @model_validator(mode="after")
    def _single_indices_are_perturbed(self) -> Self:
        if self.perturbation is not None and (self.quantizer.kind == "residual" or self.top is not None):
            what = "quantizer residual" if self.top is None else "a tokenizer with a top level"
            raise ValueError(f"perturbation replaces an index by a nearby one, which {what} has not")
        return self

    @model_validator(mode="after")
    def _label_maps_follow_from_the_loss(self) -> Self:
        if self.label_maps and not self.loss.of_label_maps:
            raise ValueError(f"label_maps with loss.pixel {self.loss.pixel}: take cross_entropy or bce, and it is set")
        return self

    @property
    def takes_label_maps(self) -> bool:
        """Whether it is given label maps instead of images."""
        return self.loss.of_label_maps

    @model_validator(mode="after")
    def _there_is_a_codebook_to_freeze(self) -> Self:
        if not self.freeze_codebook:
            return self
        if self.init_from is None:
            raise ValueError("freeze_codebook without init_from would keep a random codebook: name a tokenizer")
        for quantizer in (self.quantizer, *([] if self.top is None else [self.top.quantizer])):
            if quantizer.kind in {"fsq", "lfq"}:
                raise ValueError(f"freeze_codebook with quantizer {quantizer.kind}, which has no codebook to train")
            if getattr(quantizer, "restart_dead_codes_after_steps", None) is not None:
                raise ValueError(
                    "freeze_codebook with restart_dead_codes_after_steps, which moves entries: set one of them"
                )
        return self

    def model(self) -> TokenizerConfig:
        """The part that is stored with the weights."""
        fields = {name: getattr(self, name) for name in TokenizerConfig.model_fields}
        return TokenizerConfig(**fields | {"label_maps": self.takes_label_maps})
