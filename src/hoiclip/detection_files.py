"""Detections on disk: one JSON object per line and image, whatever method they are of."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.files import atomic_path, write_text_atomic
from hoiclip.vocabulary import HoiVocabulary


class DetectionWriter:
    """``detections.jsonl``: one line per image, on disk as soon as it is known.

    What an earlier run wrote is kept until the first new result, and for good with ``resume``.

    Args:
        path: the file.
        resume: keep the lines that are there and do not detect their images again.

    Raises:
        HoiError: if there is something to resume that cannot be read.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        self.done: set[str] = set()
        self._started = resume
        if resume and self.path.exists():
            try:
                self._repair()
            except OSError as error:
                raise HoiError(f"{self.path}: cannot be read ({error.strerror}); use another --out") from error

    def _repair(self) -> None:
        """Read what is there; a last line cut off by a crash is taken away."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                self.done.add(json.loads(line)["file_name"])
            except (ValueError, KeyError, TypeError):
                raise HoiError(
                    f"{self.path}: line {number} is no result of hoiclip detect; use another --out"
                ) from None
        if len(whole) != len(content):
            os.truncate(self.path, len(whole))

    def add(self, file_name: str, detections: Detections) -> None:
        """Append one image's result.

        Raises:
            HoiError: if it cannot be written; earlier lines stay whole.
        """
        line = json.dumps({"file_name": file_name, **detections.to_dict()}) + "\n"
        if self._started and self.path.exists():
            self._append(line.encode())
        else:  # an earlier run's lines go in one step with the coming of the first new one
            write_text_atomic(self.path, line)
        self._started = True
        self.done.add(file_name)

    def _append(self, line: bytes) -> None:
        size = self.path.stat().st_size
        try:
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            os.truncate(self.path, size)
            raise HoiError(
                f"{self.path}: cannot be written ({error.strerror}); free some space or use another --out"
            ) from error


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
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for file_name, found in detections.items():
            line = {"file_name": file_name, **found.to_dict()}
            columns = found.human_boxes.tolist(), found.object_boxes.tolist(), found.scores.tolist()
            for triplet, human, object_, score in zip(line["triplets"], *columns, strict=True):
                triplet |= {"human_box": human, "object_box": object_, "score": score}
            if found.interaction_scores is not None:
                for triplet, score in zip(line["triplets"], found.interaction_scores.tolist(), strict=True):
                    triplet["interaction_score"] = score
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


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
