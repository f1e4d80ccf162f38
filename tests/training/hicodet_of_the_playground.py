"""A folder like HICO-DET made of playground scenes, with HICO-DET's words, in both official forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hico_release import write_anno_bbox

from hoiclip import HoiVocabulary
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.playground.dataset import PlaygroundDataset

HICO, PLAYGROUND = HoiVocabulary.from_name("hico"), HoiVocabulary.from_name("playground")
OTHER_OBJECTS = {"ball": "sports_ball", "box": "suitcase", "cart": "car"}  # of the playground alone


def write_hicodet(root: Path, train: int = 64, test: int = 8, forms: Sequence[str] = ("json", "mat")) -> Path:
    """``trainval_hico.json`` and ``test_hico.json``, ``anno_bbox.mat``, and the images of both splits."""
    splits = {}
    for split, count in (("train", train), ("test", test)):
        scenes = PlaygroundDataset(0, count, split, PLAYGROUND)
        folder = root / "images" / f"{split}2015"
        folder.mkdir(parents=True)
        splits[split] = []
        for i in range(count):
            image, annotation = scenes[i]
            name = f"HICO_{split}2015_{i + 1:08d}.jpg"
            image.save(folder / name)
            splits[split].append(with_hico_words(annotation, name, (image.height, image.width)))
    if "json" in forms:
        save_hoia(splits["train"], root / "trainval_hico.json", "hico")
        save_hoia(splits["test"], root / "test_hico.json", "hico")
    if "mat" in forms:
        rng = np.random.default_rng(0)
        own = {split: [boxes_of_their_own(image, rng) for image in images] for split, images in splits.items()}
        write_anno_bbox(root / "anno_bbox.mat", own["train"], own["test"])
    return root


def with_hico_words(annotation: AnnotatedImage, name: str, size: tuple[int, int]) -> AnnotatedImage:
    """The same boxes and pairs; a verb that HICO-DET does not know becomes one of those it has for the object.

    Every other pair has a second label, as many of HICO-DET's have.
    """
    objects = [HICO.objects.index(OTHER_OBJECTS.get(o, o)) for o in np.array(PLAYGROUND.objects)[annotation.object_ids]]
    pairs, hoi_ids = [], []
    for number, (pair, hoi) in enumerate(zip(annotation.pairs.tolist(), annotation.hoi_ids.tolist(), strict=True)):
        of_object = np.flatnonzero(HICO.object_ids == objects[pair[1]])
        verb = PLAYGROUND.verbs[PLAYGROUND.verb_ids[hoi]]
        same = [k for k in of_object if HICO.verbs[HICO.verb_ids[k]] == verb]
        first = same[0] if same else of_object[hoi % len(of_object)]
        for label in (first, *([of_object[of_object != first][0]] if number % 2 == 0 else [])):
            pairs.append(pair)
            hoi_ids.append(label)
    return AnnotatedImage(name, annotation.boxes + 1, objects, pairs, hoi_ids, size)  # HICO-DET counts pixels from 1


def boxes_of_their_own(image: AnnotatedImage, rng: np.random.Generator) -> AnnotatedImage:
    """As in ``anno_bbox.mat``: every interaction has boxes of its own, a pixel off those of the other ones."""
    labels = len(image.hoi_ids)
    boxes = image.boxes[image.pairs.reshape(-1)] + rng.integers(-1, 2, size=(2 * labels, 1))
    object_ids = image.object_ids[image.pairs.reshape(-1)]
    pairs = np.arange(2 * labels).reshape(-1, 2)
    return AnnotatedImage(image.file_name, boxes, object_ids, pairs, image.hoi_ids, image.size)
