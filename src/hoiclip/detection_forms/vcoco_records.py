"""The pickle that the official V-COCO program reads: a list with one record for each detected person.

{"image_id": 42, "person_box": [x1, y1, x2, y2], "hold_agent": 0.9, "hold_obj": [x1, y1, x2, y2, 0.8], ...}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.boxes import in_fractions, reversed_corners
from hoiclip.data.content import is_int
from hoiclip.data.vcoco_ground_truth import ACTIONS, ROLE_NAMES
from hoiclip.errors import HoiError


def is_vcoco_records(content: Any) -> bool:
    """Whether what a pickle holds is of this form."""
    return isinstance(content, list) and any(isinstance(v, dict) and "person_box" in v for v in content[:1])


def checked_records(content: list[Any], path: str | Path) -> list[dict[str, Any]]:
    """The records, if all of them can be meant.

    Raises:
        HoiError: one of another form, with infinity, or with boxes that are not pixels x1 y1 x2 y2.
    """
    agents = [f"{action.name}_agent" for action in ACTIONS]
    people = np.zeros((len(content), 4))
    for i, record in enumerate(content):
        where = f"{path}: record {i}"
        if not isinstance(record, dict) or "person_box" not in record:
            raise HoiError(f"{where}: is no dictionary with 'person_box'")
        number = record.get("image_id")
        if isinstance(number, float) and number.is_integer():
            record["image_id"] = number = int(number)
        if not is_int(number) and not isinstance(record.get("file_name"), str):
            raise HoiError(f"{where}: image_id {str(number)[:60]!r} is no whole number")
        people[i] = _numbers(record["person_box"], 4, f"{where}: person_box")
        for name in agents:
            if record.get(name) is not None:
                record[name] = float(_numbers(np.ravel(record[name]), 1, f"{where}: {name}")[0])
        for name in ROLE_NAMES:
            if record.get(name) is not None:
                record[name] = _numbers(record[name], 5, f"{where}: {name}")
    if not np.isfinite(people).all():
        first = int((~np.isfinite(people).all(axis=1)).argmax())
        raise HoiError(f"{path}: record {first}: person_box holds NaN")
    turned, small = reversed_corners(people), in_fractions(people)
    if turned.any():
        raise HoiError(
            f"{path}: record {int(turned.argmax())}: person_box is {people[turned.argmax()].tolist()}; boxes are "
            "pixels x1 y1 x2 y2, here x2 < x1 or y2 < y1 (are they x y width height?)"
        )
    if 2 * small.sum() > people.any(axis=1).sum():
        raise HoiError(
            f"{path}: record {int(small.argmax())}: person_box is {people[small.argmax()].tolist()}; boxes are "
            "pixels x1 y1 x2 y2, these are fractions of the image"
        )
    return content


def _numbers(value: Any, count: int, what: str) -> np.ndarray:
    """(count,) float64 without infinity; NaN says that there is no prediction."""
    try:
        numbers = np.array(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise HoiError(f"{what} is not {count} numbers") from error
    if len(numbers) != count:
        raise HoiError(f"{what} is {len(numbers)} numbers, not {count}")
    if np.isinf(numbers).any():
        raise HoiError(f"{what} holds infinity")
    return numbers
