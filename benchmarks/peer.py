"""Another checkout's models on the same work, in a process of its own: `--peer PATH`.

The process puts PATH first on its path, so that `vqgan_core`, `datasets`, `tasks` and `flows` are the peer's, and loads
the benchmarks of this checkout. For each number of a pair that it is sent, it does one call of that pair's `ours` and
answers with the seconds that it took, or with what kept it from that: a peer may lack what was built since.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent


class PeerError(Exception):
    """The peer cannot do this work; says why."""


class Peer:
    """A process that does the work of a suite's pairs.

    Args:
        process: with pipes for text.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def seconds(self, index: int) -> float:
        """Of one call of the pair with this index; pairs are asked for in order.

        Raises:
            PeerError: the peer cannot.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{index}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError("it has ended; its error is above") from None
        answer = self._process.stdout.readline().strip()
        word, _, rest = answer.partition(" ")
        if word != "seconds":
            raise PeerError(rest or "it has ended; its error is above")
        return float(rest)


@contextmanager
def peer_process(path: Path, suite: str, num_threads: int) -> Iterator[Peer]:
    """A peer for a suite.

    Raises:
        ValueError: there is no checkout.
    """
    if not (path / "vqgan_core").is_dir():
        raise ValueError(f"{path} is no checkout: there is no vqgan_core in it")
    command = [sys.executable, str(Path(__file__)), str(path.resolve()), suite, str(num_threads)]
    with subprocess.Popen(  # noqa: S603 - our own file, with this interpreter
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=path
    ) as process:
        yield Peer(process)
        if process.stdin is not None and process.poll() is None:
            process.stdin.close()


def _serve(path: str, suite: str, num_threads: int) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the work prints is no answer
    sys.path[0] = path
    spec = importlib.util.spec_from_file_location(
        "benchmarks", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = package
    spec.loader.exec_module(package)

    import torch  # noqa: PLC0415 - after the path is set

    from benchmarks.device import seconds  # noqa: PLC0415
    from benchmarks.suites import SUITES  # noqa: PLC0415

    torch.set_num_threads(num_threads)
    pairs, at, pair = SUITES[suite](), -1, None
    for line in sys.stdin:
        try:
            while at < int(line):
                pair, at = next(pairs, None), at + 1
            if pair is None:
                raise ValueError("an earlier pair of this suite failed")
            said = f"seconds {seconds(pair.ours, on_the_clock=pair.on_the_clock)}"
        except (ImportError, AttributeError, TypeError, ValueError) as error:  # what other signatures and configs give
            said = f"error {type(error).__name__}: {' '.join(str(error).split())}"
        answers.write(said + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
