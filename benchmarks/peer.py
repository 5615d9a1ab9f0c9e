"""Another checkout's models on the same work, in a process of its own: `--peer PATH`.

The process puts PATH first on its path, so that `vqgan_core` is the peer's, and loads the benchmarks of this
checkout. It then does one call of ours for each line that it is sent, and answers with the seconds that it took.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent


class Ask(Protocol):
    """One call of a suite's pair; seconds."""

    def __call__(self) -> float:
        """Do it."""


@contextmanager
def peer_process(path: Path, suite: str, index: int, num_threads: int) -> Iterator[Ask]:
    """A process that does the work of the suite's pair of this index.

    Raises:
        ValueError: there is no checkout.
    """
    if not (path / "vqgan_core").is_dir():
        raise ValueError(f"{path} is no checkout: there is no vqgan_core in it")
    command = [sys.executable, str(Path(__file__)), str(path.resolve()), suite, str(index), str(num_threads)]
    with subprocess.Popen(  # noqa: S603 - our own file, with this interpreter
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=path
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        reader, writer = process.stdout, process.stdin

        def ask() -> float:
            writer.write("once\n")
            writer.flush()
            answer = reader.readline()
            if not answer:
                raise ValueError(f"the peer cannot do {suite} number {index}: its error is above")
            return float(answer)

        yield ask
        writer.close()


def _serve(path: str, suite: str, index: int, num_threads: int) -> None:
    sys.path[:0] = [path]
    spec = importlib.util.spec_from_file_location(
        "benchmarks", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = package
    spec.loader.exec_module(package)

    import torch  # noqa: PLC0415 - after the path is set

    from benchmarks.pairs import seconds  # noqa: PLC0415
    from benchmarks.suites import SUITES  # noqa: PLC0415

    torch.set_num_threads(num_threads)
    pair = next(islice(SUITES[suite](), index, None))
    for _ in sys.stdin:
        sys.stdout.write(f"{seconds(pair.ours)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
