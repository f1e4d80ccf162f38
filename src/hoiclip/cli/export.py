"""``hoiclip export``: a model as a graph for another runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

from hoiclip.cli.arguments import hub_arguments, quiet_libraries, size_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", metavar="MODEL", help="model folder, hub id, or a name that hoiclip models lists")
    hub_arguments(parser)
    parser.add_argument("--to", required=True, metavar="onnx|openvino", help="for which runtime")
    parser.add_argument("--precision", default="fp32", metavar="NAME", help="fp32 (default), bf16, int8, or auto: "
                        "what this processor does fastest, int8 only with --calibration")  # fmt: skip
    parser.add_argument("--calibration", metavar="FOLDER", help="images of the kind that will come, for int8")
    vocabulary = parser.add_mutually_exclusive_group()
    vocabulary.add_argument("--interactions", metavar='"ride unicycle, ..."', help="ask for these instead, for good")
    vocabulary.add_argument(
        "--vocabulary", metavar="NAME|YAML", help="ask for a published or your own vocabulary, for good"
    )
    size_argument(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def run(args: argparse.Namespace) -> int:
    """Write the folder and say what to do with it."""
    from hoiclip.backends.manifest import Manifest
    from hoiclip.inference.export import export
    from hoiclip.vocabulary import HoiVocabulary

    quiet_libraries()
    vocabulary = args.vocabulary if args.interactions is None else HoiVocabulary.from_words(args.interactions)
    export(
        args.model,
        args.out,
        args.to,
        args.precision,
        calibration=args.calibration,
        vocabulary=vocabulary,
        size=args.size,
        revision=args.revision,
        token=args.token,
    )
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 2**20
    precision = Manifest.read(args.out).precision  # what auto has chosen
    print(f"{args.out}: {args.to} {precision}, {size:.0f} MiB; hoiclip detect PHOTO --model {args.out}")
    return 0
