"""Several processes that train one model: each computes its share of every batch, and all hold the same weights.

Axes: M wanted rows, P pieces of a step, n rows of one process' piece, D width.

What a function here says of "all processes" is, in a process that belongs to no group, what it says of this one: then
nothing is sent and no number changes. Whether there is a group is asked anew at each call. A script of torchrun's:

    with distributed.process_group():
        rank, world_size = distributed.rank(), distributed.world_size()
        batches = corpus.batches("train", …).share(rank, world_size, config.training.accumulate_batches)
        validation = corpus.sequential("val", …).share(rank, world_size)
        train(TokenizerStep(config), batches, lambda: validation, …)

A step is the same for any number of processes, to rounding: gradients, metrics and codebook averages are means or sums
over the global batch, and what looks at a batch as a whole (BatchNorm, λ, the entropy of LFQ) looks at all of it.

Why gradients are averaged here and not by DistributedDataParallel: a step runs two modules' backward passes, one of
them with the other's parameters switched off, asks for gradients of one layer in between (λ), and adds up pieces; DDP
wants one forward and one backward of each parameter for each reduction. The price is that sending does not overlap with
the backward pass. Every collective is called in the same order by all, also those inside a backward pass: all build the
same graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

__all__ = [
    "any_process",
    "broadcast_bytes",
    "local_rank",
    "mean",
    "mean_gradients",
    "own_rows",
    "process_group",
    "rank",
    "rows_of_all",
    "total",
    "world_size",
]

BUCKET_ELEMENTS = 2**24
"""Gradients that are sent at once: 64 MiB of fp32."""


def rank() -> int:
    """This process' number; 0 writes checkpoints and speaks."""
    return dist.get_rank() if _grouped() else 0


def world_size() -> int:
    """How many processes train."""
    return dist.get_world_size() if _grouped() else 1


def local_rank() -> int | None:
    """This process' number on its machine, which is that of its GPU; None without a group."""
    return int(os.environ.get("LOCAL_RANK", rank())) if _grouped() else None


@contextmanager
def process_group(timeout_seconds: float = 1800.0) -> Iterator[None]:
    """Inside, this process is one of those that torchrun started (RANK, WORLD_SIZE, …); without torchrun, alone.

    Args:
        timeout_seconds: after which a collective that not all have joined fails, instead of waiting for ever.

    Raises:
        ValueError: some of torchrun's variables are set, others not.
    """
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    given = [name for name in names if name in os.environ]
    if not given:
        yield
        return
    if len(given) < len(names):
        missing = ", ".join(name for name in names if name not in given)
        raise ValueError(
            f"{', '.join(given)} in the environment, but not {missing}: start with torchrun, or unset them"
        )
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    try:
        yield
    finally:
        dist.destroy_process_group()


def total(values: Tensor) -> Tensor:
    """The sum over all processes; no gradient."""
    if world_size() == 1:
        return values
    sums = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(sums)
    return sums


def mean(values: Tensor) -> Tensor:
    """The mean over all processes; a gradient of it is the mean of theirs."""
    if world_size() == 1:
        return values
    averaged: Tensor = _Mean.apply(values)
    return averaged


def any_process(flag: bool) -> bool:
    """Whether it holds in any process."""
    return bool(total(torch.tensor(int(flag)))) if world_size() > 1 else flag


@torch.no_grad()
def mean_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all processes."""
    if world_size() == 1:
        return
    for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= world_size()
        for gradient, values in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
            gradient.copy_(values.view_as(gradient))


def rows_of_all(rows: Float[Tensor, "P n D"], wanted: Int[Tensor, " M"]) -> Float[Tensor, "M D"]:
    """Rows of the global batch, which counts them piece by piece and in a piece process by process.

    Args:
        rows: this process' share of each piece.
        wanted: numbers in the global batch, the same in all processes.
    """
    num_rows = rows.shape[1]
    piece, place = wanted // (num_rows * world_size()), wanted % (num_rows * world_size())
    own = (place // num_rows == rank())[:, None]
    return total(torch.where(own, rows[piece, place % num_rows], torch.zeros((), dtype=rows.dtype, device=rows.device)))


def own_rows(rows: Shaped[Tensor, ...], num_pieces: int) -> Shaped[Tensor, ...]:
    """This process' share of rows of the global batch, which counts them piece by piece and then process by process."""
    if world_size() == 1:
        return rows
    return torch.cat([piece.chunk(world_size())[rank()] for piece in rows.chunk(num_pieces)])


def broadcast_bytes(data: bytes | None) -> bytes | None:
    """What process 0 gives, to all."""
    if world_size() == 1:
        return data
    size = torch.tensor(-1 if data is None else len(data))
    dist.broadcast(size, 0)
    if size < 0:
        return None
    content = torch.empty(int(size), dtype=torch.uint8)
    if data is not None and rank() == 0:
        content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    dist.broadcast(content, 0)
    return content.numpy().tobytes()


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: object, values: Tensor) -> Tensor:
        return total(values) / world_size()

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> Tensor:
        return total(gradient) / world_size()


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and (
            gradient.dtype != bucket[0].dtype or sum(g.numel() for g in bucket) + gradient.numel() > BUCKET_ELEMENTS
        ):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
