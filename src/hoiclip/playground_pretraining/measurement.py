"""How good the playground's parts are, on held-out scenes, and how fast scenes are drawn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, CLIPModel, DetrForObjectDetection, PreTrainedTokenizerFast

from hoiclip.errors import HoiError
from hoiclip.evaluation.matching import Pairs, all_point_ap, by_class, true_positives
from hoiclip.image_preparation import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from hoiclip.losses import cxcywh_to_xyxy
from hoiclip.playground.dataset import PlaygroundDataset, crop_square, union
from hoiclip.playground_pretraining.captions import sentences
from hoiclip.playground_pretraining.clip import encode_images, encode_texts
from hoiclip.playground_pretraining.detector import decode, encode
from hoiclip.playground_pretraining.loop import normalise
from hoiclip.vocabulary import HoiVocabulary

CLIP_SEED, DETECTOR_SEED = 900_001, 900_002  # of scenes to measure on
LEAST_SCORE = 0.01  # of a detection that counts


def measure(part: str, model: Path, seed: int, scenes: int) -> dict[str, float]:
    """How good a mini CLIP or detector is on held-out scenes, uniform over interactions.

    Args:
        part: ``clip`` (see :func:`measure_clip`) or ``detector`` (see :func:`measure_detector`).
        model: folder of its weights.
        seed: of the scenes.
        scenes: how many.

    Raises:
        HoiError: if there are no such weights.
    """
    vocabulary = HoiVocabulary.from_name("playground")
    kind: Any = {"clip": CLIPModel, "detector": DetrForObjectDetection}[part]
    try:
        part_model = kind.from_pretrained(model, dtype=torch.float32)
        if part == "detector":
            return measure_detector(part_model, vocabulary, seed=seed, scenes=scenes)
        return measure_clip(
            part_model,
            AutoTokenizer.from_pretrained(model, trust_remote_code=False),
            vocabulary,
            seed=seed,
            scenes=scenes,
        )
    except (OSError, ValueError) as error:
        raise HoiError(f"{model}: holds no {part} that pretraining wrote; name its folder with --model") from error


def measure_scenes(seed: int, scenes: int) -> dict[str, float]:
    """How fast training scenes are drawn, in one process: ``images_per_second``; and ``pairs`` in one of them."""
    world = PlaygroundDataset(seed, scenes)
    began = time.perf_counter()
    pairs = sum(len({tuple(pair) for pair in world[i][1].pairs.tolist()}) for i in range(scenes))
    return {"images_per_second": scenes / (time.perf_counter() - began), "pairs": pairs / scenes}


@torch.no_grad()
def measure_clip(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerFast,
    vocabulary: HoiVocabulary,
    seed: int = CLIP_SEED,
    scenes: int = 1000,
) -> dict[str, float]:
    """Top-1 over all interactions on held-out scenes, uniform over classes.

    Returns:
        ``crops``: all pairs cut out, also from crowds, where a neighbour's interaction is an error;
        ``crops_alone``: only of scenes with a single pair; ``scenes``: those scenes whole; all three
        also for rare classes; ``objects``: crops of single things among the objects' sentences.
    """
    was_training = model.training
    model.eval()
    tokens = tokenizer(sentences(vocabulary), padding=True, return_tensors="pt").to(model.device)
    texts = encode_texts(model, dict(tokens))
    interactions, objects = texts[: vocabulary.num_interactions], texts[vocabulary.num_interactions : -1]
    result = {}
    for kind, examples in _clip_examples(PlaygroundDataset(seed, scenes, "test", vocabulary)).items():
        classes = objects if kind == "objects" else interactions
        best: list[int] = []
        for start in range(0, len(examples), 256):
            images = np.stack([image for image, _ in examples[start : start + 256]])
            pixels = normalise(torch.from_numpy(images).to(model.device), CLIP_MEAN, CLIP_STD)
            best += (encode_images(model, pixels)[0] @ classes.T).argmax(1).tolist()
        correct = [predicted in target for predicted, (_, target) in zip(best, examples, strict=True)]
        result[kind] = float(np.mean(correct)) if correct else float("nan")
        if kind != "objects":
            rare = [hit for hit, (_, target) in zip(correct, examples, strict=True) if target & vocabulary.rare]
            result[f"{kind}_rare"] = float(np.mean(rare)) if rare else float("nan")
    model.train(was_training)
    return {name: round(value, 4) for name, value in result.items()}


def _clip_examples(dataset: PlaygroundDataset) -> dict[str, list[tuple[np.ndarray, set[int]]]]:
    """Images with the classes that are true of each, by kind; see :func:`measure_clip`."""
    examples: dict[str, list[tuple[np.ndarray, set[int]]]] = {
        kind: [] for kind in ("crops", "crops_alone", "scenes", "objects")
    }
    for index in range(len(dataset)):
        image, annotation = dataset[index]
        by_pair: dict[tuple[int, int], set[int]] = {}
        for (human, thing), hoi in zip(annotation.pairs.tolist(), annotation.hoi_ids.tolist(), strict=True):
            by_pair.setdefault((human, thing), set()).add(hoi)
        for (human, thing), labels in by_pair.items():
            crop = np.asarray(crop_square(image, union(annotation.boxes[human], annotation.boxes[thing]), 0.12)[0])
            examples["crops"].append((crop, labels))
            if len(by_pair) == 1:
                examples["crops_alone"].append((crop, labels))
                examples["scenes"].append((np.asarray(image), labels))
        row = index % len(annotation.boxes)
        crop = np.asarray(crop_square(image, annotation.boxes[row], 0.05)[0])
        examples["objects"].append((crop, {int(annotation.object_ids[row])}))
    return examples


@torch.no_grad()
def measure_detector(
    model: DetrForObjectDetection,
    vocabulary: HoiVocabulary,
    seed: int = DETECTOR_SEED,
    scenes: int = 500,
    interactions: bool = True,
) -> dict[str, float]:
    """Mean average precision at IoU 0.5 (all points) over object classes, on held-out uniform scenes.

    Boxes are matched and averaged as the evaluators of this package do it (:mod:`hoiclip.evaluation.matching`).

    Returns:
        ``map50`` and ``recall50``, fractions.
    """
    was_training = model.training
    model.eval()
    dataset = PlaygroundDataset(seed, scenes, "test", vocabulary, interactions)
    classes = len(vocabulary.objects)
    found: list[tuple[np.ndarray, ...]] = []  # group (image and class), score, box
    truth: list[tuple[np.ndarray, ...]] = []  # group, box
    for start in range(0, scenes, 64):
        examples = [dataset[i] for i in range(start, min(start + 64, scenes))]
        images = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
        memory, positions = encode(model, normalise(images.to(model.device), IMAGENET_MEAN, IMAGENET_STD))
        queries = model.model.query_position_embeddings.weight.expand(len(examples), -1, -1)
        output = decode(model, memory, positions, queries)[-1]
        scores = output["logits"].softmax(-1)[..., :-1].cpu().numpy()  # (B, Q, C)
        boxes = (cxcywh_to_xyxy(output["pred_boxes"]) * dataset.size).cpu().numpy().astype(np.float64)  # (B, Q, 4)
        image, query, class_id = np.nonzero(scores >= LEAST_SCORE)
        found.append(((start + image) * classes + class_id, scores[image, query, class_id], boxes[image, query]))
        for i, (_, annotation) in enumerate(examples):
            truth.append(((start + i) * classes + annotation.object_ids, annotation.boxes))
    model.train(was_training)
    group, score, box = (np.concatenate(column) for column in zip(*found, strict=True))
    true_group, true_box = (np.concatenate(column) for column in zip(*truth, strict=True))
    hits = true_positives(
        Pairs(group, box, box), score, Pairs(true_group, true_box, true_box).in_order(), touching=True
    )
    counts = np.bincount(true_group % classes, minlength=classes)
    rows = by_class(group % classes, score, group // classes, classes)
    precisions = [all_point_ap(hits[rows[c]], int(counts[c])) for c in range(classes) if counts[c]]
    recalls = [hits[rows[c]].sum() / counts[c] for c in range(classes) if counts[c]]
    return {"map50": round(float(np.mean(precisions)), 4), "recall50": round(float(np.mean(recalls)), 4)}
