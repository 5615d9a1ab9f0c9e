"""The twelve defects that were measured in the public code bases, each with a test that it is not in this one.

A test is named by the defect's number. They are small: what a defect did to people is in the docstring, and the rooms
have fuller tests of the same parts.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from datasets.order import Order
from datasets.store import Store
from datasets.token_file import TokenMeta, TokenRows, read_token_file, token_parquet
from tasks import encode
from tasks.stage import execute
from tests.tiny import Published, Recorder, Stopped
from tests.vqgan_core.training.quantizer_kinds import KINDS
from tests.vqgan_core.training.steps import tokenizer_config
from vqgan_core.config import (
    GumbelQuantizerConfig,
    LfqQuantizerConfig,
    PriorConfig,
    SamplingConfig,
    TokenSpec,
    VectorQuantizerConfig,
)
from vqgan_core.evaluation.reconstruction import ssim
from vqgan_core.losses.adversarial import discriminator_loss, generator_loss
from vqgan_core.prior import Prior, sample_tokens
from vqgan_core.prior.modern import RotaryGrid, rotate
from vqgan_core.prior.orders import random_orders
from vqgan_core.quantizers import CodeUsage
from vqgan_core.quantizers.gumbel import GumbelQuantizer
from vqgan_core.quantizers.lfq import LfqQuantizer
from vqgan_core.quantizers.usage import code_histogram
from vqgan_core.quantizers.vector import VectorQuantizer
from vqgan_core.tokenizer import Tokenizer

NUM_DEFECTS = 12


class Watch(TorchDispatchMode):
    """What PyTorch is asked to do meanwhile: names of operations, and the largest float tensor that they make."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.names.append(str(func))
        made = [value for value in (out if isinstance(out, tuple | list) else (out,)) if isinstance(value, Tensor)]
        self.largest = max([self.largest, *(value.numel() for value in made if value.is_floating_point())])
        return out


def watched(work: Callable[[], object]) -> Watch:
    with Watch() as watch:
        work()
    return watch


def test_every_defect_has_its_test() -> None:
    covered = {int(name.split("_")[2]) for name in globals() if name.startswith("test_defect_")}
    assert covered == set(range(1, NUM_DEFECTS + 1))


def test_defect_1_ssim_of_unit_images_has_data_range_1() -> None:
    """LlamaGen says data_range=2 for images in [0, 1], and published an SSIM that is 0.13 too high."""
    # Of two flat images, C1 = (0.01 · L)² is all that is left of the range L: 0.2 with 1, 0.5 with 2.
    dark, darker = torch.full((1, 1, 16, 16), -0.96), torch.full((1, 1, 16, 16), -1.0)
    expected = 0.01**2 / (0.02**2 + 0.01**2)
    torch.testing.assert_close(ssim(dark, darker), torch.tensor([expected], dtype=torch.float64), rtol=1e-5, atol=0)


def test_defect_2_the_gan_losses_have_their_arguments_the_right_way_round() -> None:
    """LlamaGen's non-saturating loss gives binary cross-entropy the target as the input: its gradient is constant."""
    real, fake = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[[-3.0, 0.5]]]]).requires_grad_()
    loss = discriminator_loss("vanilla", real, fake)
    logits, targets = torch.cat([real, fake]), torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    torch.testing.assert_close(loss, torch.nn.functional.binary_cross_entropy_with_logits(logits, targets))
    (gradient,) = torch.autograd.grad(loss, fake)
    torch.testing.assert_close(gradient, fake.detach().sigmoid() / 4)
    (pull,) = torch.autograd.grad(generator_loss(fake), fake)
    assert (pull < 0).all(), "a reconstruction gains by looking real"


def test_defect_3_an_entropy_term_of_weight_0_costs_nothing() -> None:
    """LlamaGen computes softmax and log-softmax over N × K for a term whose weight is 0: 268 MB a buffer."""
    latents, num_entries = torch.randn(2, 10, 8, 8), 1024
    size = 2 * 8 * 8 * num_entries
    off = LfqQuantizer(num_entries, 10, LfqQuantizerConfig(entropy_weight=0.0))
    on = LfqQuantizer(num_entries, 10, LfqQuantizerConfig(entropy_weight=0.1))
    idle, busy = (watched(lambda q=quantizer: q(latents)) for quantizer in (off, on))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    assert len(idle.names) < len(busy.names)
    assert max(idle.largest, busy.largest) < size, "and never is there an N × K array"
    vector = VectorQuantizer(num_entries, 10, VectorQuantizerConfig())
    assert not [name for name in watched(lambda: vector(latents)).names if "softmax" in name]


def test_defect_4_the_cache_has_grouped_heads_and_no_history_of_probabilities_is_kept() -> None:
    """LlamaGen sizes its cache by query heads, masks all positions at every step, and keeps every step's B × K."""
    spec = TokenSpec(codebook_size=512, height=4, width=4, num_classes=2)
    config = PriorConfig(architecture="modern", num_layers=2, num_heads=4, num_key_value_heads=2, width=32)
    prior = Prior(config, spec).eval()
    cache = prior.transformer.new_cache(3, max_length=16)
    assert [tuple(keys.shape) for keys in cache.keys] == 2 * [(3, 2, 16, 8)], "two key heads, not four"
    seen, _ = cache.append(0, torch.zeros(3, 2, 5, 8), torch.zeros(3, 2, 5, 8))
    assert seen.shape[2] == 5, "a step looks at what is there, not at all positions behind a mask"
    watch = watched(lambda: sample_tokens(prior, torch.tensor([0, 1, 1]), [1, 2, 3], SamplingConfig()))
    assert watch.largest < 16 * 3 * spec.codebook_size, "no tensor holds the probabilities of all steps"
    assert sum("zeros" in name for name in watch.names) <= 4, "the cache is allocated once an image, not once a step"


def test_defect_5_an_encoding_that_dies_at_its_end_loses_nothing(published: Published, tmp_path: Any) -> None:
    """1d-tokenizer's merge of all ranks' rows fails on a wrong import, after the whole corpus is encoded."""
    copy = published.without("tokens", tmp_path / "store")
    request = encode.request(copy.config.encode, copy.artifacts["corpus"], copy.artifacts["tokenizer"])
    num_files = sum(entry.path.endswith(".parquet") for entry in published.artifacts["tokens"].manifest.files)
    store = Store.open(copy.config.store)
    with pytest.raises(Stopped):
        execute(request, store, Recorder(stop_after=num_files))
    done = {path: path.stat().st_mtime_ns for path in (copy.root / "parts/tokens").rglob("*.parquet")}
    assert len(done) == num_files
    assert store.get(execute(request, store)).manifest.digest == published.artifacts["tokens"].manifest.digest
    assert done == {path: path.stat().st_mtime_ns for path in done}, "nothing is encoded again"


@pytest.mark.parametrize("codebook_size", [8192, 65536, 2**18])
def test_defect_6_every_token_survives_its_file(codebook_size: int) -> None:
    """1d-tokenizer reads its cache as float16, which is exact for half of 8,192 ids."""
    ids = np.arange(codebook_size, dtype=np.int64).reshape(-1, 64)
    meta = TokenMeta(
        tokenizer_fingerprint="a" * 64, tokenizer_digest="b" * 64, codebook_size=codebook_size, factor=16, height=8,
        width=8, class_names=(), preprocessing={},
    )  # fmt: skip
    keys = [f"{number:064x}" for number in range(len(ids))]
    rows = TokenRows(split="train", view="center", keys=keys, labels=[-1] * len(ids), source_sha256=keys, indices=ids)
    data = token_parquet(meta, rows)
    assert np.array_equal(read_token_file(data, "a.parquet").indices, ids)
    column = pq.read_schema(io.BytesIO(data)).field("indices").type
    assert str(column.value_type) == ("uint16" if codebook_size <= 65536 else "uint32")


@pytest.mark.parametrize("kind", KINDS)
def test_defect_7_every_kind_encodes_alike_and_usage_is_counted_on_the_device(kind: str) -> None:
    """SEED's evaluation imports two classes of one name that encode to 3 and 4 values, and counts token by token."""
    tokenizer = Tokenizer(tokenizer_config(**KINDS[kind]).model()).eval()
    indices = tokenizer.encode(torch.rand(2, 1, 16, 16) * 2 - 1)
    assert isinstance(indices, Tensor)
    assert indices.dtype == torch.int64
    histogram = torch.zeros(0)

    def count() -> None:
        nonlocal histogram
        histogram = code_histogram(indices, tokenizer.codebook_size)

    assert not [name for name in watched(count).names if "_local_scalar_dense" in name]
    assert 0 < CodeUsage(histogram).usage <= 1
    assert int(histogram.sum()) == indices.numel()


def test_defect_8_gumbel_tokens_are_the_likeliest_not_drawn() -> None:
    """The original draws noise in eval too: two encodes of one image agree on 3 % of their tokens."""
    quantizer = GumbelQuantizer(64, 8, GumbelQuantizerConfig())
    latents = torch.randn(2, 8, 4, 4)
    for mode in (quantizer.train(), quantizer.eval()):
        assert torch.equal(mode.encode(latents), mode.encode(latents))
        assert torch.equal(mode.encode(latents), mode.logits(latents).argmax(dim=1))
    assert torch.equal(quantizer(latents).indices, quantizer.encode(latents))


def test_defect_9_beta_is_on_the_commitment_term_but_for_imported_models() -> None:
    """The original's β scales the codebook term: equal losses, other gradients, so that nobody notices."""
    latents = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    gradients = {}
    for placement in ("corrected", "legacy"):
        torch.manual_seed(1)
        quantizer = VectorQuantizer(8, 4, VectorQuantizerConfig(commitment_weight=0.25, beta_placement=placement))
        z = latents.clone().requires_grad_()
        of_latents, of_codebook = torch.autograd.grad(quantizer(z).loss, (z, quantizer.codebook))
        gradients[placement] = (float(of_latents.norm()), float(of_codebook.norm()))
    assert VectorQuantizerConfig().beta_placement == "corrected"
    assert gradients["legacy"][0] == pytest.approx(4 * gradients["corrected"][0])
    assert gradients["corrected"][1] == pytest.approx(4 * gradients["legacy"][1])


def test_defect_10_random_orders_of_a_batch_are_drawn_at_once() -> None:
    """RAR draws a permutation for each image in a loop of Python: training is three times slower than without."""
    few, many = (watched(lambda n=size: random_orders(n, 256, 1.0, torch.Generator())) for size in (2, 512))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    assert few.names == many.names
    orders = random_orders(64, 256, 1.0, torch.Generator())
    assert torch.equal(orders.sort(dim=1).values, torch.arange(256).expand(64, -1))
    assert len({tuple(order) for order in orders.tolist()}) == 64


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_defect_11_no_image_counts_twice(world_size: int) -> None:
    """A DistributedSampler pads by wrapping around: every anchor's caches and sums have rows twice."""
    order, batch = Order([5, 7, 1], seed=3), 4
    shares = [order.batch(step, batch, rank, world_size) for step in range(13) for rank in range(world_size)]
    seen = [pair for share in shares for pair in zip(share.epochs.tolist(), share.records.tolist(), strict=True)]
    assert len(seen) == len(set(seen)) == 13 * 4, "four epochs of 13 records, in which each comes once"
    assert {record for _, record in seen} == set(range(13))


def test_defect_12_the_condition_keeps_its_query_and_key() -> None:
    """LlamaGen's rotary table has zeros where the condition stands: the class is seen through its value alone."""
    query = torch.randn(1, 2, 1, 8)
    assert torch.equal(rotate(query, RotaryGrid(3, 3, head_width=8)(0, 1, None)), query)
    kept_for_imports = RotaryGrid(3, 3, head_width=8, condition_is_zero=True)
    assert not rotate(query, kept_for_imports(0, 1, None)).any()
    assert PriorConfig(architecture="modern").condition_rotation == "identity"
