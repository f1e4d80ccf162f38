"""CVAT's XML, "CVAT for images 1.1".

The form has no relations, so attributes say them: the box of a person has an attribute ``id``; the box of an object
has ``person``, the id of whoever acts on it, and ``verb``, what that person does (several are separated by commas).
For a second person there are ``person_2`` and ``verb_2``, and so on.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from hoiclip.data.content import read_size
from hoiclip.data.labelled import Box, Findings, ImageReader, LabelledImage, upright_box
from hoiclip.errors import HoiError, first_line
from hoiclip.files import read_text
from hoiclip.words import split_words

LONGEST = 1 << 28  # characters
#: a document type may define entities that stand for each other, and grow without end; CVAT writes none
DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
SIDES = ("xtl", "ytl", "xbr", "ybr")
EMPTY = ("", "__undefined__")  # what the tool writes for an attribute nobody filled in


def read_cvat(path: str | Path, findings: Findings) -> list[LabelledImage]:
    """Read the ``annotations.xml`` of an export.

    Args:
        path: the file.
        findings: takes what cannot be meant and what is unusual.

    Raises:
        HoiError: no such export, or XML with a document type.
    """
    text = read_text(path, "an annotations.xml of CVAT")
    if len(text) > LONGEST:
        raise HoiError(f"{path}: has {len(text):,} characters, more than an export of one task; export tasks singly")
    if DECLARATION.search(text):
        raise HoiError(f"{path}: declares a document type or entities, which CVAT does not write; export it again")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise HoiError(f"{path}: is not valid XML ({first_line(error)}); export it from CVAT again") from error
    if root.tag != "annotations" or root.find("track") is not None:
        what = "tracks of a video" if root.tag == "annotations" else f"<{root.tag[:40]}>, not <annotations>"
        raise HoiError(f'{path}: holds {what}; export from CVAT as "CVAT for images 1.1"')
    return [_read_image(image, findings) for image in root.iter("image")]


def _read_image(image: ElementTree.Element, findings: Findings) -> LabelledImage:
    name = image.get("name", "")
    where = f"image {image.get('id', '?')} ({name or 'no name'})"
    size = read_size(*(_whole(image.get(side)) for side in ("height", "width")))
    reader = ImageReader(where, size, findings)
    if not name:
        reader.wrong("has no name")
    if size is None:
        reader.wrong("gives no width and height")
    wanted: list[tuple[str, str, str]] = []  # box, person, verb
    for position, shape in enumerate(image):
        if shape.tag != "box":
            findings.unusual[f"shapes of the kind {shape.tag[:40]} were left out"] += shape.tag != "tag"
            continue
        attributes = {a.get("name", "").strip().lower(): (a.text or "").strip() for a in shape.iter("attribute")}
        filled = {key: value for key, value in attributes.items() if value not in EMPTY}
        key = f"number {position + 1}"  # nobody calls a person so
        box = _box(shape, reader, key)
        if box is None:
            continue
        if "id" in filled:
            key = filled["id"]
        reader.add_box(key, shape.get("label", ""), box)
        wanted += [(key, *pair) for pair in _said(filled, key, reader)]
    for key, person, verb in wanted:
        if key in reader.rows:
            reader.add_relation(person, key, verb)
    return reader.image((name,))


def _said(attributes: dict[str, str], key: str, reader: ImageReader) -> list[tuple[str, str]]:
    """(id of a person, verb) pairs that the attributes of a box say."""
    found = []
    endings = {name[len(word) :] for name in attributes for word in ("person", "verb") if name.startswith(word)}
    for ending in sorted(ending for ending in endings if re.fullmatch(r"(_\d+)?", ending)):
        person, verbs = attributes.get(f"person{ending}"), attributes.get(f"verb{ending}")
        if person is None or verbs is None:
            lacking = "person" if person is None else "verb"
            reader.wrong(f"box {key!r} has no attribute {lacking + ending!r} beside its other half")
            continue
        found += [(person, verb) for verb in split_words(verbs)]
    return found


def _box(shape: ElementTree.Element, reader: ImageReader, key: str) -> Box | None:
    try:
        x1, y1, x2, y2 = (float(shape.get(side, "")) for side in SIDES)
        turned = float(shape.get("rotation", 0))
    except ValueError:
        reader.wrong(f"box {key!r} has no numbers {', '.join(SIDES)}")
        return None
    if not turned:
        return (x1, y1, x2, y2)
    reader.findings.unusual["boxes are turned: the upright box around each was taken, inside the image"] += 1
    x1, y1, x2, y2 = upright_box((x1, y1, x2, y2), turned, ((x1 + x2) / 2, (y1 + y2) / 2))
    height, width = reader.size or (y2, x2)
    return (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,9}", text) else None
