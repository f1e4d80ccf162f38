"""The command line: one module per command, imported when the command is chosen.

    hoiclip detect photos/ --model model/ --out found/

A complaint about what the user gave is one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from hoiclip.cli.arguments import BAD_INPUT, INTERRUPTED, CommandParser
from hoiclip.cli.console import lasting_output
from hoiclip.errors import HoiError
from hoiclip.hub import without_network

__all__ = ["BAD_INPUT", "COMMANDS", "INTERRUPTED", "command_parser", "main"]

#: each is a module of this package with ``add_arguments(parser)`` and ``run(args) -> exit code``
COMMANDS = {
    "demo": "Let the shipped model detect in new scenes of the playground, and evaluate it.",
    "models": "List the models and data that can be had by name, or put a downloaded file into place.",
    "detect": "Find human-verb-object triplets in images.",
    "serve": "Serve a web page to try a model, and plain HTTP.",
    "convert": "Turn somebody else's checkpoint into a hoiclip model folder.",
    "export": "Write a model as a graph for onnxruntime or OpenVINO.",
    "push": "Push a model to the hub, with a model card.",
    "train": "Train an experiment, or go on with it.",
    "evaluate": "Compute the published metrics for a model, or for detections of any method.",
    "calibrate": "Make a model's scores probabilities, and choose from where on to show each interaction.",
    "verbs": "Make verb vectors by visual semantic arithmetic over a training set.",
    "reproduce": "Train and evaluate what a table of the paper needs, and write it beside the paper's numbers.",
    "data": "Prepare, check and look at datasets.",
    "bench": "Measure backends: time, memory, operations and accuracy beside our own eager fp32.",
    "playground": "Make, measure and pack the parts of the miniature world that are shipped.",
}


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:  # type: ignore[override]
        from importlib.metadata import version

        print(f"hoiclip {version('hoiclip')}")
        parser.exit()


def command_parser(command: str) -> CommandParser:
    """The parser of one command, with all its options."""
    parser = CommandParser(prog=f"hoiclip {command}", description=COMMANDS[command])
    import_module(f"hoiclip.cli.{command}").add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; complaints about what the user gave are one sentence and exit code 2."""
    with lasting_output():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="hoiclip",
        description="Human-object interaction detection.",
        epilog="hoiclip COMMAND --help lists the options of a command.",
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    near = difflib.get_close_matches(words[0] if words else "", COMMANDS, n=1)
    if near and words[0] not in COMMANDS:
        parser.error(f"unknown command {words[0]!r}; did you mean {near[0]}?")
    command = parser.parse_args(words[:1]).command
    can_resume = False
    try:
        args = command_parser(command).parse_args(words[1:])
        can_resume = "resume" in args
        with without_network() if getattr(args, "offline", False) else nullcontext():
            return import_module(f"hoiclip.cli.{command}").run(args)
    except HoiError as error:
        print(f"hoiclip: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # also while a command is still importing
        advice = "; what is written stays, --resume goes on from there" if can_resume else ""
        print(f"hoiclip: interrupted{advice}", file=sys.stderr)
        return INTERRUPTED
