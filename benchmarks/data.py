"""The data side: listing, sharding and reading images, and reading tokens; memory against the number of listed keys.

    python -m benchmarks.data              # everything, with 10,000, 100,000 and a million keys
    python -m benchmarks.data 10000        # so many keys, and nothing else
    python -m benchmarks data              # images and tokens alone, as in docs/benchmarks.md

Keys are listed by s3fs from a server in this process that makes up pages of 1,000 as S3 would send them, each number of
keys in a process of its own, whose peak of memory is printed beside what it had before it began, and processor time
taken, not the clock's. Images are synthetic photographs of 256 px; everything is set against decoding the same files
with Pillow in a loop, in the same run. Tokens are set against a memory-mapped array of the same tokens, read in random
rows.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from benchmarks.pairs import Pair, measure
from datasets.config import FolderSource, ShardConfig, ShardExecution
from datasets.corpus import Corpus
from datasets.files import MemoryFiles
from datasets.ingest.build import build_unit
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.finish import finish
from datasets.ingest.plan import plan_units
from datasets.sources import open_source
from datasets.token_file import TokenMeta, TokenRows, token_parquet
from datasets.token_stream import StreamedTokens
from datasets.tokens import TokenDataset

KEYS = (10_000, 100_000, 1_000_000)
PAGE = 1000
NUM_IMAGES, SIZE_PX, BATCH = 512, 256, 32
NUM_RECORDS, NUM_TOKENS, CODEBOOK, A_FILE = 50_000, 256, 1024, 2000
TOKEN_BATCH, TOKEN_BATCHES = 256, 195  # an epoch


def main(arguments: list[str]) -> int:
    """Run everything; or, as a child, list one number of keys."""
    if arguments[:1] == ["--list"]:
        sys.stdout.write(json.dumps(_list(arguments[1])) + "\n")
        return 0
    _listings(tuple(map(int, arguments)) or KEYS)
    for pair in () if arguments else pairs():
        sys.stdout.write(measure(pair).line())
        sys.stdout.flush()
    return 0


def pairs() -> Iterator[Pair]:
    """Images, then tokens."""
    with tempfile.TemporaryDirectory() as folder:
        yield from image_pairs(Path(folder))
        yield from token_pairs(Path(folder))


def _listings(counts: tuple[int, ...]) -> None:
    for count in counts:
        with _server(count) as endpoint:
            command = [sys.executable, "-m", "benchmarks.data", "--list", endpoint]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())  # noqa: S603
        found = json.loads(done.stdout)
        assert found["keys"] == count, found
        sys.stdout.write(
            f"listing and planning {count:>10,} keys {count / found['seconds']:>10,.0f} keys/s of processor time   "
            f"{found['before_mb']:.0f} MB before, {found['peak_mb']:.0f} MB at most\n"
        )
        sys.stdout.flush()


def _list(endpoint: str) -> dict[str, float]:
    source = open_source(FolderSource(url="s3://bucket/images", endpoint_url=endpoint))
    before, started = _peak_mb(), time.process_time()
    listing = source.list()
    planned = sum(len(unit.entries) for unit in plan_units(listing, ShardConfig()))
    seconds = time.process_time() - started
    return {"keys": planned, "seconds": seconds, "before_mb": before, "peak_mb": _peak_mb()}


def image_pairs(folder: Path) -> Iterator[Pair]:
    """Sharding, and reading with decode and crop."""
    photos = _write_photos(folder / "photos")
    source_config = FolderSource(url=str(folder / "photos"))
    config = ShardConfig(
        source=source_config, size_px=SIZE_PX, format="jpeg", images_per_shard=128, validation_fraction=0
    )
    source = open_source(source_config)
    listing = source.list()
    decode = partial(_decode_all, photos)
    with DecodePool(ShardExecution(num_processes=1)) as pool:
        units = list(plan_units(listing, config))
        results = [build_unit(unit, source, config, pool) for unit in units]
        yield Pair("listing a folder, with hashes", "images/s", NUM_IMAGES, source.list, decode)
        yield Pair(
            "sharding, one process", "images/s", NUM_IMAGES,
            lambda: [build_unit(unit, source, config, pool) for unit in units], decode, on_the_clock=True,
        )  # fmt: skip
    files = {name: data for result in results for name, data in result.files.items()}
    corpus = Corpus(MemoryFiles(files | finish(listing, results, config).files))
    batches = corpus.batches("train", BATCH, seed=0, size_px=SIZE_PX - 32)
    stored = [corpus.record_bytes("train", number) for number in range(NUM_IMAGES)]
    yield Pair(
        "reading with decode and crop", "images/s", NUM_IMAGES,
        lambda: list(islice(batches(0), NUM_IMAGES // BATCH)), partial(_decode_all, stored),
    )  # fmt: skip


def token_pairs(folder: Path) -> Iterator[Pair]:
    """The token readers: in memory, and streamed."""
    tokens = np.random.default_rng(0).integers(0, CODEBOOK, (NUM_RECORDS, NUM_TOKENS), dtype=np.uint16)
    meta = TokenMeta(
        tokenizer_fingerprint="f" * 64,
        tokenizer_digest="d" * 64,
        codebook_size=CODEBOOK,
        factor=16,
        height=16,
        width=16,
    )
    stored = {f"{start:08d}.parquet": _token_file(meta, tokens, start) for start in range(0, NUM_RECORDS, A_FILE)}
    files, sizes = MemoryFiles(stored), {name: len(data) for name, data in stored.items()}
    np.save(folder / "tokens.npy", tokens)
    mapped = np.load(folder / "tokens.npy", mmap_mode="r")
    order = np.random.default_rng(1).integers(0, NUM_RECORDS, (TOKEN_BATCHES, TOKEN_BATCH))

    def from_the_map() -> None:
        for batch in order:
            mapped[batch].astype(np.int64)

    count = TOKEN_BATCHES * TOKEN_BATCH * NUM_TOKENS
    readers = {"in memory": TokenDataset(files, sizes), "streamed": StreamedTokens(files, sizes)}
    for name, reader in readers.items():
        batches = reader.batches("train", TOKEN_BATCH, seed=0)
        yield Pair(
            f"token batches, {name}", "tokens/s", count,
            lambda b=batches: deque(islice(b(0), TOKEN_BATCHES), maxlen=0),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            from_the_map,
        )  # fmt: skip
    yield Pair(
        "reading all tokens into memory", "tokens/s", tokens.size, lambda: TokenDataset(files, sizes),
        lambda: np.array(mapped),
    )  # fmt: skip


def _token_file(meta: TokenMeta, tokens: np.ndarray, start: int) -> bytes:
    keys = [f"{number:032x}" for number in range(start, min(start + A_FILE, len(tokens)))]
    count = len(keys)
    rows = TokenRows("train", "center", keys, [0] * count, ["0" * 64] * count, tokens[start : start + count])
    return token_parquet(meta, rows)


def _decode_all(images: list[bytes]) -> None:
    for data in images:
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _write_photos(folder: Path) -> list[bytes]:
    generator = np.random.default_rng(0)
    folder.mkdir()
    photos = []
    for number in range(NUM_IMAGES):
        small = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((512, 384), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        photos.append(buffer.getvalue())
        (folder / f"{number:04d}.jpg").write_bytes(photos[-1])
    return photos


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _environment() -> dict[str, str]:
    anyone = {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}
    return {**os.environ, **anyone, "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def _server(count: int) -> Iterator[str]:
    """A server of `count` keys below images/; it answers nothing but listings."""

    class Keys(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            token = parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0]
            body = _page(int(token), count)
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _page(start: int, count: int) -> bytes:
    stop = min(start + PAGE, count)
    keys = "".join(
        f"<Contents><Key>images/{number % 1000:03d}/{number:09d}.jpg</Key><Size>{20_000 + number % 9999}</Size>"
        f'<ETag>"{number:032x}"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>'
        for number in range(start, stop)
    )
    more = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < count else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bucket</Name><IsTruncated>{str(stop < count).lower()}</IsTruncated>{more}{keys}</ListBucketResult>"
    ).encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
