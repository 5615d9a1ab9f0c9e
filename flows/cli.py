"""`tessera …`: the same flows from a shell, and commands to look into a store.

Exit status: 0 ok, 1 failed, 2 bad usage. Errors are one line on stderr that a person can act on; --debug shows the
traceback. Heavy imports happen inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from flows.grammar import parser

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script.

    Returns:
        The exit status.
    """
    # Two spinning thread pools on one core crawl; sleeping ones do not. Has to be said before PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _repository_first()
    options = _parse(arguments)
    try:
        status = options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _complain("interrupted; what is finished is kept, and the same command goes on from there", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the boundary: whatever happened becomes one line and a status
        if options.debug:
            traceback.print_exc()
        return _complain(*_explain(error))
    return int(status or 0)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with overrides and options in any order (argparse alone takes no positionals after an option)."""
    grammar = parser()
    options, rest = grammar.parse_known_args(arguments)
    strangers = [text for text in rest if text.startswith("-") or not hasattr(options, "overrides")]
    if strangers:
        grammar.error(f"there is no such argument: {' '.join(strangers)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _repository_first() -> None:
    """Put the checkout first on sys.path: the name `datasets` also belongs to a package of Hugging Face.

    Raises:
        SystemExit: another `datasets` was imported already.
    """
    sys.path[:0] = [str(ROOT)]
    import datasets  # noqa: PLC0415 - after the path is set

    if Path(datasets.__file__ or "").resolve().parent != ROOT / "datasets":
        raise SystemExit(
            f"tessera: `datasets` was imported from {datasets.__file__}, not from {ROOT / 'datasets'}; uninstall that "
            "package from this environment, or make a fresh one with `make setup`"
        )


def _explain(error: Exception) -> tuple[str, int]:
    from flows.errors import explain  # noqa: PLC0415 - keeps --help fast

    return explain(error)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"tessera: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
