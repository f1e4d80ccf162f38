"""What UPT, PViC and their kin keep of each image: a dictionary of arrays in a file that bears the image's name.

    boxes (n, 4)     xyxy in pixels of the image as their network saw it
    pairing (2, m)   rows of ``boxes``: human, object
    scores (m,)      labels (m,) verbs, or interactions      objects (m,) class of each pair's object
    size (2,)        height and width of the image as their network saw it

in ``.npz``, ``.pt``, ``.pth`` or ``.pkl``; or one such file with a dictionary of images by name, or a list of
dictionaries with a ``file_name`` each.  Boxes are brought to the annotated size of the image.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.image_names import ImageNames
from hoiclip.detection_forms.hoia_predictions import (
    IMAGE_KEYS,
    RawImage,
    Reading,
    box_array,
    readings,
    score_array,
)
from hoiclip.detection_forms.numbering import Numbered, interactions_of
from hoiclip.detection_forms.pickled import read_plain
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

NEEDED = ("boxes", "pairing", "scores", "labels")
Sizes = Mapping[str, tuple[int, int] | None]


def is_dump(content: Any) -> bool:
    """Whether what a file holds is of this form: an image, images by name, or a list of images."""
    if isinstance(content, dict):
        return "pairing" in content or any(isinstance(v, dict) and "pairing" in v for v in content.values())
    return isinstance(content, list) and any(isinstance(v, dict) and "pairing" in v for v in content[:1])


def read_dumps(
    files: list[Path], first: Any, vocabulary: HoiVocabulary, sizes: Sizes | None, unusual: Counter[str]
) -> tuple[list[Reading], str]:
    """Read the files of a folder, or one file.

    Args:
        files: in order.
        first: what the first of them holds, where that is known already; else None.
        vocabulary: what they can mean.
        sizes: (height, width) of the images by annotated name; None accepts any name.
        unusual: takes counts.

    Returns:
        As :func:`hoiclip.detection_forms.hoia_predictions.read_hoia_predictions`.

    Raises:
        HoiError: an entry of another form, or numbers that cannot be told.
    """
    names = _Names(sizes)
    images: list[tuple[str, RawImage]] = []
    for file in files:
        content, first = (read_plain(file) if first is None else first), None
        for where, name, entry in _entries(file, content):
            try:
                images.append((where, _raw(names.of(name), entry, sizes)))
            except HoiError as error:
                raise HoiError(f"{where}: {error}") from error
    raw = [image for _, image in images]
    given = [where for where, image in images if image.objects is not None]
    with_objects = len(given) == len(images)
    if given and not with_objects:
        without = next(where for where, image in images if image.objects is None)
        raise HoiError(f"{without}: has no 'objects', which {given[0]} has; make all files by the same program")
    columns = {
        key: np.concatenate([np.zeros(0, dtype=np.int64), *(getattr(image, key) for image in raw)])
        for key in ("labels", *(["objects"] if with_objects else []))
    }
    scores = np.concatenate([np.zeros(0), *(image.scores for image in raw)])
    numbered = Numbered(columns["labels"], columns.get("objects"), np.zeros(0, dtype=np.int64), scores)
    hoi_ids, said = interactions_of(numbered, vocabulary)
    return list(readings(images, hoi_ids, vocabulary, unusual)), said


class _Names:
    """The annotated images by their names without folder and ending, as files of a folder have them."""

    def __init__(self, sizes: Sizes | None) -> None:
        self.known = None if sizes is None else ImageNames(sizes)
        self.by_stem: dict[str, list[str]] = {}
        for name in sizes or ():
            self.by_stem.setdefault(Path(name).stem, []).append(name)

    def of(self, name: str) -> str:
        """The annotated name that is meant.  Raises HoiError where it is none, or any of several."""
        if self.known is None or name in self.known.names:
            return name
        meant = self.by_stem.get(name, [])
        if len(meant) > 1:
            raise HoiError(f"{name!r} is {meant[0]!r} and {meant[1]!r} of the annotations; give whole names")
        return meant[0] if meant else self.known.find(name)


def _entries(file: Path, content: Any) -> Iterator[tuple[str, str, Any]]:
    """Where each image of a file stands, its name, and its dictionary."""
    if isinstance(content, dict) and any(key in content for key in NEEDED):
        own = next((content[key] for key in IMAGE_KEYS if isinstance(content.get(key), str)), file.stem)
        yield str(file), own, content
    elif isinstance(content, dict):
        for name, entry in content.items():
            yield f"{file}: image {str(name)[:100]!r}", str(name), entry
    elif isinstance(content, list):
        for i, entry in enumerate(content):
            name = next((entry[k] for k in IMAGE_KEYS if k in entry), None) if isinstance(entry, dict) else None
            if not isinstance(name, str):
                raise HoiError(f"{file}: entry {i} has no 'file_name'; give each image one, or a file of its own")
            yield f"{file}: entry {i}", name, entry
    else:
        raise HoiError(f"{file}: holds a {type(content).__name__}, not a dictionary of arrays of an image")


def _raw(name: str, entry: Any, sizes: Sizes | None) -> RawImage:
    if not isinstance(entry, dict) or not all(key in entry for key in NEEDED):
        has = ", ".join(map(repr, list(entry)[:6])) if isinstance(entry, dict) else type(entry).__name__
        raise HoiError(f"an image needs the arrays {', '.join(NEEDED)}; this one has {has or 'none'}")
    boxes, scores = box_array(entry["boxes"]), score_array(np.atleast_1d(entry["scores"]))
    pairing, labels = whole_array(entry["pairing"], "pairing"), whole_array(np.atleast_1d(entry["labels"]), "labels")
    count = len(scores)
    pairing = pairing.reshape(2, 0) if not count and not pairing.size else pairing
    if pairing.shape != (2, count) or labels.shape != (count,):
        shapes = [" x ".join(map(str, array.shape)) for array in (pairing, labels)]
        raise HoiError(
            f"{count} scores need a pairing of 2 x {count} and {count} labels, not {shapes[0]} and {shapes[1]}"
        )
    if count and not 0 <= pairing.min() <= pairing.max() < len(boxes):
        raise HoiError(f"'pairing' holds {int(pairing.max())}, which is none of the {len(boxes)} boxes")
    objects = None
    if "objects" in entry:
        objects = whole_array(np.atleast_1d(entry["objects"]), "objects")
        if objects.shape == (len(boxes),) != (count,):  # of each box
            objects = objects[pairing[1]]
        if objects.shape != (count,):
            raise HoiError(f"{count} scores need {count} objects, not {objects.size}")
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise HoiError("a score is NaN, infinite or below 0")
    boxes, size = _in_the_image(boxes, entry.get("size"), None if sizes is None else sizes.get(name))
    return RawImage(name, boxes[pairing[0]], boxes[pairing[1]], [], objects, labels, [], scores, size)  # type: ignore[arg-type]


def _in_the_image(
    boxes: np.ndarray, own: Any, annotated: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Boxes in pixels of the annotated image, and its size."""
    if own is None:
        return boxes, annotated
    size = score_array(own)
    if size.shape != (2,) or not np.isfinite(size).all() or (size < 1).any():
        raise HoiError("'size' must be height and width in pixels")
    if annotated is None:
        raise HoiError(
            "its boxes are those of an image that was resized ('size'), and the annotations do not tell the size of "
            "the original: give annotations with sizes, such as hicodet's instances_test2015.json"
        )
    factor = np.array([annotated[1] / size[1], annotated[0] / size[0]] * 2)
    return boxes * factor, annotated


def whole_array(values: Any, what: str) -> np.ndarray:
    """int64 of any shape.  Raises HoiError where they are no whole numbers."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and (array != np.round(array)).any()):
            raise HoiError(f"{what!r} must be whole numbers")
        if array.size and (not np.isfinite(array).all() or np.abs(array.astype(np.float64)).max() > 1 << 31):
            raise HoiError(f"{what!r} holds numbers that no class has")
    except (TypeError, ValueError, OverflowError) as error:
        raise HoiError(f"{what!r} must be whole numbers") from error
    return array.astype(np.int64) if array.size else array.reshape(array.shape).astype(np.int64)


def dump_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files right in a folder, hidden ones left out, by name."""
    return sorted(Path(e.path) for e in os.scandir(folder) if e.is_file() and not e.name.startswith("."))
