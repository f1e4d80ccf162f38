"""``hoiclip verbs``: the vectors that a verb classifier starts from, made once for several runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from hoiclip.cli.arguments import CommandParser, config_argument, experiment_arguments, quiet_libraries


def add_arguments(parser: CommandParser) -> None:
    """The options of this command, and those of an experiment."""
    config_argument(parser)
    parser.add_argument("--out", type=Path, help="file to write (default: verbs.safetensors in the run's folder)")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="print the cosine to this file, verb by verb")
    experiment_arguments(parser, own=("out",))


def run(args: argparse.Namespace) -> int:
    """Make the vectors and print their path."""
    from hoiclip.training.verb_initialization import compare_verbs, extract_verbs

    quiet_libraries()
    path = extract_verbs(args.config, args.options, args.out)
    print(path)
    if args.compare:
        found = compare_verbs(args.config, args.options, path, args.compare)
        for verb, cosine in sorted(found.items(), key=lambda item: item[1]):
            print(f"{verb:<20} {cosine:6.3f}")
        print(f"mean of {len(found)} verbs: {sum(found.values()) / len(found):.3f}, smallest first above")
    return 0
