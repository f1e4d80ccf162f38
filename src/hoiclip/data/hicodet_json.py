"""The form of hicodet's ``instances_train2015.json`` and ``instances_test2015.json``, which many programs carry.

One object with parallel lists over images and, within an image, over pairs::

    {"filenames": ["HICO_train2015_00000001.jpg", ...], "size": [[640, 480], ...],
     "objects": ["airplane", ...], "verbs": ["adjust", ...],
     "annotation": [{"boxes_h": [[x1, y1, x2, y2], ...], "boxes_o": [...],
                     "hoi": [152, ...], "object": [4, ...], "verb": [76, ...]}, ...]}

Numbers count from 0, boxes are the pixels of ``anno_bbox.mat``, sizes are width and height.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.categories import category_key
from hoiclip.data.content import OUT_OF_RANGE, Defect, HoiaContent, is_int, read_boxes, read_size
from hoiclip.data.json_files import lacking, listed_keys
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

BOXES = ("boxes_h", "boxes_o")
CLASSES = ("hoi", "object", "verb")


def is_hicodet_form(data: Any) -> bool:
    """Whether parsed JSON has this form."""
    if not isinstance(data, dict) or not isinstance(data.get("annotation"), list):
        return False
    return "filenames" in data or any(isinstance(e, dict) and "boxes_h" in e for e in data["annotation"][:1])


def parse_hicodet_form(data: dict[str, Any], vocabulary: HoiVocabulary, path: str | Path) -> HoiaContent:
    """Turn it into annotated images and a list of defects.

    A box that comes again with the same class in one image is stored once, as in the official file.

    Args:
        data: the parsed JSON.
        vocabulary: what its numbers and names mean.  HICO-DET's ``hoi`` decides, ``object`` and ``verb``
            must not contradict it; with words of your own the file's ``objects`` and ``verbs`` decide.
        path: how messages call the file.

    Raises:
        HoiError: no file names, or not one for each image.
    """
    entries, names = data["annotation"], data.get("filenames")
    if not isinstance(names, list) or len(names) != len(entries):
        count = f"{len(names)}" if isinstance(names, list) else "no"
        raise HoiError(
            f"{path}: has {len(entries)} images in 'annotation' but {count} names in 'filenames'; give the whole file"
        )
    sizes = data.get("size")
    if not isinstance(sizes, list) or len(sizes) != len(entries):
        sizes = [None] * len(entries)
    reader = _Reader(data, vocabulary)
    for entry, name, size in zip(entries, names, sizes, strict=True):
        reader.read(entry, name, size)
    return reader.content


class _Reader:
    def __init__(self, data: dict[str, Any], vocabulary: HoiVocabulary) -> None:
        self.vocabulary, self.content = vocabulary, HoiaContent()
        self.published = vocabulary.name.split("_")[0] == "hico"
        self.pairs = {pair: k for k, pair in enumerate(vocabulary.interactions)}
        self.objects = self._table(data.get("objects"), vocabulary.objects)
        self.verbs = self._table(data.get("verbs"), vocabulary.verbs)

    @staticmethod
    def _table(names: Any, own: tuple[str, ...]) -> list[tuple[str, int]] | None:
        """The file's names, and which of ours each is, -1 for none; None where the file has no names."""
        if not isinstance(names, list) or not names:
            return None
        ids = {category_key(name): i for i, name in enumerate(own)}
        return [(str(name), ids.get(category_key(name), -1)) for name in names]

    def read(self, entry: Any, name: Any, size: Any) -> None:
        self.at = len(self.content.images)
        self.name = name if isinstance(name, str) and name else "?"
        if self.name == "?":
            self._defect("unreadable entry", "image", -1, f"its file name is {name!r}")
        if not isinstance(entry, dict) or (missing := lacking(entry, BOXES)):
            detail = missing if isinstance(entry, dict) else f"it is {listed_keys(entry)}"
            self._defect("missing list", "image", -1, detail)
            entry = {key: [] for key in BOXES}
        lists = {key: entry[key] for key in (*BOXES, *CLASSES) if key in entry}
        if not all(isinstance(values, list) and len(values) == len(lists["boxes_h"]) for values in lists.values()):
            self._defect("unreadable entry", "image", -1, f"{', '.join(lists)} are not lists of one length")
            lists = {key: [] for key in BOXES}
        corners: dict[str, list[list[float]]] = {}
        wrong: dict[tuple[str, int], tuple[str, str]] = {}
        for key in BOXES:
            boxes, complaints = read_boxes(lists[key])
            corners[key] = boxes.tolist()
            wrong |= {(key, i): (kind, detail) for kind, i, detail in complaints}
        rows: dict[tuple[float, ...], int] = {}  # (x1, y1, x2, y2, class) -> position of the box
        pairs, hoi_ids = [], []
        person = self.vocabulary.person_id if self.vocabulary.person_id is not None else -1
        for i in range(len(lists["boxes_h"])):
            hoi = self._interaction({key: lists[key][i] for key in CLASSES if key in lists}, i)
            if hoi is None:
                continue
            pair = []
            for key, class_id in (("boxes_h", person), ("boxes_o", int(self.vocabulary.object_ids[hoi]))):
                known = len(rows)
                pair.append(rows.setdefault((*corners[key][i], class_id), known))
                if pair[-1] == known and (key, i) in wrong:
                    kind, detail = wrong[key, i]
                    self._defect(kind, "box", known, f"{key} {i}: {detail}")
            pairs.append(pair)
            hoi_ids.append(hoi)
        table = np.array(list(rows), dtype=np.float64).reshape(-1, 5)
        height_width = read_size(size[1], size[0]) if isinstance(size, list) and len(size) == 2 else None
        image = AnnotatedImage(self.name, table[:, :4], table[:, 4], np.array(pairs), np.array(hoi_ids), height_width)
        self.content.images.append(image)

    def _interaction(self, given: dict[str, Any], pair: int) -> int | None:
        """The interaction of a pair; None and a defect where there is none or the numbers contradict each other."""
        named = self._by_names(given)
        if isinstance(named, str):
            self._defect(OUT_OF_RANGE, "pair", pair, named)
            return None
        hoi: Any = given.get("hoi")
        if named is not None and not self.published:
            return named
        if not is_int(hoi) or not 0 <= hoi < self.vocabulary.num_interactions:
            detail = f"hoi {hoi!r} is not in 0..{self.vocabulary.num_interactions - 1}"
            self._defect(OUT_OF_RANGE, "pair", pair, detail)
            return None
        verb = given.get("verb")
        unnamed = self.published and named is None and verb is not None and verb != self.vocabulary.verb_ids[hoi]
        if unnamed or (named is not None and named != hoi):
            other = f"verb {verb}" if named is None else repr(self.vocabulary.interaction_name(named))
            detail = f"hoi {hoi} is {self.vocabulary.interaction_name(hoi)!r}, which {other} contradicts"
            self._defect(OUT_OF_RANGE, "pair", pair, f"{detail}; numbers count from 0")
            return None
        return hoi

    def _by_names(self, given: dict[str, Any]) -> int | str | None:
        """The interaction by the file's own names; words on what is wrong; None where it has no names."""
        if self.objects is None or self.verbs is None or not {"object", "verb"} <= given.keys():
            return None
        words, ids = [], []
        for key, table in (("verb", self.verbs), ("object", self.objects)):
            number = given[key]
            if not is_int(number) or not 0 <= number < len(table):
                return f"{key} {number!r} is not in 0..{len(table) - 1}"
            words.append(table[number][0])
            ids.append(table[number][1])
        found = self.pairs.get((ids[0], ids[1]))
        return f"{' '.join(words)!r} is no interaction of the vocabulary" if found is None else found

    def _defect(self, kind: str, where: str, index: int, detail: str) -> None:
        self.content.defects.append(Defect(kind, self.name, self.at, where, index, detail))
