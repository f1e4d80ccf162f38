"""JSON files: read whatever editor saved them, and the forms of other projects known by their keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hoiclip.errors import HoiError, first_line
from hoiclip.files import read_text

#: keys that only one project's form has, and its name
KNOWN_FORMS: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(keys.split()), name)
    for keys, name in (
        ("box_annotations hoi_annotations", "SWIG-HOI's form"),
        ("action_name role_object_id", "V-COCO's official list, which needs COCO's instances beside it in a folder"),
        (
            "boxes_h boxes_o actions",
            "the V-COCO form of UPT and PViC (instances_vcoco_*.json); give V-COCO's own files",
        ),
        ("boxes_h boxes_o", "the list 'annotation' of hicodet's instances_*.json; give that whole file"),
        ("gtboxes", "a file of the .odgt kind"),
        ("hois global_id", "the anno_list.json of HICO-DET programs; give anno_bbox.mat, from which it was made"),
        ("triplets", "detections, not annotations"),
        ("predictions hoi_prediction", "predictions in PPDM's form, not annotations"),
        ("bbox image_id score", "COCO results, which hold no pairs"),
        ("image_id bbox category_id", "COCO annotations, which hold no pairs"),
        ("images annotations categories", "COCO instances, which hold no pairs"),
        ("images annotations", "COCO's form, which holds no pairs"),
        ("annotation images", "a form of hicodet's kind; its file names must be in 'filenames'"),
    )
)


def looks_like(data: Any) -> str:
    """Whose form some parsed JSON has, as the end of a sentence; empty where that is not known."""
    entries = [data]
    if isinstance(data, list):
        entries = data[:1]
    elif isinstance(data, dict):
        entries += [inner[0] for key in ("annotations", "annotation", "images", "data") if (inner := _list(data, key))]
    inner_first = [entry for entry in reversed(entries) if isinstance(entry, dict)]
    for keys, name in KNOWN_FORMS:
        if any(keys <= entry.keys() for entry in inner_first):
            return f"; this looks like {name}"
    return ""


def _list(data: dict[str, Any], key: str) -> list[Any]:
    found = data.get(key)
    return found if isinstance(found, list) else []


def listed_keys(entry: Any, most: int = 8) -> str:
    """What an entry has, for a sentence: ``'img_id', 'height'``."""
    if not isinstance(entry, dict):
        return f"{type(entry).__name__} {str(entry)[:40]!r}"
    names = [repr(str(key)[:40]) for key in entry]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "no key"


def lacking(entry: dict[str, Any], keys: Sequence[str]) -> str:
    """``lacks 'annotations'; it has 'boxes', 'width'``; empty where all keys are there."""
    missing = [repr(key) for key in keys if key not in entry]
    return f"lacks {' and '.join(missing)}; it has {listed_keys(entry)}" if missing else ""


def read_json_text(path: str | Path) -> str:
    """The text of a ``.json`` or ``.json.gz`` file.

    Raises:
        HoiError: missing, a cut-off gzip file, or no text.
    """
    return read_text(path, "an annotation file")


def parse_json(text: str, path: str | Path) -> Any:
    """Parse JSON; an error names file and line.

    Raises:
        HoiError: malformed JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        rows = _json_lines(text)
        if rows is not None:
            raise HoiError(
                f"{path}: holds one JSON object per line, with {listed_keys(rows)}, where one list of images is "
                f"expected{looks_like(rows)}"
            ) from error
        raise HoiError(
            f"{path}: line {error.lineno} is not valid JSON (column {error.colno}: {error.msg}); "
            "correct or download it again"
        ) from error
    except (RecursionError, ValueError) as error:  # nested without end, a number of thousands of digits
        raise HoiError(f"{path}: is no annotation file ({first_line(error)}); give the right file") from error


def _json_lines(text: str) -> Any:
    """The first object of a file with one on each line, None where it is no such file."""
    first, newline, rest = text.lstrip().partition("\n")
    if not newline or not first.startswith("{") or not rest.lstrip().startswith("{"):
        return None
    try:
        return json.loads(first)
    except (ValueError, RecursionError):
        return None
