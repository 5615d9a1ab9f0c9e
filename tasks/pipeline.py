"""The six stages in order: what each reads, and how a config becomes their requests one after another.

A request can be made only when its inputs are published, because it is keyed by their digests. So the pipeline is
walked: ask for a stage's request, run it, ask for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from datasets.sources import Listing, open_source
from datasets.store import Artifact, Store, StoreError
from datasets.store.lineage import find_artifact
from tasks import encode, evaluate, sample, shard, train_prior, train_tokenizer
from tasks.config import PipelineConfig
from tasks.generations import find_parent
from tasks.stage import Request, Stage
from tasks.start import prior_start, tokenizer_start
from tasks.subjects import Subjects


class NotPublished(StoreError):  # noqa: N818 - says what is the case, as ArtifactMissing does
    """A stage's input does not exist yet."""


@dataclass(frozen=True)
class Step:
    """A stage in the pipeline: its identity, the kinds of artifacts it reads, and its request."""

    stage: Stage
    reads: tuple[str, ...]
    request: Callable[[Pipeline], Request]

    @property
    def command(self) -> str:
        """The stage's name on the command line."""
        return self.stage.name.replace("_", "-")


class Pipeline:
    """A config's stages over one store.

    Args:
        config: the whole pipeline's config.
        given: artifacts to read instead of those that the config's own stages make: kind → fingerprint, unique
            beginning of one, or URI.
    """

    def __init__(self, config: PipelineConfig, given: Mapping[str, str | None] | None = None) -> None:
        self.config = config
        self.store = Store.open(config.store)
        self._given = {kind: name for kind, name in (given or {}).items() if name}
        self._found: dict[str, Artifact] = {}

    def request(self, stage: str) -> Request:
        """The request of a stage by name.

        Raises:
            NotPublished: an input is not there yet; says which command makes it.
        """
        return STEPS[stage].request(self)

    def further(self, kinds: Sequence[str], only_given: Sequence[str] = ()) -> dict[str, Artifact]:
        """Artifacts that a config makes a stage read beside its usual ones.

        Args:
            kinds: which.
            only_given: of these, those that come later in the pipeline: another run's are read if they were given.
        """
        return {kind: self.artifact(kind) for kind in kinds if kind not in only_given or kind in self._given}

    def artifact(self, kind: str) -> Artifact:
        """A published artifact of this pipeline: a given one, or the one that its stage's request names.

        Raises:
            NotPublished: it is not there yet; says which command makes it.
        """
        if kind in self._found:  # it never changes
            return self._found[kind]
        if name := self._given.get(kind):
            self._found[kind] = find_artifact(self.store, name, kind)
            return self._found[kind]
        step = next(step for step in STEPS.values() if step.stage.kind == kind)
        request = step.request(self)
        found = self.store.lookup(kind, request.fingerprint)
        if found is None:
            raise NotPublished(
                f"this config's {kind} artifact ({request.fingerprint[:12]}) is not in {self.config.store.url} yet: "
                f"run `tessera {step.command}` with the same config first, or `tessera run` for everything"
            )
        self._found[kind] = found
        return found

    @cached_property
    def listing(self) -> Listing:
        """What the source holds; listed once."""
        return open_source(self.config.shard.source, self.config.shard.pairs).list()

    @cached_property
    def shard_request(self) -> Request:
        """The shard stage's request."""
        parent = find_parent(self.config.shard, self.listing, self.store)
        return shard.request(self.config.shard, self.listing, parent)


STEPS: Mapping[str, Step] = {
    step.stage.name: step
    for step in (
        Step(shard.STAGE, (), lambda p: p.shard_request),
        Step(
            train_tokenizer.STAGE,
            ("corpus",),
            lambda p: train_tokenizer.request(p.config.tokenizer, p.artifact("corpus"), tokenizer_start(p.config)),
        ),
        Step(
            encode.STAGE,
            ("corpus", "tokenizer"),
            lambda p: encode.request(p.config.encode, p.artifact("corpus"), p.artifact("tokenizer")),
        ),
        Step(
            train_prior.STAGE,
            ("tokens",),
            lambda p: train_prior.request(p.config.prior, p.artifact("tokens"), prior_start(p.config)),
        ),
        Step(
            sample.STAGE,
            ("prior", "tokenizer"),
            lambda p: sample.request(
                p.config.sample,
                p.artifact("prior"),
                p.artifact("tokenizer"),
                **p.further(sample.reads(p.config.sample), only_given=("evaluation",)),
            ),
        ),
        Step(
            evaluate.STAGE,
            ("corpus", "tokenizer", "tokens", "prior", "samples"),
            lambda p: evaluate.request(p.config.evaluate, Subjects.of(p.artifact), p.config.name),
        ),
    )
}
