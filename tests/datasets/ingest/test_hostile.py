"""Contract: the files that image libraries test themselves with end without a crash, and every one is accounted for."""

from __future__ import annotations

import csv
import io
import tarfile
from collections import Counter
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
    # What Pillow reads and is left out has one of these reasons, each a decision of ours.
    reasons = Counter(row["reason"] for row in left_out if row["path"] in readable)
    assert set(reasons) <= {
        "wrong_extension",
        "duplicate",
        "extreme_aspect",
        "unsupported_mode",
        "too_large",
        "no_label",
    }
    assert ingest(config, pool).files == result.files
