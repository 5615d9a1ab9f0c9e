"""How a flow runs one stage after another, what it shows of them, and what it remembers for a summary."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from datasets.store import Artifact, Store
from flows import attempts
from flows.naming import name_run
from tasks import orchestrate
from tasks.config import PipelineConfig
from tasks.orchestrate import Outcome
from tasks.pipeline import Pipeline
from tasks.progress import Reporter
from tasks.run_page import show_artifact, show_reading
from tasks.stage import Request


@dataclass
class Ledger:
    """What a command wants to know afterwards: each stage's outcome; and where progress is shown meanwhile."""

    reporter: Reporter | None = None
    outcomes: list[Outcome] = field(default_factory=list)


#: Set by the command line around a flow; a deployment runs without one.
current_ledger: ContextVar[Ledger | None] = ContextVar("current_ledger", default=None)


class StageRunner:
    """Runs a config's requests as Prefect tasks: `artifact = run(request)`."""

    def __init__(self, config: PipelineConfig) -> None:
        attempts.begin()
        self._config = config
        self._store = Store.open(config.store)
        self._ledger = current_ledger.get() or Ledger()
        self._seen: set[str] = set()

    @property
    def reporter(self) -> Reporter | None:
        """Where progress is shown."""
        return self._ledger.reporter

    def __call__(self, request: Request) -> Artifact:
        """Run one stage, or serve it from the cache, and open its artifact."""
        config = self._config
        outcome = orchestrate.run(
            request, config.store, config.name, self._ledger.reporter, config.stage_timeout_seconds
        )
        self._ledger.outcomes.append(outcome)
        _, state, ref = outcome
        for given in request.inputs:
            if given.fingerprint not in self._seen:
                show_reading(self._store, given, request.stage.name)
        show_artifact(self._store, ref, state)
        self._seen |= {ref.fingerprint, *(given.fingerprint for given in request.inputs)}
        return self._store.get(ref)

    @property
    def store(self) -> Store:
        """Where artifacts are."""
        return self._store

    def walk(self, pipeline: Pipeline, *stages: str) -> Artifact:
        """Run stages one after another, each when its inputs are there; returns what the last one made."""
        made = [self(pipeline.request(stage)) for stage in stages]
        return made[-1]

    def alone(self, request: Request) -> Artifact:
        """Run the only stage of a flow; the flow run is called like it."""
        name_run(orchestrate.title(request, self._config.name))
        return self(request)
