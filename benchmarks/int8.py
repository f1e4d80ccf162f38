"""python benchmarks/int8.py [--model MODEL] [--size 480x640] [--images 8] [--picture docs/int8.png]

Quantises parts of the OpenVINO graph alone and together, and prints for each what it costs (how many of the best 100
triplets differ from float32's) and what it saves (processor time of a forward pass, one thread).  ``--precision int8``
is the row "chosen": these parts, and others in bfloat16 (InferenceGraph).  Photographs are drawn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hoiclip
from hoiclip.backends.inference_graph import OUTPUTS
from hoiclip.backends.openvino import EIGHT_BIT_PARTS, openvino_graph, quantized
from hoiclip.benchmark.comparison import differences
from hoiclip.benchmark.measurement import machine
from hoiclip.benchmark.runner import parse_sizes
from hoiclip.benchmark.synthetic import draw_photos, save_seeded_model
from hoiclip.images import load_image

SUMS = r"^__module\.detector\."  # with the sums of residual branches
NO_SUMS = r"^(?!.*aten::add)__module\.detector\."
PARTS = {
    "ResNet's stem": rf"{SUMS}backbone\.stem",
    **{f"ResNet's stage {i + 1}": rf"{SUMS}backbone\.stages\.{i}\." for i in range(4)},
    **{f"stage {i + 1} without sums": rf"{NO_SUMS}backbone\.stages\.{i}\." for i in range(4)},
    "ResNet": rf"{SUMS}backbone",
    "ResNet without sums": rf"{NO_SUMS}backbone",
    "encoder's feed-forward layers": rf"{NO_SUMS}encoder\..*(fc1|fc2)",
    "encoder's linear layers": rf"{NO_SUMS}encoder\..*(fc1|fc2|[qkvo]_proj)",
    "encoder": rf"{SUMS}encoder",
    "CLIP's image tower": r"^__module\.clip_tower",
    "chosen, the rest float32": EIGHT_BIT_PARTS,
    "chosen": None,
    "ResNet and encoder": rf"{SUMS}(backbone|encoder)",
}


class Measurement:
    """Outputs of some images by a graph, and the processor time of one."""

    def __init__(self, graph: Any, images: list[dict[str, np.ndarray]]) -> None:
        import openvino

        settings = {"PERFORMANCE_HINT": "LATENCY", "EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_NUM_THREADS": 1}
        request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
        request.infer(images[0])
        found, times = [], []
        for image in images:
            begun = time.process_time()
            outputs = request.infer(image)
            times.append(time.process_time() - begun)
            found.append({name: np.array(outputs[name]) for name in OUTPUTS})
        self.outputs = {name: np.concatenate([one[name] for one in found]) for name in OUTPUTS}
        self.milliseconds = 1000 * statistics.median(times)


def draw(rows: list[tuple[str, float, float]], path: Path) -> None:
    """Accuracy against time, a point a row; those near one another have their names in a column beside."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    slowest = max(row[2] for row in rows)
    crowd = sorted((row for row in rows if row[1] > 0.9 and row[2] > 0.75 * slowest), key=lambda row: -row[1])
    column = dict(zip((row[0] for row in crowd), np.linspace(1.0, 0.84, len(crowd)), strict=True))
    for name, alike, milliseconds in rows:
        colour = "tab:red" if name in ("chosen", "float32") else "tab:blue"
        axes.scatter(milliseconds, 100 * alike, color=colour, zorder=3)
        beside = name in column
        axes.annotate(
            name,
            (milliseconds, 100 * alike),
            xytext=(1.08 * slowest, 100 * column[name]) if beside else (6, 5),
            textcoords="data" if beside else "offset points",
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "relpos": (0, 0.5)} if beside else None,
            fontsize=9,
            color=colour if colour == "tab:red" else "black",
            verticalalignment="center" if beside else "bottom",
        )
    axes.set(xlabel="processor time of a forward pass, ms", ylabel="best 100 triplets alike, %")
    axes.set_xlim(right=1.5 * slowest)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder (default: full-size, seeded weights)")
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    (size,) = parse_sizes(args.size)
    with tempfile.TemporaryDirectory() as scratch:
        if args.model is None:
            save_seeded_model(Path(scratch, "model"), 0)
        detector = hoiclip.load(args.model or Path(scratch, "model"), device="cpu")
    processor = detector.processor
    processor.shortest_edge, processor.longest_edge = min(size), max(size)
    sets = []
    for seed in (0, 1):  # to measure with, to calibrate with
        with tempfile.TemporaryDirectory() as scratch:
            draw_photos(Path(scratch, "photos"), size, args.images, seed)
            files = sorted(Path(scratch, "photos").iterdir())
            sets.append([{n: np.asarray(t) for n, t in processor([load_image(f)]).items()} for f in files])
    images, calibration = sets
    about = machine(torch.device("cpu"))
    print(f"{about['processor']} ({about['features']}), one thread, {args.size}, {args.images} images")
    print("| in 8 bits | ms | best 100 alike |\n|---|---:|---:|")
    graph = openvino_graph(detector.model)
    reference = Measurement(graph, images)
    known = {"object_ids": detector.vocabulary.object_ids}
    rows = [("float32", 1.0, reference.milliseconds)]
    print(f"| nothing | {reference.milliseconds:.0f} | 100 % |", flush=True)
    for name, pattern in PARTS.items():
        if pattern is None:
            eight = openvino_graph(detector.model, "int8", calibration)
        else:
            eight = quantized(graph.clone(), calibration, pattern)
        coarse = Measurement(eight, images)
        alike = differences({**reference.outputs, **known}, {**coarse.outputs, **known})["top100_overlap"]
        rows.append((name, alike, coarse.milliseconds))
        print(f"| {name} | {coarse.milliseconds:.0f} | {100 * alike:.1f} % |", flush=True)
    if args.picture:
        draw(rows, args.picture)


if __name__ == "__main__":
    main()
