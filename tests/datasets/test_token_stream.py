"""Contract: streamed tokens are the in-memory reader's batches to the bit, and few files are held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice

import numpy as np
import pytest
import torch

from datasets import token_head
from datasets.errors import TokenError, TokenMismatch
from datasets.files import MemoryFiles
from datasets.order import WINDOW
from datasets.token_file import TokenColumn, TokenMeta, TokenRows, token_parquet
from datasets.token_stream import StreamedTokens
from datasets.tokens import TokenDataset

EDGES = TokenColumn(name="edges", codebook_size=8, height=1, width=2)
META = TokenMeta(
    tokenizer_fingerprint="f" * 64, tokenizer_digest="d" * 64, codebook_size=100_000, factor=4, height=2, width=3,
    class_names=("a", "b"), columns=(EDGES,),
)  # fmt: skip
NUM_FILES, VIEWS = 3 * WINDOW + 5, ("center", "top_left")
BATCH = 7


class CountedFiles(MemoryFiles):
    """Says what was read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.whole: Counter[str] = Counter()

    def read(self, path: str) -> bytes:
        self.whole[path] += 1
        return super().read(path)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return super().read(path)[start:end]


def rows(numbers: range, split: str, view: str) -> TokenRows:
    generator = np.random.default_rng([numbers.start, VIEWS.index(view), split == "val"])
    return TokenRows(
        split=split,
        view=view,
        keys=[f"{n * 0x9E3779B97F:032x}" for n in numbers],
        labels=[n % 2 for n in numbers],
        source_sha256=["0" * 64] * len(numbers),
        indices=generator.integers(0, 100_000, (len(numbers), 6)),
        columns={"edges": generator.integers(0, 8, (len(numbers), 2))},
    )


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Shards of 1 to 6 records in two views, named otherwise than their keys are ordered, and one for validation."""
    found, first = {}, 0
    for number in range(NUM_FILES):
        numbers = range(first, first + 1 + number % 6)
        first = numbers.stop
        for view in VIEWS:
            name = f"{NUM_FILES - number:03d}-{view}.parquet"
            found[name] = token_parquet(META, rows(numbers, "train", view))
    for view in VIEWS:
        found[f"val-{view}.parquet"] = token_parquet(META, rows(range(50), "val", view))
    return found


def streamed(files: Mapping[str, bytes]) -> tuple[StreamedTokens, CountedFiles]:
    counted = CountedFiles(files)
    return StreamedTokens(counted, {name: len(data) for name, data in files.items()}), counted


@pytest.mark.parametrize("batch_size", [BATCH, 90])
@pytest.mark.parametrize("start", [0, 31])
def test_batches_are_those_of_the_reader_in_memory(files: dict[str, bytes], batch_size: int, start: int) -> None:
    told = {"seed": 3, "target": "edges", "columns": ("indices",)}
    tokens, _ = streamed(files)
    whole = TokenDataset(MemoryFiles(files), files)
    assert tokens.splits == whole.splits
    assert tokens.meta == whole.meta
    num_steps = 2 * whole.num_records("train") // batch_size + 2
    ours, theirs = (reader.batches("train", batch_size, **told)(start) for reader in (tokens, whole))
    for mine, other in islice(zip(ours, theirs, strict=True), num_steps):
        assert list(mine) == list(other)
        assert all(torch.equal(mine[name], other[name]) for name in other)


def test_validation_is_that_of_the_reader_in_memory(files: dict[str, bytes]) -> None:
    tokens, counted = streamed(files)
    whole = TokenDataset(MemoryFiles(files), files)
    pairs = list(zip(tokens.sequential("val", 8, limit=20), whole.sequential("val", 8, limit=20), strict=True))
    assert [len(ours["tokens"]) for ours, _ in pairs] == [8, 8, 4]
    assert all(torch.equal(ours[name], theirs[name]) for ours, theirs in pairs for name in theirs)
    assert set(counted.whole) == {f"val-{view}.parquet" for view in VIEWS}
    assert list(tokens.sequential("test", 8)) == []


def test_few_files_are_read_ahead_and_each_once_an_epoch(files: dict[str, bytes]) -> None:
    tokens, counted = streamed(files)
    assert not counted.whole, "footers are enough to begin"
    batches = tokens.batches("train", BATCH, seed=0)(0)
    next(batches)
    assert len(counted.whole) <= 2 * len(VIEWS) * WINDOW < len(VIEWS) * NUM_FILES
    for _ in range(tokens.splits["train"] // BATCH - 1):
        next(batches)
    batches.close()
    assert set(counted.whole) == {name for name in files if not name.startswith("val")}
    epochs = [times for times in counted.whole.values() if times > 1]
    assert len(epochs) <= 2 * len(VIEWS) * WINDOW, "only those that the next epoch begins with are read again"
    assert max(counted.whole.values()) <= 2


def test_a_long_footer_takes_a_second_request(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_head, "_TAIL_BYTES", 100)
    assert streamed(files)[0].splits["val"] == 50


def test_what_is_damaged_is_named(files: dict[str, bytes]) -> None:
    name = f"val-{VIEWS[0]}.parquet"
    for broken in (files[name][:-1], files[name][:-9] + b"\xff" * 5 + b"PAR1", b"PAR1"):
        with pytest.raises(TokenError, match=f"{name} is damaged"):
            streamed(files | {name: broken})


def test_a_file_that_is_not_what_its_footer_said(files: dict[str, bytes]) -> None:
    tokens, counted = streamed(files)
    counted._files["001-center.parquet"] = files["002-center.parquet"]
    with pytest.raises(TokenError, match=r"the footer of 001-center.parquet"):
        list(islice(tokens.batches("train", BATCH, seed=0)(0), 200))


def test_views_of_other_records_and_other_tokenizers_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(TokenError, match="not of the same records"):
        streamed({name: data for name, data in files.items() if name != "001-center.parquet"})
    other = META.model_copy(update={"tokenizer_digest": "e" * 64})
    with pytest.raises(TokenMismatch, match="tokenizer_digest"):
        streamed(files | {"x.parquet": token_parquet(other, rows(range(2), "val", "center"))})
    with pytest.raises(TokenError, match="this one has none"):
        streamed({})
    with pytest.raises(TokenError, match="no record in split 'test'"):
        streamed(files)[0].batches("test", 2, seed=0)
    with pytest.raises(TokenError, match="no column 'depth'"):
        streamed(files)[0].batches("train", 2, seed=0, columns=("depth",))
