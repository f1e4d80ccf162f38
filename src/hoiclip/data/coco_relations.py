"""COCO instances with a list ``relations`` beside ``annotations``, as :meth:`hoiclip.Detections.to_coco` writes them::

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
     "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, width, height]}, ...],
     "relations": [{"image_id": 1, "subject_id": 1, "object_id": 2, "verb": "ride"}]}

``subject_id`` and ``object_id`` are ids of annotations; an object may be null, where the verb needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.content import is_int, is_number, read_size
from hoiclip.data.json_files import lacking, looks_like, parse_json, read_json_text
from hoiclip.data.labelled import Findings, ImageReader, LabelledImage
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

LISTS = ("images", "categories", "annotations", "relations")
BEYOND = 1 << 30  # a box that is not there


def read_coco_relations(path: str | Path, findings: Findings) -> list[LabelledImage]:
    """Read COCO's form with relations.

    Args:
        path: the file.
        findings: takes what cannot be meant and what is unusual.

    Raises:
        HoiError: no such file.
    """
    data = parse_json(read_json_text(path), path)
    if not isinstance(data, dict) or lacking(data, LISTS):
        missing = lacking(data, LISTS) if isinstance(data, dict) else f"holds a {type(data).__name__}{looks_like(data)}"
        raise HoiError(f"{path}: {missing}; give COCO instances with a list 'relations' (docs/own_data.md)")
    for key in LISTS:
        if not isinstance(data[key], list) or not all(isinstance(entry, dict) for entry in data[key]):
            raise HoiError(f"{path}: {key!r} is no list of objects; give COCO instances with a list 'relations'")
    names = {entry.get("id"): entry.get("name") for entry in data["categories"] if is_int(entry.get("id"))}
    readers: dict[int, tuple[ImageReader, str]] = {}
    for position, entry in enumerate(data["images"]):
        _add_image(entry, position, readers, findings)
    for position, entry in enumerate(data["annotations"]):
        found = _reader_of(entry, f"annotation {entry.get('id', f'at {position}')}", readers, findings)
        if found is not None and entry.get("iscrowd"):
            findings.unusual["boxes of crowds (iscrowd) were left out"] += 1
        elif found is not None:
            _add_box(entry, found, names)
    for position, entry in enumerate(data["relations"]):
        found = _reader_of(entry, f"relation {position}", readers, findings)
        if found is None:
            continue
        subject, thing = entry.get("subject_id"), entry.get("object_id")
        if not is_int(subject) or not (thing is None or is_int(thing)) or "object_id" not in entry:
            found.wrong(f"relation {position} has subject_id {subject!r} and object_id {thing!r}; give annotation ids")
        else:
            found.add_relation(str(subject), None if thing is None else str(thing), entry.get("verb"))
    return [reader.image((name,)) for reader, name in readers.values()]


def _add_image(entry: dict[str, Any], position: int, readers: dict[Any, Any], findings: Findings) -> None:
    number, name = entry.get("id"), entry.get("file_name")
    where = f"image {number if is_int(number) else f'at {position}'} ({name})"
    known = is_int(number) and number in readers
    if not is_int(number) or not isinstance(name, str) or not name or known:
        fault = "its id is that of another image" if known else "needs a whole number 'id' and a 'file_name'"
        findings.impossible.append(f"{where}: {fault}")
        return
    size = read_size(entry.get("height"), entry.get("width"))
    if size is None and ("height" in entry or "width" in entry):
        findings.impossible.append(f"{where}: width {entry.get('width')!r}, height {entry.get('height')!r}")
    readers[number] = (ImageReader(where, size, findings), name)


def _reader_of(
    entry: dict[str, Any], what: str, readers: dict[int, tuple[ImageReader, str]], findings: Findings
) -> ImageReader | None:
    number = entry.get("image_id")
    if not is_int(number) or number not in readers:
        findings.impossible.append(f"{what}: image_id {number!r} is no image of the file")
        return None
    return readers[number][0]


def _add_box(entry: dict[str, Any], reader: ImageReader, names: dict[Any, Any]) -> None:
    number, box, category = entry.get("id"), entry.get("bbox"), entry.get("category_id")
    name = names.get(category) if is_int(category) else None
    if not is_int(number):
        reader.wrong(f"an annotation has the id {number!r}; give a whole number")
    elif not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
        reader.wrong(f"annotation {number}: bbox is {str(box)[:80]}, not x, y, width, height in pixels")
    elif not isinstance(name, str):
        reader.wrong(f"annotation {number}: category_id {category!r} is no category of the file")
    else:
        x, y, width, height = box
        reader.add_box(str(number), name, (x, y, x + width, y + height))


def is_coco_relations(data: Any) -> bool:
    """Whether parsed JSON has this form."""
    return isinstance(data, dict) and all(isinstance(data.get(key), list) for key in LISTS)


def as_json_form(data: dict[str, Any], path: str | Path) -> list[dict[str, Any]]:
    """The same images as entries of the JSON form, in names; what does not fit there is told by its reader.

    Raises:
        HoiError: an entry that is no object, an image without a number, or a box or relation of no image.
    """
    for key in LISTS:
        if not all(isinstance(entry, dict) for entry in data[key]):
            raise HoiError(f"{path}: {key!r} is no list of objects; give COCO instances with a list 'relations'")
    names = {c["id"]: c.get("name") for c in data["categories"] if is_int(c.get("id"))}
    entries: dict[int, dict[str, Any]] = {}
    for i, image in enumerate(data["images"]):
        number = image.get("id")
        if not is_int(number) or number in entries:
            raise HoiError(f"{path}: the id of image {i} is {str(number)[:60]!r}, no number or another image's")
        entries[number] = {"annotations": [], "hoi_annotation": []} | {
            key: image[key] for key in ("file_name", "height", "width") if key in image
        }
    places: dict[tuple[int, Any], int] = {}  # of a box, by image and id
    for key, target in (("annotations", "annotations"), ("relations", "hoi_annotation")):
        for i, entry in enumerate(data[key]):
            number = entry.get("image_id")
            if not is_int(number) or number not in entries:
                raise HoiError(f"{path}: image_id {str(number)[:60]!r} of {key[:-1]} {i} is no image of the file")
            listed = entries[number][target]
            if key == "annotations" and is_int(entry.get("id")) and not entry.get("iscrowd"):
                places[number, entry["id"]] = len(listed)
                category, box = entry.get("category_id"), entry.get("bbox")
                if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)):
                    box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
                listed.append({"bbox": box, "category_id": names.get(category) if is_int(category) else None})
            elif key == "relations":
                ids = [entry.get(name) for name in ("subject_id", "object_id")]
                subject, thing = (places.get((number, v), BEYOND) if is_int(v) else BEYOND for v in ids)
                thing = -1 if ids[1] is None else thing
                listed.append({"subject_id": subject, "object_id": thing, "category_id": entry.get("verb")})
    return list(entries.values())


# --- writing -----------------------------------------------------------------------------------------


def coco_document(
    images: Sequence[AnnotatedImage], sizes: Sequence[tuple[int, int]], vocabulary: HoiVocabulary
) -> dict[str, list[dict[str, Any]]]:
    """The whole document, ids counted from 1 (categories: the vocabulary's own numbers where it has some).

    Args:
        images: what to write.
        sizes: (height, width) of each, in pixels.
        vocabulary: what the ids mean.
    """
    numbers = vocabulary.category_ids or tuple(range(1, len(vocabulary.objects) + 1))
    document: dict[str, list[dict[str, Any]]] = {key: [] for key in LISTS}
    document["categories"] = [
        {"id": number, "name": name} for number, name in zip(numbers, vocabulary.objects, strict=False)
    ]
    for image_id, (image, (height, width)) in enumerate(zip(images, sizes, strict=True), 1):
        document["images"].append({"id": image_id, "file_name": image.file_name, "width": width, "height": height})
        first = len(document["annotations"]) + 1
        for (x1, y1, x2, y2), kind in zip(image.boxes.tolist(), image.object_ids.tolist(), strict=True):
            xywh = [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)]
            document["annotations"].append(
                {"id": len(document["annotations"]) + 1, "image_id": image_id, "category_id": numbers[kind],
                 "bbox": xywh, "area": round(xywh[2] * xywh[3], 3), "iscrowd": 0}
            )  # fmt: skip
        for (human, thing), verb in zip(image.pairs.tolist(), image.verbs(vocabulary).tolist(), strict=True):
            document["relations"].append(
                {"image_id": image_id, "subject_id": first + human, "object_id": None if thing < 0 else first + thing,
                 "verb": vocabulary.verbs[verb]}
            )  # fmt: skip
    return document
