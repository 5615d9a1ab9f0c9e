"""`tessera …`: the same flows from a shell, and commands to look into a store.

Exit status: 0 ok, 1 failed, 2 bad usage. Errors are one line on stderr that a person can act on; --debug shows the
traceback. Heavy imports happen inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]

STAGES = {
    "shard": "turn a source of images into a corpus",
    "train-tokenizer": "train a tokenizer on a corpus",
    "encode": "encode a corpus into a token dataset",
    "train-prior": "train a prior on a token dataset",
    "sample": "draw images from a prior",
    "evaluate": "measure everything and write the report",
}
READS = {
    "train-tokenizer": ("corpus",),
    "encode": ("corpus", "tokenizer"),
    "train-prior": ("tokens",),
    "sample": ("prior", "tokenizer"),
    "evaluate": ("corpus", "tokenizer", "tokens", "prior", "samples"),
}


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


class _Parser(argparse.ArgumentParser):
    """Complains in one line; the usage is a --help away."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = _Parser(
        prog="tessera",
        description="Images → corpus → tokenizer → tokens → prior → samples. Every stage is cached and resumable.",
        epilog="CONFIG is a preset's name (digits) or a YAML file; key=value overrides any of its fields.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_config_command(commands, "run", "run the whole pipeline", "run")
    for name, help_text in STAGES.items():
        stage = _add_config_command(commands, name, help_text, "run_stage")
        stage.set_defaults(stage=name.replace("-", "_"))
        for kind in READS.get(name, ()):
            stage.add_argument(
                f"--{kind}", metavar="FINGERPRINT", help=f"read this {kind} artifact, not the config's own"
            )
    _add_config_command(commands, "plan", "say what is cached, what would run, and what it would cost", "plan")
    for name, help_text, argument in (
        ("ls", "list artifacts, newest last", "kind"),
        ("show", "show an artifact's recipe and lineage", "fingerprint"),
        ("verify", "re-hash artifacts", "fingerprint"),
        ("gc", "find what no artifact needs (and delete it with --delete)", None),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text.capitalize())
        _add_common(command, f"inspect:{name}")
        if argument:
            command.add_argument(argument, nargs=None if name == "show" else "?", help=_ARGUMENT_HELP[name])
        if name == "gc":
            command.add_argument("--delete", action="store_true", help="really delete")
            command.add_argument("--older-than-hours", type=float, default=24.0, help="leave younger files alone (24)")
    return top


_ARGUMENT_HELP = {
    "ls": "corpus, tokenizer, tokens, prior, samples or evaluation; all without it",
    "show": "fingerprint, or enough of its beginning to be unique",
    "verify": "fingerprint or its beginning; all artifacts without it",
}


def _add_config_command(
    commands: argparse._SubParsersAction[_Parser], name: str, help_text: str, function: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_text, description=help_text.capitalize())
    command.add_argument("config", metavar="CONFIG", help="preset name or YAML file")
    command.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="dotted overrides of the config")
    _add_common(command, f"run:{function}")
    return command


def _add_common(command: argparse.ArgumentParser, where: str) -> None:
    command.add_argument("--store", metavar="URL", help="the artifact store (default: the config's, or TESSERA_STORE)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--debug", action="store_true", help="show tracebacks and Prefect's log")
    command.set_defaults(command=_lazily(where))


def _lazily(where: str) -> Callable[[argparse.Namespace], int]:
    module, _, function = where.partition(":")

    def call(options: argparse.Namespace) -> int:
        from flows import commands_inspect, commands_run  # noqa: PLC0415 - keeps --help fast

        chosen = {"run": commands_run, "inspect": commands_inspect}[module]
        return int(getattr(chosen, function)(options) or 0)

    return call


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
