"""The artifacts that an evaluation looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

from datasets.store import Artifact


@dataclass(frozen=True)
class Subjects:
    """The artifacts that an evaluation looks at."""

    corpus: Artifact
    tokenizer: Artifact
    tokens: Artifact
    prior: Artifact
    samples: Artifact

    @classmethod
    def of(cls, artifact: Callable[[str], Artifact]) -> Self:
        """Each by its kind."""
        return cls(**{field.name: artifact(field.name) for field in fields(cls)})

    def in_order(self) -> list[Artifact]:
        """In the order of the pipeline."""
        return [getattr(self, field.name) for field in fields(self)]
