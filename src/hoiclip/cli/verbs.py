"""``hoiclip verbs``: the vectors that a verb classifier starts from, made once for several runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from hoiclip.cli.arguments import CommandParser, config_argument, experiment_arguments, quiet_libraries


def add_arguments(parser: CommandParser) -> None:
    """The options of this command, and those of an experiment."""
    config_argument(parser)
    parser.add_argument("--out", type=Path, help="file to write (default: verbs.safetensors in the run's folder)")
    experiment_arguments(parser, own=("out",))


def run(args: argparse.Namespace) -> int:
    """Make the vectors and print their path."""
    from hoiclip.training.verb_initialization import extract_verbs

    quiet_libraries()
    print(extract_verbs(args.config, args.options, args.out))
    return 0
