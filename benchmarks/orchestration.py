"""What Prefect costs: of a pipeline that is served from the cache, and of each unit that is handed to a worker.

    python -m benchmarks.orchestration [cached none threads processes dask ray]

Time is what the clock says, since server and workers are other processes; so let nothing else run. Units do nothing:
what is left is the cost of handing them out, and of their states in the server's database.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from flows.local_server import local_server
from tasks.config import PipelineConfig
from tasks.fan_out import fan_out
from tasks.pipeline import STEPS, Pipeline
from tasks.stage import execute
from vqgan_core.config import FanOutConfig

NUM_UNITS = 200
NUM_WORKERS = 2
REPEATS = 5
WAYS = ("cached", "none", "threads", "processes", "dask", "ray")
SHORT = {
    "store.url": "memory://orchestration", "tokenizer.training.num_steps": 2, "prior.training.num_steps": 2,
    "sample.num_per_class": 1, "evaluate.num_images": 20, "evaluate.classifier.num_steps": 2,
}  # fmt: skip


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)}; all without it")
    ways = parser.parse_args().ways or WAYS
    if unknown := set(ways) - set(WAYS):
        parser.error(f"there is no way {unknown.pop()!r}: choose from {', '.join(WAYS)}")
    with local_server():
        for way in ways:
            sys.stdout.write(f"{_cached() if way == 'cached' else _spread(way)}\n")
            sys.stdout.flush()


def _cached() -> str:
    """A pipeline of which everything is there, as a flow and as plain calls of the same stages."""
    from flows.end_to_end import end_to_end  # noqa: PLC0415 - after the server's environment is set

    def plain() -> None:
        pipeline = Pipeline(PipelineConfig.preset("digits", SHORT))
        for stage in STEPS:
            execute(pipeline.request(stage), pipeline.store)

    plain()  # builds everything
    end_to_end(preset="digits", overrides=SHORT)  # writes Prefect's records
    with_prefect = _median(lambda: end_to_end(preset="digits", overrides=SHORT))
    without = _median(plain)
    return (
        f"end_to_end, all cached: {with_prefect:.2f} s, without Prefect {without:.2f} s: "
        f"{(with_prefect - without) / len(STEPS) * 1000:.0f} ms a stage"
    )


def _spread(kind: str) -> str:
    """Units that do nothing, handed out inside a flow."""
    from prefect import flow  # noqa: PLC0415 - after the server's environment is set

    config = FanOutConfig(kind=kind, num_workers=None if kind == "none" else NUM_WORKERS)

    @flow(name=f"fan-out-{kind}")
    def spread() -> tuple[float, list[float]]:
        started = time.perf_counter()
        return started, [time.perf_counter() for _ in fan_out(config, _open_nothing, range(NUM_UNITS), name=str)]

    started, ends = spread()
    each = (ends[-1] - ends[0]) / (NUM_UNITS - 1)
    return f"{NUM_UNITS} units, {kind:<9} the first after {ends[0] - started:5.2f} s, then {each * 1000:6.1f} ms a unit"


def _open_nothing() -> Callable[[int], int]:
    return _same


def _same(item: int) -> int:
    return item


def _median(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
