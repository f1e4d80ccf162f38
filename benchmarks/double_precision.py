"""python benchmarks/double_precision.py [--model DIR] [--size 800x1066] [--images 20]

Which float32 is off: eager torch's and OpenVINO's outputs beside those of the same model in double precision.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import hoiclip
from hoiclip.backends.inference_graph import OUTPUTS
from hoiclip.backends.registry import open_backend
from hoiclip.benchmark.measurement import machine
from hoiclip.benchmark.runner import parse_sizes
from hoiclip.benchmark.synthetic import draw_photo, save_seeded_model


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder (default: full-size, seeded weights)")
    parser.add_argument("--size", default="800x1066")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (size,) = parse_sizes(args.size)
    with tempfile.TemporaryDirectory() as scratch:
        if args.model is None:
            save_seeded_model(Path(scratch, "model"), args.seed)
        detector = hoiclip.load(args.model or Path(scratch, "model"), device="cpu")
    detector.processor.shortest_edge, detector.processor.longest_edge = min(size), max(size)
    inputs = [dict(detector.processor([draw_photo(size, args.seed + i)])) for i in range(args.images)]
    found = {"torch": [detector.backend(**one) for one in inputs]}
    graph = open_backend(detector.model, backend="openvino")
    found["openvino"] = [graph(**one) for one in inputs]
    double = detector.model.double()
    exact = [double(**{n: v.double() if v.is_floating_point() else v for n, v in one.items()}) for one in inputs]
    about = machine(torch.device("cpu"))
    print(f"{about['processor']} ({about['features']}), {args.size}, {args.images} images of seed {args.seed}")
    print("| largest difference from double precision |" + "".join(f" {name} |" for name in OUTPUTS))
    print("|---|" + "---:|" * len(OUTPUTS))
    for backend, outputs in found.items():
        worst = [max(float((o[n] - e[n]).abs().max()) for o, e in zip(outputs, exact, strict=True)) for n in OUTPUTS]
        print(f"| {backend} fp32 |" + "".join(f" {value:.1e} |" for value in worst))


if __name__ == "__main__":
    main()
