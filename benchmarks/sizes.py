"""python benchmarks/sizes.py [--model MODEL] [--precision fp32] [--scenes 1000] [--playground FOLDER]

What `--size` saves and what it costs: milliseconds of a forward pass and of the way from file to triplets for several
shorter sides, by an OpenVINO graph of the published shape that is compiled once; and the mAP in the playground, its
images resized by the same factors (128 pixels stand for 800): of the shipped model, which was trained at one size, and
of another, such as one that was trained further at several.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hoiclip
from hoiclip.benchmark.measurement import machine
from hoiclip.benchmark.synthetic import draw_photo, save_seeded_model
from hoiclip.evaluation import HicoDetEvaluator
from hoiclip.evaluation.runner import EvaluationSet, detect_samples
from hoiclip.inference.export import export
from hoiclip.inference.exported_detector import ExportedDetector
from hoiclip.playground.dataset import PlaygroundDataset

SIZES = (320, 400, 480, 560, 640, 720, 800)
FULL = 800


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    """The median, after one call that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times[1:])


def mean_ap(detector: Any, size: int, scenes: int, seed: int) -> float:
    """mAP in the playground, in percent, its images resized to ``size`` / 800 of what the model was trained with."""
    processor = detector.processor
    trained = processor.shortest_edge, processor.longest_edge
    processor.shortest_edge, processor.longest_edge = (round(edge * size / FULL) for edge in trained)
    world = PlaygroundDataset(seed, scenes, "test", detector.vocabulary)
    annotations = [world.annotation(i) for i in range(scenes)]
    evaluator = HicoDetEvaluator(annotations, detector.vocabulary)
    data = EvaluationSet(world, annotations, processor, batch_size=32, zero_shot_top_k=processor.zero_shot_top_k)
    for file_name, found in detect_samples(detector.backend, data, progress=False):
        evaluator.add(file_name, found)
    processor.shortest_edge, processor.longest_edge = trained
    return 100 * float(evaluator.result().full)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder, or one that hoiclip export wrote (default: seeded weights)")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16, where the model is not exported yet")
    parser.add_argument("--playground", help="folder of another model of the playground, for a second column of mAP")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    hoiclip.keep_freed_memory()  # as hoiclip detect does
    worlds = [hoiclip.load(name, device="cpu") for name in (None, args.playground)[: 2 if args.playground else 1]]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.model or Path(scratch, "model"))
        if args.model is None:
            save_seeded_model(folder, args.seed)
        if not (folder / "export.json").is_file():
            folder = export(folder, Path(scratch, "exported"), precision=args.precision)
        detector = ExportedDetector(folder)
        photo = Path(scratch, "photo.jpg")
        draw_photo((2 * FULL, 2 * FULL * 4 // 3), args.seed).save(photo, quality=90)
        about = machine(worlds[0].device)
        print(f"{about['processor']} ({about['features']}), {about['threads']} threads, "
              f"{detector.manifest.precision}, {args.scenes} scenes of seed {args.seed}")  # fmt: skip
        other = " mAP of the other |" if args.playground else ""
        print(f"| --size | model ms | from file ms | mAP of the shipped model |{other}\n|{'---:|' * (3 + len(worlds))}")
        for size in SIZES:
            detector.set_size(size)
            views = detector.preparation.views(draw_photo((size, size * 4 // 3), args.seed))
            inputs = {"pixel_values": views[0][None], "clip_pixel_values": views[1][None]}
            alone = milliseconds(lambda inputs=inputs: detector.runtime.compute(inputs), args.repeats)
            whole = milliseconds(lambda: detector(photo), args.repeats)
            ap = " | ".join(f"{mean_ap(world, size, args.scenes, args.seed):.1f}" for world in worlds)
            print(f"| {size} | {alone:.0f} | {whole:.0f} | {ap} |", flush=True)


if __name__ == "__main__":
    main()
