"""python benchmarks/training_free.py [--images 5] [--people 4] [--things 8] [--precision fp32]

Where a photo's time goes without training: from the file to ranked triplets, beside the forward passes of
the object detector and of CLIP over its crops, taken in the same calls.  Full-size DETR-R50 and CLIP ViT-B/32
with seeded weights; such a detector finds nothing, so boxes are put in the place of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, DetrConfig, DetrForObjectDetection, ResNetConfig
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

from hoiclip import HoiVocabulary
from hoiclip.backends.allocator import keep_freed_memory
from hoiclip.benchmark.measurement import machine
from hoiclip.benchmark.synthetic import draw_photo
from hoiclip.inference.training_free.detector import TrainingFreeDetector, pairs_of
from hoiclip.inference.training_free.object_detection import PERSON, ClassDetector, FoundObjects
from hoiclip.inference.training_free.pair_scoring import ClipPairScorer, Ingredients

CPU = torch.device("cpu")


def detr(folder: Path) -> ClassDetector:
    """A full-size DETR-R50 with COCO's names."""
    names = dict(enumerate(HoiVocabulary.from_name("vcoco").objects[:-1]))
    backbone = ResNetConfig(out_features=["stage4"])  # ResNet-50
    config = DetrConfig(backbone_config=backbone, id2label=names, label2id={n: i for i, n in names.items()})
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 800, "longest_edge": 1333}).save_pretrained(folder)
    return ClassDetector(folder, CPU)


def boxes_instead(people: int, things: int, vocabulary: HoiVocabulary, size: tuple[int, int]) -> FoundObjects:
    """People and things at seeded places of an image."""
    rng = np.random.default_rng(0)
    count, (height, width) = people + things, size
    low = rng.uniform(0, 0.6, (count, 2)) * [width, height]
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (count, 2)) * [width, height]], axis=1)
    person = vocabulary.person_id if vocabulary.person_id is not None else PERSON
    ids = np.concatenate([np.full(people, person), rng.integers(1, len(vocabulary.objects), things)])
    return FoundObjects(boxes, ids, np.arange(count) < people, np.linspace(0.99, 0.3, count))


def timed(call: Any, seconds: list[float]) -> Any:
    """The same call, its time added to a list."""

    def measured(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = call(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return found

    return measured


def main() -> None:
    """Print one line per image and their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--things", type=int, default=8)
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    vocabulary, size = HoiVocabulary.from_name("hico"), (960, 1280)
    found = boxes_instead(options.people, options.things, vocabulary, size)
    clip = CLIPModel(CLIPConfig(vision_config={"patch_size": 32}))  # ViT-B/32

    def rows(clip: Any, sentences: Any) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(len(sentences), clip.config.projection_dim), dim=-1)

    with tempfile.TemporaryDirectory() as folder:
        find = detr(Path(folder) / "detr")
        detector = TrainingFreeDetector(
            find, ClipPairScorer(clip, rows, CPU, Ingredients()), vocabulary, device=CPU, precision=options.precision
        )
        photo = Path(folder) / "photo.jpg"
        draw_photo(size, 1).save(photo, quality=92)
        object_time: list[float] = []
        clip_time: list[float] = []
        find.model.forward = timed(find.model.forward, object_time)
        clip.get_image_features = timed(clip.get_image_features, clip_time)
        forward = find.__call__
        detector.find = _Instead(find, forward, found)
        detector(photo)  # warm
        shares = []
        for _ in range(options.images):
            object_time.clear()
            clip_time.clear()
            start = time.perf_counter()
            detector(photo)
            whole = time.perf_counter() - start
            model = sum(object_time) + sum(clip_time)
            shares.append((whole, sum(object_time), sum(clip_time), whole / model))
    whole, objects, crops, ratio = np.median(shares, axis=0)
    things = len(np.unique(pairs_of(found)[:, 1]))
    print(machine(CPU)["processor"], f"{torch.get_num_threads()} threads, {options.precision}")
    print(f"{size[1]}x{size[0]} JPEG, {len(pairs_of(found))} pairs + {things} things + 1 scene")
    print(f"file to triplets {1e3 * whole:.0f} ms; detector {1e3 * objects:.0f} ms, CLIP {1e3 * crops:.0f} ms")
    print(f"file to triplets over both forward passes: {ratio:.2f} (at most 1.5)")


class _Instead:
    """An object detector that computes, and answers with given boxes."""

    def __init__(self, find: ClassDetector, forward: Any, found: FoundObjects) -> None:
        self._find, self._forward, self._found = find, forward, found

    def __call__(self, inputs: Any, sizes: Any) -> list[FoundObjects]:
        self._forward(inputs, sizes)
        return [self._found] * len(sizes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find, name)


if __name__ == "__main__":
    main()
