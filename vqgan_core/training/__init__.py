"""One training loop for both stages, exactly resumable.

Read in this order: `loop`, `tokenizer_step`, `prior_step`, `checkpoints`, `history`; the rest is small parts.
"""

from vqgan_core.training.checkpoints import Checkpoints, DirectoryCheckpoints, MemoryCheckpoints
from vqgan_core.training.ema import WeightsEma
from vqgan_core.training.history import Row, history_bytes
from vqgan_core.training.loop import Batch, Batches, TrainStep, train
from vqgan_core.training.precision import autocast, prepare, resolve_device
from vqgan_core.training.prior_step import PriorStep
from vqgan_core.training.progress import (
    NonFiniteError,
    Progress,
    TrainingDiverged,
    TrainingError,
    TrainingInterrupted,
    TrainResult,
)
from vqgan_core.training.schedule import gumbel_temperature, learning_rate, warmup_cosine
from vqgan_core.training.tokenizer_step import TokenizerStep

__all__ = [
    "Batch",
    "Batches",
    "Checkpoints",
    "DirectoryCheckpoints",
    "MemoryCheckpoints",
    "NonFiniteError",
    "PriorStep",
    "Progress",
    "Row",
    "TokenizerStep",
    "TrainResult",
    "TrainStep",
    "TrainingDiverged",
    "TrainingError",
    "TrainingInterrupted",
    "WeightsEma",
    "autocast",
    "gumbel_temperature",
    "history_bytes",
    "learning_rate",
    "prepare",
    "resolve_device",
    "train",
    "warmup_cosine",
]
