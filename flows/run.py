"""How a flow runs one stage after another, and what it remembers of it for a summary."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from datasets.config import StoreConfig
from datasets.store import Artifact, Store
from tasks import orchestrate
from tasks.orchestrate import Outcome
from tasks.progress import Reporter
from tasks.stage import Request


@dataclass
class Ledger:
    """What a command wants to know afterwards: each stage's outcome; and where progress is shown meanwhile."""

    reporter: Reporter | None = None
    outcomes: list[Outcome] = field(default_factory=list)


#: Set by the command line around a flow; a deployment runs without one.
current_ledger: ContextVar[Ledger | None] = ContextVar("current_ledger", default=None)


class StageRunner:
    """Runs requests as Prefect tasks against one store: `artifact = run(request)`."""

    def __init__(self, store: StoreConfig) -> None:
        self._config = store
        self._store = Store.open(store)
        self._ledger = current_ledger.get() or Ledger()

    @property
    def reporter(self) -> Reporter | None:
        """Where progress is shown."""
        return self._ledger.reporter

    def __call__(self, request: Request) -> Artifact:
        """Run one stage, or serve it from the cache, and open its artifact."""
        outcome = orchestrate.run(request, self._config, self._ledger.reporter)
        self._ledger.outcomes.append(outcome)
        return self._store.get(outcome[2])
