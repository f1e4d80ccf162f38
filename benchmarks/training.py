"""python benchmarks/training.py [--steps 5] [--precision bf16] [--batch-size 2]

Trains ResNet-50 + ViT-B/32 (random weights, the real sizes) at full resolution for a few steps and prints
images per second, peak memory, and which part of a step takes how much of the time.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hoiclip import HoiClipConfig, HoiClipModel, HoiVocabulary, keep_freed_memory
from hoiclip.data import AnnotatedImage, HoiTrainingDataset, TrainingAugmentation, collate
from hoiclip.losses import HoiCriterion
from hoiclip.processing import clip_view, detector_view
from hoiclip.published import BACKBONE_LEARNING_RATE, LEARNING_RATE
from hoiclip.training.optimization import optimizer_groups


class Photographs:
    """Noise of the size of a photograph, four pairs on each."""

    def __init__(self, length: int, vocabulary: HoiVocabulary) -> None:
        self.length, self.vocabulary = length, vocabulary

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Image.Image, AnnotatedImage]:
        rng = np.random.default_rng(index)
        picture = Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8))
        low = rng.uniform(0, 300, size=(8, 2))
        hoi_ids = rng.integers(0, self.vocabulary.num_interactions, size=4)
        object_ids = np.zeros(8, dtype=np.int64)
        object_ids[1::2] = self.vocabulary.object_ids[hoi_ids]
        annotation = AnnotatedImage(
            f"{index}.jpg",
            boxes=np.concatenate([low, low + rng.uniform(40, 170, size=(8, 2))], axis=1),
            object_ids=object_ids,
            pairs=np.arange(8).reshape(4, 2),
            hoi_ids=hoi_ids,
            size=(480, 640),
        )
        return picture, annotation


class Stopwatch:
    """Seconds by part; waits for the accelerator before it looks at the clock."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict(float)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def run(self, part: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = self.now()
        result = work(*args, **kwargs)
        self.seconds[part] += self.now() - start
        return result

    def watch(self, part: str, module: Any, name: str) -> None:
        """Time a method wherever it is called from."""
        setattr(module, name, partial(self.run, part, getattr(module, name)))


def measure(steps: int, warmup: int, batch_size: int, workers: int, precision: str, compiled: bool) -> dict[str, Any]:
    """Images per second, peak memory in GiB and the share of each part."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    words = HoiVocabulary.from_name("hico")
    torch.manual_seed(0)
    model = HoiClipModel(HoiClipConfig(vocabulary=words)).to(device).train()
    model.verbs.verb_to_interaction = torch.from_numpy(words.verb_to_interaction).to(device)
    optimizer = torch.optim.AdamW(optimizer_groups(model, LEARNING_RATE, BACKBONE_LEARNING_RATE), weight_decay=1e-4)
    dataset = HoiTrainingDataset(
        Photographs((steps + warmup) * batch_size, words),
        words,
        detector_view=detector_view,
        clip_view=clip_view,
        augmentation=TrainingAugmentation(scales=(800,), crop_probability=0.0),
    )
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate)
    watch = Stopwatch(device)
    watch.watch("CLIP", model, "_encode_with_clip")
    watch.watch("detector", model.detector, "encode")
    watch.watch("detector", model.detector, "decode")
    watch.watch("interactions", model.interaction_decoder, "forward")
    criterion_forward = HoiCriterion.forward
    HoiCriterion.forward = lambda self, *args: watch.run("matching and loss", criterion_forward, self, *args)  # type: ignore[method-assign]
    forward = torch.compile(model) if compiled else model
    low = precision == "bf16"

    batches = iter(loader)
    began = 0.0
    for step in range(warmup + steps):
        if step == warmup:
            watch.seconds.clear()
            began = watch.now()
        batch = watch.run("waiting for data", next, batches)
        batch.pop("file_names")
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        moved["labels"] = [{k: v.to(device) for k, v in t.items()} for t in batch["labels"]]
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            out = forward(**moved)
        watch.run("backward", out.loss.backward)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        watch.run("optimiser", optimizer.step)
        optimizer.zero_grad(set_to_none=True)
    total = watch.now() - began
    HoiCriterion.forward = criterion_forward  # type: ignore[method-assign]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    start = time.perf_counter()
    for index in range(8):
        dataset[index]
    one_worker = 8 / (time.perf_counter() - start)
    return {
        "device": device.type,
        "precision": precision,
        "compile": compiled,
        "images per second": steps * batch_size / total,
        "peak memory GiB": peak,
        "loading, images per second and worker": one_worker,
        **{f"share of {part}": seconds / total for part, seconds in watch.seconds.items()},
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    keep_freed_memory()  # as hoiclip train does
    found = measure(args.steps, args.warmup, args.batch_size, args.workers, args.precision, args.compile)
    for name, value in found.items():
        shown = f"{value:.1%}" if name.startswith("share") else f"{value:.2f}" if isinstance(value, float) else value
        print(f"{name:40s} {shown}")


if __name__ == "__main__":
    main()
