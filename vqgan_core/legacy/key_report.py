"""What became of every key of another project's state dict: the strict account that an import gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vqgan_core.legacy.checkpoint_file import CheckpointError

__all__ = ["KeyReport"]


@dataclass(frozen=True)
class KeyReport:
    """Their keys, each in one place."""

    used: tuple[str, ...]
    """Found a place."""
    ignored: tuple[str, ...]
    """Known, and not needed here: another stage's weights, causal masks, a palette, the perceptual loss."""
    missing: tuple[str, ...]
    """Looked for, and not there or of another shape."""
    left_over: tuple[str, ...]
    """Known to nobody."""
    other_shapes: Mapping[str, str] = field(default_factory=dict)
    """Of missing keys that are there: their shape, and the one that was looked for."""

    def require_exact(self, what: str, networks: tuple[str, ...]) -> None:
        """Refuse a state dict that is not that of the model.

        Keys that are left over outside of the networks (counters, other losses) are only listed; inside of them they
        are layers that the model has and we would leave out.

        Args:
            what: the model that it should be.
            networks: beginnings of the keys of the model itself.

        Raises:
            CheckpointError: keys are missing, or left over inside of a network.
        """
        inside = [key for key in self.left_over if key.startswith(networks) and key not in self.other_shapes]
        if not self.missing and not inside:
            return
        parts = []
        if self.missing:
            said = [f"{key}: {self.other_shapes[key]}" if key in self.other_shapes else key for key in self.missing]
            parts.append(f"{_counted(said)} missing or of another shape")
        if inside:
            parts.append(f"{_counted(inside)} left over")
        raise CheckpointError(
            f"this is no {what}: {' and '.join(parts)}; give the config that belongs to this file with --config, or "
            "correct fields of it with key=value"
        )

    def as_json(self) -> Mapping[str, tuple[str, ...]]:
        """The report as plain data."""
        return {name: getattr(self, name) for name in ("used", "ignored", "missing", "left_over")}


def _counted(keys: Sequence[str]) -> str:
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'} ({', '.join(keys[:2])}{' …' if len(keys) > 2 else ''})"
