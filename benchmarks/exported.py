"""python benchmarks/exported.py [--model MODEL] [--precisions fp32,bf16,int8] [--size 800x1066] [--keep FOLDER]

Exports a model for OpenVINO and prints, for each precision, what `hoiclip detect PHOTO --model EXPORTED` takes from the
start of its process to its end, triplets printed, and the most memory it holds; and in a process that is warm, a
forward pass beside the way from file to triplets, of a photograph twice as high and wide as the detector's view and of
one of just that size.  Then, how many images a second come from files on one core, on all cores with one image at a
time, with an image a core (streams, as `hoiclip detect FOLDER` does it), and with a process a core, which is what
`hoiclip detect --ray` does.  No torch is loaded where these are measured.  Photographs are drawn; int8 is calibrated
with others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DRAW = """
import sys
from pathlib import Path
from hoiclip.benchmark.synthetic import draw_photos
folder, height, width, number, seed = sys.argv[1:]
draw_photos(Path(folder), (int(height), int(width)), int(number), int(seed))
"""
SEEDED = """
import sys
from pathlib import Path
from hoiclip.benchmark.synthetic import save_seeded_model
save_seeded_model(Path(sys.argv[1]), 0)
"""
WARM = """
import json, statistics, sys, time
import hoiclip
from hoiclip.image_inputs import open_image
hoiclip.keep_freed_memory()  # as hoiclip detect does
detector, file, repeats = hoiclip.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
views = detector.preparation.views(open_image(file))
inputs = {"pixel_values": views[0][None], "clip_pixel_values": views[1][None]}
times = {"model": [], "whole": []}
for name, work in [("model", lambda: detector.runtime.compute(inputs)), ("whole", lambda: detector(file))] * repeats:
    begun = time.perf_counter()
    work()
    times[name].append(1000 * (time.perf_counter() - begun))
assert "torch" not in sys.modules
print(json.dumps({name: statistics.median(found[1:]) for name, found in times.items()}))
"""

RATE = """
import itertools, sys, time
import hoiclip
hoiclip.keep_freed_memory()
detector, seconds = hoiclip.load(sys.argv[1], streams=int(sys.argv[4])), float(sys.argv[3])
coming = detector.detect_files(itertools.repeat(sys.argv[2]), keep_images=False)
for _ in range(4):
    next(coming)
print("ready", flush=True)
sys.stdin.readline()  # all begin together
begun, images = time.perf_counter(), 0
while time.perf_counter() < begun + seconds:
    next(coming)
    images += 1
print(images / (time.perf_counter() - begun))
"""


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of a process."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: {process.stderr.read().decode() if process.stderr else 'failed'}")
    return time.perf_counter() - begun, used.ru_maxrss / 1024


def python(*words: object) -> str:
    """What a Python of its own prints; this process stays small, since a child's peak begins with its parent's."""
    done = subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def rate(model: Path, photo: Path, processes: int, threads: int, streams: int, seconds: float) -> float:
    """Images a second of so many processes at once, from file to triplets."""
    command = [sys.executable, "-c", RATE, str(model), str(photo), str(seconds), str(streams)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    running = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    for process in running:
        process.stdout.readline()  # type: ignore[union-attr]
    for process in running:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    return sum(float(process.communicate()[0]) for process in running)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder (default: full-size, seeded weights)")
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--size", default="800x1066")
    parser.add_argument("--calibration-images", type=int, default=30)
    parser.add_argument("--starts", type=int, default=5, help="processes, of which the quickest is shown")
    parser.add_argument("--repeats", type=int, default=15, help="of the warm timings, in turn")
    parser.add_argument("--seconds", type=float, default=15, help="that each rate is measured for")
    parser.add_argument("--keep", help="folder for the exported models, taken from there if they are there")
    args = parser.parse_args()
    height, width = args.size.split("x")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.keep or scratch)
        photo, small, examples = folder / "photos" / "0000.jpg", folder / "small" / "0000.jpg", folder / "calibration"
        if not small.is_file():
            python("-c", DRAW, photo.parent, height, width, 1, 0)
            python("-c", DRAW, small.parent, int(height) // 2, int(width) // 2, 1, 0)
            python("-c", DRAW, examples, height, width, args.calibration_images, 1)
        print("| precision | MiB of files | s to the printed triplets | peak MiB | model ms | from file ms | ratio "
              f"| from a file of {args.size} | ratio |")  # fmt: skip
        print("|---" + "|---:" * 8 + "|")
        source = args.model or Path(scratch, "model")
        if args.model is None:
            python("-c", SEEDED, source)
        for precision in args.precisions.split(","):
            model = folder / precision
            if not model.is_dir():
                options = ["--calibration", examples] if precision == "int8" else []
                export = ["-m", "hoiclip", "export", source, "--to", "openvino", "--precision", precision]
                python(*export, *options, "--size", min(int(height), int(width)), "--out", model)
            command = [sys.executable, "-m", "hoiclip", "detect", str(photo), "--model", str(model), "--no-pictures"]
            starts = [measured([*command, "--out", str(Path(scratch, f"{precision}-{i}"))]) for i in range(args.starts)]
            warm, near = (json.loads(python("-c", WARM, model, file, args.repeats).splitlines()[-1])
                          for file in (photo, small))  # fmt: skip
            size = sum(file.stat().st_size for file in model.iterdir()) / 2**20
            seconds, peak = min(s for s, _ in starts), max(m for _, m in starts)
            cells = [f"{size:.0f}", f"{seconds:.1f}", f"{peak:.0f}", f"{warm['model']:.0f}", f"{warm['whole']:.0f}"]
            cells += [f"{warm['whole'] / warm['model']:.2f}"]
            cells += [f"{near['whole']:.0f}", f"{near['whole'] / near['model']:.2f}"]
            print("|", " | ".join([precision, *cells]), "|", flush=True)
        cores = os.cpu_count() or 1
        print(
            f"\n| images/s | one core | {cores} cores, an image at a time | {cores} images at a time "
            f"| {cores} processes of one core |"
        )
        print("|---|---:|---:|---:|---:|")
        for precision in args.precisions.split(","):
            ways = [(1, 1, 1), (1, cores, 1), (1, cores, cores), (cores, 1, 1)]
            rates = [rate(folder / precision, photo, *way, args.seconds) for way in ways]
            print("|", " | ".join([precision, *(f"{one:.2f}" for one in rates)]), "|", flush=True)


if __name__ == "__main__":
    main()
