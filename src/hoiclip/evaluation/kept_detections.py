"""Detections that an evaluation keeps on disk as it finds them, so that what was cut off can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from hoiclip.detection_files import DetectionWriter, load_detections
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.files import write_text_atomic
from hoiclip.hub import is_hub_id
from hoiclip.vocabulary import HoiVocabulary


class KeptDetections(MutableMapping[str, Detections]):
    """Detections by file name, each a line of a file as soon as it is set.

    Beside the file lies ``FILE.unfinished`` until :meth:`finish`: what the detections were made by.  Where
    that is the same again, those of the file are taken over; of another model or other options, none.

    Args:
        path: JSON lines, as :func:`~hoiclip.detection_files.save_detections` writes them.
        vocabulary: what the ids mean.
        made_by: plain values that name model and options.

    Raises:
        HoiError: if the file is to be taken over and cannot be read.
    """

    def __init__(self, path: str | Path, vocabulary: HoiVocabulary, made_by: dict[str, Any]) -> None:
        self.path, self._vocabulary = Path(path), vocabulary
        self._note = self.path.with_name(self.path.name + ".unfinished")
        self._made_by = json.dumps(made_by, sort_keys=True, default=str)
        again = self.path.is_file() and self._note.is_file() and self._note.read_text("utf-8") == self._made_by
        self._writer = DetectionWriter(self.path, resume=again, full_precision=True)
        self._found = load_detections(self.path, vocabulary) if again else {}
        if not again:
            self._note.unlink(missing_ok=True)

    def __setitem__(self, file_name: str, detections: Detections) -> None:
        self._writer.add(file_name, detections)
        if not self._note.exists():  # only now does the file hold nothing of an earlier run
            write_text_atomic(self._note, self._made_by)
        self._found[file_name] = detections

    def __getitem__(self, file_name: str) -> Detections:
        return self._found[file_name]

    def __delitem__(self, file_name: str) -> None:
        raise HoiError(f"{self.path}: what was detected in {file_name!r} stays; write to another file")

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def finish(self) -> None:
        """The file is complete."""
        if not self._found:
            write_text_atomic(self.path, "")
        self._note.unlink(missing_ok=True)


def stamp(model: str | Path, revision: str | None = None) -> list[Any]:
    """What tells a model from one of the same name: its files, their sizes and times; a hub id's commit."""
    if is_hub_id(model):
        from huggingface_hub import try_to_load_from_cache

        return [str(model), str(try_to_load_from_cache(str(model), "config.json", revision=revision))]
    files = sorted(path for path in Path(model).glob("*") if path.is_file())
    return [str(Path(model).resolve()), *((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)]
