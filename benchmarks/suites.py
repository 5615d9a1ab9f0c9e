"""All measurements, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks import coding, data, orchestration, prior_step, reading, sampling, token_reading, tokenizer_step
from benchmarks.pairs import Pair

SUITES: Mapping[str, Callable[[], Iterator[Pair]]] = {
    "coding": coding.pairs,
    "tokenizer_step": tokenizer_step.pairs,
    "prior_step": prior_step.pairs,
    "sampling": sampling.pairs,
    "reading": reading.pairs,
    "token_reading": token_reading.pairs,
    "data": data.pairs,
    "orchestration": orchestration.pairs,
}
