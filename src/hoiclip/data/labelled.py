"""What people draw in a labelling tool, whichever it was: named boxes, and relations between two of them.

``label_studio.py``, ``cvat.py`` and ``coco_relations.py`` read their tools' files into this form, ``importing.py``
makes a folder of one's own (``custom.py``) out of it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hoiclip.errors import HoiError

Box = tuple[float, float, float, float]
SHOWN = 3  # things that cannot be meant, told in full
OUTSIDE = 1.0  # pixels that a box may leave the image by: tools round


@dataclass(frozen=True)
class Relation:
    """Two boxes and what the person does.

    Attributes:
        subject, object: positions in the image's boxes; the object is -1 where there is none.
        verb: as it was written.
        both_ways: drawn without a direction.
    """

    subject: int
    object: int
    verb: str
    both_ways: bool = False


@dataclass(frozen=True)
class LabelledImage:
    """One image of a labelling tool.

    Attributes:
        where: how messages call it, ``task 17 (a.jpg)``.
        names: where its file may lie below an image folder, the likeliest first.
        size: (height, width) in pixels, or None where the tool does not say.
        labels: n names as they were written.
        boxes: n boxes, xyxy in pixels.
        relations: between them.
    """

    where: str
    names: tuple[str, ...]
    size: tuple[int, int] | None
    labels: list[str]
    boxes: list[Box]
    relations: list[Relation]


@dataclass
class Findings:
    """What a file has that cannot be meant, and what is only unusual.

    Attributes:
        path: the file.
        impossible: one sentence each, with the image.
        unusual: how often something was met that has one meaning only, or was left out.
    """

    path: str | Path
    impossible: list[str] = field(default_factory=list)
    unusual: Counter[str] = field(default_factory=Counter)

    def refuse(self) -> None:
        """Raise HoiError if something cannot be meant; the first few are told in full."""
        if self.impossible:
            more = len(self.impossible) - SHOWN
            told = "; ".join(self.impossible[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise HoiError(f"{self.path}: {told}")

    def sentences(self) -> list[str]:
        """The unusual, for people."""
        return [f"{count:,} {what}" for what, count in self.unusual.items() if count]


class ImageReader:
    """Collect the boxes and relations of one image, by the names that its tool gives them.

    Args:
        where: how messages call it.
        size: (height, width) in pixels, or None.
        findings: takes what is wrong.
    """

    def __init__(self, where: str, size: tuple[int, int] | None, findings: Findings) -> None:
        self.where, self.size, self.findings = where, size, findings
        self.rows: dict[str, int] = {}
        self.labels: list[str] = []
        self.boxes: list[Box] = []
        self.relations: list[Relation] = []
        self._refused: set[str] = set()

    def wrong(self, what: str) -> None:
        """Something that cannot be meant."""
        self.findings.impossible.append(f"{self.where}: {what}")

    def add_box(self, key: str, label: str, box: Box) -> None:
        """A box, xyxy in pixels; corners that leave the image by a rounding are cut."""
        if key in self.rows or key in self._refused:
            self.wrong(f"two boxes are called {key!r}")
            return
        self._refused.add(key)  # until it is accepted
        if not label.strip():
            self.wrong(f"box {key!r} has no label")
        elif not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            self.wrong(f"box {key!r} is {_shown(box)}: it has no area")
        elif self.size is not None and self._leaves(box):
            self.wrong(f"box {key!r}, {_shown(box)}, leaves the image of {self.size[1]} x {self.size[0]} pixels")
        else:
            self._refused.discard(key)
            self.rows[key] = len(self.boxes)
            self.labels.append(label)
            self.boxes.append(box if self.size is None else self._cut(box))

    def add_relation(self, subject: str, thing: str | None, verb: object, *, both_ways: bool = False) -> None:
        """A relation between two boxes; None for no object."""
        unknown = [key for key in (subject, thing) if key is not None and key not in self.rows]
        if not isinstance(verb, str) or not verb.strip():
            self.wrong(f"the relation from {subject!r} to {thing!r} has no verb")
        elif unknown:
            if unknown[0] not in self._refused:  # else it is told already
                self.wrong(f"the relation {verb!r} names a box {unknown[0]!r} that is not there")
        else:
            row = -1 if thing is None else self.rows[thing]
            self.relations.append(Relation(self.rows[subject], row, verb, both_ways))

    def image(self, names: tuple[str, ...]) -> LabelledImage:
        """What was collected."""
        return LabelledImage(self.where, names, self.size, self.labels, self.boxes, self.relations)

    def _leaves(self, box: Box) -> bool:
        assert self.size is not None
        height, width = self.size
        return min(box[0], box[1], width - box[2], height - box[3]) < -OUTSIDE

    def _cut(self, box: Box) -> Box:
        assert self.size is not None
        height, width = self.size
        return (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))


def upright_box(box: Box, degrees: float, pivot: tuple[float, float]) -> Box:
    """The upright box around one that is turned clockwise about a point, xyxy in pixels."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - pivot[0], y - pivot[1]) for x in box[::2] for y in box[1::2]]
    xs = [pivot[0] + cos * x - sin * y for x, y in corners]
    ys = [pivot[1] + sin * x + cos * y for x, y in corners]
    return (min(xs), min(ys), max(xs), max(ys))


def _shown(box: Box) -> str:
    return "[" + ", ".join(f"{value:.1f}" for value in box) + "]"
