"""Detections of two images in the forms of other programs, made by hand as those programs write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip import Detections, HoiVocabulary
from hoiclip.data import AnnotatedImage

HICO = HoiVocabulary.from_name("hico")
NAMES = [f"HICO_test2015_0000000{i}.jpg" for i in (1, 2)]
SIZE = (480, 640)  # height, width
SIZES: dict[str, tuple[int, int] | None] = dict.fromkeys(NAMES, SIZE)


def interaction(verb: str, thing: str) -> int:
    return HICO.interactions.index((HICO.verbs.index(verb), HICO.objects.index(thing)))


RIDE, HOLD, EAT = interaction("ride", "bicycle"), interaction("hold", "cup"), interaction("eat", "pizza")
TRIPLETS = {
    NAMES[0]: [
        ([10.5, 20, 110, 210], [50, 60, 170, 290], RIDE, 0.9),
        ([10.5, 20, 110, 210], [5, 6, 70, 90], HOLD, 0.5),
    ],
    NAMES[1]: [([100, 20, 310, 410], [150, 160, 470, 290], EAT, 0.8)],
}


def detections() -> dict[str, Detections]:
    """What every form here says."""
    found = {}
    for name, rows in TRIPLETS.items():
        human, thing, hoi, scores = (np.array(column) for column in zip(*rows, strict=True))
        found[name] = Detections(human, thing, HICO.object_ids[hoi], HICO.verb_ids[hoi], hoi, scores, HICO)
    return found


def same(mine: dict[str, Detections], theirs: dict[str, Detections], tolerance: float = 0) -> None:
    """The same triplets of the same images in the same order."""
    assert {n for n, d in mine.items() if len(d)} == {n for n, d in theirs.items() if len(d)}
    for name, one in mine.items():
        if not len(one):
            continue
        other = theirs[name]
        for column in ("hoi_ids", "object_ids", "verb_ids"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
        for column in ("human_boxes", "object_boxes", "scores"):
            np.testing.assert_allclose(getattr(one, column), getattr(other, column), rtol=0, atol=tolerance)


def annotations() -> list[AnnotatedImage]:
    """Both images, where everything was found rightly but the cup."""
    images = []
    for name, rows in TRIPLETS.items():
        human, thing, hoi, _ = rows[0]
        kinds = np.array([0, HICO.object_ids[hoi]])
        images.append(AnnotatedImage(name, np.array([human, thing]), kinds, np.array([[0, 1]]), np.array([hoi]), SIZE))
    return images


def predictions(objects: str, first_verb: int, key: str = "file_name") -> list[dict[str, Any]]:
    """PPDM's form, with COCO's ids or positions for objects, and verbs from 0 or 1, or interactions (-1)."""
    number = (lambda i: HICO.category_ids[i]) if objects == "coco" else (lambda i: i)
    entries = []
    for name, rows in TRIPLETS.items():
        boxes, triplets = [], []
        for human, thing, hoi, score in rows:
            boxes += [{"bbox": human, "category_id": number(0)}]
            boxes += [{"bbox": thing, "category_id": number(int(HICO.object_ids[hoi]))}]
            label = hoi if first_verb < 0 else int(HICO.verb_ids[hoi]) + first_verb
            at = len(boxes)
            triplets.append({"subject_id": at - 2, "object_id": at - 1, "category_id": label, "score": score})
        entries.append({key: name, "predictions": boxes, "hoi_prediction": triplets})
    return entries


def dump(name: str, *, scale: float = 1.0, alphabetical: bool = False, with_size: bool = True) -> dict[str, Any]:
    """UPT's dictionary of an image that its network saw ``scale`` times as large."""
    human, thing, hoi, scores = (np.array(column) for column in zip(*TRIPLETS[name], strict=True))
    order = sorted(HICO.objects) if alphabetical else list(HICO.objects)
    count = len(hoi)
    entry = {
        "boxes": np.concatenate([human, thing]) * scale,
        "pairing": np.stack([np.arange(count), np.arange(count) + count]),
        "scores": scores,
        "labels": HICO.verb_ids[hoi],
        "objects": np.array([order.index(HICO.objects[i]) for i in HICO.object_ids[hoi]]),
    }
    return entry | ({"size": np.array(SIZE) * scale} if with_size else {})


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path
