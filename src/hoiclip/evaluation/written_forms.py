"""Write detections in the forms that other programs read; docs/compare.md lists them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hoiclip.detection_files import full_entry, save_detections
from hoiclip.detection_forms.coco_results import coco_results
from hoiclip.detection_forms.hoia_predictions import hoia_prediction
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.submissions import write_hicodet_matlab, write_vcoco_pickle
from hoiclip.files import atomic_path, write_text_atomic
from hoiclip.parquet_rows import parquet_files, row, write_rows

ROWS = 1000  # images in a file of Parquet


def write_detections(
    detections: Mapping[str, Detections], form: str, path: str | Path, file_names: Sequence[str] | None = None
) -> None:
    """Write detections in a form that :func:`hoiclip.evaluation.load_detections` reads back.

    Args:
        detections: by file name.
        form: a key of :data:`WRITTEN`.
        path: the file; a folder for ``parquet`` and ``hico-mat``.
        file_names: the test images, which ``hico-mat`` needs all; None takes those in ``detections``.

    Raises:
        HoiError: nothing to write, an unknown form, or a path that cannot be written.
    """
    if form not in WRITTEN:
        raise HoiError(f"unknown form {form!r}: choose one of {', '.join(WRITTEN)}")
    if not detections:
        raise HoiError("there are no detections to write")
    if form == "hico-mat":
        write_hicodet_matlab(detections, path, file_names)
    else:
        WRITTEN[form](detections, Path(path))


def _write_predictions(detections: Mapping[str, Detections], path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for i, (name, found) in enumerate(detections.items()):
            file.write(("[" if i == 0 else ",\n") + json.dumps(hoia_prediction(name, found), ensure_ascii=False))
        file.write("]\n")


def _write_coco(detections: Mapping[str, Detections], path: Path) -> None:
    vocabulary = next(iter(detections.values())).vocabulary
    write_text_atomic(path, json.dumps(coco_results(detections, vocabulary), ensure_ascii=False) + "\n")


def _write_parquet(detections: Mapping[str, Detections], path: Path) -> None:
    if os.path.exists(path) and parquet_files(path):
        raise HoiError(f"{path}: holds Parquet already; choose a new folder")
    rows = [row(name, full_entry(name, found)) for name, found in detections.items()]
    for first in range(0, len(rows), ROWS):
        write_rows(str(path), rows[first : first + ROWS], json.dumps({"written by": "hoiclip data convert-detections"}))


def _write_vcoco(detections: Mapping[str, Detections], path: Path) -> None:
    write_vcoco_pickle(detections, path)


#: what writes each form; hico-mat has a function of its own, which takes all names
WRITTEN: dict[str, Callable[[Mapping[str, Detections], Path], None]] = {
    "jsonl": lambda detections, path: save_detections(path, detections),
    "parquet": _write_parquet,
    "qpic": _write_predictions,
    "coco": _write_coco,
    "hico-mat": lambda detections, path: write_hicodet_matlab(detections, path),
    "vcoco-pickle": _write_vcoco,
}
