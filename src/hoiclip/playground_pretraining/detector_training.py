"""The pretraining of the mini DETR, from nothing, on still lifes: it learns persons and things, never relations.

    hoiclip playground pretrain detector --out runs/detector

Three aids make a DETR start within minutes.  They change nothing in what is saved: a dense class
and box loss on encoder tokens, object queries that begin as sine codes of points spread over the
image, and further groups of queries that share the decoder (Group DETR).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import DetrForObjectDetection
from transformers.loss.loss_for_object_detection import ImageLoss

from hoiclip.boxes import xyxy_to_cxcywh
from hoiclip.image_preparation import IMAGENET_MEAN, IMAGENET_STD
from hoiclip.playground.dataset import SIZE, PlaygroundDataset
from hoiclip.playground_pretraining.detector import build_detector, encode, frozen_copy, sine_points, spread_points
from hoiclip.playground_pretraining.detector_losses import DenseHead, PaddedMatcher, set_loss
from hoiclip.playground_pretraining.loop import Pretraining, Settings, normalise, step_aside
from hoiclip.playground_pretraining.measurement import DETECTOR_SEED, measure_detector
from hoiclip.vocabulary import HoiVocabulary


@dataclass(frozen=True, kw_only=True)
class DetectorSettings(Settings):
    """Settings of the mini DETR.

    Attributes:
        groups: groups of queries in training; only the first is kept.
        dense_weight: of the loss on encoder tokens.
        dense_first: for this fraction of ``samples`` the dense loss trains backbone and encoder alone,
            at twice the speed.
    """

    samples: int = 200_000
    batch: int = 32
    lr: float = 5e-4
    weight_decay: float = 1e-4
    warmup: int = 200
    measure_every: int = 20_000
    measure_scenes: int = 500
    checkpoint_every: int = 10_000
    groups: int = 2
    dense_weight: float = 1.0
    dense_first: float = 0.2


class _StillLifes(IterableDataset):
    """Endless batches of still lifes."""

    def __init__(self, vocabulary: HoiVocabulary, seed: int, start: int, batch: int) -> None:
        self.data = PlaygroundDataset(seed, 2**40, vocabulary=vocabulary, interactions=False)
        self.start, self.batch = start, batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step_aside()
        index = self.start
        while True:
            examples = [self.data[index + i] for i in range(self.batch)]
            index += self.batch
            images = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
            labels = []
            for _, annotation in examples:
                boxes = torch.from_numpy(xyxy_to_cxcywh(annotation.boxes, (self.data.size, self.data.size))).float()
                labels.append({"boxes": boxes, "class_labels": torch.from_numpy(annotation.object_ids)})
            yield {"images": images, "labels": labels}


def pretrain_detector(
    out: str | Path, settings: DetectorSettings | None = None, vocabulary: HoiVocabulary | str = "playground"
) -> dict[str, Any]:
    """Pretrain the mini DETR and write it to ``out`` (fp16 weights, provenance).

    Started again with the same ``out`` it goes on from its last checkpoint.

    Args:
        out: folder; ``checkpoint.pt`` in it is working state.
        settings: how long, on what.
        vocabulary: whose objects are detected.

    Returns:
        The last measurement, see :func:`measure_detector`.
    """
    out, settings, vocabulary = Path(out), settings or DetectorSettings(), HoiVocabulary.coerce(vocabulary)
    accelerator = settings.prepare()
    device, classes = accelerator.device, len(vocabulary.objects)
    model = build_detector(vocabulary)
    if settings.start_from:
        known = DetrForObjectDetection.from_pretrained(settings.start_from, dtype=torch.float32).state_dict()
        model.load_state_dict({**model.state_dict(), **known})
    model = model.to(device)
    model.set_attn_implementation("eager")  # the fused one has a slow backward in bf16 on a CPU
    aids = _aids(model, classes, settings.groups).to(device)
    criterion = ImageLoss(PaddedMatcher(), classes, model.config.eos_coefficient, ["labels", "boxes"]).to(device)
    parameters = [*model.parameters(), *aids.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    parts = {"model": model, "aids": aids}
    training = Pretraining(out, parts, optimizer, settings, accelerator, settings.command("detector"))
    data = _StillLifes(vocabulary, settings.seed, training.samples, settings.batch)
    workers = settings.workers
    loader = iter(DataLoader(data, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None))

    def losses(step: int) -> dict[str, Tensor]:
        examples = next(loader)
        labels = [{k: v.to(device) for k, v in label.items()} for label in examples["labels"]]
        pixels = normalise(examples["images"].to(device), IMAGENET_MEAN, IMAGENET_STD)
        memory, positions = encode(model, pixels.contiguous(memory_format=torch.channels_last))
        dense = aids["dense"].loss(memory, labels)  # type: ignore[operator]
        loss = settings.dense_weight * dense
        if step >= settings.dense_first * settings.steps:
            loss = loss + set_loss(model, aids, memory, positions, labels, criterion, settings.groups)
        return {"loss": loss, "dense": dense}

    model.train()
    model.to(memory_format=torch.channels_last)
    scenes = settings.measure_scenes
    training.run("mini DETR", losses, lambda: measure_detector(model, vocabulary, scenes=scenes), parameters)
    out.mkdir(parents=True, exist_ok=True)
    frozen_copy(model).save_pretrained(out)
    held_out = (
        f"mAP at IoU 0.5 over {classes} classes, {scenes} uniform test scenes with interactions of seed {DETECTOR_SEED}"
    )
    return training.write_weights(out, settings.seed, held_out)


def _aids(model: DetrForObjectDetection, classes: int, groups: int) -> nn.ModuleDict:
    """What is thrown away afterwards: the head of the dense loss, and the queries of the other groups."""
    config = model.config
    points = spread_points((groups - 1) * config.num_queries, config.num_queries)
    return nn.ModuleDict(
        {
            "dense": DenseHead(config.d_model, classes, SIZE // 16),
            "queries": nn.Embedding.from_pretrained(sine_points(points, config.d_model), freeze=False),
        }
    )
