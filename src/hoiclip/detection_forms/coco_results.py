"""COCO's form with detected boxes in ``annotations`` and scored ``relations`` between them.

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
     "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, width, height]}, ...],
     "relations": [{"image_id": 1, "subject_id": 1, "object_id": 2, "verb": "ride", "score": 0.9}]}

The annotation form of the same keys, with scores.  ``categories`` may be left out where the ids are COCO's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from hoiclip.data.categories import word_key
from hoiclip.data.content import is_int, read_size
from hoiclip.detection_files import checked
from hoiclip.detection_forms.hoia_predictions import RawImage, Reading, box_array, readings, score_array
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.vocabulary import NOTHING, HoiVocabulary

LISTS = ("images", "annotations", "relations")


def is_coco_results(data: Any) -> bool:
    """Whether a JSON document is of this form."""
    return isinstance(data, dict) and all(key in data for key in LISTS)


def read_coco_results(
    data: dict[str, Any], path: Any, vocabulary: HoiVocabulary, unusual: Counter[str]
) -> Iterator[Reading]:
    """Read a document.

    Args:
        data: what JSON says.
        path: of the file, for messages.
        vocabulary: what the words can mean.
        unusual: takes the count of pairs that are no interaction.

    Raises:
        HoiError: an entry of another form, naming the file.
    """
    for key in LISTS:
        if not isinstance(data[key], list) or not all(isinstance(entry, dict) for entry in data[key]):
            raise HoiError(f"{path}: {key!r} is no list of objects")
    kinds = _kinds(data.get("categories"), path, vocabulary)
    names = _by_id(data["images"], "image", path)
    boxes = _by_id(data["annotations"], "annotation", path)
    of_image: dict[int, list[tuple[int, dict[str, Any]]]] = {number: [] for number in names}
    for i, relation in enumerate(data["relations"]):
        number = relation.get("image_id")
        if not is_int(number) or number not in of_image:
            raise HoiError(f"{path}: relation {i}: image_id {str(number)[:60]!r} is no image of the file")
        of_image[number].append((i, relation))
    verbs = {word_key(verb): i for i, verb in enumerate(vocabulary.verbs)}
    pairs = {pair: k for k, pair in enumerate(vocabulary.interactions)}
    images: list[tuple[str, RawImage]] = []
    hoi_ids: list[int] = []
    certain: list[np.ndarray | None] = []
    for number, entry in names.items():
        where = f"{path}: image {number}"
        try:
            images.append((where, _raw(entry, of_image[number], boxes)))
            for i, relation in of_image[number]:
                hoi_ids.append(_interaction(i, relation, boxes, kinds, verbs, pairs, vocabulary))
            certain.append(_probabilities([relation for _, relation in of_image[number]]))
        except HoiError as error:
            raise HoiError(f"{where}: {error}") from error
    ids = np.array(hoi_ids, dtype=np.int64)
    read = readings(images, ids, vocabulary, unusual)
    first = 0
    for (where, image), (_, plain), probabilities in zip(images, read, certain, strict=True):
        own = ids[first : first + len(image.scores)]
        first += len(own)
        yield where, plain if probabilities is None else partial(_detections, image, own, probabilities, vocabulary)


def _detections(
    image: RawImage, hoi_ids: np.ndarray, certain: np.ndarray, vocabulary: HoiVocabulary
) -> tuple[str, Detections]:
    kept = hoi_ids >= 0
    columns = image.human[kept], image.object_[kept], hoi_ids[kept], image.scores[kept]
    return image.file_name, checked(*columns, vocabulary, image.size, certain[kept])


def _probabilities(relations: list[dict[str, Any]]) -> np.ndarray | None:
    values = [relation.get("interaction_score") for relation in relations]
    return score_array(values) if values and all(value is not None for value in values) else None


def _by_id(entries: list[dict[str, Any]], what: str, path: Any) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for i, entry in enumerate(entries):
        number: Any = entry.get("id")
        if not is_int(number) or number in found:
            raise HoiError(f"{path}: {what} at {i} has the id {str(number)[:60]!r}, which is no number or another's")
        found[number] = entry
    return found


def _kinds(categories: Any, path: Any, vocabulary: HoiVocabulary) -> Mapping[int, int | None]:
    """The position in ``vocabulary.objects`` of each category id; None for one of another name."""
    if categories is None:
        if not vocabulary.category_ids:
            raise HoiError(f"{path}: lacks 'categories', which say what the category ids mean")
        return {number: i for i, number in enumerate(vocabulary.category_ids)}
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
        raise HoiError(f"{path}: 'categories' is no list of objects")
    objects = {word_key(name): i for i, name in enumerate(vocabulary.objects)}
    return {c["id"]: objects.get(word_key(str(c.get("name")))) for c in categories if is_int(c.get("id"))}


def _raw(entry: dict[str, Any], relations: list[tuple[int, dict[str, Any]]], boxes: dict[int, Any]) -> RawImage:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise HoiError("needs a 'file_name'")
    corners: dict[str, list[Any]] = {"subject_id": [], "object_id": []}
    for i, relation in relations:
        if "score" not in relation:
            raise HoiError(f"relation {i} has no 'score'; are these annotations?")
        for key, column in corners.items():
            number = relation.get(key)
            if key == "object_id" and number is None:
                column.append([0, 0, 0, 0])
                continue
            if not is_int(number) or number not in boxes or boxes[number].get("image_id") != entry["id"]:
                raise HoiError(f"relation {i}: {key} {str(number)[:60]!r} is no annotation of this image")
            column.append(boxes[number].get("bbox"))
    human, object_ = box_array(corners["subject_id"]), box_array(corners["object_id"])
    for xywh in (human, object_):
        xywh[:, 2:] += xywh[:, :2]
    scores = score_array([relation["score"] for _, relation in relations])
    size = read_size(entry.get("height"), entry.get("width"))
    return RawImage(name, human, object_, [], [], [], [], scores, size)


def _interaction(
    i: int, relation: dict[str, Any], boxes: dict[int, Any], kinds: Mapping[int, int | None],
    verbs: dict[str, int], pairs: dict[tuple[int, int], int], vocabulary: HoiVocabulary,
) -> int:  # fmt: skip
    """The interaction of a relation, -1 where its verb and object make none."""
    verb = relation.get("verb")
    if not isinstance(verb, str) or word_key(verb) not in verbs:
        raise HoiError(f"relation {i}: vocabulary {vocabulary.name!r} has no verb {str(verb)[:60]!r}")
    if relation.get("object_id") is None:
        kind = vocabulary.objects.index(NOTHING) if NOTHING in vocabulary.objects else None
    else:
        number: Any = boxes[relation["object_id"]].get("category_id")
        if not is_int(number) or number not in kinds:
            raise HoiError(f"relation {i}: category_id {str(number)[:60]!r} is no category of the file")
        kind = kinds[number]
    return -1 if kind is None else pairs.get((verbs[word_key(verb)], kind), -1)


# --- writing ---------------------------------------------------------------------------------------


def coco_results(detections: Mapping[str, Detections], vocabulary: HoiVocabulary) -> dict[str, list[dict[str, Any]]]:
    """All images as one document, ids counted from 1 (categories: the vocabulary's own where it has some)."""
    numbers = vocabulary.category_ids or tuple(range(1, len(vocabulary.objects) + 1))
    nothing = vocabulary.objects.index(NOTHING) if NOTHING in vocabulary.objects else None
    person = vocabulary.person_id if vocabulary.person_id is not None else 0
    named = zip(numbers, vocabulary.objects, strict=False)
    document: dict[str, list[dict[str, Any]]] = {
        key: [] for key in ("images", "categories", "annotations", "relations")
    }
    document["categories"] = [{"id": number, "name": name} for number, name in named]
    for image_id, (name, found) in enumerate(detections.items(), 1):
        height_width = zip(("height", "width"), found.image_size or (), strict=False)
        document["images"].append({"id": image_id, "file_name": name, **dict(height_width)})
        known: dict[tuple[Any, ...], int] = {}
        for i in range(len(found)):
            ids: list[int | None] = []
            for box, kind in ((found.human_boxes[i], person), (found.object_boxes[i], int(found.object_ids[i]))):
                if kind == nothing:
                    ids.append(None)
                    continue
                key = (*box.tolist(), kind)
                if key not in known:
                    x1, y1, x2, y2 = box.tolist()
                    known[key] = len(document["annotations"]) + 1
                    document["annotations"].append({
                        "id": known[key], "image_id": image_id, "category_id": numbers[kind],
                        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
                    })  # fmt: skip
                ids.append(known[key])
            relation = {"image_id": image_id, "subject_id": ids[0], "object_id": ids[1],
                        "verb": vocabulary.verbs[int(found.verb_ids[i])], "score": float(found.scores[i])}  # fmt: skip
            if found.interaction_scores is not None:
                relation["interaction_score"] = float(found.interaction_scores[i])
            document["relations"].append(relation)
    return document
