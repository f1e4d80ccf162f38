"""python benchmarks/folder.py [--images 200] [--model DIR] [--backend openvino] [--precision bf16] [--draft]

Draws a folder of JPEG photographs of mixed sizes (640x480 and its kin, 3 and 12 megapixels, some lying on
their side), detects in it, and prints the throughput beside that of the model alone, and the memory held
on the way.  Without a model, the full-size one with seeded weights.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import hoiclip
from hoiclip.backends.manifest import is_exported
from hoiclip.benchmark.measurement import machine, resident_mib, seconds_of
from hoiclip.benchmark.synthetic import draw_photo, save_seeded_model
from hoiclip.cli.arguments import streams_for
from hoiclip.images import resized_size

# (width, height) and how many of a hundred
SIZES = {
    (640, 480): 30,
    (480, 640): 10,
    (640, 427): 15,
    (640, 426): 5,
    (427, 640): 5,
    (640, 360): 5,
    (500, 375): 5,
    (640, 640): 3,
    (612, 612): 2,
    (2048, 1536): 8,
    (1536, 2048): 4,
    (4000, 3000): 6,
    (3024, 4032): 2,
}


def draw_folder(folder: Path, images: int, seed: int) -> list[Path]:
    """So many JPEG files, sizes in an order of chance."""
    random = np.random.default_rng(seed)
    sizes, weights = list(SIZES), np.array(list(SIZES.values()), dtype=float)
    files = []
    for i, k in enumerate(random.choice(len(sizes), size=images, p=weights / weights.sum())):
        width, height = sizes[k]
        exif = Image.Exif()
        if i % 10 == 9:  # as a camera held upright writes it
            exif[0x0112] = 6
        files.append(folder / f"{i:04d}.jpg")
        draw_photo((height, width), seed * 1000 + i).save(files[-1], quality=90, exif=exif)
    return files


@torch.inference_mode()
def model_seconds(detector: Any, sizes: Counter[tuple[int, int]], repeats: int) -> float:
    """What the forward passes alone take for these (height, width), each warmed up."""
    total = 0.0
    side = detector.preparation.clip_size
    for (height, width), count in sizes.items():
        inputs = {
            "pixel_values": torch.randn(1, 3, height, width, device=detector.device),
            "pixel_mask": torch.ones(1, height, width, dtype=torch.int64, device=detector.device),
            "clip_pixel_values": torch.randn(1, 3, side, side, device=detector.device),
        }
        device = torch.device(detector.device)
        times = seconds_of(lambda inputs=inputs: detector.backend(**inputs), repeats + 1, device)[1:]
        total += count * statistics.median(times)
    return total


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--model", help="model folder, or one of hoiclip export (default: full-size, seeded weights)")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--draft", action="store_true", help="decode large JPEGs at reduced scale")
    parser.add_argument("--repeats", type=int, default=2, help="of the model alone, for each size, before and after")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    hoiclip.keep_freed_memory()  # as hoiclip detect does
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.model is None:
            save_seeded_model(folder / "model", args.seed)
        source = args.model or folder / "model"
        if is_exported(source):
            one, detector = hoiclip.load(source), hoiclip.load(source, streams=streams_for(args.images))
        else:
            one = detector = hoiclip.load(
                source, backend=args.backend, precision=args.precision, device="cpu", batch_size=1
            )
        (folder / "photos").mkdir()
        files = draw_folder(folder / "photos", args.images, args.seed)
        sizes: Counter[tuple[int, int]] = Counter()
        for file in files:
            with Image.open(file) as image:
                width, height = image.size[::-1] if image.getexif().get(0x0112, 1) == 6 else image.size
            processor = detector.preparation
            sizes[resized_size((height, width), processor.shortest_edge, processor.longest_edge)] += 1
        alone = [model_seconds(one, sizes, args.repeats)]
        held, start = [], time.perf_counter()
        for number, _ in enumerate(detector.detect_files(files, keep_images=False, draft=args.draft), start=1):
            if number % max(1, args.images // 8) == 0:
                held.append(f"{resident_mib():.0f}")
        seconds = time.perf_counter() - start
        alone.append(model_seconds(one, sizes, args.repeats))
    model_alone = statistics.mean(alone)
    about = machine(torch.device(detector.device))
    computed = detector.backend
    print(f"{about['processor']}, {about['threads']} threads, {computed.name} {computed.precision}, "
          f"{detector.streams} at a time, seed {args.seed}")  # fmt: skip
    print(f"photographs                        {args.images}, {len(sizes)} sizes for the detector")
    print(f"images per second, files to triplets  {args.images / seconds:.3f}")
    print(f"images per second, model alone        {args.images / model_alone:.3f}", end="")
    print(f"   before {args.images / alone[0]:.3f}, after {args.images / alone[1]:.3f}")
    print(f"ratio                                 {model_alone / seconds:.2f}")
    print(f"MiB held on the way                   {' '.join(held)}")


if __name__ == "__main__":
    main()
