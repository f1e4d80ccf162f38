"""HICO-DET from what a user has: the official ``anno_bbox.mat`` or the JSON form, found under one folder.

    train = load_hicodet("data/hicodet", "train")

Chao et al., *Learning to Detect Human-Object Interactions* (WACV 2018).  Coordinates are pixel
positions counted from 1, both ends inside the box, exactly as annotated.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.content import MENDED, OUT_OF_RANGE, Defect, HoiaContent, accepted
from hoiclip.data.hoia import load_hoia
from hoiclip.data.layout import DatasetLayout, existing_folder, find_files, find_folders
from hoiclip.errors import HoiError, first_line
from hoiclip.vocabulary import HoiVocabulary

SPLITS = ("train", "test")
MAT_FILE = "anno_bbox.mat"
JSON_FILES = {
    "train": ("trainval_hico.json", "hico_train_hoia.json"),
    "test": ("test_hico.json", "hico_test_hoia.json"),
}
INSTANCES = {split: f"instances_{split}2015.json" for split in SPLITS}  # hicodet's form
IMAGE_FOLDERS = {"train": "train2015", "test": "test2015"}


def find_hicodet(root: str | Path) -> DatasetLayout:
    """Look for HICO-DET at or below ``root``: the JSON form, else ``anno_bbox.mat``, else hicodet's instances.

    Raises:
        HoiError: no such folder, or neither form in it.
    """
    root = existing_folder(root)
    files = find_files(root, {MAT_FILE, *INSTANCES.values(), *chain.from_iterable(JSON_FILES.values())})
    annotations = {
        split: next((files[name] for name in (*names, MAT_FILE, INSTANCES[split]) if name in files), None)
        for split, names in JSON_FILES.items()
    }
    if not any(annotations.values()):
        raise HoiError(
            f"{root}: holds no HICO-DET annotations ({MAT_FILE}, or trainval_hico.json and test_hico.json); "
            "give the folder of the unpacked release, or unpack one with `hoiclip data prepare hicodet`"
        )
    folders = find_folders(root, set(IMAGE_FOLDERS.values()))
    return DatasetLayout(
        kind="hicodet",
        root=root,
        vocabulary=HoiVocabulary.from_name("hico"),
        annotations={split: path for split, path in annotations.items() if path},
        images={split: (folders[name],) for split, name in IMAGE_FOLDERS.items() if name in folders},
    )


def load_hicodet(root: str | Path, split: str) -> list[AnnotatedImage]:
    """The annotated images of ``"train"`` or ``"test"`` found at or below ``root``.

    Raises:
        HoiError: not found, damaged, or an id out of range.
    """
    path = find_hicodet(root).source(split)
    if path.name == MAT_FILE:
        return accepted(read_anno_bbox(path, split), path)
    return load_hoia(path, "hico")


# --- the official Matlab file ----------------------------------------------------------------------


def read_anno_bbox(path: str | Path, split: str) -> HoiaContent:
    """Read ``bbox_train`` or ``bbox_test`` of the official Matlab file.

    A box that comes again with the same class in one image is stored once; boxes are in the order
    of their first appearance, person before object.  Corners in the wrong order are swapped and
    noted as a defect, and so is what cannot be used: a NaN box, a connection that points nowhere.
    Boxes that leave the image are kept as they are.

    Args:
        path: ``anno_bbox.mat``.
        split: ``"train"`` or ``"test"``.

    Raises:
        HoiError: missing, cut off, or not this file.
    """
    path = Path(path)
    if split not in SPLITS:
        raise HoiError(f"{path}: has no split {split!r}: choose one of {', '.join(SPLITS)}")
    if not os.path.isfile(path):
        raise HoiError(f"{path}: no such file; give the {MAT_FILE} of the HICO-DET release")
    _refuse_cut_off(path)
    variable = f"bbox_{split}"
    try:
        content = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True, variable_names=[variable])
    except Exception as error:  # scipy raises whatever the damage leads to
        raise HoiError(
            f"{path}: is damaged, cut off or no Matlab 5 file ({first_line(error)}); download HICO-DET again"
        ) from error
    if variable not in content:
        raise HoiError(f"{path}: holds no variable {variable!r}; give the {MAT_FILE} of the HICO-DET release")
    reader = _MatReader(path, HoiVocabulary.from_name("hico"))
    for record in _records(content[variable]):
        reader.read(record)
    return reader.content


def _refuse_cut_off(path: Path) -> None:
    """A Matlab 5 file tells the length of each variable, so a missing end shows even behind the last one read."""
    with path.open("rb") as file:
        header, total = file.read(128), path.stat().st_size
        if header.startswith((b"MATLAB 7.3", b"\x89HDF\r\n")):
            raise HoiError(
                f"{path}: is a Matlab 7.3 file (HDF5), which is not read; save it in Matlab with `save(..., '-v7')`, "
                "or give the file of the HICO-DET release"
            )
        order: Literal["little", "big"] = "big" if header[126:] == b"MI" else "little"
        position = 128
        while position < total:
            file.seek(position + 4)
            position += 8 + int.from_bytes(file.read(4), order)
    if position != total:
        raise HoiError(
            f"{path}: is cut off or damaged ({total:,} bytes, expected {position:,}); download HICO-DET again"
        )


class _MatReader:
    """Read one image record after the other."""

    def __init__(self, path: Path, vocabulary: HoiVocabulary) -> None:
        self.path, self.vocabulary, self.content = path, vocabulary, HoiaContent()
        self.person = vocabulary.objects.index("person")

    def read(self, record: Any) -> None:
        at, name = len(self.content.images), str(getattr(record, "filename", "?"))
        rows: dict[tuple[float, ...], int] = {}  # (x1, y1, x2, y2, class) -> position of the box
        pairs: list[tuple[int, int]] = []
        hoi_ids: list[int] = []
        try:
            for hoi in _records(record.hoi):
                if np.size(hoi.invis) and int(np.ravel(hoi.invis)[0]):
                    continue  # true of the image, but nobody sees where
                hoi_id = int(hoi.id) - 1
                if not 0 <= hoi_id < self.vocabulary.num_interactions:
                    self._out_of_range(name, len(pairs), f"interaction id {hoi_id + 1} is not in 1..600")
                    continue
                humans, objects = list(_records(hoi.bboxhuman)), list(_records(hoi.bboxobject))
                kind = int(self.vocabulary.object_ids[hoi_id])
                for human, obj in np.asarray(hoi.connection, dtype=np.int64).reshape(-1, 2).tolist():
                    if not (1 <= human <= len(humans) and 1 <= obj <= len(objects)):
                        connects = f"person {human} of {len(humans)} with object {obj} of {len(objects)}"
                        self._out_of_range(name, len(pairs), f"interaction {hoi_id + 1} connects {connects}")
                        continue
                    human_row = rows.setdefault((*_corners(humans[human - 1]), self.person), len(rows))
                    object_row = rows.setdefault((*_corners(objects[obj - 1]), kind), len(rows))
                    pairs.append((human_row, object_row))
                    hoi_ids.append(hoi_id)
            size = (int(record.size.height), int(record.size.width))
        except (AttributeError, TypeError, ValueError) as error:
            raise HoiError(
                f"{self.path}: image {at} ({name}) does not have the official structure ({error}); "
                "download HICO-DET again"
            ) from error
        self._append(at, name, rows, pairs, hoi_ids, size)

    def _out_of_range(self, name: str, pair: int, detail: str) -> None:
        self.content.defects.append(Defect(OUT_OF_RANGE, name, len(self.content.images), "pair", pair, detail))

    def _append(
        self,
        at: int,
        name: str,
        rows: dict[tuple[float, ...], int],
        pairs: list[tuple[int, int]],
        hoi_ids: list[int],
        size: tuple[int, int],
    ) -> None:
        table = np.array(list(rows), dtype=np.float64).reshape(-1, 5)
        boxes = table[:, :4]
        for i in np.flatnonzero(~np.isfinite(boxes).all(axis=1)).tolist():
            detail = f"its corners are {boxes[i].tolist()}"
            self.content.defects.append(Defect("box is not four numbers", name, at, "box", i, detail))
        for i in np.flatnonzero((boxes[:, 0] > boxes[:, 2]) | (boxes[:, 1] > boxes[:, 3])).tolist():
            detail = f"{boxes[i].tolist()} has its corners in the wrong order and was turned round"
            self.content.defects.append(Defect(MENDED, name, at, "box", i, detail))
        boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
        self.content.images.append(
            AnnotatedImage(
                file_name=name,
                boxes=boxes,
                object_ids=table[:, 4].astype(np.int64),
                pairs=np.array(pairs, dtype=np.int64),
                hoi_ids=np.array(hoi_ids, dtype=np.int64),
                size=size,
            )
        )


def _records(value: Any) -> Iterable[Any]:
    """A struct array that scipy squeezed: many records, a single one, or none."""
    return np.ravel(np.asarray(value, dtype=object)) if isinstance(value, np.ndarray) else iter([value])


def _corners(box: Any) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2, by name: the file stores x1, x2, y1, y2."""
    return float(box.x1), float(box.y1), float(box.x2), float(box.y2)
