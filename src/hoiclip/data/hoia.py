"""The JSON form most HOI projects read: ``trainval_hico.json``, ``test_hico.json`` and their V-COCO twins.

    images = load_hoia("test_hico.json")
    images = load_hoia("trainval_vcoco.json.gz", vocabulary="vcoco")

A list with one entry per image (first published with PPDM, arXiv:1912.12898)::

    {"file_name": "a.jpg",
     "annotations": [{"bbox": [x1, y1, x2, y2], "category_id": 18}, ...],
     "hoi_annotation": [{"subject_id": 0, "object_id": 1, "category_id": 37, "hoi_category_id": 132}, ...]}

Subjects and objects are 0-based positions in ``annotations``.  The category of a box is a COCO-91
id; verbs and interactions count from 1.  V-COCO's files have no ``hoi_category_id``, count verbs
from 0 and give a role without a visible object the object -1.  Your own data may write names instead of numbers,
see ``custom.py``.
"""

from __future__ import annotations

import difflib
import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.categories import category_key, ids_by_number_and_name
from hoiclip.data.coco_relations import as_json_form, is_coco_relations
from hoiclip.data.content import OUT_OF_RANGE, Defect, HoiaContent, accepted, is_int, read_boxes, read_size
from hoiclip.data.hicodet_json import is_hicodet_form, parse_hicodet_form
from hoiclip.data.json_files import lacking, listed_keys, looks_like, parse_json, read_json_text
from hoiclip.errors import HoiError
from hoiclip.files import atomic_path
from hoiclip.vocabulary import NOTHING, HoiVocabulary

BOX_FORMATS = ("xyxy", "xywh")
LISTS = ("annotations", "hoi_annotation")


def load_hoia(
    path: str | Path, vocabulary: HoiVocabulary | str | Path = "hico", *, box_format: str | None = None
) -> list[AnnotatedImage]:
    """Read an annotation file of the JSON form.

    Args:
        path: ``.json`` or ``.json.gz``.
        vocabulary: a :class:`HoiVocabulary`, a published name, or a YAML file.
        box_format: ``"xyxy"`` or COCO's ``"xywh"``; None takes what the file says, else xyxy.

    Returns:
        One :class:`AnnotatedImage` per entry, in file order, coordinates as they stand in the file
        (HICO-DET: 1-based pixels, both ends inclusive).  V-COCO pairs outside the 263 interactions
        are kept with hoi id -1 and a warning tells how many.

    Raises:
        HoiError: missing or damaged file, malformed JSON (names the line), another project's form (names
            it), an entry without one of its lists, an id out of range, a file name that leaves the
            image folder, or a box that cannot be meant (names line, image and position).
    """
    vocabulary = HoiVocabulary.coerce(vocabulary)
    text = read_json_text(path)
    content = parse_hoia(parse_json(text, path), vocabulary, path, box_format=box_format)
    return accepted(content, path, text)


def save_hoia(images: Iterable[AnnotatedImage], path: str | Path, vocabulary: HoiVocabulary | str | Path) -> None:
    """Write annotations in the JSON form (gzip if ``path`` ends in ``.gz``), all or nothing.

    A vocabulary without published ids is written in names, so that :func:`load_hoia` reads it back.

    Raises:
        HoiError: if the folder cannot be written.
    """
    vocabulary = HoiVocabulary.coerce(vocabulary)
    names = not vocabulary.category_ids
    first_verb = first_verb_id(vocabulary)
    entries = []
    for image in images:
        category = [vocabulary.objects[o] if names else vocabulary.category_ids[o] for o in image.object_ids.tolist()]
        entry: dict[str, Any] = {"file_name": image.file_name}
        if image.size is not None:
            entry["height"], entry["width"] = image.size
        entry["annotations"] = [
            {"bbox": box, "category_id": c} for box, c in zip(_plain(image.boxes), category, strict=True)
        ]
        entry["hoi_annotation"] = [
            {
                "subject_id": human,
                "object_id": obj,
                "category_id": vocabulary.verbs[verb] if names else verb + first_verb,
            }
            | ({"hoi_category_id": hoi + 1} if not names and first_verb and hoi >= 0 else {})
            for (human, obj), verb, hoi in zip(
                image.pairs.tolist(), image.verbs(vocabulary).tolist(), image.hoi_ids.tolist(), strict=True
            )
        ]
        entries.append(entry)
    data = json.dumps(entries, separators=(",", ":")).encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def _plain(boxes: np.ndarray) -> list[list[float]]:
    """Whole numbers without a decimal point, as the published files have them."""
    return [[int(x) if x == int(x) else x for x in box] for box in boxes.tolist()]


# --- entries ---------------------------------------------------------------------------------------


def first_verb_id(vocabulary: HoiVocabulary) -> int:
    """What the files call the first verb: V-COCO's count from 0, all others from 1."""
    return 0 if vocabulary.name.split("_")[0] == "vcoco" else 1


def parse_hoia(
    data: Any,
    vocabulary: HoiVocabulary,
    path: str | Path,
    *,
    box_format: str | None = None,
) -> HoiaContent:
    """Turn the parsed JSON into annotated images and a list of defects.

    Raises:
        HoiError: if this is not a list of images at all, or the box format is unknown.
    """
    if is_hicodet_form(data):
        return parse_hicodet_form(data, vocabulary, path)
    if is_coco_relations(data):
        data, box_format = as_json_form(data, path), "xyxy"
    if isinstance(data, dict) and isinstance(data.get("images"), list) and "annotations" not in data:
        near = difflib.get_close_matches("box_format", map(str, data.keys() - {"box_format"}), n=1, cutoff=0.7)
        if near:
            raise HoiError(f"{path}: has the key {near[0]!r}; write 'box_format' for what boxes mean")
        box_format = box_format or data.get("box_format")
        data = data["images"]
    if not isinstance(data, list):
        raise HoiError(
            f"{path}: holds no list of images but {listed_keys(data)}{looks_like(data)}; the JSON form is "
            '[{"file_name": ..., "annotations": [...], "hoi_annotation": [...]}, ...]'
        )
    entries = [entry for entry in data if isinstance(entry, dict)]
    if entries and all(lacking(entry, LISTS) for entry in entries):
        raise HoiError(
            f"{path}: every image {lacking(entries[0], LISTS)}{looks_like(data)}; docs/data.md shows the JSON form "
            "(an image without pairs has an empty list)"
        )
    if box_format is not None and box_format not in BOX_FORMATS:
        raise HoiError(f"{path}: unknown box format {box_format!r}: choose one of {', '.join(BOX_FORMATS)}")
    reader = _EntryReader(vocabulary, box_format or "xyxy")
    for entry in data:
        reader.read(entry)
    return reader.content


class _EntryReader:
    """Read entry after entry, with the look-up tables of one vocabulary."""

    def __init__(self, vocabulary: HoiVocabulary, box_format: str) -> None:
        self.vocabulary, self.box_format = vocabulary, box_format
        ids = vocabulary.category_ids or range(1, len(vocabulary.objects) + 1)
        self.objects = ids_by_number_and_name(ids, vocabulary.objects)
        start = first_verb_id(vocabulary)
        self.verbs = ids_by_number_and_name(range(start, start + len(vocabulary.verbs)), vocabulary.verbs)
        self.hois = {pair: k for k, pair in enumerate(vocabulary.interactions)}
        self.nothing = vocabulary.objects.index(NOTHING) if NOTHING in vocabulary.objects else -1
        self.content = HoiaContent()

    def read(self, entry: Any) -> None:
        self.at, self.file_name = len(self.content.images), "?"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            self._defect("unreadable entry", "image", -1, f"an image needs a 'file_name'; it has {listed_keys(entry)}")
            entry = {key: [] for key in LISTS}
        self.file_name = entry.get("file_name", "?")
        if missing := lacking(entry, LISTS):
            self._defect("missing list", "image", -1, missing)
        lists = []
        for key in LISTS:
            value = entry.get(key, [])
            if not isinstance(value, list):
                self._defect("unreadable entry", "image", -1, f"{key!r} is not a list")
                value = []
            lists.append(value)
        boxes, object_ids = self._boxes(lists[0])
        pairs, hoi_ids, verb_ids, positions = self._pairs(lists[1], object_ids)
        if len(positions) < len(lists[1]):
            self.content.pair_positions[self.at] = positions
        unlisted = sum(hoi < 0 for hoi in hoi_ids)
        self.content.unlisted += unlisted
        self.content.images.append(
            AnnotatedImage(
                file_name=self.file_name,
                boxes=boxes,
                object_ids=np.array(object_ids, dtype=np.int64),
                pairs=np.array(pairs, dtype=np.int64),
                hoi_ids=np.array(hoi_ids, dtype=np.int64),
                size=read_size(entry.get("height"), entry.get("width")),
                verb_ids=np.array(verb_ids, dtype=np.int64) if unlisted else None,
            )
        )

    def _boxes(self, annotations: Sequence[Any]) -> tuple[np.ndarray, list[int]]:
        entries = [annotation if isinstance(annotation, dict) else {} for annotation in annotations]
        boxes, wrong = read_boxes([entry.get("bbox") for entry in entries], self.box_format)
        for kind, i, detail in wrong:
            lacks = lacking(entries[i], ["bbox"]) if entries[i] else ""
            self._defect(kind, "box", i, lacks or detail)
        object_ids = []
        for i, entry in enumerate(entries):
            category = entry.get("category_id")
            object_id = self.objects.get(category_key(category), -1)
            if object_id < 0:
                lacks = lacking(entry, ["category_id"]) if entry else ""
                self._defect(
                    OUT_OF_RANGE, "box", i, lacks or f"category_id {category!r} is no object of the vocabulary"
                )
            object_ids.append(object_id)
        return boxes, object_ids

    def _pairs(
        self, annotations: Sequence[Any], object_ids: list[int]
    ) -> tuple[list[tuple[int, int]], list[int], list[int], list[int]]:
        pairs: list[tuple[int, int]] = []
        hoi_ids: list[int] = []
        verb_ids: list[int] = []
        positions: list[int] = []
        for i, annotation in enumerate(annotations):
            annotation = annotation if isinstance(annotation, dict) else {}
            human: Any = annotation.get("subject_id")
            obj: Any = annotation.get("object_id")
            if not _is_row(human, object_ids):
                self._defect(OUT_OF_RANGE, "pair", i, f"subject_id {human!r} of {len(object_ids)} boxes")
                continue
            if not (_is_row(obj, object_ids) or (obj == -1 and self.nothing >= 0)):
                self._defect(OUT_OF_RANGE, "pair", i, f"object_id {obj!r} of {len(object_ids)} boxes")
                continue
            kind = self.nothing if obj == -1 else object_ids[obj]
            label = self._label(annotation, kind, i)
            if label is None:
                continue
            pairs.append((human, obj))
            verb_ids.append(label[0])
            hoi_ids.append(label[1])
            positions.append(i)
        return pairs, hoi_ids, verb_ids, positions

    def _label(self, annotation: dict[str, Any], kind: int, position: int) -> tuple[int, int] | None:
        """(verb id, hoi id) of one pair; an explicit hoi_category_id wins over the verb."""
        if annotation.get("hoi_category_id") is not None:
            hoi = category_key(annotation["hoi_category_id"])
            if not isinstance(hoi, int) or not 1 <= hoi <= len(self.vocabulary.interactions):
                count = len(self.vocabulary.interactions)
                self._defect(OUT_OF_RANGE, "pair", position, f"hoi_category_id {hoi!r} is not in 1..{count}")
                return None
            return self.vocabulary.interactions[hoi - 1][0], hoi - 1
        category = annotation.get("category_id")
        verb = self.verbs.get(category_key(category))
        if verb is None:
            lacks = lacking(annotation, ["category_id"])
            self._defect(
                OUT_OF_RANGE, "pair", position, lacks or f"category_id {category!r} is no verb of the vocabulary"
            )
            return None
        hoi = self.hois.get((verb, kind), -1)
        if hoi < 0 and self.nothing < 0 and kind >= 0:  # V-COCO's files may name pairs beyond the 263
            names = f"{self.vocabulary.verbs[verb]} {self.vocabulary.objects[kind]}"
            self._defect("not an interaction", "pair", position, f"{names!r} is no interaction of the vocabulary")
            return None
        return verb, hoi

    def _defect(self, kind: str, where: str, index: int, detail: str) -> None:
        self.content.defects.append(Defect(kind, self.file_name, self.at, where, index, detail))


def _is_row(value: Any, rows: Sequence[Any]) -> bool:
    return is_int(value) and 0 <= value < len(rows)
