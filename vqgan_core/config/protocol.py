"""How sets of images are compared: which images, how many, and every constant that moves the numbers.

Named protocols are those of published tables. A field that is set beside the name departs from it, and the stored
numbers say so. What all have in common is fixed elsewhere: bytes in, the extractor's own resize, centre crops at the
tokenizer's size.

Sources: `paper`: the authors' tables, which torch-fidelity made (arXiv 2012.09841; its defaults for KID and IS).
`adm`: the evaluator of guided-diffusion (arXiv 2105.05233): Fréchet distances of 50,000 samples to the whole training
split, precision and recall to 10,000 images of it, which is what its reference file holds. `llamagen`
(arXiv 2406.06525): the same evaluator and reference for samples; reconstructions against the 50,000 validation images.

They differ in bytes: guided-diffusion cuts off what is behind the point (`((x + 1) * 127.5).to(uint8)`), LlamaGen
rounds (`127.5 * x + 128`). This concerns reconstructions; a sample set holds rounded bytes since it was drawn.

What no protocol sets, because other stages do: both sources centre-crop after halving by boxes and a bicubic step
(`shard`); both draw classes at random, where a sample set has equally many of each; LlamaGen's published numbers have
guidance, and those of its 384 px models are resized to 256 px before (`sample`).

Departure: Inception scores are those of shuffled splits everywhere; ADM's splits are in file order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from vqgan_core.config.base import Config

__all__ = ["PROTOCOLS", "ProtocolConfig"]

_FIFTY_THOUSAND = 50_000

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "own": {},
    "paper": {"reconstruction_split": "val", "generation_split": "train", "num_samples": _FIFTY_THOUSAND},
    "adm": {
        "reconstruction_split": "val", "generation_split": "train", "num_samples": _FIFTY_THOUSAND,
        "num_kept_reference": 10_000, "num_kept_judged": _FIFTY_THOUSAND, "rounding": "truncate",
    },
    "llamagen": {
        "reconstruction_split": "val", "generation_split": "train", "num_samples": _FIFTY_THOUSAND,
        "num_kept_reference": 10_000, "num_kept_judged": _FIFTY_THOUSAND,
    },
}  # fmt: skip


class ProtocolConfig(Config):
    """A protocol: `adm`, or `{kind: adm, num_samples: 5000}`."""

    kind: Literal["own", "paper", "adm", "llamagen"] = "own"
    """Whose protocol; its values stand in for all fields that are not given."""
    reconstruction_split: Literal["val", "train"] = "val"
    """Split whose images are reconstructed, and what reconstructions are compared with."""
    generation_split: Literal["val", "train"] = "train"
    """Split that samples are compared with."""
    num_reference: int | None = Field(None, ge=2)
    """At most so many reference images for samples; null: all."""
    num_reconstructions: int = Field(_FIFTY_THOUSAND, ge=2)
    """At most so many images are reconstructed; the numbers say how many there were."""
    num_samples: int | None = Field(None, ge=2)
    """Samples that the protocol is of. A sample set is always judged whole; one of another size is said to depart."""
    rounding: Literal["round", "truncate"] = "round"
    """How reconstructions become bytes. guided-diffusion, MaskBit and torchmetrics truncate."""
    num_kept_reference: int = Field(10_000, ge=2)
    """Reference images, chosen at random, whose features are kept for kernel distance, precision, recall, coverage."""
    num_kept_judged: int = Field(10_000, ge=2)
    """The same of judged images."""
    num_neighbours: int = Field(3, ge=1)
    """k of precision and recall."""
    num_density_neighbours: int = Field(5, ge=1)
    """k of density and coverage."""
    num_subsets: int = Field(100, ge=1)
    """Subsets of the kernel distance."""
    subset_size: int = Field(1000, ge=2)
    """Images of each; of smaller sets, all."""
    num_splits: int = Field(10, ge=1)
    """Splits of the Inception score."""
    seed: int = Field(2020, ge=0, lt=2**32)
    """Of subsets, splits and kept images; torch-fidelity's."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {"kind": values}
        if not isinstance(values, dict):
            return values
        return {**PROTOCOLS.get(values.get("kind", "own"), {}), **values}

    @property
    def described(self) -> str:
        """Its name, and what departs from it."""
        own = type(self).model_validate(self.kind)
        changed = [f"{name} = {value}" for name, value in self.model_dump().items() if value != getattr(own, name)]
        return f"protocol {self.kind}" + (f" with {', '.join(changed)}" if changed else "")
