"""Detections on disk: one JSON line per image, and the submission forms of both datasets.

    save_detections("detections.jsonl", {file_name: detections, ...})
    detections = load_detections("detections.jsonl", HoiVocabulary.from_name("hico"))

A line is ``{"file_name": ..., "image_size": [height, width] or null, "triplets": [...]}`` and a
triplet ``{"human_box": [x1, y1, x2, y2], "object_box": [...], "score": ..., "hoi_id": ...}``, or
``"verb"`` and ``"object"`` names instead of ``"hoi_id"``.  Any method can write that; what
``hoiclip detect`` writes is the same, with rounded numbers.
"""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.vcoco import number_in, person_records
from hoiclip.files import replacing
from hoiclip.vocabulary import HoiVocabulary


def load_detections(
    path: str | Path, vocabulary: HoiVocabulary, file_names: Iterable[str] | None = None
) -> dict[str, Detections]:
    """Read detections from JSON lines (plain or gzipped).

    Args:
        path: the file.
        vocabulary: what its ids and names mean.
        file_names: the images there are; None accepts any name.

    Returns:
        Detections by file name, float64, each sorted by score.

    Raises:
        HoiError: the first thing wrong, with file and line: no JSON, a missing key, an id or name
            outside the vocabulary, NaN in a box or score, an unknown or repeated file.
    """
    known = None if file_names is None else set(file_names)
    pairs = {(vocabulary.verbs[v], vocabulary.objects[o]): k for k, (v, o) in enumerate(vocabulary.interactions)}
    found: dict[str, Detections] = {}
    for number, line in _lines(Path(path)):
        if not line.strip():
            continue
        try:
            file_name, detections = _parse(line, vocabulary, pairs)
            if known is not None and file_name not in known:
                raise HoiError(f"the annotations do not contain {file_name!r}")
            if file_name in found:
                raise HoiError(f"{file_name!r} occurs a second time; give each image one line")
        except HoiError as error:
            raise HoiError(f"{path}: line {number}: {error}") from error
        found[file_name] = detections
    return found


def save_detections(path: str | Path, detections: Mapping[str, Detections]) -> None:
    """Write detections as JSON lines, boxes and scores in full precision; all of the file or nothing.

    Raises:
        HoiError: if the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for file_name, found in detections.items():
            line = {"file_name": file_name, **found.to_dict()}
            columns = found.human_boxes.tolist(), found.object_boxes.tolist(), found.scores.tolist()
            for triplet, human, object_, score in zip(line["triplets"], *columns, strict=True):
                triplet |= {"human_box": human, "object_box": object_, "score": score}
            if found.interaction_scores is not None:
                for triplet, score in zip(line["triplets"], found.interaction_scores.tolist(), strict=True):
                    triplet["interaction_score"] = score
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


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
        with replacing(Path(folder) / f"detections_{object_id + 1:02d}.mat") as temporary:
            savemat(temporary, {"all_boxes": cells}, do_compression=True)


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
    with replacing(path) as temporary, temporary.open("wb") as file:
        pickle.dump(records, file, protocol=2)


# --- one line --------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield from enumerate(file, 1)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise HoiError(f"{path}: cannot be read ({error}); give a file of JSON lines") from error


def _parse(line: str, vocabulary: HoiVocabulary, pairs: dict[tuple[str, str], int]) -> tuple[str, Detections]:
    """File name and detections of one line; the HoiErrors it raises name neither file nor line."""
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise HoiError(f"not valid JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(data, dict) or not isinstance(data.get("file_name"), str):
        raise HoiError("an image needs the keys 'file_name' and 'triplets'")
    triplets, size = data.get("triplets"), data.get("image_size")
    if not isinstance(triplets, list) or not all(isinstance(t, dict) for t in triplets):
        raise HoiError("'triplets' must be a list, empty where nothing was found")
    if size is not None and not (isinstance(size, list) and len(size) == 2):
        raise HoiError("'image_size' must be [height, width] or null")
    try:
        human = np.array([t["human_box"] for t in triplets], dtype=np.float64).reshape(-1, 4)
        object_ = np.array([t["object_box"] for t in triplets], dtype=np.float64).reshape(-1, 4)
        scores = np.array([t["score"] for t in triplets], dtype=np.float64).reshape(-1)
        given = bool(triplets) and all("interaction_score" in t for t in triplets)
        certain = np.array([t["interaction_score"] for t in triplets], dtype=np.float64) if given else None
    except KeyError as error:
        raise HoiError(f"a triplet lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise HoiError("a box must be four numbers and a score one") from error
    if not len(human) == len(object_) == len(scores) == len(triplets):
        raise HoiError("a box must be four numbers and a score one")
    for what, values in (("human_box", human), ("object_box", object_), ("score", scores[:, None])):
        wrong = ~np.isfinite(values).all(axis=1)
        if wrong.any():
            raise HoiError(f"the {what} of triplet {int(wrong.argmax())} holds NaN or infinity")
    ids = [_interaction(t, i, vocabulary, pairs) for i, t in enumerate(triplets)]
    hoi_ids = np.array(ids, dtype=np.int64)
    order = np.argsort(-scores, kind="stable")
    hoi_ids = hoi_ids[order]
    return data["file_name"], Detections(
        human[order],
        object_[order],
        vocabulary.object_ids[hoi_ids],
        vocabulary.verb_ids[hoi_ids],
        hoi_ids,
        scores[order],
        vocabulary,
        tuple(size) if size else None,
        None if certain is None else certain[order],
    )


def _interaction(
    triplet: dict[str, Any], number: int, vocabulary: HoiVocabulary, pairs: dict[tuple[str, str], int]
) -> int:
    """The interaction of a triplet by ``hoi_id``, which its names must not contradict, or by its names."""
    names = str(triplet.get("verb")), str(triplet.get("object"))
    hoi_id = triplet.get("hoi_id")
    if hoi_id is None:
        if names not in pairs:
            raise HoiError(
                f"triplet {number}: vocabulary {vocabulary.name!r} has no interaction {names}; give a hoi_id"
            )
        return pairs[names]
    if isinstance(hoi_id, bool) or not isinstance(hoi_id, int) or not 0 <= hoi_id < vocabulary.num_interactions:
        raise HoiError(
            f"triplet {number}: hoi_id {hoi_id!r} is not one of the {vocabulary.num_interactions} "
            f"interactions of {vocabulary.name!r}, counted from 0"
        )
    if "verb" in triplet and "object" in triplet and pairs.get(names) != hoi_id:
        own = vocabulary.interaction_name(hoi_id)
        raise HoiError(f"triplet {number}: hoi_id {hoi_id} is {own!r}, not {names}; is it another vocabulary's?")
    return hoi_id
