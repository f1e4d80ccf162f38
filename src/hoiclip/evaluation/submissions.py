"""Write detections in the submission forms of both datasets.

    save_detections("detections.jsonl", {file_name: detections, ...})
    detections = load_detections("detections.jsonl", HoiVocabulary.from_name("hico"))

A line is ``{"file_name": ..., "image_size": [height, width] or null, "triplets": [...]}`` and a
triplet ``{"human_box": [x1, y1, x2, y2], "object_box": [...], "score": ..., "hoi_id": ...}``, or
``"verb"`` and ``"object"`` names instead of ``"hoi_id"``.  Any method can write that; what
``hoiclip detect`` writes is the same, with rounded numbers.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.vcoco import number_in, person_records
from hoiclip.files import atomic_path

MATLAB_HEADER = b"MATLAB 5.0 MAT-file, written by hoiclip".ljust(116)  # 116 bytes of text by the format


def write_hicodet_matlab(
    detections: Mapping[str, Detections],
    folder: str | Path,
    file_names: Sequence[str] | None = None,
    *,
    one_based: bool = True,
) -> None:
    """Write what the official HICO-DET program in Matlab reads: ``detections_01.mat`` ... per object.

    Each holds the cell array ``all_boxes``, interactions of the object x images, and each cell an
    (M, 9) matrix: human box, object box (x1 y1 x2 y2), score.

    Args:
        detections: by file name.
        folder: made if it does not exist.
        file_names: all test images in official order; None sorts the names in ``detections``.
        one_based: the boxes are in the frame of the annotation, which counts pixels from 1.  The
            program adds 1 to what it reads, so 1 is subtracted here.

    Raises:
        HoiError: nothing to write, an unknown file, or a folder that cannot be written.
    """
    if not detections:
        raise HoiError("there are no detections to write")
    order = sorted(detections) if file_names is None else list(file_names)
    position = {name: i for i, name in enumerate(order)}
    unknown = next((name for name in detections if name not in position), None)
    if unknown is not None:
        raise HoiError(f"detections for {unknown!r}, which is not among the images to write")
    vocabulary = next(iter(detections.values())).vocabulary
    image = np.concatenate([np.full(len(d), position[name]) for name, d in detections.items()])
    hoi_ids = np.concatenate([d.hoi_ids for d in detections.values()])
    boxes = np.concatenate([np.hstack([d.human_boxes, d.object_boxes]) for d in detections.values()]).astype(np.float64)
    scores = np.concatenate([d.scores for d in detections.values()]).astype(np.float64)
    rows = np.column_stack([boxes - 1 if one_based else boxes, scores])
    for object_id in range(len(vocabulary.objects)):
        own = np.flatnonzero(vocabulary.object_ids == object_id)
        cells = np.empty((len(own), len(order)), dtype=object)
        cells.fill(np.zeros((0, 9)))
        for k, hoi_id in enumerate(own):
            mine = np.flatnonzero(hoi_ids == hoi_id)
            mine = mine[np.argsort(image[mine], kind="stable")]
            where, first = np.unique(image[mine], return_index=True)
            for i, part in zip(where, np.split(mine, first[1:]), strict=False):
                cells[k, i] = rows[part]
        with atomic_path(Path(folder) / f"detections_{object_id + 1:02d}.mat") as temporary:
            savemat(temporary, {"all_boxes": cells}, do_compression=True)
            with temporary.open("r+b") as file:  # SciPy writes the time there
                file.write(MATLAB_HEADER)


def write_vcoco_pickle(detections: Mapping[str, Detections], path: str | Path) -> None:
    """Write what the official V-COCO program reads: a pickled list of one record per person.

    The records are plain lists and floats under pickle protocol 2, which Python 2 reads too;
    :func:`hoiclip.evaluation.vcoco.person_records` says how triplets become people.

    Args:
        detections: by COCO file name, whose digits are the image id.
        path: the pickle.

    Raises:
        HoiError: a file name without digits, or a path that cannot be written.
    """
    records: list[dict[str, Any]] = []
    for file_name, found in detections.items():
        if number_in(file_name) is None:
            raise HoiError(f"{file_name!r} holds no COCO image id, which the V-COCO form needs")
        for record in person_records(file_name, found):
            del record["file_name"]
            records.append(record)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        pickle.dump(records, file, protocol=2)
