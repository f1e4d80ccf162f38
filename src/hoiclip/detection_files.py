"""Detections on disk: one JSON object per line and image, whatever method they are of."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.boxes import far_outside, in_fractions, reversed_corners
from hoiclip.data.categories import word_key
from hoiclip.data.image_names import ImageNames
from hoiclip.detections import Detections
from hoiclip.errors import HoiError, first_line
from hoiclip.files import atomic_path, open_text, write_text_atomic
from hoiclip.parquet_rows import is_parquet, read_rows
from hoiclip.vocabulary import HoiVocabulary

HIGHEST_SCORE = 10  # sums and products of a few probabilities stay below; percents and logits do not


class DetectionWriter:
    """``detections.jsonl``: one line per image, on disk as soon as it is known.

    What an earlier run wrote is kept until the first new result, and for good with ``resume``.

    Args:
        path: the file.
        resume: keep the lines that are there and do not detect their images again.
        full_precision: write boxes and scores as they are, as :func:`save_detections` does.

    Raises:
        HoiError: if there is something to resume that cannot be read.
    """

    def __init__(self, path: str | Path, *, resume: bool = False, full_precision: bool = False) -> None:
        self.path = Path(path)
        self.done: set[str] = set()
        self.frames: Counter[str] = Counter()  # of each video, how many frames have lines
        self._started, self._full_precision = resume, full_precision
        self._names: set[tuple[Any, Any]] = set()  # (hoi_id, interaction) of the triplets that are there
        self._most, self._least = 0, 1.0  # triplets of an image, and interaction score, that are there
        self._calibrations: set[tuple[float, ...]] = set()  # by which they were made, () for none
        if resume and os.path.exists(self.path):
            try:
                self._repair()
            except OSError as error:
                raise HoiError(f"{self.path}: cannot be read ({error.strerror}); use another --out") from error

    def refuse_other_options(
        self, vocabulary: HoiVocabulary, top_k: int, threshold: float, calibration: tuple[float, float] | None = None
    ) -> None:
        """Keep results of other options out of a file that is resumed.

        Raises:
            HoiError: if what is there was asked for other interactions, is more than would be kept now, or was
                calibrated in another way.
        """
        if self._calibrations - {calibration or ()}:
            raise HoiError(f"{self.path}: holds results from before the model was calibrated, or calibrated otherwise; "
                           "use another --out")  # fmt: skip
        names = {k: vocabulary.interaction_name(k) for k in range(vocabulary.num_interactions)}
        for hoi_id, name in sorted(self._names, key=repr):
            if names.get(hoi_id) != name:
                what = f"{name!r}, which is asked for no more or has another number now"
                raise HoiError(f"{self.path}: holds {what}; resume with the same model and words, or use another --out")
        for option, differs in (("--top-k", self._most > top_k), ("--threshold", self._least < threshold - 1e-5)):
            if differs:
                raise HoiError(f"{self.path}: holds results of another {option}; resume with the same one, "
                               "or use another --out")  # fmt: skip

    def _repair(self) -> None:
        """Read what is there; a last line cut off by a crash is taken away."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                entry = json.loads(line)
                if "frame" in entry:  # of a video, whose own record knows with what options
                    self.frames[entry["file_name"]] += 1
                    continue
                self.done.add(entry["file_name"])
                self._calibrations.add(tuple(entry.get("calibration") or ()))
                self._names.update((t.get("hoi_id", -1), t.get("interaction")) for t in entry["triplets"])
                self._least = min([self._least, *(t.get("interaction_score", 1.0) for t in entry["triplets"])])
                self._most = max(self._most, len(entry["triplets"]))
            except (AttributeError, ValueError, KeyError, TypeError, RecursionError):
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
        if self._full_precision:
            line = full_line(file_name, detections)
        else:
            line = json.dumps({"file_name": file_name, **detections.to_dict()}) + "\n"
        self._write(line)
        self.done.add(file_name)

    def add_frame(
        self, file_name: str, number: int, time: float, found: Detections, human_tracks: Any, object_tracks: Any
    ) -> None:
        """Append the result of one frame of a video: its number, its seconds, and the tracks of each triplet.

        Raises:
            HoiError: as :meth:`add`.
        """
        entry = {"file_name": file_name, "frame": number, "time": round(time, 4), **found.to_dict()}
        for triplet, human, thing in zip(entry["triplets"], human_tracks, object_tracks, strict=True):
            triplet |= {"human_track": int(human), "object_track": int(thing)}
        self._write(json.dumps(entry) + "\n")
        self.frames[file_name] += 1

    def _write(self, line: str) -> None:
        if self._started and os.path.exists(self.path):
            self._append(line.encode())
        else:  # an earlier run's lines go in one step with the coming of the first new one
            write_text_atomic(self.path, line)
        self._started = True

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
    path: str | Path,
    vocabulary: HoiVocabulary,
    file_names: Iterable[str] | None = None,
    *,
    sizes: Mapping[str, tuple[int, int] | None] | None = None,
) -> dict[str, Detections]:
    """Read detections from JSON lines (plain or gzipped), or from the Parquet files of ``hoiclip detect --ray``.

    Args:
        path: the file, or the folder of Parquet files.
        vocabulary: what its ids and names mean.
        file_names: the images there are; None accepts any name.  A path that ends in exactly one of
            them means that image, with ``/`` or ``\\``.
        sizes: (height, width) of images by file name, as far as the annotations tell them.

    Returns:
        Detections by file name, float64, each sorted by score.

    Raises:
        HoiError: the first thing wrong, with file, line and triplet: no JSON, a missing key, an id or name
            outside the vocabulary, a box that is not x1 y1 x2 y2 in pixels of its image, NaN, a score
            outside 0..10, an unknown, ambiguous or repeated file.

    Warns:
        UserWarning: what is merely unusual, with a count: single boxes smaller than a pixel, boxes
            without area, images of another size than annotated.
    """
    verbs, objects = [word_key(v) for v in vocabulary.verbs], [word_key(o) for o in vocabulary.objects]
    pairs = {(verbs[v], objects[o]): k for k, (v, o) in enumerate(vocabulary.interactions)}
    unusual: Counter[str] = Counter()
    with closing(_parquet_lines(path, unusual) if is_parquet(path) else _json_lines(path)) as lines:
        images = ((where, partial(_parse, line, vocabulary, pairs)) for where, line in lines)
        return gather(path, images, file_names, sizes, unusual)


def gather(
    path: str | Path,
    images: Iterable[tuple[str, Callable[[], tuple[str, Detections]]]],
    file_names: Iterable[str] | None,
    sizes: Mapping[str, tuple[int, int] | None] | None,
    unusual: Counter[str],
) -> dict[str, Detections]:
    """Put the images of a file together, each under its annotated name, and tell what is unusual.

    Args:
        path: the file, for warnings.
        images: where each stands in it, and what gives its name and detections.
        file_names, sizes: as in :func:`load_detections`.
        unusual: what is unusual, with counts; also filled while ``images`` are read.

    Raises:
        HoiError: as :func:`load_detections`.
    """
    names = None if file_names is None else ImageNames(file_names)
    found: dict[str, Detections] = {}
    for where, read in images:
        try:
            file_name, detections = read()
            file_name = file_name if names is None else names.find(file_name)
            if file_name in found:
                raise HoiError(f"{file_name!r} occurs a second time; give each image one line")
            unusual.update(_unusual(detections, (sizes or {}).get(file_name)))
        except HoiError as error:
            raise HoiError(f"{where}: {error}") from error
        found[file_name] = _sorted(detections)
    for what, count in (+unusual).items():
        warnings.warn(f"{path}: {count:,} {what}", stacklevel=3)
    return found


def _json_lines(path: str | Path) -> Generator[tuple[str, str | dict[str, Any]]]:
    """Each line that is not empty, with where it stands."""
    with open_text(path, "a file of JSON lines") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{path}: line {number}", line


def _parquet_lines(path: str | Path, unusual: Counter[str]) -> Generator[tuple[str, str | dict[str, Any]]]:
    """Each row of an image that could be read, with where it stands; the others are counted."""
    for where, row in read_rows(path):
        if row.get("error") is None:
            yield where, row
        else:
            unusual["images could not be read when they were detected in, and have no detections"] += 1


def save_detections(path: str | Path, detections: Mapping[str, Detections]) -> None:
    """Write detections as JSON lines, boxes and scores in full precision; all of the file or nothing.

    Raises:
        HoiError: if the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(full_line(file_name, found) for file_name, found in detections.items())


def full_line(file_name: str, found: Detections) -> str:
    """The JSON line of one image, boxes and scores in full precision."""
    return json.dumps(full_entry(file_name, found), ensure_ascii=False) + "\n"


def full_entry(file_name: str, found: Detections) -> dict[str, Any]:
    """What :func:`full_line` says."""
    line = {"file_name": file_name, **found.to_dict()}
    columns = found.human_boxes.tolist(), found.object_boxes.tolist(), found.scores.tolist()
    for triplet, human, object_, score in zip(line["triplets"], *columns, strict=True):
        triplet |= {"human_box": human, "object_box": object_, "score": score}
    if found.interaction_scores is not None:
        for triplet, score in zip(line["triplets"], found.interaction_scores.tolist(), strict=True):
            triplet["interaction_score"] = score
    return line


# --- one line --------------------------------------------------------------------------------------


def _parse(
    line: str | dict[str, Any], vocabulary: HoiVocabulary, pairs: dict[tuple[str, str], int]
) -> tuple[str, Detections]:
    """File name and detections of one line in its order; the HoiErrors it raises name neither file nor line.

    Args:
        line: JSON, or what it would say.
        vocabulary: what its ids and names mean.
        pairs: the interaction of each (verb, object).
    """
    try:
        data = json.loads(line) if isinstance(line, str) else line
    except json.JSONDecodeError as error:
        start = str(line).strip() in ("[", "{")
        whole = "; the file must hold one object per line, not one document" if start else ""
        raise HoiError(f"not valid JSON ({error.msg} at column {error.colno}){whole}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nested without end
        raise HoiError(f"not valid JSON ({first_line(error)})") from error
    if not isinstance(data, dict) or not isinstance(data.get("file_name"), str):
        raise HoiError(f"an image needs the keys 'file_name' and 'triplets'{_instead(data)}")
    triplets, size = data.get("triplets"), data.get("image_size")
    if not isinstance(triplets, list) or not all(isinstance(t, dict) for t in triplets):
        other = "" if "triplets" in data else _instead(data)
        raise HoiError(f"'triplets' must be a list, empty where nothing was found{other}")
    if size is not None and not (isinstance(size, list) and len(size) == 2 and all(map(_is_length, size))):
        raise HoiError("'image_size' must be [height, width] in pixels, or null")
    try:
        human = np.array([t["human_box"] for t in triplets], dtype=np.float64).reshape(-1, 4)
        object_ = np.array([t["object_box"] for t in triplets], dtype=np.float64).reshape(-1, 4)
        scores = np.array([t["score"] for t in triplets], dtype=np.float64).reshape(-1)
        given = bool(triplets) and all("interaction_score" in t for t in triplets)
        certain = np.array([t["interaction_score"] if given else 0 for t in triplets], dtype=np.float64).reshape(-1)
    except KeyError as error:
        raise HoiError(f"a triplet lacks {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise HoiError("a box must be four numbers and a score one") from error
    if not len(human) == len(object_) == len(scores) == len(certain) == len(triplets):
        raise HoiError("a box must be four numbers and a score one")
    size = tuple(size) if size else None
    ids = [_interaction(t, i, vocabulary, pairs) for i, t in enumerate(triplets)]
    made = data.get("calibration")
    calibration = tuple(made) if isinstance(made, list) and len(made) == 2 else None
    found = checked(human, object_, ids, scores, vocabulary, size, certain if given else None)
    return data["file_name"], replace(found, calibration=calibration)


def checked(
    human: np.ndarray,
    object_: np.ndarray,
    hoi_ids: Sequence[int] | np.ndarray,
    scores: np.ndarray,
    vocabulary: HoiVocabulary,
    size: tuple[int, int] | None = None,
    interaction_scores: np.ndarray | None = None,
) -> Detections:
    """The detections of one image, if its numbers can be meant.

    Args:
        human, object_: (M, 4) float64, xyxy in pixels.
        hoi_ids: (M,) interactions of the vocabulary.
        scores, interaction_scores: (M,) float64.
        vocabulary: what the ids mean.
        size: (height, width) in pixels.

    Raises:
        HoiError: NaN, boxes that are not pixels x1 y1 x2 y2 of the image, scores that are none; it names
            the triplet only.
    """
    certain = np.zeros(len(scores)) if interaction_scores is None else interaction_scores
    _refuse_impossible(human, object_, scores, certain, size)
    ids = np.asarray(hoi_ids, dtype=np.int64)
    objects, verbs = vocabulary.object_ids[ids], vocabulary.verb_ids[ids]
    return Detections(human, object_, objects, verbs, ids, scores, vocabulary, size, interaction_scores)


def _instead(data: Any) -> str:
    """What a line holds that is no result of ours, for the end of a sentence."""
    if isinstance(data, list):
        return "; this line is a list: give one object per line"
    if not isinstance(data, dict):
        return ""
    if "annotations" in data or "annotation" in data:
        return "; this looks like annotations, not detections"
    return f"; this line has {', '.join(map(repr, list(data)[:6])) or 'no key'}"


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _refuse_impossible(
    human: np.ndarray,
    object_: np.ndarray,
    scores: np.ndarray,
    certain: np.ndarray,
    size: tuple[int, int] | None,
) -> None:
    """Raise HoiError for the first triplet with a number that cannot be meant."""
    columns = [("score", scores[:, None]), ("interaction_score", certain[:, None])]
    for what, values in (("human_box", human), ("object_box", object_), *columns):
        wrong = ~np.isfinite(values).all(axis=1)
        if wrong.any():
            raise HoiError(f"the {what} of triplet {int(wrong.argmax())} holds NaN or infinity")
    for what, boxes in (("human_box", human), ("object_box", object_)):
        small = in_fractions(boxes)
        if 2 * small.sum() > boxes.any(axis=1).sum():  # a model's box may vanish in a corner, but not most of them
            raise _wrong_box(what, boxes, small, "these are fractions of the image")
        turned = reversed_corners(boxes)
        if turned.any():
            raise _wrong_box(what, boxes, turned, "here x2 < x1 or y2 < y1 (are they x y width height?)")
        if size is not None and (outside := far_outside(boxes, size)).any():
            raise _wrong_box(
                what, boxes, outside, f"this one lies outside the image, {size[0]} high and {size[1]} wide"
            )
    for what, column in columns:
        highest = HIGHEST_SCORE if what == "score" else 1
        wrong = ((column < 0) | (column > highest + 1e-6))[:, 0]
        if wrong.any():
            first = int(wrong.argmax())
            raise HoiError(
                f"the {what} of triplet {first} is {column[first, 0]:g}, not in 0..{highest}; "
                "give probabilities, or products or sums of a few of them"
            )


def _wrong_box(what: str, boxes: np.ndarray, wrong: np.ndarray, reason: str) -> HoiError:
    first = int(wrong.argmax())
    return HoiError(f"the {what} of triplet {first} is {boxes[first].tolist()}; boxes are pixels x1 y1 x2 y2, {reason}")


def _unusual(detections: Detections, annotated: tuple[int, int] | None) -> Counter[str]:
    """What is unusual in one image, each with its count.

    Raises:
        HoiError: a box outside the annotated image.
    """
    counts: Counter[str] = Counter()
    both = (("human_box", detections.human_boxes), ("object_box", detections.object_boxes))
    if detections.image_size is None and annotated is not None:
        for what, boxes in both:
            if (outside := far_outside(boxes, annotated)).any():
                reason = f"this one lies outside the image, {annotated[0]} high and {annotated[1]} wide"
                raise _wrong_box(what, boxes, outside, reason)
    elif annotated is not None and tuple(annotated) != tuple(detections.image_size or ()):
        counts["images have another image_size than the annotations say; boxes are compared as they stand"] = 1
    for _, boxes in both:
        small = in_fractions(boxes)
        flat = boxes.any(axis=1) & (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # all zeros: no object
        counts["boxes are smaller than a pixel and lie in the first one; are they fractions of the image?"] += int(
            small.sum()
        )
        counts["boxes have no area"] += int((flat & ~small).sum())
    return +counts


def _sorted(detections: Detections) -> Detections:
    return detections[np.argsort(-detections.scores, kind="stable")]


def _interaction(
    triplet: dict[str, Any], number: int, vocabulary: HoiVocabulary, pairs: dict[tuple[str, str], int]
) -> int:
    """The interaction of a triplet by ``hoi_id``, which its names must not contradict, or by its names."""
    names = str(triplet.get("verb")), str(triplet.get("object"))
    meant = pairs.get((word_key(names[0]), word_key(names[1])))
    hoi_id = triplet.get("hoi_id")
    if hoi_id is None:
        if meant is None:
            raise HoiError(
                f"triplet {number}: vocabulary {vocabulary.name!r} has no interaction {names}; give a hoi_id"
            )
        return meant
    if isinstance(hoi_id, bool) or not isinstance(hoi_id, int) or not 0 <= hoi_id < vocabulary.num_interactions:
        raise HoiError(
            f"triplet {number}: hoi_id {hoi_id!r} is not one of the {vocabulary.num_interactions} "
            f"interactions of {vocabulary.name!r}, counted from 0"
        )
    if "verb" in triplet and "object" in triplet and meant != hoi_id:
        own = vocabulary.interaction_name(hoi_id)
        raise HoiError(f"triplet {number}: hoi_id {hoi_id} is {own!r}, not {names}; is it another vocabulary's?")
    return hoi_id
