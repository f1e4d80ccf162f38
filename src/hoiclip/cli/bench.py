"""``hoiclip bench``: how fast each backend is, and how close to eager fp32."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hoiclip.cli.arguments import fetch_named_model, offline_argument, positive_int, quiet_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "--model",
        metavar="DIR|NAME",
        help="model folder, or a name that hoiclip models lists (default: the full-size model, seeded weights)",
    )
    offline_argument(parser)
    parser.add_argument("--backends", default="torch", metavar="torch,compile,...", help="also onnx, openvino")
    parser.add_argument("--precisions", default="fp32", metavar="fp32,bf16,...", help="also int8")
    parser.add_argument("--size", default="800x1066", metavar="HEIGHTxWIDTH,...", help="of the detector's view")
    parser.add_argument("--batch", default="1", metavar="1,16,...", help="images per forward pass")
    parser.add_argument("--repeats", type=positive_int, default=7, help="of each timing (default 7)")
    parser.add_argument("--images", type=positive_int, default=20, help="drawn photographs to detect in (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the photographs, and of weights without --model")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="print these numbers beside those of another day, "
                        "which --out wrote")  # fmt: skip
    parser.add_argument("--out", type=Path, help="write every number as JSON here")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and write the numbers."""
    from hoiclip.benchmark.report import comparison, doubts, read_results, table
    from hoiclip.benchmark.runner import bench, parse_batches, parse_names, parse_sizes
    from hoiclip.files import write_text_atomic

    before = read_results(args.compare) if args.compare else None
    quiet_libraries()
    fetch_named_model(args)
    results = bench(
        args.model,
        backends=parse_names("--backends", args.backends),
        precisions=parse_names("--precisions", args.precisions),
        sizes=parse_sizes(args.size),
        batches=parse_batches(args.batch),
        device=args.device,
        repeats=args.repeats,
        images=args.images,
        seed=args.seed,
        progress=lambda line: print(f"hoiclip: {line}", file=sys.stderr, flush=True),
    )
    print(table(results))
    if args.out:
        write_text_atomic(args.out, json.dumps(results, indent=1) + "\n")
    for doubt in doubts(results):
        print(f"hoiclip: {doubt}", file=sys.stderr)
    if before is not None:
        print(f"\n{comparison(results, before)}")
    return 0
