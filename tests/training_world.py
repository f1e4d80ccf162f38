"""A miniature of everything a run needs: DETR and CLIP folders in the hub's layout, data sets, options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import tiny_clip, tiny_detector, tiny_tokenizer
from transformers import CLIPModel, DetrForObjectDetection

from hoiclip import HoiVocabulary
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.vocabulary import NOTHING

VOCABULARY = """
verbs: [ride, hold, feed]
objects: [person, bicycle, horse, umbrella]
pairs: [[ride, bicycle], [hold, bicycle], [ride, horse], [feed, horse], [hold, umbrella]]
"""


def write_parts(folder: Path) -> Path:
    """``detr`` and ``clip`` with random weights, CLIP's tokenizer beside it."""
    torch.manual_seed(1)
    DetrForObjectDetection(tiny_detector(num_labels=3)).save_pretrained(folder / "detr")
    CLIPModel(tiny_clip()).save_pretrained(folder / "clip")
    tiny_tokenizer(folder / "clip")
    return folder


def random_images(vocabulary: HoiVocabulary, count: int, seed: int, prefix: str) -> list[AnnotatedImage]:
    """Images of one to three pairs; the second has none at all."""
    rng = np.random.default_rng(seed)
    person = vocabulary.objects.index("person")
    nothing = vocabulary.objects.index(NOTHING) if NOTHING in vocabulary.objects else -1
    images = []
    for i in range(count):
        pairs = 0 if i == 1 else int(rng.integers(1, 4))
        low = rng.uniform(2, 20, size=(2 * pairs, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 25, size=(2 * pairs, 2))], axis=1).round(1)
        hoi_ids = rng.choice(vocabulary.seen, size=pairs)
        object_ids = np.full(2 * pairs, person)
        alone = vocabulary.object_ids[hoi_ids] == nothing
        object_ids[1::2] = np.where(alone, person, vocabulary.object_ids[hoi_ids])
        rows = np.arange(2 * pairs).reshape(pairs, 2)
        rows[alone, 1] = -1
        images.append(
            AnnotatedImage(
                file_name=f"{prefix}{i:03d}.png",
                boxes=boxes,
                object_ids=object_ids,
                pairs=rows,
                hoi_ids=hoi_ids,
                size=(48, 48),
            )
        )
    return images


def write_custom(folder: Path, train: int = 8, test: int = 4) -> Path:
    """A folder of one's own pictures."""
    (folder / "images").mkdir(parents=True)
    (folder / "vocabulary.yaml").write_text(VOCABULARY)
    vocabulary = HoiVocabulary.from_yaml(folder / "vocabulary.yaml")
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        images = random_images(vocabulary, count, seed=count, prefix=split)
        save_hoia(images, folder / f"{split}.json", vocabulary)
        for image in images:
            Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(folder / "images" / image.file_name)
    return folder


def write_hoia(folder: Path, vocabulary: HoiVocabulary, train: str, test: str, images: str, names: str) -> Path:
    """HICO-DET's or V-COCO's layout with six generated images."""
    (folder / images).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file, count in ((train, 6), (test, 3)):
        split = random_images(vocabulary, count, seed=count, prefix=names + ("1" if file == train else "2"))
        save_hoia(split, folder / file, vocabulary)
        for image in split:
            pixels = rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / images / image.file_name)
    return folder


def tiny_options(parts: Path, out: Path, **options: object) -> list[str]:
    """Overrides that make any experiment small; names with two underscores for dots."""
    small = {
        "out": out,
        "model__detr": parts / "detr",
        "model__clip": parts / "clip",
        "model__num_queries": 4,
        "model__interaction_layers": 2,
        "model__interaction_heads": 4,
        "model__interaction_ffn_dim": 32,
        "model__unused_parameters": False,
        "data__shorter": 48,
        "data__longest": 64,
        "data__scales": [40, 48],
        "data__crop_scales": [48],
        "data__crop_range": [24, 48],
        "data__workers": 0,
        "train__batch_size": 2,
        "train__log_every": 1,
        "train__cpu": True,
        "train__progress": False,
        "evaluation__batch_size": 2,
    }
    return [f"--{name.replace('__', '.')}={_text(value)}" for name, value in {**small, **options}.items()]


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, (list, bool)) or value is None else str(value)


def losses(run: Path) -> dict[int, float]:
    """Logged loss by step."""
    records = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return {r["step"]: r["loss"] for r in records if "loss" in r}
