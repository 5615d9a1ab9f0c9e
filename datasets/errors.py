"""What can go wrong on the data side, each in one line that a person can act on.

    DataError (a ValueError)
    ├── SourceError          a source cannot be listed or read
    │   └── SourceChanged    a file is no longer what was listed
    ├── IngestError          a source cannot become a corpus
    ├── CorpusError          a corpus is damaged, or cannot give what is asked of it
    └── TokenError           a token file is damaged, or tokens cannot be stored
        ├── TokenMismatch    tokens of another tokenizer or codebook than expected
        └── DriftTooLarge    images that are too unlike those that a tokenizer was trained on

The store has its own tree (datasets.store.errors).
"""

from __future__ import annotations

__all__ = [
    "CorpusError",
    "DataError",
    "DriftTooLarge",
    "IngestError",
    "SourceChanged",
    "SourceError",
    "TokenError",
    "TokenMismatch",
]


class DataError(ValueError):
    """Base of all errors of the data side."""


class SourceError(DataError):
    """A source cannot be listed or read."""


class SourceChanged(SourceError):
    """A file of the source is no longer what it was when it was listed."""


class IngestError(DataError):
    """A source cannot become a corpus."""


class CorpusError(DataError):
    """A corpus is damaged, or cannot give what is asked of it."""


class TokenError(DataError):
    """A token file is damaged, or tokens cannot be stored."""


class TokenMismatch(TokenError):
    """Tokens of another tokenizer or codebook than expected."""


class DriftTooLarge(TokenError):
    """The images are too unlike those that a tokenizer was trained on, by a limit that the config sets."""
