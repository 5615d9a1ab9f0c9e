"""Contract: the files that image libraries test themselves with end without a crash, and every one is accounted for."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datasets.config import FolderSource, ShardConfig
from datasets.ingest.decode_pool import DecodePool
from tests.datasets.conftest import ingest


@pytest.mark.slow
def test_every_hostile_file_is_accounted_for(shared_data: Path, tmp_path: Path, pool: DecodePool) -> None:
    with tarfile.open(shared_data / "hostile.tar") as tar:
        names = {member.name for member in tar.getmembers() if member.isfile()}
        tar.extractall(tmp_path, filter="data")
    config = ShardConfig(
        source=FolderSource(url=str(tmp_path / "hostile")), size_px=32, min_size_px=1, max_bad_fraction=0.9
    )
    result = ingest(config, pool)
    summary = result.summary
    assert summary["listed"] == len(names) == 695
    assert summary["kept"] + summary["quarantined"] + summary["duplicates"] == 695
    kept = set(pq.read_table(io.BytesIO(result.files["index.parquet"]))["source_path"].to_pylist())
    left_out = pq.read_table(io.BytesIO(result.files["quarantine.parquet"])).to_pylist()
    assert sorted([*kept, *(row["path"] for row in left_out)]) == sorted(n.removeprefix("hostile/") for n in names)
    assert all(row["reason"] for row in left_out)
    assert not any("0x" in row["detail"] for row in left_out)  # an address would make the bytes differ

    with (shared_data / "hostile.csv").open() as file:
        readable = {row["path"] for row in csv.DictReader(file) if row["status"] == "ok"}
    assert kept <= readable  # nothing comes out that Pillow itself cannot read
    # What the CSV calls readable and is left out all the same: each is a decision of ours. The damaged ones are read
    # only by a Pillow that was told to complete truncated images.
    reasons = {row["path"].rpartition("/")[2]: row["reason"] for row in left_out if row["path"] in readable}
    damaged = {"chunk_no_fctl.png", "broken_data_stream.png", "truncated_end_chunk.png"}
    assert {name for name, reason in reasons.items() if reason == "undecodable"} == damaged
    assert set(reasons.values()) <= {"undecodable", "wrong_extension", "duplicate", "extreme_aspect"}
    assert ingest(config, pool).files == result.files
