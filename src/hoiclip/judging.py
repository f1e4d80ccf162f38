"""A model on pictures with annotations: its detections, and what they are worth by a protocol."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from hoiclip.backends import Backend
from hoiclip.data import AnnotatedImage
from hoiclip.data.dataset import Samples
from hoiclip.detections import Detections
from hoiclip.evaluation import HicoDetEvaluator, VcocoEvaluator
from hoiclip.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor


@dataclass(frozen=True)
class EvaluationSet:
    """What the model is judged on while it learns.

    Attributes:
        samples: (picture, annotation) by index.
        annotations: the same annotations without the pictures (AnnotatedImage or VcocoImage).
        processor: makes the model's inputs and reads its outputs.
        protocol: ``hoiclip`` or ``official`` for verb-object pairs, ``vcoco`` for V-COCO's roles.
        batch_size: pictures at once on each process.
        zero_shot_top_k: K of the training-free enhancement, None for none.
    """

    samples: Samples
    annotations: Sequence[Any]
    processor: HoiClipProcessor
    protocol: str = "hoiclip"
    batch_size: int = 8
    zero_shot_top_k: int | None = 10

    @property
    def main_metric(self) -> str:
        """The number by which one model is better than another."""
        return "scenario_1" if self.protocol == "vcoco" else "full"


@torch.no_grad()
def detect_samples(
    model: HoiClipModel | Backend, data: EvaluationSet, *, process: int = 0, processes: int = 1, progress: bool = True
) -> Iterator[tuple[str, Detections]]:
    """Detections of this process's share of the pictures: every ``processes``-th, each exactly once.

    Pictures of equal size share a batch, so that no answer depends on its batch mates.

    Args:
        model: in evaluation mode, or what computes its forward pass.
        data: pictures and how to show them.
        process, processes: which share.
        progress: show a bar.
    """
    device = model.device
    mine = range(process, len(data.samples), processes)
    waiting: dict[tuple[int, int], list[tuple[Any, AnnotatedImage]]] = {}
    with tqdm(total=len(mine), desc="evaluation", unit="img", disable=not progress, leave=False) as bar:

        def run(batch: list[tuple[Any, AnnotatedImage]]) -> Iterator[tuple[str, Detections]]:
            pictures, annotations = zip(*batch, strict=True)
            inputs = data.processor(list(pictures)).to(device)
            sizes = [(p.height, p.width) for p in pictures]
            found = data.processor.post_process(model(**inputs), sizes, zero_shot_top_k=data.zero_shot_top_k)
            bar.update(len(batch))
            return zip((a.file_name for a in annotations), found, strict=True)

        for index in mine:
            picture, annotation = data.samples[index]
            batch = waiting.setdefault(data.processor.resized_size(picture), [])
            batch.append((picture, annotation))
            if len(batch) == data.batch_size:
                yield from run(batch)
                batch.clear()
        for batch in waiting.values():
            if batch:
                yield from run(batch)


def judge(found: Sequence[tuple[str, Detections]], data: EvaluationSet) -> dict[str, float]:
    """Detections of all pictures to the numbers of the set's protocol, fractions 0..1."""
    if data.protocol == "vcoco":
        roles = VcocoEvaluator(data.annotations, data.processor.vocabulary)
        for file_name, detections in found:
            roles.add(file_name, detections)
        return {f"scenario_{s}": float(roles.result(s).mean) for s in (1, 2)}  # type: ignore[arg-type]
    pairs = HicoDetEvaluator(data.annotations, data.processor.vocabulary, protocol=data.protocol)  # type: ignore[arg-type]
    for file_name, detections in found:
        pairs.add(file_name, detections)
    return {name: float(value) for name, value in pairs.result().means().items() if not math.isnan(value)}
