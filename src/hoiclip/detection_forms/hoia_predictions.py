"""Predictions in the form that PPDM, QPIC, CDN and GEN-VLKT write: a list of images, or one of them on each line.

    {"file_name": "a.jpg",
     "predictions": [{"bbox": [x1, y1, x2, y2], "category_id": 1}, ...],
     "hoi_prediction": [{"subject_id": 0, "object_id": 1, "category_id": 37, "score": 0.9}, ...]}

``subject_id`` and ``object_id`` are positions in ``predictions`` (-1: no object, V-COCO).  Numbers count as
:mod:`hoiclip.detection_forms.numbering` finds out, unless every triplet has a ``hoi_category_id``, an interaction
counted from 1; categories may also be names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hoiclip.data.categories import word_key
from hoiclip.data.content import is_int
from hoiclip.detection_files import checked
from hoiclip.detection_forms.numbering import NO_OBJECT, Numbered, interactions_of
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.vocabulary import NOTHING, HoiVocabulary

IMAGE_KEYS = ("file_name", "filename")
OUTSIDE = "predictions are of a verb and an object that make no interaction of the vocabulary, and are left out"
Reading = tuple[str, Callable[[], tuple[str, Detections]]]


def is_hoia_prediction(entry: Any) -> bool:
    """Whether the first image of a file is of this form."""
    return isinstance(entry, dict) and "hoi_prediction" in entry


@dataclass(frozen=True, eq=False)
class RawImage:
    """The predictions of one image, before anybody knows what the numbers mean.

    Attributes:
        file_name: as the file has it.
        human, object_: (M, 4) float64 xyxy.
        people, objects, labels: M numbers or names of subjects, objects (NO_OBJECT for none) and verbs.
        hoi: M interactions counted from 1, None where a triplet has none.
        scores: (M,) float64.
        size: (height, width), or None.
    """

    file_name: str
    human: np.ndarray
    object_: np.ndarray
    people: list[Any]
    objects: list[Any]
    labels: list[Any]
    hoi: list[Any]
    scores: np.ndarray
    size: tuple[int, int] | None = None


def read_hoia_predictions(
    entries: Iterable[tuple[str, Any]], vocabulary: HoiVocabulary, unusual: Counter[str]
) -> tuple[list[Reading], str]:
    """Read all images of a file.

    Args:
        entries: where each stands, and what JSON says.
        vocabulary: what they can mean.
        unusual: takes the count of pairs that are no interaction.

    Returns:
        What :func:`hoiclip.detection_files.gather` takes, and the numbering in words.

    Raises:
        HoiError: an entry of another form, or numbers that cannot be told; the second does not name the file.
    """
    images: list[tuple[str, RawImage]] = []
    for where, entry in entries:
        try:
            images.append((where, _raw(entry)))
        except HoiError as error:
            raise HoiError(f"{where}: {error}") from error
    hoi_ids, said = _interactions([image for _, image in images], vocabulary)
    return list(readings(images, hoi_ids, vocabulary, unusual)), said


def readings(
    images: list[tuple[str, RawImage]], hoi_ids: np.ndarray, vocabulary: HoiVocabulary, unusual: Counter[str]
) -> Iterator[Reading]:
    """Each image with its share of ``hoi_ids``, without the pairs (-1) that are no interaction.

    Raises:
        HoiError: V-COCO, where such pairs count.
    """
    outside = int((hoi_ids < 0).sum())
    if outside and vocabulary.name.split("_")[0] == "vcoco":
        raise HoiError(
            f"{outside:,} predictions are of a verb and an object outside of the {vocabulary.num_interactions} "
            "pairs, which V-COCO evaluates, too; give the official pickle instead"
        )
    unusual[OUTSIDE] += outside
    first = 0
    for where, image in images:
        own = hoi_ids[first : first + len(image.scores)]
        first += len(own)
        yield where, partial(_detections, image, own, vocabulary)


def _detections(image: RawImage, hoi_ids: np.ndarray, vocabulary: HoiVocabulary) -> tuple[str, Detections]:
    kept = hoi_ids >= 0
    checked(image.human, image.object_, np.maximum(hoi_ids, 0), image.scores, vocabulary, image.size)
    columns = image.human[kept], image.object_[kept], hoi_ids[kept], image.scores[kept]
    return image.file_name, checked(*columns, vocabulary, image.size)


def _raw(entry: Any) -> RawImage:
    name = next((entry[k] for k in IMAGE_KEYS if k in entry), None) if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise HoiError("an image needs the keys 'file_name', 'predictions' and 'hoi_prediction'")
    boxes, triplets = entry.get("predictions"), entry.get("hoi_prediction")
    for key, values in (("predictions", boxes), ("hoi_prediction", triplets)):
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise HoiError(f"{key!r} must be a list of objects, empty where nothing was found")
    corners = box_array([box.get("bbox") for box in boxes])
    kinds = [box.get("category_id") for box in boxes]
    subjects, objects = ([t.get(key) for t in triplets] for key in ("subject_id", "object_id"))
    for i, (human, thing) in enumerate(zip(subjects, objects, strict=True)):
        if not is_int(human) or not 0 <= human < len(boxes):
            raise HoiError(f"triplet {i}: subject_id {human!r} is none of the {len(boxes)} predictions")
        if not is_int(thing) or not NO_OBJECT <= thing < len(boxes):
            raise HoiError(f"triplet {i}: object_id {thing!r} is none of the {len(boxes)} predictions")
    with_nothing = np.vstack([corners, np.zeros((1, 4))])  # no object: the last row
    return RawImage(
        name,
        with_nothing[np.array(subjects, dtype=np.int64)],
        with_nothing[np.array(objects, dtype=np.int64)],
        [kinds[i] for i in subjects],
        [NO_OBJECT if i == NO_OBJECT else kinds[i] for i in objects],
        [t.get("category_id") for t in triplets],
        [t.get("hoi_category_id") for t in triplets],
        score_array([t.get("score") for t in triplets]),
    )


def box_array(values: Any) -> np.ndarray:
    """(n, 4) float64.  Raises HoiError where they are not four numbers each."""
    try:
        boxes = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise HoiError("a box must be four numbers x1 y1 x2 y2") from error
    if len(values) and boxes.shape != (len(values), 4):
        raise HoiError("a box must be four numbers x1 y1 x2 y2")
    return boxes.reshape(-1, 4)


def score_array(values: Any) -> np.ndarray:
    """(n,) float64.  Raises HoiError where they are no numbers."""
    try:
        scores = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise HoiError("a score must be one number") from error
    if scores.shape != (len(values),):
        raise HoiError("a score must be one number")
    return scores


def _interactions(images: list[RawImage], vocabulary: HoiVocabulary) -> tuple[np.ndarray, str]:
    """(N,) interactions of all triplets of the file, -1 for a pair that is none, and how it numbers them."""
    people, objects, labels, hoi = (
        [value for image in images for value in getattr(image, column)]
        for column in ("people", "objects", "labels", "hoi")
    )
    scores = np.concatenate([np.zeros(0), *(image.scores for image in images)])
    if hoi and all(value is not None for value in hoi):
        wrong = next((v for v in hoi if not is_int(v) or not 1 <= v <= vocabulary.num_interactions), None)
        if wrong is not None:
            raise HoiError(
                f"hoi_category_id {wrong!r} is none of the {vocabulary.num_interactions} interactions of "
                f"{vocabulary.name!r}, counted from 1"
            )
        return np.array(hoi, dtype=np.int64) - 1, "interactions by hoi_category_id, counted from 1"
    if labels and all(isinstance(value, str) for value in labels):
        return _by_name(labels, objects, vocabulary), "verbs and objects by name"
    numbers = [_whole(values, what) for what, values in (("verb", labels), ("object", objects), ("person", people))]
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise HoiError("a score is NaN, infinite or below 0")
    return interactions_of(Numbered(numbers[0], numbers[1], numbers[2], scores), vocabulary)


def _by_name(labels: list[str], objects: list[Any], vocabulary: HoiVocabulary) -> np.ndarray:
    names = {word_key(name): i for i, name in enumerate(vocabulary.objects)}
    names[NO_OBJECT] = names.get(word_key(NOTHING), -1)  # type: ignore[index]
    verbs = {word_key(name): i for i, name in enumerate(vocabulary.verbs)}
    pairs = {pair: k for k, pair in enumerate(vocabulary.interactions)}
    found = []
    for label, thing in zip(labels, objects, strict=True):
        verb, kind = verbs.get(word_key(label)), names.get(word_key(thing) if isinstance(thing, str) else thing)
        if verb is None or kind is None:
            raise HoiError(f"vocabulary {vocabulary.name!r} has no {label!r} with {thing!r}")
        found.append(pairs.get((verb, kind), -1))
    return np.array(found, dtype=np.int64)


def _whole(values: list[Any], what: str) -> np.ndarray:
    """(N,) int64.  Raises HoiError where one is no whole number."""
    wrong = next((v for v in values if not is_int(v) or abs(v) > 1 << 31), None) if values else None
    if wrong is not None or any(v is None for v in values):
        raise HoiError(f"the category_id of a {what} is {str(wrong)[:60]!r}, not a whole number")
    return np.array(values, dtype=np.int64)


# --- writing ---------------------------------------------------------------------------------------


def hoia_prediction(file_name: str, found: Detections) -> dict[str, Any]:
    """One image in this form: COCO's ids, verbs and interactions counted from 1; names where objects have no ids."""
    vocabulary = found.vocabulary
    numbered = bool(vocabulary.category_ids)
    person = vocabulary.person_id if vocabulary.person_id is not None else 0
    nothing = vocabulary.objects.index(NOTHING) if NOTHING in vocabulary.objects else None
    kinds: Mapping[int, Any] = dict(enumerate(vocabulary.category_ids if numbered else vocabulary.objects))
    boxes: list[dict[str, Any]] = []
    known: dict[tuple[Any, ...], int] = {}

    def position(box: list[float], kind: int) -> int:
        key = (*box, kind)
        if key not in known:
            known[key] = len(boxes)
            boxes.append({"bbox": box, "category_id": kinds[kind]})
        return known[key]

    triplets = []
    columns = (
        found.human_boxes.tolist(),
        found.object_boxes.tolist(),
        found.object_ids.tolist(),
        found.verb_ids.tolist(),
    )
    for human, thing, kind, verb, hoi, score in zip(
        *columns, found.hoi_ids.tolist(), found.scores.tolist(), strict=True
    ):
        subject = position(human, person)
        object_ = NO_OBJECT if kind == nothing else position(thing, kind)
        label = verb + 1 if numbered else vocabulary.verbs[verb]
        triplets.append({"subject_id": subject, "object_id": object_, "category_id": label,
                         "hoi_category_id": hoi + 1, "score": score})  # fmt: skip
    return {"file_name": file_name, "predictions": boxes, "hoi_prediction": triplets}
