"""Where a stage's units are worked on at the same time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vqgan_core.config.base import ExecutionConfig

__all__ = ["FanOutConfig"]


class FanOutConfig(ExecutionConfig):
    """Threads, processes or a cluster; whatever is chosen, the bytes are the same."""

    kind: Literal["none", "threads", "processes", "dask", "ray"] = "none"
    """none: one unit after another in the run's own process; threads, processes: of this machine; dask, ray: workers of
    a cluster, which need this environment, and a store and a source that they reach."""
    num_workers: int | None = Field(None, ge=1)
    """Units at once, and workers of a cluster that is started; null: one a core of this machine."""
    address: str | None = Field(None, min_length=1)
    """Of a running cluster, for example tcp://HOST:8786 (dask) or ray://HOST:10001 (ray); null: one is started on this
    machine for the stage."""

    @model_validator(mode="after")
    def _only_clusters_have_addresses(self) -> FanOutConfig:
        if self.address is not None and self.kind not in ("dask", "ray"):
            raise ValueError(f"address {self.address!r} is that of a cluster: choose kind dask or ray, not {self.kind}")
        if self.num_workers is not None and self.kind == "none":
            raise ValueError(
                f"num_workers {self.num_workers} of kind none: choose threads, processes, dask or ray, or leave it out"
            )
        return self
