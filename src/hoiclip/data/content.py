"""The content of an annotation file with everything in it that is wrong, and which of that makes it unusable."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.boxes import far_outside, in_fractions, reversed_corners
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.layout import leaves_folder
from hoiclip.errors import HoiError

OUT_OF_RANGE = "id out of range"
NOT_FOUR_NUMBERS = "box is not four numbers"
MENDED = "corners swapped"  # repaired in reading: the file names its corners, so nothing else can be meant
REVERSED = "corners in the wrong order"  # repaired too, but many of them mean another box format
IN_FRACTIONS = "box in fractions of the image"
FAR_OUTSIDE = "box far outside the image"
LEAVES_FOLDER = "file name leaves the image folder"
#: what a few boxes of a large file may have, and what many of them mean
FEW_ARE_TOLERATED = {
    REVERSED: 'for boxes that are x, y, width, height say so with "box_format": "xywh"',
    IN_FRACTIONS: "multiply them by the width and height of the image",
    FAR_OUTSIDE: "is 'width' or 'height' wrong, or are the boxes those of the image before it was resized?",
}
FEW = 0.01  # of the boxes of a file


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


def accepted(content: HoiaContent, path: str | Path, text: str = "") -> list[AnnotatedImage]:
    """The images of a file without a defect that makes them unusable.

    Args:
        content: what was read.
        path: how the message calls the file.
        text: of the file, to tell the line.

    Raises:
        HoiError: there is such a defect; the first one is told in full.  Corners in the wrong order,
            fractions and boxes far outside the image are such where more than 1 % of the boxes are.

    Warns:
        UserWarning: fewer of these, images listed twice, pairs that are no interaction, with a count.
    """
    defects = content.defects + [d for at, image in enumerate(content.images) for d in _beside_the_file(at, image)]
    fatal = [defect for defect in defects if defect.kind != MENDED and defect.kind not in FEW_ARE_TOLERATED]
    advice = ""
    boxes = sum(len(image.boxes) for image in content.images)
    for kind, way_out in FEW_ARE_TOLERATED.items():
        found = [defect for defect in defects if defect.kind == kind]
        if len(found) > FEW * boxes and not fatal:
            fatal, advice = found, f"; {way_out}"
        elif found and not fatal:
            warnings.warn(f"{path}: {len(found):,} of {boxes:,} boxes: {kind}, the first in {found[0]}", stacklevel=3)
    if fatal:
        line = f"line {line_of(text, fatal[0].file_name)}: " if text else ""
        more = f" ({len(fatal) - 1} more; `hoiclip data check` lists them)" if len(fatal) > 1 else ""
        raise HoiError(f"{path}: {line}{fatal[0]}{advice}{more}")
    twice = [name for name, count in Counter(image.file_name for image in content.images).items() if count > 1]
    if twice:
        warnings.warn(f"{path}: {len(twice):,} images are listed more than once, such as {twice[0]!r}", stacklevel=3)
    if content.unlisted:
        warnings.warn(
            f"{path}: {content.unlisted} pairs have a verb and object that are no interaction of the vocabulary; "
            "they count for their verb only",
            stacklevel=3,
        )
    return content.images


def _beside_the_file(at: int, image: AnnotatedImage) -> list[Defect]:
    """What no reader looks at, since it concerns the image and not the form of the file."""
    defects = [leaving(at, image)] if leaves_folder(image.file_name) else []
    if image.size is not None and len(image.boxes):
        height, width = image.size
        for i in np.flatnonzero(far_outside(image.boxes, image.size)).tolist():
            detail = f"{image.boxes[i].tolist()} in {width} x {height} pixels"
            defects.append(Defect(FAR_OUTSIDE, image.file_name, at, "box", i, detail))
    return defects


def leaving(at: int, image: AnnotatedImage) -> Defect:
    """The defect of an image whose name leads out of the image folder."""
    detail = "it must be relative to the image folder, without '..'"
    return Defect(LEAVES_FOLDER, image.file_name, at, "image", -1, detail)


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


def read_boxes(values: Sequence[Any], box_format: str = "xyxy") -> tuple[np.ndarray, list[tuple[str, int, str]]]:
    """Read the boxes of one image as JSON has them.

    Args:
        values: n boxes, each of which should be a list of four numbers in pixels.
        box_format: ``"xyxy"`` or ``"xywh"``.

    Returns:
        (n, 4) float64 xyxy, NaN where it is not four finite numbers, corners in the right order; and
        what is wrong: (kind, position, detail).
    """
    wrong: list[tuple[str, int, str]] = []
    rows: list[list[float]] = []
    for i, box in enumerate(values):
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            wrong.append((NOT_FOUR_NUMBERS, i, f"bbox is {str(box)[:80]!s}"))
            box = [math.nan] * 4
        elif not all(map(math.isfinite, box)):
            wrong.append((NOT_FOUR_NUMBERS, i, f"bbox holds NaN or infinity: {box}"))
        rows.append(box)
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    small = in_fractions(boxes)
    wrong += [(IN_FRACTIONS, i, f"{rows[i]} is not in pixels") for i in np.flatnonzero(small).tolist()]
    if box_format == "xywh":
        boxes[:, 2:] += boxes[:, :2]
    turned = reversed_corners(boxes)
    named = {"xyxy": "x1, y1, x2, y2", "xywh": "x, y, width, height"}[box_format]
    wrong += [(REVERSED, i, f"{rows[i]} as {named}") for i in np.flatnonzero(turned & ~small).tolist()]
    boxes[turned] = np.sort(boxes[turned].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    return boxes, wrong


def read_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(height, width) as JSON has it, None where it is no size of an image."""
    return (height, width) if all(is_int(x) and 0 < x < 2**31 for x in (height, width)) else None


def is_number(value: Any) -> bool:
    """A float, or an integer that is one exactly."""
    return isinstance(value, float) or (is_int(value) and abs(value) < 2**53)


def is_int(value: Any) -> bool:
    """An integer, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool)


def line_of(text: str, file_name: str) -> int:
    """Where an image's entry stands, so that an editor can jump there."""
    for spelling in (json.dumps(file_name), json.dumps(file_name, ensure_ascii=False)):
        position = text.find(spelling)
        if position >= 0:
            return text.count("\n", 0, position) + 1
    return 1
