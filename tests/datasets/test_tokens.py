"""Contract: tokens come back as they were stored or not at all; each record once; never those of another tokenizer.

Several tests name a defect of another project's token cache (LlamaGen, 1d-tokenizer): they fail on a cache that has it.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from datasets.errors import TokenError, TokenMismatch
from datasets.files import MemoryFiles
from datasets.token_file import ROW_GROUP, TokenMeta, TokenRows, read_token_file, token_parquet
from datasets.tokens import TokenDataset

META = TokenMeta(
    tokenizer_fingerprint="f" * 64,
    tokenizer_digest="d" * 64,
    codebook_size=512,
    factor=4,
    height=4,
    width=6,
    class_names=("a", "b", "c"),
    preprocessing={"size_px": 16, "crop": "center"},
)


def meta(**changes: Any) -> TokenMeta:
    return META.model_copy(update=changes)


def rows(count: int, first: int = 0, split: str = "train", view: str = "center", codes: int = 512) -> TokenRows:
    # Keys that a hash could have given, ascending; indices that depend on the record and the view alone.
    numbers = range(first, first + count)
    draws = [np.random.default_rng([n, len(view)]).integers(0, codes, 24) for n in numbers]
    return TokenRows(
        split=split,
        view=view,
        keys=[f"{n * 0x9E3779B97F:032x}" for n in numbers],
        labels=[n % 3 for n in numbers],
        source_sha256=[f"{n:064x}" for n in numbers],
        indices=np.stack(draws) if count else np.zeros((0, 24), np.int64),
    )


def dataset(*parts: TokenRows, of: TokenMeta = META) -> TokenDataset:
    files = {f"{i}.parquet": token_parquet(of, part) for i, part in enumerate(parts)}
    return TokenDataset(MemoryFiles(files), files)


class TestFile:
    """One Parquet."""

    @pytest.mark.parametrize(
        ("codes", "dtype"), [(512, np.uint16), (16384, np.uint16), (65536, np.uint16), (65537, np.uint32)]
    )
    def test_round_trip(self, codes: int, dtype: type) -> None:
        of, part = meta(codebook_size=codes), rows(50, codes=codes)
        part.indices[0, :2] = (0, codes - 1)  # the extremes, which 16-bit floats and signed shorts lose
        read = read_token_file(token_parquet(of, part), "x")
        assert read.indices.dtype == dtype
        assert (read.indices == part.indices).all()
        assert (read.meta, read.split, read.view, read.keys) == (of, "train", "center", part.keys)
        assert read.labels.tolist() == part.labels

    def test_the_schema_is_that_of_the_format(self) -> None:
        table = pq.read_table(io.BytesIO(token_parquet(META, rows(3))))
        assert table.column_names == ["key", "label", "split", "view", "height", "width", "indices", "source_sha256"]
        assert table.schema.field("indices").type == pa.list_(pa.field("element", pa.uint16()), 24)
        row = table.to_pylist()[1]
        assert (row["height"], row["width"], row["split"], row["view"]) == (4, 6, "train", "center")
        assert row["indices"] == rows(3).indices[1].tolist()

    @pytest.mark.parametrize(("codes", "encoding"), [(16384, "RLE_DICTIONARY"), (16385, "BYTE_STREAM_SPLIT")])
    def test_encoding_row_groups_and_size(self, codes: int, encoding: str) -> None:
        data = token_parquet(meta(codebook_size=codes), rows(ROW_GROUP + 10, codes=codes))
        about = pq.ParquetFile(io.BytesIO(data)).metadata
        assert [about.row_group(i).num_rows for i in range(about.num_row_groups)] == [ROW_GROUP, 10]
        column = next(
            about.row_group(0).column(i)
            for i in range(about.num_columns)
            if about.row_group(0).column(i).path_in_schema.startswith("indices")
        )
        assert encoding in column.encodings
        assert column.compression == "ZSTD"
        # LlamaGen's int64 arrays take 8 bytes a token; 14 bits of entropy are 1.75.
        assert column.total_compressed_size < 2.0 * 24 * ROW_GROUP

    def test_equal_rows_give_equal_bytes(self) -> None:
        part = rows(300)
        assert token_parquet(META, part) == token_parquet(META, replace(part, indices=part.indices.astype(np.uint16)))
        grid = replace(part, indices=part.indices.reshape(-1, 4, 6))
        assert token_parquet(META, grid) == token_parquet(META, part)

    def test_no_flipped_bit_gives_other_tokens(self) -> None:
        part = rows(400)
        data, generator = token_parquet(META, part), np.random.default_rng(0)
        noticed = 0
        for _ in range(200):
            broken = bytearray(data)
            broken[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
            try:
                read = read_token_file(bytes(broken), "x")
            except (TokenError, ValueError):
                noticed += 1
            else:  # a bit that means nothing, such as one of the statistics
                assert (read.indices == part.indices).all()
        assert noticed > 180

    def test_a_truncated_file_is_named(self) -> None:
        with pytest.raises(TokenError, match=r"the token file a/b.parquet is damaged"):
            read_token_file(token_parquet(META, rows(5))[:-9], "a/b.parquet")

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_floats_are_refused(self, dtype: type) -> None:
        # 1d-tokenizer reads tokens as float16, which holds every second of 4,096 and no odd index above 2,048.
        with pytest.raises(TokenError, match="indices are integers, got float"):
            token_parquet(meta(codebook_size=8192), replace(rows(3), indices=rows(3).indices.astype(dtype)))

    @pytest.mark.parametrize("value", [-1, 512, 65536 + 5])
    def test_indices_outside_the_codebook_are_refused(self, value: int) -> None:
        part = rows(3)
        part.indices[1, 1] = value  # 65,541 would come back as 5 from 16 bits
        with pytest.raises(TokenError, match="a codebook of 512 entries has 0 to 511"):
            token_parquet(META, part)
        assert token_parquet(meta(codebook_size=70000), rows(3))

    def test_indices_outside_the_codebook_are_refused_on_reading(self) -> None:
        table = pq.read_table(io.BytesIO(token_parquet(META, rows(3))))
        about = table.schema.metadata[b"tessera.tokens"].replace(b'"codebook_size":512', b'"codebook_size":100')
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({b"tessera.tokens": about}), sink)
        with pytest.raises(TokenError, match=r"the token file x: indices lie .* has 0 to 99"):
            read_token_file(sink.getvalue(), "x")

    def test_padding_by_repetition_is_refused(self) -> None:
        # DistributedSampler pads the last batch by wrapping, so every cache made with it holds records twice.
        part = rows(4)
        padded = replace(part, keys=[*part.keys[:3], part.keys[2]])
        with pytest.raises(TokenError, match="comes twice: every record is stored once"):
            token_parquet(META, padded)
        with pytest.raises(TokenError, match="keys must ascend"):
            token_parquet(META, replace(part, keys=part.keys[::-1]))

    def test_rows_that_do_not_fit(self) -> None:
        with pytest.raises(TokenError, match="24 indices a record do not fill a grid of 4×4"):
            token_parquet(meta(width=4), rows(2))
        with pytest.raises(TokenError, match="not of one length"):
            token_parquet(META, replace(rows(2), labels=[1]))

    def test_files_of_another_kind(self) -> None:
        sink = io.BytesIO()
        pq.write_table(pa.table({"x": [1]}), sink)
        with pytest.raises(TokenError, match="has token format None"):
            read_token_file(sink.getvalue(), "x")

    def test_other_readers_of_parquet_understand_it(self) -> None:
        # As a query engine would: the code histogram straight from the column.
        part = rows(100)
        table = pq.read_table(io.BytesIO(token_parquet(META, part)), columns=["indices"])
        counts = {v["values"]: v["counts"] for v in pc.value_counts(pc.list_flatten(table["indices"])).to_pylist()}
        assert counts == Counter(part.indices.reshape(-1).tolist())


class TestDataset:
    """Several files of one artifact."""

    def test_what_it_says_of_itself(self) -> None:
        tokens = dataset(rows(30), rows(20, 30), rows(8, 50, "val"))
        assert tokens.meta == META
        assert tokens.splits == {"train": 50, "val": 8}
        assert tokens.num_records("test") == 0
        assert tokens.views == ("center",)
        assert (tokens.tokens("train").numpy() == rows(50).indices).all()
        assert tokens.tokens("train").dtype == torch.int64
        assert tokens.labels("val").tolist() == rows(8, 50).labels
        assert tokens.keys("val") == rows(8, 50).keys

    def test_it_opens_from_a_manifest(self) -> None:
        @dataclass
        class Artifact(MemoryFiles):
            def __init__(self, files: dict[str, bytes]) -> None:
                super().__init__(files)
                self.manifest = SimpleNamespace(files=[SimpleNamespace(path=name) for name in files])

        artifact = Artifact({"../../parts/tokens/k/a.parquet": token_parquet(META, rows(5)), "grid.png": b"x"})
        assert TokenDataset.open(artifact).splits == {"train": 5}
        with pytest.raises(TokenError, match="at least one Parquet file"):
            TokenDataset.open(Artifact({"grid.png": b"x"}))

    def test_names_and_order_of_files_do_not_matter(self) -> None:
        parts = {"a.parquet": rows(30), "b.parquet": rows(20, 30)}
        renamed = {"z.parquet": rows(30), "b.parquet": rows(20, 30)}
        first, second = (
            TokenDataset(MemoryFiles({n: token_parquet(META, p) for n, p in files.items()}), files)
            for files in (parts, renamed)
        )
        for step in range(5):
            one, two = (tokens.batches("train", 16, seed=0).batch(step) for tokens in (first, second))
            assert torch.equal(one["tokens"], two["tokens"])

    def test_interleaved_keys_are_merged(self) -> None:
        whole = rows(20)
        halves = [
            replace(
                whole,
                keys=whole.keys[i::2],
                labels=whole.labels[i::2],
                source_sha256=whole.source_sha256[i::2],
                indices=whole.indices[i::2],
            )
            for i in (0, 1)
        ]
        tokens = dataset(*halves)
        assert tokens.keys("train") == whole.keys
        assert (tokens.tokens("train").numpy() == whole.indices).all()
        assert tokens.labels("train").tolist() == whole.labels

    def test_a_record_in_two_files_is_refused(self) -> None:
        with pytest.raises(TokenError, match=r"is in two token files: it would count twice"):
            dataset(rows(10), rows(5, 8))

    def test_sequential_gives_every_record_once(self) -> None:
        tokens = dataset(rows(30), rows(23, 30))
        batches = list(tokens.sequential("train", 10))
        assert [len(b["labels"]) for b in batches] == [10] * 5 + [3]
        assert (torch.cat([b["tokens"] for b in batches]).numpy() == rows(53).indices).all()
        assert sum(len(b["labels"]) for b in tokens.sequential("train", 10, limit=13)) == 13
        assert list(tokens.sequential("val", 10)) == []

    def test_batches_cover_an_epoch_and_start_anywhere(self) -> None:
        tokens = dataset(rows(30), rows(23, 30))
        batches = tokens.batches("train", 8, seed=2)
        whole = list(itertools.islice(batches(0), 14))
        assert whole[0]["tokens"].dtype == whole[0]["labels"].dtype == torch.int64
        assert whole[0]["tokens"].shape == (8, 24)
        for start in (0, 5, 13):
            tail = list(itertools.islice(tokens.batches("train", 8, seed=2)(start), 14 - start))
            assert all(torch.equal(a["tokens"], b["tokens"]) for a, b in zip(tail, whole[start:], strict=True))
        seen = [tuple(row) for b in whole for row in b["tokens"].tolist()]
        stored = Counter(map(tuple, rows(53).indices.tolist()))
        assert Counter(seen[:53]) == Counter(seen[53:106]) == stored
        labels = {tuple(row): label for row, label in zip(rows(53).indices.tolist(), rows(53).labels, strict=True)}
        assert [labels[row] for row in seen] == [label for b in whole for label in b["labels"].tolist()]

    def test_a_batch_larger_than_the_data(self) -> None:
        batch = dataset(rows(3)).batches("train", 8, seed=0).batch(0)
        assert sorted(Counter(map(tuple, batch["tokens"].tolist())).values()) == [2, 3, 3]

    def test_views_are_one_record(self) -> None:
        parts = [rows(12, view=view) for view in ("center_flip", "center")]
        tokens = dataset(*parts)
        assert (tokens.views, tokens.num_records("train")) == (("center", "center_flip"), 12)
        assert (tokens.tokens("train", "center_flip").numpy() == parts[0].indices).all()
        assert (next(tokens.sequential("train", 12))["tokens"].numpy() == parts[1].indices).all()
        names = {tuple(row): (n, part.view) for part in parts for n, row in enumerate(part.indices.tolist())}
        drawn = Counter[str]()
        for epoch in range(20):  # a batch is an epoch
            seen = [names[tuple(r)] for r in tokens.batches("train", 12, seed=0).batch(epoch)["tokens"].tolist()]
            assert sorted(n for n, _ in seen) == list(range(12))
            drawn.update(view for _, view in seen)
        assert 80 < drawn["center"] < 160
        with pytest.raises(TokenError, match="no view 'top'; they have center, center_flip"):
            tokens.tokens("train", "top")
        with pytest.raises(TokenError, match="not of the same records"):
            dataset(rows(12), rows(11, view="center_flip"))

    def test_the_code_histogram_counts_everything(self) -> None:
        tokens = dataset(rows(30), rows(9, 30, "val"), rows(30, view="flip"), rows(9, 30, "val", "flip"))
        stored = np.concatenate([rows(39).indices, rows(39, view="flip").indices])
        assert tokens.code_histogram().tolist() == np.bincount(stored.reshape(-1), minlength=512).tolist()
        assert tokens.code_histogram("val").sum() == 2 * 9 * 24

    def test_tokens_of_another_tokenizer_are_refused(self) -> None:
        tokens = dataset(rows(5))
        tokens.check_compatible("d" * 64, 512)
        with pytest.raises(
            TokenMismatch, match=r"by tokenizer dddddddddddd with 512 codes.* expects tokenizer eeeeeeeeeeee"
        ):
            tokens.check_compatible("e" * 64, 512)
        with pytest.raises(TokenMismatch, match=r"with 512 codes, .* with 1024 codes: encode the corpus"):
            tokens.check_compatible("d" * 64, 1024)

    def test_files_of_two_tokenizers_are_refused(self) -> None:
        files = {
            "a.parquet": token_parquet(META, rows(5)),
            "b.parquet": token_parquet(meta(tokenizer_digest="e" * 64, codebook_size=600), rows(5, 5)),
        }
        with pytest.raises(TokenMismatch, match=r"a.parquet and b.parquet differ in tokenizer_digest .* codebook_size"):
            TokenDataset(MemoryFiles(files), files)
