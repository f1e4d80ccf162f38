"""Open anybody's detections: the form is known by content, never by name alone."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hoiclip import detection_files
from hoiclip.detection_files import gather
from hoiclip.detection_forms.coco_results import is_coco_results, read_coco_results
from hoiclip.detection_forms.hoia_predictions import Reading, is_hoia_prediction, read_hoia_predictions
from hoiclip.detection_forms.image_dumps import dump_files, is_dump, read_dumps
from hoiclip.detection_forms.matlab_files import is_matlab, read_matlab_files
from hoiclip.detection_forms.pickled import ZIP, is_pickle, read_plain
from hoiclip.detection_forms.vcoco_records import checked_records, is_vcoco_records
from hoiclip.detections import Detections
from hoiclip.errors import HoiError, first_line
from hoiclip.files import open_text
from hoiclip.parquet_rows import is_parquet
from hoiclip.vocabulary import HoiVocabulary

HEAD = 64  # bytes that tell the kinds of files apart
FORMS = (
    "JSON lines, Parquet, PPDM's and QPIC's predictions, COCO with relations, UPT's and PViC's files of images, "
    "HICO-DET's .mat files, or V-COCO's pickle"
)
VcocoRecords = list[dict[str, Any]]


def load_detections(
    path: str | Path,
    vocabulary: HoiVocabulary,
    file_names: Iterable[str] | None = None,
    *,
    sizes: Mapping[str, tuple[int, int] | None] | None = None,
) -> dict[str, Detections]:
    """Read detections in any form that docs/compare.md lists, known by content; nothing in a file is run.

    Args:
        path: the file, or a folder of Parquet files, of a file for each image, or of .mat files.
        vocabulary: what its ids and names mean.
        file_names: the images there are; None accepts any name, where the form has names.  A path that ends
            in exactly one of them means that image, with ``/`` or ``\\``.
        sizes: (height, width) of images by file name, as far as the annotations tell them.

    Returns:
        Detections by file name, float64, each sorted by score.

    Raises:
        HoiError: the first thing wrong, with file and place: a form that is not known or wants to run code,
            numbers whose meaning cannot be told, a missing key, an id or name outside the vocabulary, a box
            that is not x1 y1 x2 y2 in pixels of its image, NaN, a score outside 0..10, an unknown, ambiguous
            or repeated file; V-COCO's pickle, which has no object classes (:func:`open_detections` reads it).

    Warns:
        UserWarning: what is merely unusual, with a count: single boxes smaller than a pixel, boxes
            without area, images of another size than annotated, pairs that are no interaction.
    """
    found = open_detections(path, vocabulary, file_names, sizes=sizes)
    if isinstance(found, list):
        raise HoiError(
            f"{path}: is V-COCO's pickle, which has people and roles but no object classes; only the evaluation of "
            "V-COCO can use it (hoiclip evaluate vcoco)"
        )
    return found


def open_detections(
    path: str | Path,
    vocabulary: HoiVocabulary,
    file_names: Iterable[str] | None = None,
    *,
    sizes: Mapping[str, tuple[int, int] | None] | None = None,
) -> dict[str, Detections] | VcocoRecords:
    """As :func:`load_detections`; of V-COCO's pickle its records, for ``evaluate_vcoco_records``."""
    names = None if file_names is None else list(file_names)
    if not os.path.exists(path) or is_parquet(path):  # what there is not at all is told there
        return detection_files.load_detections(path, vocabulary, names, sizes=sizes)
    unusual: Counter[str] = Counter()
    found: Iterable[Reading]
    said = ""
    try:
        files = dump_files(path) if os.path.isdir(path) else [Path(path)]
        if not files:
            raise HoiError(f"{path}: is an empty folder; give {FORMS}")
        head = _head(files[0])
    except OSError as error:
        raise HoiError(f"{path}: cannot be read ({error.strerror or error}); give {FORMS}") from error
    if head.startswith(b"PAR1"):
        raise HoiError(f"{path}: is Parquet by content; end its name in .parquet")
    if is_matlab(head):
        if not os.path.isdir(path):
            raise HoiError(f"{path}: is the .mat file of one object; give the folder of all of them")
        found = read_matlab_files(files, vocabulary, names)
    elif head.startswith(ZIP) or is_pickle(head):
        content = read_plain(files[0])
        if is_vcoco_records(content) and len(files) == 1:
            return checked_records(content, files[0])
        if not is_dump(content):
            raise HoiError(f"{files[0]}: holds {_kind(content)}, which is no form of detections known; give {FORMS}")
        try:
            of_images = None if names is None else {name: (sizes or {}).get(name) for name in names}
            found, said = read_dumps(files, content, vocabulary, of_images, unusual)
        except HoiError as error:
            raise _named(path, error) from error
    elif os.path.isdir(path):
        raise HoiError(f"{path}: is a folder whose files are of no form known ({files[0].name}); give {FORMS}")
    else:
        text = _json_of_others(path, vocabulary, unusual)
        if text is None:
            return detection_files.load_detections(path, vocabulary, names, sizes=sizes)
        found, said = text
    if said:
        print(f"hoiclip: {path}: read as {said}", file=sys.stderr)
    return gather(path, found, names, sizes, unusual)


def _named(path: str | Path, error: HoiError) -> HoiError:
    """The same with the file's name, where it has none."""
    return error if str(error).startswith(str(path)) else HoiError(f"{path}: {error}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _kind(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dictionary of {', '.join(repr(str(k)[:40]) for k in list(content)[:6]) or 'nothing'}"
    return f"a {type(content).__name__}"


# --- JSON ------------------------------------------------------------------------------------------


def _json_of_others(
    path: str | Path, vocabulary: HoiVocabulary, unusual: Counter[str]
) -> tuple[Iterable[Reading], str] | None:
    """The images of JSON in another form than JSON lines of ours; None where it is none of those."""
    kind, document = _look(path)
    if kind == "coco":
        return read_coco_results(document, path, vocabulary, unusual), ""
    if kind == "hoia list":
        entries: Iterator[tuple[str, Any]] = ((f"{path}: image {i}", entry) for i, entry in enumerate(document))
    elif kind == "hoia lines":
        entries = _lines(path)
    else:
        return None
    try:
        return read_hoia_predictions(entries, vocabulary, unusual)
    except HoiError as error:
        raise _named(path, error) from error


def _look(path: str | Path) -> tuple[str, Any]:
    """What a text file holds, and the document where it is one."""
    with open_text(path, "a file of detections") as file:
        first = next((line for line in file if line.strip()), "")
        try:
            entry = json.loads(first)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict) and not is_coco_results(entry):
            return ("hoia lines" if is_hoia_prediction(entry) else ""), None
        if not first.lstrip().startswith(("[", "{")):
            return "", None
        try:
            document = json.loads(first + file.read())
        except json.JSONDecodeError as error:
            if entry is None and _is_ours(first):
                return "", None
            raise HoiError(
                f"{path}: not valid JSON ({error.msg} at line {error.lineno}, column {error.colno}); is it cut off, or "
                "one document over many lines where one object per line is meant?"
            ) from error
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, nested without end
            raise HoiError(f"{path}: not valid JSON ({first_line(error)})") from error
    if is_coco_results(document):
        return "coco", document
    if isinstance(document, list) and document and is_hoia_prediction(document[0]):
        return "hoia list", document
    return "", None


def _is_ours(line: str) -> bool:
    """Whether a line that is not valid JSON is one of ours that was cut off."""
    return '"triplets"' in line


def _lines(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Where each line stands, and what it says.

    Raises:
        HoiError: one that is not valid JSON.
    """
    with open_text(path, "a file of JSON lines") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}: line {number}"
                try:
                    yield where, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise HoiError(f"{where}: not valid JSON ({first_line(error, 100)})") from error
