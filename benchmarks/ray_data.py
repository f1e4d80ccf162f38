"""python benchmarks/ray_data.py [--model DIR] [--images 1500] [--rounds 3] [--ray-cpus N] [--growth 1000,20000]

Compares ``hoiclip detect --ray`` on this machine with ``hoiclip detect`` on the same cores, in turns, and the cost of
an image in small and large folders.  A folder holds 500 playground scenes, each under many names.  Start-up, which a
run over 8 images measures, is shown and taken off; the second table counts from the first file written to the last.
Without a model, the shipped one exported to OpenVINO.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from hoiclip.benchmark.measurement import machine
from hoiclip.inference.export import export
from hoiclip.inference.loading import SHIPPED_MODEL
from hoiclip.playground.dataset import PlaygroundDataset

SCENES = 500
FEW = 8  # images of a run that measures the start


def draw_folder(folder: Path, images: int, seed: int) -> Path:
    """So many files, links to a few hundred drawn ones."""
    drawn = folder / "drawn"
    if not drawn.is_dir():
        drawn.mkdir()
        for i, (image, _) in enumerate(PlaygroundDataset(seed, SCENES, "test")):
            image.save(drawn / f"{i:04d}.png")
    filled = folder / f"images-{images}"
    filled.mkdir(exist_ok=True)
    if len(list(filled.iterdir())) == images:
        return filled
    for i in range(images):
        os.link(drawn / f"{i % SCENES:04d}.png", filled / f"{i:06d}.png")
    return filled


def seconds(source: Path, model: Path, *options: str, out: Path | None = None) -> float:
    """How long the command takes, into a folder that is new."""
    with tempfile.TemporaryDirectory(dir=source.parent) as scratch:
        command = [sys.executable, "-m", "hoiclip", "detect", str(source), "--model", str(model), "--no-pictures"]
        start = time.perf_counter()
        command += ["--out", str(out or Path(scratch, "found")), *options]
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray-cpus", default="1", metavar="N")
    parser.add_argument("--growth", default="1000,20000", metavar="FEW,MANY")
    parser.add_argument("--growth-size", default="64", metavar="N", help="shorter side for that, in pixels")
    parser.add_argument("--growth-rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    about = machine(torch.device("cpu"))
    print(f"{about['processor']}, {os.cpu_count()} cores, {args.ray_cpus} of them a worker, seed {args.seed}")
    ways = {"hoiclip detect": (), "hoiclip detect --ray": ("--ray", "--ray-cpus", args.ray_cpus)}
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model or Path(scratch, "model")
        if args.model is None:
            export(SHIPPED_MODEL, model, "openvino")
        few, many = (draw_folder(Path(scratch), n, args.seed) for n in (FEW, args.images))
        starts: dict[str, list[float]] = {way: [] for way in ways}
        costs: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, options in ways.items():
                starts[way].append(seconds(few, model, *options))
                costs[way].append((seconds(many, model, *options) - starts[way][-1]) / (args.images - FEW))
                print(
                    f"{way:22}  start {starts[way][-1]:5.1f} s   {costs[way][-1] * 1000:6.2f} ms an image", flush=True
                )
        if args.rounds:
            ratios = [one / ray for one, ray in zip(*costs.values(), strict=True)]
            each = " ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"throughput with Ray over that without: median {statistics.median(ratios):.2f}, rounds {each}")
        for images in [int(number) for number in args.growth.split(",")] * args.growth_rounds:
            source, out = draw_folder(Path(scratch), images, args.seed), Path(scratch, "found")
            seconds(source, model, "--size", args.growth_size, *ways["hoiclip detect --ray"], out=out)
            written = sorted(file.stat().st_mtime for file in out.iterdir())
            cost = 1000 * (written[-1] - written[0]) / (images * (1 - 1 / len(written)))
            print(f"{images:6} images of {args.growth_size} pixels with Ray, from the first file to the last: "
                  f"{cost:.2f} ms an image", flush=True)  # fmt: skip
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
