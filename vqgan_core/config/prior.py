"""Configs of the prior and of sampling from it. Sizes follow the original's minGPT; defaults are a small model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from vqgan_core.config.base import INPUT, LATER, Config, ExecutionConfig
from vqgan_core.config.conditions import ConditionConfig
from vqgan_core.config.fan_out import FanOutConfig
from vqgan_core.config.guidance import ConstantGuidance, GuidanceSchedule
from vqgan_core.config.sampling import CompletionConfig, NoCompletion, NoRejection, RejectionConfig
from vqgan_core.config.sizes import with_size
from vqgan_core.config.tokens import TARGET, ColumnName
from vqgan_core.config.training import PriorTrainingConfig, PriorTrainingExecution
from vqgan_core.config.views import RandomViewsConfig, ViewName, expanded

OrderName = Literal[
    "row",
    "column",
    "spiral_in",
    "spiral_out",
    "z_curve",
    "subsample",
    "alternate",
    "random",
    "random_annealed",
]


class PriorConfig(Config):
    """A transformer or causal convolutions; vocabulary, sequence length and classes come from the token dataset.

    `size: 110m` (`sizes.PRIOR_SIZES`) stands for num_layers, num_heads and width.
    """

    architecture: Literal["gpt", "modern", "pixelsnail", "pixelcnn"] = "gpt"
    """gpt: the original's, with learned positions. modern: RMSNorm, SwiGLU, 2-D rotary positions, QK-norm. pixelsnail:
    causal convolutions and attention. pixelcnn: gated causal convolutions alone."""
    order: OrderName = "row"
    """In which order the grid is read. random: one permutation for all; random_annealed: in training a new one for each
    record, less and less often (RAR), and otherwise row by row."""
    order_seed: int = Field(1, ge=0, lt=2**32)
    """Which permutation the order random is; the original's is 1."""
    condition: Literal["none", "class"] = "class"
    """What the prior is told first: its class, or nothing; and then the tokens of condition_columns."""
    target: Annotated[ColumnName, LATER] = TARGET
    """The column of the token dataset that is modelled."""
    condition_columns: Annotated[tuple[ColumnName, ...], LATER] = ()
    """Other columns, whose tokens the prior is told first, in this order (after the class, if there is one)."""
    num_layers: int = Field(12, ge=1)
    """Transformer layers; of pixelsnail, blocks with an attention each."""
    num_heads: int = Field(12, ge=1)
    """Attention heads; must divide width. pixelcnn has none."""
    width: int = Field(768, ge=1)
    """Model width; of convolutions, channels."""
    num_res_blocks: Annotated[int, Field(ge=1), LATER] = 4
    """Gated residual layers before each attention (pixelsnail only)."""
    num_key_value_heads: int | None = Field(None, ge=1)
    """Heads of keys and values, each shared by a group of query heads (modern only); null: as many as num_heads."""
    qk_norm: Annotated[bool, LATER] = True
    """Norm queries and keys (modern only); LlamaGen does not."""
    mlp_width: Annotated[int | None, Field(ge=1), LATER] = None
    """Width inside the perceptron (modern only); null: 8/3 of width, rounded up to a multiple of 64."""
    condition_rotation: Annotated[Literal["identity", "zero"], LATER] = "identity"
    """How the rotary positions leave the condition (modern only): as it is, or with query and key 0, as in LlamaGen.
    zero is for weights that were trained so."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of embeddings, attention and residual branches."""

    @model_validator(mode="before")
    @classmethod
    def _size_by_name(cls, values: Any) -> Any:
        return with_size(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _columns_differ(self) -> PriorConfig:
        columns = (self.target, *self.condition_columns)
        if len(set(columns)) < len(columns):
            raise ValueError(
                f"condition_columns {list(self.condition_columns)} with target {self.target!r}: each column can be "
                "read once, and what is modelled cannot be told"
            )
        return self

    @model_validator(mode="after")
    def _fits_convolutions(self) -> PriorConfig:
        if self.architecture in ("pixelsnail", "pixelcnn") and self.order != "row":
            raise ValueError(f"order {self.order} with architecture {self.architecture}: convolutions read row by row")
        default = PriorConfig.model_fields["num_res_blocks"].default
        if self.architecture != "pixelsnail" and self.num_res_blocks != default:
            raise ValueError(
                f"num_res_blocks {self.num_res_blocks}: an option of architecture pixelsnail; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> PriorConfig:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide width {self.width}")
        return self

    @model_validator(mode="after")
    def _heads_fit_the_architecture(self) -> PriorConfig:
        if self.architecture != "modern":
            for name in ("num_key_value_heads", "qk_norm", "mlp_width", "condition_rotation"):
                value, default = getattr(self, name), type(self).model_fields[name].default
                if value != default:
                    given = "null" if default is None else default
                    raise ValueError(
                        f"{name} {value} with architecture {self.architecture}: it is an option of modern; "
                        f"leave it {given}"
                    )
            return self
        if (self.width // self.num_heads) % 4:
            raise ValueError(
                f"width {self.width} / num_heads {self.num_heads} is no multiple of 4: "
                "rotary positions turn pairs, half of them by row and half by column"
            )
        if self.num_heads % (self.num_key_value_heads or self.num_heads):
            raise ValueError(
                f"num_key_value_heads {self.num_key_value_heads} does not divide num_heads {self.num_heads}"
            )
        return self


def sized_prior(name: str, **fields: Any) -> PriorConfig:
    """A prior of a named size.

    Args:
        name: one of `sizes.PRIOR_SIZES`.
        fields: other fields of the config, which also go before those of the size.

    Raises:
        ConfigError: there is no such size, or a field does not fit.
    """
    return PriorConfig.validated({"size": name, **fields}, origin=f"the prior of size {name}")


class RandomOrderConfig(Config):
    """How often a record is read in a random order (order random_annealed): always, then less, then `final`."""

    anneal_from: float = Field(0.5, ge=0, le=1)
    """Share of the steps with random orders only."""
    anneal_to: float = Field(0.75, ge=0, le=1)
    """Share of the steps after which the probability is final; it falls linearly in between."""
    final: float = Field(0.0, ge=0, le=1)
    """Probability at the end; above 0 the prior keeps knowing how to read known tokens first."""

    @model_validator(mode="after")
    def _falls_forwards(self) -> RandomOrderConfig:
        if self.anneal_to < self.anneal_from:
            raise ValueError(f"anneal_to {self.anneal_to} is before anneal_from {self.anneal_from}")
        return self


class TrainPriorConfig(PriorConfig):
    """Recipe and execution of the train_prior stage."""

    condition_dropout: float = Field(0.1, ge=0, le=1)
    """Share of records of which the whole condition (class and columns) is hidden in training, which makes
    classifier-free guidance possible."""
    token_corruption: float = Field(0.0, ge=0, lt=1)
    """Share of the tokens that training reads as a random other one (1 - the original's pkeep); targets stay clean."""
    token_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the tokens that training does not read at all: their embedding is zero."""
    random_order: RandomOrderConfig = RandomOrderConfig()
    """Course of the order random_annealed; no other order uses it."""
    init_from: Annotated[str | None, Field(min_length=4), INPUT] = None
    """Fingerprint (or its beginning), or URI, of a prior whose weights training begins with; null: new weights."""
    training: PriorTrainingConfig = PriorTrainingConfig()
    """Optimiser, schedule and length."""
    execution: PriorTrainingExecution = PriorTrainingExecution()
    """How it runs; not part of the fingerprint."""

    @model_validator(mode="after")
    def _zero_rotation_is_inherited(self) -> TrainPriorConfig:
        if self.condition_rotation == "zero" and self.init_from is None:
            raise ValueError(
                "condition_rotation zero blinds attention to the condition: it is for weights that were trained so, "
                "with init_from; leave it identity"
            )
        return self

    @model_validator(mode="after")
    def _layers_can_be_sharded(self) -> TrainPriorConfig:
        if self.execution.shard_weights and self.architecture not in ("gpt", "modern"):
            raise ValueError(
                f"execution.shard_weights with architecture {self.architecture}: only gpt and modern are spread over "
                "processes; leave it out"
            )
        if self.execution.shard_weights and self.execution.compile:
            raise ValueError("execution.shard_weights and execution.compile do not go together: choose one of them")
        return self

    def model(self) -> PriorConfig:
        """The part that is stored with the weights."""
        return PriorConfig(**{name: getattr(self, name) for name in PriorConfig.model_fields})


class SamplingConfig(Config):
    """How tokens are drawn. Order: guidance, temperature, min-p, top-k, top-p."""

    temperature: float = Field(1.0, ge=0)
    """Divides the logits; 0 is greedy."""
    min_p: float | None = Field(None, gt=0, le=1)
    """Keep tokens of at least this share of the likeliest one's probability; null: all."""
    top_k: int | None = Field(None, ge=1)
    """Keep exactly the k likeliest tokens; null: all."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Keep the smallest set of likeliest tokens with this mass; null: all."""
    guidance: float = Field(1.0, ge=0)
    """Classifier-free guidance scale; 1 is off, above 1 pushes towards the class."""
    guidance_schedule: GuidanceSchedule = ConstantGuidance()
    """Course of the scale over an image's steps."""
    precision: Annotated[Literal["fp32", "fp16"], LATER] = "fp32"
    """Of a transformer's weights while it draws: fp16 halves what each step reads; everything else stays fp32."""


class SampleExecution(ExecutionConfig):
    """How sampling and other inference stages run."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto takes a GPU where there is one."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of PyTorch; null: its default."""
    batch_size: int = Field(64, ge=1)
    """Records computed at once."""


class DrawExecution(SampleExecution):
    """How drawing runs."""

    compile: bool = False
    """Let torch.compile make each step of a transformer one CUDA graph: a minute at first, for many batches on a GPU.
    On a CPU it needs a C++ compiler and gains nothing."""


class SampleConfig(SamplingConfig):
    """Recipe and execution of the sample stage."""

    num_per_class: int = Field(20, ge=1)
    """Images of each class, or of each record that a prior with condition columns is told; otherwise images in all."""
    num_conditions: Annotated[int, Field(ge=1), LATER] = 8
    """Records that a prior with condition columns is told: the first in the order of their keys."""
    condition_split: Annotated[Literal["train", "val"], LATER] = "val"
    """Where those records are."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Image i is drawn from its own seed, derived from this and i alone."""
    images_per_shard: int = Field(100, ge=1)
    """Images a WebDataset shard: what a killed run loses at most."""
    size_px: Annotated[tuple[int, int] | None, LATER] = None
    """Height and width, if larger than what the prior was trained on: drawn in a sliding window. null: the trained
    size."""
    num_beams: Annotated[int | None, Field(ge=1), LATER] = None
    """Search for the likeliest images with so many beams instead of drawing: num_per_class of them are kept, at most
    all. null: draw."""
    completion: Annotated[CompletionConfig, LATER] = NoCompletion()
    """Draw the rest of records of which a part is given."""
    rejection: Annotated[RejectionConfig, LATER] = NoRejection()
    """Draw more, and keep those that a classifier is surest of."""
    execution: DrawExecution = DrawExecution()
    """How it runs; not part of the fingerprint."""

    @model_validator(mode="after")
    def _ways_to_draw_fit_together(self) -> SampleConfig:
        ways = {
            "size_px": self.size_px is not None,
            "num_beams": self.num_beams is not None,
            "completion": self.completion.kind != "none",
        }
        chosen = [name for name, is_chosen in ways.items() if is_chosen]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} cannot be combined: choose one of them")
        if self.num_beams is not None:
            self._check_beams(self.num_beams)
        if self.execution.compile and (self.size_px is not None or self.num_beams is not None):
            raise ValueError(f"execution.compile goes with plain draws, not with {chosen[0]}: leave one of them out")
        return self

    def _check_beams(self, num_beams: int) -> None:
        plain = SamplingConfig()
        changed = [name for name in SamplingConfig.model_fields if getattr(self, name) != getattr(plain, name)]
        if changed or self.rejection.kind != "none":
            names = ", ".join([*changed, *(["rejection"] if self.rejection.kind != "none" else [])])
            raise ValueError(f"num_beams {num_beams} draws nothing, so it takes no {names}: leave that out")
        if self.num_per_class > num_beams:
            raise ValueError(
                f"num_per_class {self.num_per_class} of num_beams {num_beams}: give at least as many beams"
            )


class EncodeExecution(SampleExecution):
    """How encoding runs, and what it says of images that are unlike those that the tokenizer knows."""

    drift_warning_bits: float = Field(0.05, gt=0, le=1)
    """How far the codes of new shards may be from those of the tokenizer's training corpus before a warning is said:
    Jensen–Shannon divergence, less what chance explains."""
    shard_cache_bytes: int = Field(10 << 30, ge=0)
    """Shards of a store on another machine kept on this one's disk, in TESSERA_CACHE; 0: every image is a request."""
    drift_limit_bits: float | None = Field(None, gt=0, le=1)
    """The same above which the stage fails; null: never."""
    fan_out: FanOutConfig = FanOutConfig()
    """Where shards are encoded at the same time; each process that does so loads the tokenizer once."""


class EncodeConfig(Config):
    """Recipe and execution of the encode stage."""

    views: Annotated[tuple[ViewName, ...], BeforeValidator(expanded)] = Field(("center",), min_length=1)
    """Ways to look at an image, each a row: its centre or a corner, as it is or mirrored; ten_crop is all of these."""
    random_views: Annotated[RandomViewsConfig | None, LATER] = None
    """Random resized crops besides, each a row with the window that was drawn; null: none."""
    size_px: Annotated[tuple[int, int] | None, LATER] = None
    """Height and width of what is encoded of each image, if another than the tokenizer was trained on: sample.size_px
    tells a prior conditions of larger images from such tokens. null: the trained size."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the encoder; the quantizer is always fp32."""
    damaged_shards: Annotated[Literal["stop", "skip"], LATER] = "stop"
    """What a shard that cannot be read does: end the stage, or leave its records out, which the summary counts."""
    conditions: Annotated[dict[ColumnName, ConditionConfig], LATER] = Field(default_factory=dict)
    """What is written for priors to be told first, by the name of its column."""
    execution: EncodeExecution = EncodeExecution()
    """How it runs; not part of the fingerprint."""

    @property
    def all_views(self) -> tuple[str, ...]:
        """Names of all views, random ones last."""
        return (*self.views, *(self.random_views.names if self.random_views is not None else ()))

    @model_validator(mode="after")
    def _views_differ(self) -> EncodeConfig:
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views {list(self.views)}: each can be named once; ten_crop names all of them")
        return self
