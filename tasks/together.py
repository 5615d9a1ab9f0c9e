"""Training in several processes, started by torchrun's elastic launcher from inside a stage.

The stage's own process holds the lease and tells people of progress; the processes that train only read the store and
write checkpoints. When one of them dies, the launcher ends the others and starts all again, and they go on from the
last checkpoint. When they are at the end, so is the last checkpoint: the stage's process reads that as it would after a
kill, and publishes. So nothing has to be brought back, and a run may go on with another number of processes.
"""

from __future__ import annotations

import contextvars
import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from datasets.children import end_with_parent
from datasets.order import check_share
from tasks.checkpoints import newest_step
from tasks.progress import Bar
from tasks.stage import Work
from vqgan_core import distributed
from vqgan_core.config import TrainingConfig, TrainingExecution
from vqgan_core.training import TrainingDiverged, TrainingInterrupted
from vqgan_core.training.progress import TrainingError

LOOK_EVERY_SECONDS = 0.5
OWN_STORES = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def train_together(
    train: Callable[[Work], object], config: TrainingConfig, execution: TrainingExecution, work: Work, label: str
) -> None:
    """Train in as many processes as the config says, until the last checkpoint is that of the end.

    Args:
        train: what each process does; it is sent there, so it is a module's function, or a `partial` of one.
        config: how long.
        execution: how many processes.
        work: the stage's.
        label: for people.

    Raises:
        ValueError: a batch cannot be cut into equal shares.
        TrainingError: the numbers went bad, or processes died more often than `max_restarts` allows.
        TrainingInterrupted: SIGTERM came; the checkpoint is written.
        LeaseLost: another run has taken over.
    """
    if execution.world_size == 1:
        return
    check_share(config.batch_size, 0, execution.world_size, config.accumulate_batches)
    with tempfile.TemporaryDirectory(prefix="tessera-training-") as folder:
        journal = Path(folder) / "journal.jsonl"
        journal.touch()
        launch = LaunchConfig(
            min_nodes=execution.num_nodes,
            max_nodes=execution.num_nodes,
            nproc_per_node=execution.num_processes,
            run_id=work.workspace.folder.replace("/", "-"),
            rdzv_backend="c10d",
            rdzv_endpoint=execution.rendezvous or "localhost:0",
            local_addr=None if execution.rendezvous else "127.0.0.1",
            max_restarts=execution.max_restarts,
            signals_to_handle="SIGTERM",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        with work.reporter.bar(label, config.num_steps, "steps") as bar, _relayed(journal, bar), _as_it_was():
            bar.say(f"{execution.world_size} processes train")
            try:
                said = elastic_launch(launch, _one_of_them)(train, replace(work, reporter=Journal(journal)))
            except SignalException as error:
                raise TrainingInterrupted(newest_step(work.workspace), config.num_steps) from error
            except ChildFailedError as error:
                work.lease.check()
                raise TrainingError(
                    f"a process of the training died more than {execution.max_restarts} times: {_why(error)}"
                ) from error
            except RendezvousError as error:
                raise TrainingError(
                    f"{execution.num_nodes} machines were to meet at {execution.rendezvous}, and did not ({error}): "
                    "start the same run on each of them"
                ) from error
    if failure := next(filter(None, said.values()), None):
        raise TrainingError(failure)


def join_training(
    train: Callable[[Work], object], config: TrainingConfig, execution: TrainingExecution, label: str, work: Work
) -> None:
    """Train as one of several machines for the run that holds the lease, unless it is at the end already.

    Raises:
        TrainingError: as `train_together`.
        TrainingInterrupted: SIGTERM came.
    """
    if newest_step(work.workspace) < config.num_steps:
        train_together(train, config, execution, work, label)


class Journal:
    """A reporter of another process: what it is told is a line of a file, from which `train_together` tells it on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:  # noqa: ARG002 - the protocol's arguments
        """The one count there is."""
        yield self

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Write it down."""
        self._write({"done": done, "metrics": dict(metrics or {})})

    def say(self, message: str) -> None:
        """Write it down."""
        self._write({"say": message})

    def _write(self, entry: Mapping[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _one_of_them(train: Callable[[Work], object], work: Work) -> str:
    """What each process does; returns why the training cannot go on, or nothing."""
    end_with_parent()
    with distributed.process_group():
        try:
            train(work)
        except TrainingDiverged as error:  # in all processes alike, and starting again would not help
            return str(error)
    return ""


@contextmanager
def _relayed(journal: Path, bar: Bar) -> Iterator[None]:
    """Meanwhile, tell the bar what the journal says."""
    over = threading.Event()

    def relay() -> None:
        with journal.open(encoding="utf-8") as file:
            rest = ""
            while True:
                at_the_end = over.wait(LOOK_EVERY_SECONDS)
                *lines, rest = (rest + file.read()).split("\n")
                for entry in map(json.loads, lines):
                    if "say" in entry:
                        bar.say(entry["say"])
                    else:
                        bar.update(entry["done"], entry["metrics"])
                if at_the_end:
                    return

    context = contextvars.copy_context()  # says to which run of Prefect's the bar belongs
    thread = threading.Thread(target=context.run, args=(relay,), name="training journal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Keep what the launcher changes of this process: it leaves its own handler of SIGTERM in place.

    And let those of each attempt meet in a store of their own. The launcher keeps one for all of them, in which those
    who start again may find the addresses of the dead: gloo then tries to connect to these until it gives up.
    """
    before, previous = os.environ.get(OWN_STORES), signal.getsignal(signal.SIGTERM)
    os.environ[OWN_STORES] = "1"
    try:
        yield
    finally:
        os.environ.pop(OWN_STORES)
        if before is not None:
            os.environ[OWN_STORES] = before
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)


def _why(error: ChildFailedError) -> str:
    rank, first = error.get_first_failure()
    return f"process {rank} ended with {first.exitcode}: {first.message}"
