"""What a failure means to the person at the command line: one line and an exit status."""

from __future__ import annotations

import errno

from pydantic import ValidationError

from vqgan_core.config import ConfigError

FAILED, BAD_USAGE = 1, 2
#: An exception of one of our packages has a message that was written for people.
OURS = {"flows", "tasks", "datasets", "vqgan_core"}


def explain(error: BaseException) -> tuple[str, int]:
    """One line that says what went wrong and what to do, and the exit status."""
    if isinstance(error, ConfigError):
        return _one_line(error), BAD_USAGE
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}", BAD_USAGE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full: free some space and run the same command again; what is finished is kept", FAILED
    if type(error).__module__.partition(".")[0] in OURS or isinstance(error, OSError):
        return _one_line(error), FAILED
    if isinstance(error, ValueError) and str(error):
        return _one_line(error), FAILED
    return f"internal error: {type(error).__name__}: {_one_line(error)} (--debug shows where)", FAILED


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
