"""``hoiclip train``: an experiment, from its start or from where it stopped."""

from __future__ import annotations

import argparse

from hoiclip.cli.arguments import (
    CommandParser,
    config_argument,
    experiment_arguments,
    offline_argument,
    quiet_libraries,
)


def add_arguments(parser: CommandParser) -> None:
    """The options of this command: those of an experiment."""
    config_argument(parser)
    offline_argument(parser)
    experiment_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and say what to do with the model."""
    from hoiclip.training.run import train

    quiet_libraries()
    out = train(args.config, args.options)
    if (out / "model.safetensors").is_file():  # not after a stop on the way
        print(f"{out}: hoiclip detect PHOTO --model {out}")
    return 0
