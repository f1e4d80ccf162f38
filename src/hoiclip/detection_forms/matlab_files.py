"""The folder of ``detections_01.mat`` ... that the official HICO-DET program reads, one file for each object.

Each holds the cell array ``all_boxes``, interactions of the object x test images in official order; a cell is an
(m, 9) matrix of human box, object box (x1 y1 x2 y2, pixels counted from 0) and score.  The program adds 1 to the
boxes before it compares them with the annotation, and so does the reader.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hoiclip.detection_files import checked
from hoiclip.detection_forms.hoia_predictions import Reading
from hoiclip.detections import Detections
from hoiclip.errors import HoiError, first_line
from hoiclip.files import MOST_TEXT, SMALL_TEXT
from hoiclip.vocabulary import HoiVocabulary

MATLAB_5, MATLAB_7_3 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"
COLUMNS = 9
COMPRESSED = 15  # how the format calls a packed variable
CHUNK = 1 << 20


def is_matlab(head: bytes) -> bool:
    """Whether a file that begins so is one of Matlab's."""
    return head.startswith((MATLAB_5, MATLAB_7_3))


def read_matlab_files(
    files: Sequence[Path], vocabulary: HoiVocabulary, file_names: Sequence[str] | None
) -> Iterator[Reading]:
    """Read the files of a folder.

    Args:
        files: all of them, one for each object of the vocabulary.
        vocabulary: what they can mean.
        file_names: the test images, which are taken in the order of their names.

    Raises:
        HoiError: a missing, damaged or foreign file, or another number of images.
    """
    if file_names is None:
        raise HoiError(f"{files[0].parent}: .mat files name no images; give the annotations of all test images")
    order = sorted(file_names)
    boxes: list[np.ndarray] = []
    hoi_ids: list[np.ndarray] = []
    images: list[np.ndarray] = []
    for object_id, file in enumerate(_by_object(files, vocabulary)):
        own = np.flatnonzero(vocabulary.object_ids == object_id)
        cells = _cells(file)
        if cells.shape != (len(own), len(order)):
            raise HoiError(
                f"{file}: all_boxes is {' x '.join(map(str, cells.shape))}, where {len(own)} interactions with "
                f"{vocabulary.objects[object_id]!r} and {len(order)} annotated images are expected"
            )
        full = ((k, i, cell) for k, row in enumerate(cells) for i, cell in enumerate(row) if np.size(cell))
        for k, i, cell in full:
            rows = _rows(cell, file, k, i)
            boxes.append(rows)
            hoi_ids.append(np.full(len(rows), own[k]))
            images.append(np.full(len(rows), i))
    table = np.concatenate([np.zeros((0, COLUMNS)), *boxes])
    hoi, image = (np.concatenate([np.zeros(0, dtype=np.int64), *column]) for column in (hoi_ids, images))
    sort = np.argsort(image, kind="stable")
    parts = np.split(sort, np.searchsorted(image[sort], np.arange(1, len(order))))
    for name, part in zip(order, parts, strict=True):
        yield f"{files[0].parent}: image {name!r}", partial(_image, name, table[part], hoi[part], vocabulary)


def _image(name: str, rows: np.ndarray, hoi_ids: np.ndarray, vocabulary: HoiVocabulary) -> tuple[str, Detections]:
    human, object_ = rows[:, :4] + 1, rows[:, 4:8] + 1
    return name, checked(human, object_, hoi_ids, rows[:, 8], vocabulary)


def _by_object(files: Sequence[Path], vocabulary: HoiVocabulary) -> list[Path]:
    """The file of each object, which the number in its name tells."""
    by_number: dict[int, Path] = {}
    for file in files:
        numbers = re.findall(r"\d+", file.stem)
        if not numbers or int(numbers[-1]) in by_number:
            raise HoiError(f"{file}: its name does not tell which object it is of, as detections_01.mat does")
        by_number[int(numbers[-1])] = file
    count = len(vocabulary.objects)
    if sorted(by_number) != list(range(1, count + 1)):
        lacking = sorted(set(range(1, count + 1)) - set(by_number))
        what = f"detections_{lacking[0]:02d}.mat is missing" if lacking else f"there are {len(by_number)} files"
        raise HoiError(
            f"{files[0].parent}: {what}; one file is expected for each of the {count} objects of {vocabulary.name!r}"
        )
    return [by_number[number] for number in range(1, count + 1)]


def _cells(file: Path) -> np.ndarray:
    from scipy.io import loadmat

    with file.open("rb") as opened:
        if opened.read(len(MATLAB_7_3)) == MATLAB_7_3:
            raise HoiError(f"{file}: is of Matlab 7.3 (HDF5), which is not read; save it with -v7")
    try:
        _refuse_bomb(file)
        content = loadmat(file, variable_names=["all_boxes"])
    except HoiError:
        raise
    except Exception as error:  # scipy raises whatever the damage leads to
        raise HoiError(
            f"{file}: is damaged, cut off or no Matlab 5 file ({first_line(error, 100)}); make or copy it again"
        ) from error
    cells = content.get("all_boxes")
    if cells is None:
        raise HoiError(f"{file}: holds no variable 'all_boxes'; give what the official HICO-DET program reads")
    if not isinstance(cells, np.ndarray) or cells.ndim != 2 or (cells.size and cells.dtype != object):
        raise HoiError(f"{file}: all_boxes is no cell array of interactions x images")
    return cells


def _refuse_bomb(file: Path) -> None:
    """Raise HoiError where packed variables would fill the memory, which scipy does not look at."""
    content = file.read_bytes()
    order: Literal["little", "big"] = "big" if content[126:128] == b"MI" else "little"
    left, position = max(SMALL_TEXT, MOST_TEXT * len(content)), 128
    while position < len(content):
        kind, length = (int.from_bytes(content[position + i : position + i + 4], order) for i in (0, 4))
        packed, unpacker = content[position + 8 : position + 8 + length], zlib.decompressobj()
        while kind == COMPRESSED and packed and left >= 0:
            left -= len(unpacker.decompress(packed, CHUNK))
            packed = unpacker.unconsumed_tail
        position += 8 + length
    if left < 0:
        raise HoiError(f"{file}: unpacks to more than {MOST_TEXT} times its size; save it without compression")


def _rows(cell: Any, file: Path, k: int, i: int) -> np.ndarray:
    if not isinstance(cell, np.ndarray) or cell.ndim != 2 or cell.shape[1] != COLUMNS or cell.dtype.kind not in "fiu":
        raise HoiError(
            f"{file}: cell ({k + 1}, {i + 1}) of all_boxes is {' x '.join(map(str, np.shape(cell)))}, not rows of "
            f"{COLUMNS} numbers"
        )
    return cell.astype(np.float64)
