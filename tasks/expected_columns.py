"""The columns of tokens that a config will make, before anything is made.

For plans, and to refuse at once what would otherwise fail after hours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.config import PipelineConfig
from tasks.encoded_size import encoded_px, own_grid, plane_px
from tasks.levels import check_levels
from vqgan_core.config import (
    BoxesCondition,
    ConfigError,
    CoordinatesCondition,
    LowResolutionPlane,
    PlaneCondition,
    TokenizerConfig,
)
from vqgan_core.config.tokenizer import TOP
from vqgan_core.config.tokens import TARGET, ColumnSpec
from vqgan_core.tokenizer.cost import tokenizer_cost

__all__ = ["ExpectedColumn", "check_columns", "expected_columns"]


@dataclass(frozen=True)
class ExpectedColumn:
    """A column of condition tokens, and what making it takes."""

    spec: ColumnSpec
    encode_flops: float = 0.0
    """Of its tokenizer, for one record in one view."""


def check_columns(config: PipelineConfig) -> None:
    """Refuse a prior that reads columns that this config's encode stage does not write.

    Raises:
        ConfigError: names the column and those that there will be.
    """
    check_levels(config.tokenizer, config.prior)
    of_the_image = [TARGET] if config.tokenizer.top is None else [TARGET, TOP]
    written = [*of_the_image, *sorted(config.encode.conditions)]
    for field, names in (("target", [config.prior.target]), ("condition_columns", config.prior.condition_columns)):
        for name in names:
            if name not in written:
                raise ConfigError(
                    f"prior.{field} has {name!r}, which encode does not write; it writes {', '.join(written)}: add "
                    f"encode.conditions.{name}"
                )


def expected_columns(config: PipelineConfig, published: Callable[[str], TokenizerConfig]) -> dict[str, ExpectedColumn]:
    """Every condition column of a config, by name.

    Args:
        config: of the pipeline.
        published: the config of a tokenizer by fingerprint or URI.
    """
    size_px = encoded_px(config.encode, config.tokenizer)
    factor = size_px[0] // own_grid(config.encode, config.tokenizer)[0]
    found = {}
    if config.tokenizer.top is not None:  # its operations are those of the image's own tokens
        height, width = config.tokenizer.grids(*plane_px(size_px, config.tokenizer))[TOP]
        found[TOP] = ExpectedColumn(_spec(TOP, config.tokenizer.top.codebook_size, height, width))
    for name, condition in config.encode.conditions.items():
        if isinstance(condition, CoordinatesCondition):
            found[name] = ExpectedColumn(_spec(name, condition.num_levels, size_px[0] // factor, size_px[1] // factor))
        elif isinstance(condition, BoxesCondition):
            found[name] = ExpectedColumn(_spec(name, condition.codebook_size, 1, condition.num_tokens))
        else:
            found[name] = _plane(name, condition, config, published)
    return found


def _plane(
    name: str, condition: PlaneCondition, config: PipelineConfig, published: Callable[[str], TokenizerConfig]
) -> ExpectedColumn:
    wanted = condition.tokenizer
    section = config.tokenizer if wanted is None else config.condition_tokenizers.get(wanted)
    model = published(wanted) if wanted is not None and section is None else section
    assert model is not None
    plane = condition.plane or model.plane
    shrunk = plane.factor if isinstance(plane, LowResolutionPlane) else 1
    height, width = (side // shrunk for side in encoded_px(config.encode, config.tokenizer))
    cost = tokenizer_cost(model).encode_flops * height * width / model.autoencoder.resolution_px**2
    return ExpectedColumn(_spec(name, model.codebook_size, *model.grid(height, width)), cost)


def _spec(name: str, codebook_size: int, height: int, width: int) -> ColumnSpec:
    return ColumnSpec(name=name, codebook_size=codebook_size, height=height, width=width)
