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

import gzip
import json
import math
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.errors import HoiError
from hoiclip.files import atomic_path
from hoiclip.vocabulary import NOTHING, HoiVocabulary

BOX_FORMATS = ("xyxy", "xywh")
MENDED = "corners swapped"  # the one kind of defect that reading repairs
OUT_OF_RANGE = "id out of range"


@dataclass(frozen=True)
class Defect:
    """Something wrong in an annotation file, and where.

    Attributes:
        kind: short name that reports count by, ``"box outside the image"``.
        file_name: image it belongs to.
        image: 0-based position of the image in its file.
        where: ``"box"``, ``"pair"`` or ``"image"``.
        index: 0-based position in ``annotations`` or ``hoi_annotation``; -1 for the image itself.
        detail: the values that are wrong, in words.
    """

    kind: str
    file_name: str
    image: int
    where: str
    index: int
    detail: str

    def __str__(self) -> str:
        place = f", {self.where} {self.index}" if self.index >= 0 else ""
        return f"image {self.image} ({self.file_name}){place}: {self.kind}: {self.detail}"


@dataclass
class HoiaContent:
    """The content of a file, and everything in it that could not be understood.

    Attributes:
        images: one per entry of the file.  Boxes keep their positions; a box of unknown class has
            object id -1, an unreadable one NaN corners.  Pairs that point nowhere are left out.
        defects: everything that was not understood.
        pair_positions: for images with pairs left out, (m,) position of each kept pair in the file.
        unlisted: how many pairs have a (verb, object) that is no interaction of the vocabulary.
    """

    images: list[AnnotatedImage] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    pair_positions: dict[int, list[int]] = field(default_factory=dict)
    unlisted: int = 0


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
        HoiError: missing or damaged file, malformed JSON (names the line), an id out of range or a
            box that is not four finite numbers (names line, image and position).
    """
    vocabulary = HoiVocabulary.coerce(vocabulary)
    text = read_json_text(path)
    content = parse_hoia(parse_json(text, path), vocabulary, path, box_format=box_format)
    return accepted(content, path, text)


def accepted(content: HoiaContent, path: str | Path, text: str = "") -> list[AnnotatedImage]:
    """The images of a file without a defect that makes them unusable.

    Args:
        content: what was read.
        path: how the message calls the file.
        text: of the file, to tell the line.

    Raises:
        HoiError: there is such a defect; the first one is told in full.
    """
    fatal = [defect for defect in content.defects if defect.kind != MENDED]
    if fatal:
        line = f"line {_line_of(text, fatal[0].file_name)}: " if text else ""
        more = f" ({len(fatal) - 1} more; `hoiclip data check` lists them)" if len(fatal) > 1 else ""
        raise HoiError(f"{path}: {line}{fatal[0]}{more}")
    if content.unlisted:
        warnings.warn(
            f"{path}: {content.unlisted} pairs have a verb and object that are no interaction of the vocabulary; "
            "they count for their verb only",
            stacklevel=3,
        )
    return content.images


def without_out_of_range(content: HoiaContent) -> tuple[HoiaContent, int]:
    """The content without the images that name an object, verb, interaction or box which does not exist.

    Training on HICO-DET leaves them out, as the published programs do.

    Returns:
        The other images with their defects; and how many images were left out.
    """
    wrong = {defect.image for defect in content.defects if defect.kind == OUT_OF_RANGE}
    if not wrong:
        return content, 0
    images = [image for at, image in enumerate(content.images) if at not in wrong]
    defects = [defect for defect in content.defects if defect.image not in wrong]
    unlisted = sum(int((image.hoi_ids < 0).sum()) for image in images)
    return HoiaContent(images, defects, unlisted=unlisted), len(wrong)


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


# --- text and JSON ---------------------------------------------------------------------------------


def read_json_text(path: str | Path) -> str:
    """The text of a ``.json`` or ``.json.gz`` file.

    Raises:
        HoiError: missing, not gzip although it says so, cut off, or not UTF-8.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise HoiError(f"{path}: no such file; give an existing annotation file") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise HoiError(f"{path}: is a damaged or cut-off gzip file ({error}); download it again") from error
    except OSError as error:
        raise HoiError(f"{path}: cannot be read ({error.strerror or error}); give an annotation file") from error
    except UnicodeDecodeError as error:
        raise HoiError(f"{path}: is not UTF-8 text at byte {error.start}; give a JSON file") from error


def parse_json(text: str, path: str | Path) -> Any:
    """Parse JSON; an error names file and line.

    Raises:
        HoiError: malformed JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise HoiError(
            f"{path}: line {error.lineno} is not valid JSON (column {error.colno}: {error.msg}); "
            "correct or download it again"
        ) from error
    except (RecursionError, ValueError) as error:  # nested without end, a number of thousands of digits
        raise HoiError(f"{path}: is no annotation file ({error}); give the right file") from error


def _line_of(text: str, file_name: str) -> int:
    """Where an image's entry stands, so that an editor can jump there."""
    for spelling in (json.dumps(file_name), json.dumps(file_name, ensure_ascii=False)):
        position = text.find(spelling)
        if position >= 0:
            return text.count("\n", 0, position) + 1
    return 1


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
    if isinstance(data, dict) and isinstance(data.get("images"), list) and "annotations" not in data:
        box_format = box_format or data.get("box_format")
        data = data["images"]
    if not isinstance(data, list):
        raise HoiError(
            f"{path}: holds no list of images; the JSON form is "
            '[{"file_name": ..., "annotations": [...], "hoi_annotation": [...]}, ...]'
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
        self.objects = _ids_by_number_and_name(ids, vocabulary.objects)
        start = first_verb_id(vocabulary)
        self.verbs = _ids_by_number_and_name(range(start, start + len(vocabulary.verbs)), vocabulary.verbs)
        self.hois = {pair: k for k, pair in enumerate(vocabulary.interactions)}
        self.nothing = vocabulary.objects.index(NOTHING) if NOTHING in vocabulary.objects else -1
        self.content = HoiaContent()

    def read(self, entry: Any) -> None:
        self.at, self.file_name = len(self.content.images), "?"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            self._defect("unreadable entry", "image", -1, "an image needs a 'file_name'")
            entry = {}
        self.file_name = entry.get("file_name", "?")
        lists = []
        for key in ("annotations", "hoi_annotation"):
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
        height, width = entry.get("height"), entry.get("width")
        self.content.images.append(
            AnnotatedImage(
                file_name=self.file_name,
                boxes=np.array(boxes, dtype=np.float64),
                object_ids=np.array(object_ids, dtype=np.int64),
                pairs=np.array(pairs, dtype=np.int64),
                hoi_ids=np.array(hoi_ids, dtype=np.int64),
                size=(height, width) if _is_int(height) and _is_int(width) and min(height, width) > 0 else None,
                verb_ids=np.array(verb_ids, dtype=np.int64) if unlisted else None,
            )
        )

    def _boxes(self, annotations: Sequence[Any]) -> tuple[list[list[float]], list[int]]:
        boxes, object_ids = [], []
        for i, annotation in enumerate(annotations):
            annotation = annotation if isinstance(annotation, dict) else {}
            box = annotation.get("bbox")
            if not (isinstance(box, list) and len(box) == 4 and all(_is_number(x) for x in box)):
                self._defect("box is not four numbers", "box", i, f"bbox is {box!r}")
                box = [math.nan] * 4
            elif not all(map(math.isfinite, box)):
                self._defect("box is not four numbers", "box", i, f"bbox holds NaN or infinity: {box}")
            elif self.box_format == "xywh":
                box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
            category = annotation.get("category_id")
            object_id = self.objects.get(_key(category), -1)
            if object_id < 0:
                self._defect(OUT_OF_RANGE, "box", i, f"category_id {category!r} is no object of the vocabulary")
            boxes.append(box)
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
            hoi = _key(annotation["hoi_category_id"])
            if not isinstance(hoi, int) or not 1 <= hoi <= len(self.vocabulary.interactions):
                count = len(self.vocabulary.interactions)
                self._defect(OUT_OF_RANGE, "pair", position, f"hoi_category_id {hoi!r} is not in 1..{count}")
                return None
            return self.vocabulary.interactions[hoi - 1][0], hoi - 1
        category = annotation.get("category_id")
        verb = self.verbs.get(_key(category))
        if verb is None:
            self._defect(OUT_OF_RANGE, "pair", position, f"category_id {category!r} is no verb of the vocabulary")
            return None
        hoi = self.hois.get((verb, kind), -1)
        if hoi < 0 and self.nothing < 0 and kind >= 0:  # V-COCO's files may name pairs beyond the 263
            names = f"{self.vocabulary.verbs[verb]} {self.vocabulary.objects[kind]}"
            self._defect("not an interaction", "pair", position, f"{names!r} is no interaction of the vocabulary")
            return None
        return verb, hoi

    def _defect(self, kind: str, where: str, index: int, detail: str) -> None:
        self.content.defects.append(Defect(kind, self.file_name, self.at, where, index, detail))


def _ids_by_number_and_name(numbers: Iterable[int], names: Sequence[str]) -> dict[int | str | None, int]:
    table: dict[int | str | None, int] = {number: i for i, number in enumerate(numbers)}
    return table | {_key(name): i for i, name in enumerate(names)}


def _key(category: Any) -> int | str | None:
    """Numbers as they are, also when a file writes them as text; names without regard to spaces."""
    if _is_int(category):
        return category
    if not isinstance(category, str):
        return None
    category = category.strip()
    return int(category) if category.isdecimal() and len(category) < 10 else category.replace(" ", "_")


def _is_row(value: Any, rows: Sequence[Any]) -> bool:
    return _is_int(value) and 0 <= value < len(rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (_is_int(value) and abs(value) < 2**53)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
