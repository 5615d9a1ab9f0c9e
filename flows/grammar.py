"""The command line's grammar: which commands there are, their arguments, and which function answers each.

A command is answered by `flows.commands_ROOM:FUNCTION`, named here by text: nothing heavy is imported before a command
is really given. Each room of commands has one function here that adds its commands.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import NoReturn

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
    "sample": ("prior", "tokenizer", "tokens", "evaluation", "top-prior"),
    "evaluate": ("corpus", "tokenizer", "tokens", "prior", "samples"),
}


class Parser(argparse.ArgumentParser):
    """Complains in one line; the usage is a --help away."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Commands:
    """Commands of one level, added one by one."""

    def __init__(self, parent: Parser, title: str = "commands") -> None:
        self._commands = parent.add_subparsers(title=title, metavar="COMMAND", required=True)

    def add(self, name: str, help_text: str, where: str, *, prints: bool = True) -> Parser:
        """Add a command with the options that all have; `where` is `room:function`, of flows/commands_room.py.

        Args:
            name: the word.
            help_text: one line.
            where: which function answers.
            prints: it answers with figures, which can be JSON.
        """
        command: Parser = self._commands.add_parser(name, help=help_text, description=_sentence(help_text))
        command.add_argument(
            "--store", metavar="URL", help="the artifact store (default: the config's, or TESSERA_STORE)"
        )
        if prints:
            command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--debug", action="store_true", help="show tracebacks and Prefect's log")
        command.set_defaults(command=_lazily(where))
        return command

    def add_with_config(self, name: str, help_text: str, where: str) -> Parser:
        """Add a command that reads a config with overrides."""
        command = self.add(name, help_text, where)
        command.add_argument("config", metavar="CONFIG", help="preset name or YAML file")
        command.add_argument(
            "overrides", nargs="*", default=[], metavar="key=value", help="dotted overrides of the config"
        )
        return command

    def group(self, name: str, help_text: str) -> Commands:
        """Add a word that has commands of its own: `tessera NAME COMMAND`."""
        return Commands(self._commands.add_parser(name, help=help_text, description=_sentence(help_text)))


def parser() -> Parser:
    """The whole grammar."""
    top = Parser(
        prog="tessera",
        description="Images → corpus → tokenizer → tokens → prior → samples. Every stage is cached and resumable.",
        epilog="CONFIG is a preset's name (digits) or a YAML file; key=value overrides any of its fields.",
    )
    commands = Commands(top)
    rooms = (
        _add_run, _add_inspect, _add_corpus, _add_tokens, _add_models, _add_evaluation, _add_experiments,
        _add_pointers, _add_server,
    )  # fmt: skip
    for add_room in rooms:
        add_room(commands)
    return top


def _add_run(commands: Commands) -> None:
    commands.add_with_config("run", "run the whole pipeline", "run:run")
    for name, help_text in STAGES.items():
        stage = commands.add_with_config(name, help_text, "run:run_stage")
        stage.set_defaults(stage=name.replace("-", "_"))
        for kind in READS.get(name, ()):
            told = f"read this {kind} artifact, not the config's own"
            if kind == "top-prior":
                told = "draw the coarser of two levels with this prior, instead of telling records of it"
            also = "; the URL of tokens that were made elsewhere will do, too" if name == "train-prior" else ""
            stage.add_argument(f"--{kind}", metavar="FINGERPRINT", help=told + also)
        if name == "train-tokenizer":
            stage.add_argument("--condition-tokenizer", metavar="NAME", help="train this one of condition_tokenizers")
    sweep = commands.add_with_config(
        "sweep", "try guidance and temperature on a prior, and name the best", "sweep:sweep"
    )
    for kind in ("corpus", "tokenizer", "tokens", "prior", "evaluation"):
        sweep.add_argument(f"--{kind}", metavar="FINGERPRINT", help=f"read this {kind} artifact, not the config's own")
    plan = commands.add_with_config("plan", "say what is cached, what would run, and what it would cost", "run:plan")
    plan.add_argument(
        "--images",
        type=int,
        nargs="*",
        metavar="N",
        help="say instead what N images would take; 10^6 to 10^9 without N",
    )


def _add_experiments(commands: Commands) -> None:
    group = commands.group("experiment", "train several things and compare them on one page")
    priors = group.add_with_config("priors", "several priors on the same tokens", "experiment:priors")
    priors.add_argument("--tokens", metavar="FINGERPRINT", help="read this tokens artifact, not the config's own")
    group.add_with_config("factors", "tokenizers of several downsampling factors", "experiment:factors")


def _add_inspect(commands: Commands) -> None:
    listing = commands.add("ls", "list artifacts, newest last", "inspect:ls")
    listing.add_argument(
        "kind",
        nargs="?",
        help="corpus, tokenizer, tokens, prior, samples, evaluation, comparison, sweep or experiment; all without it",
    )
    show = commands.add("show", "show an artifact's recipe and lineage", "inspect:show")
    show.add_argument("fingerprint", help="fingerprint, or enough of its beginning to be unique")
    verify = commands.add("verify", "re-hash artifacts", "inspect:verify")
    verify.add_argument("fingerprint", nargs="?", help="fingerprint or its beginning; all artifacts without it")
    gc = commands.add("gc", "find what no artifact needs (and delete it with --delete)", "inspect:gc")
    gc.add_argument("--delete", action="store_true", help="really delete")
    gc.add_argument("--older-than-hours", type=float, default=24.0, help="leave younger files alone (24)")


def _add_pointers(commands: Commands) -> None:
    told = "let a name point to an artifact; an evaluation has to pass the gates"
    promote = commands.add("promote", told, "pointers:promote_to")
    promote.add_argument("name", metavar="NAME", help="lower-case letters, digits and dashes")
    promote.add_argument(
        "fingerprint", metavar="FINGERPRINT", help="of an evaluation, which stands for all it looked at"
    )
    promote.add_argument("--gates", metavar="CONFIG", help="preset or YAML file whose promote.* are the gates")
    promote.add_argument("--force", action="store_true", help="whatever the gates say")
    current = commands.add("current", "say what names point to", "pointers:current")
    current.add_argument("name", metavar="NAME", nargs="?", help="all names without it")
    current.add_argument("--history", action="store_true", help="everything that was promoted before, too")


def _add_server(commands: Commands) -> None:
    text = "start a Prefect server with all deployments in it, and workers"
    server = commands.add("server", text, "server:serve", prints=False)
    server.add_argument("--host", default="127.0.0.1", help="where it listens (127.0.0.1: for this machine alone)")
    server.add_argument("--port", type=int, default=4200, help="(4200)")
    server.add_argument(
        "--pools", nargs="*", default=["cpu", "gpu"], choices=["cpu", "gpu"], help="start a worker here for each (both)"
    )
    server.add_argument("--gpus", type=int, metavar="N", help="slots of the gpu pool (the GPUs of this machine, or 1)")


def _add_evaluation(commands: Commands) -> None:
    export = commands.add(
        "export-samples", "write samples for ADM's evaluator, torch-fidelity or clean-fid", "export:export_samples"
    )
    export.add_argument("fingerprint", help="fingerprint of a sample set, or enough of its beginning to be unique")
    target = export.add_mutually_exclusive_group(required=True)
    target.add_argument("--npz", metavar="FILE", help="one array of all images, for ADM's evaluator")
    target.add_argument("--png", metavar="FOLDER", help="a file an image, for torch-fidelity and clean-fid")
    compare = commands.add(
        "compare", "put artifacts side by side on one page: numbers, curves, pictures", "compare:compare"
    )
    told = "two or more evaluations, sample sets, priors or tokenizers: fingerprints, or beginnings of them"
    compare.add_argument("fingerprints", nargs="+", metavar="FINGERPRINT", help=told)
    compare.add_argument("--num-images", type=_count, default=8, help="images that all tokenizers reconstruct (8)")
    compare.add_argument("--num-samples", type=_count, default=8, help="images that all priors draw (8)")


def _add_tokens(commands: Commands) -> None:
    group = commands.group("tokens", "look into token datasets, and add some from elsewhere")
    group.add("ls", "list token datasets, newest last", "tokens:ls")
    show = group.add("show", "show contents and a histogram of the codes", "tokens:show")
    show.add_argument("fingerprint", help="fingerprint of a token dataset, or enough of its beginning to be unique")
    diff = group.add("diff", "compare records and codes of two token datasets", "tokens:diff")
    diff.add_argument("first", help="fingerprint of a token dataset")
    diff.add_argument("second", help="fingerprint of another")
    head = group.add("head", "print the first records", "tokens:head")
    head.add_argument("fingerprint", help="fingerprint of a token dataset")
    head.add_argument("-n", dest="count", metavar="N", type=_count, default=3, help="records (3)")
    head.add_argument("--split", default="train", help="train or val (train)")
    added = group.add("add", "register tokens that were made elsewhere", "tokens:add")
    added.add_argument("url", metavar="URL", help="Parquet file, folder of such, or token artifact of another store")
    added.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value",
        help="what the files do not say: codebook_size=512 grid=[16,16] class_names=[cat,dog] …",
    )  # fmt: skip


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records")
    return int(text)


def _add_models(commands: Commands) -> None:
    imports = commands.group("import", "publish a model of another project as an artifact")
    for name, whose in (
        ("taming", "taming-transformers: VQModel, GumbelVQ, VQSegmentationModel, Net2NetTransformer"),
        ("llamagen", "LlamaGen: VQ models, class-conditional GPTs"),
        ("diffusers", "diffusers: VQModel"),
        ("dalle", "DALL·E: its dVAE, encoder and decoder in one file"),
    ):
        command = imports.add(name, whose, "models:import_model")
        command.set_defaults(project=name)
        _add_import_arguments(command)
    exports = commands.group("export", "write a tokenizer in another project's layout")
    for name, files in (("taming", "model.ckpt, config.yaml"), ("diffusers", "config.json, safetensors")):
        command = exports.add(name, f"as {files}", "models:export_model")
        command.set_defaults(project=name)
        command.add_argument("fingerprint", help="of the tokenizer, or enough of its beginning to be unique")
        command.add_argument("path", metavar="PATH", help="a new folder for the files")


def _add_import_arguments(command: Parser) -> None:
    command.add_argument("path", metavar="PATH", help="safetensors, .ckpt, .pth, .pt or .bin, or a folder with one")
    command.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="dotted corrections of the tokenizer's config"
    )
    command.add_argument("--config", metavar="FILE", help="the project's YAML or JSON (default: the one beside PATH)")
    command.add_argument("--resolution", type=int, metavar="PX", help="of training images, if the config does not say")
    command.add_argument("--num-heads", type=int, metavar="N", help="of a prior, if the config does not say")
    command.add_argument("--num-classes", type=int, metavar="N", help="of a prior, if the config does not say")
    command.add_argument("--sos-token", type=int, metavar="N", help="of an unconditional prior")
    command.add_argument(
        "--condition", metavar="NAME", help="what the corpus calls what a prior is told, if not what the config does"
    )
    command.add_argument(
        "--tokenizer", metavar="FINGERPRINT", help="whose tokens the prior reads, if not the file's own"
    )
    command.add_argument("--tokenizer-only", action="store_true", help="leave the file's prior alone")


def _add_corpus(commands: Commands) -> None:
    corpus = commands.group("corpus", "look into corpora, compare and compact them")
    corpus.add("ls", "list corpora with their generations, newest last", "corpus:ls")
    for name, help_text in (
        ("show", "show what became of every file of the source"),
        ("head", "list the first records"),
        ("verify", "read every record of every shard"),
        ("compact", "make one generation out of many, without what is gone and without reading the source"),
        ("sheet", "draw random records into one PNG"),
    ):
        command = corpus.add(name, help_text, f"corpus:{name}")
        command.add_argument("fingerprint", help="of a corpus, or enough of its beginning to be unique")
        if name in ("head", "sheet"):
            command.add_argument("--split", default="train", choices=("train", "val"), help="which records (train)")
            command.add_argument(
                "--count", type=int, default=10 if name == "head" else 64, help="how many (%(default)s)"
            )
        if name == "head":
            command.add_argument("--quarantine", action="store_true", help="what was left out, instead")
        if name == "sheet":
            command.add_argument("--out", default="sheet.png", help="file to write (sheet.png)")
            command.add_argument("--columns", type=int, default=8, help="images in a row (8)")
            command.add_argument("--seed", type=int, default=0, help="which random records (0)")
    poses = corpus.add("poses", "draw keypoints as label maps, which shard.pairs keeps beside images", "corpus:poses")
    poses.add_argument("annotations", metavar="ANNOTATIONS", help="URL of a COCO file of keypoints")
    poses.add_argument("folder", metavar="FOLDER", help="for the maps: PATH.png for each image")
    poses.add_argument("--width", type=float, default=0.02, help="of limbs, share of the longer side (%(default)s)")
    diff = corpus.add("diff", "say which records came, went or changed between two corpora", "corpus:diff")
    diff.add_argument("first", help="fingerprint, or its beginning")
    diff.add_argument("second", help="fingerprint, or its beginning")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _lazily(where: str) -> Callable[[argparse.Namespace], int]:
    room, _, function = where.partition(":")

    def call(options: argparse.Namespace) -> int:
        module = importlib.import_module(f"flows.commands_{room}")
        return int(getattr(module, function)(options) or 0)

    return call
