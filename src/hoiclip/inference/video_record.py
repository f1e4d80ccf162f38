"""What the model said to each frame of a video, kept until its drawing is whole, so that a run can be resumed.

Steady labels depend on all frames before, and half a video is none: a resumed run takes the first frames' triplets
from here instead of the model, and does the rest again from the first frame on.  Its lines are the same to the bit.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.files import write_text_atomic
from hoiclip.vocabulary import HoiVocabulary

COLUMNS = 13  # 2 boxes, 3 ids, score, probability: ids below 2 ** 24 are whole in float32 too


class VideoRecord:
    """A file of JSON lines: the options, then one line a frame; of a finished video, the options alone.

    Args:
        path: the file.
        options: plain JSON, all that changes the result; a record of others is not gone on with.
        resume: keep what is there.

    Attributes:
        finished: whether the whole video was done.
        frames: how many frames are kept.

    Raises:
        HoiError: if a record of other options would be resumed, or it cannot be read or written.
    """

    def __init__(self, path: Path, options: Mapping[str, Any], *, resume: bool) -> None:
        self.path, self.options = path, json.loads(json.dumps(dict(options)))
        self.finished, self.frames = False, 0
        self.known = resume and os.path.exists(path)
        if not self.known:
            self._begin(finished=False)
            return
        try:
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]  # a crash may have cut off the last line
            if len(whole) != len(content):
                os.truncate(path, len(whole))
            head = json.loads(whole.partition(b"\n")[0])
            told, self.finished = head["options"], bool(head["finished"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HoiError(f"{path}: cannot be resumed; use another --out") from error
        for name, value in self.options.items():
            if told.get(name) != value:
                raise HoiError(f"{path}: belongs to another {name} ({told.get(name)!r}, now {value!r}); "
                               "resume with the same one, or use another --out")  # fmt: skip
        self.frames = whole.count(b"\n") - 1

    def _begin(self, *, finished: bool) -> None:
        write_text_atomic(self.path, json.dumps({"options": self.options, "finished": finished}) + "\n")

    def kept(self, vocabulary: HoiVocabulary) -> Iterator[Detections]:
        """The triplets of the frames that are kept, in order, as they were added."""
        with self.path.open(encoding="ascii") as lines:
            next(lines)
            for line, _ in zip(lines, range(self.frames), strict=False):
                entry = json.loads(line)
                table = np.frombuffer(base64.b64decode(entry["triplets"]), dtype="<f4").reshape(-1, COLUMNS)
                ids = table[:, 8:11].astype(np.int64)
                yield Detections(
                    table[:, :4], table[:, 4:8], ids[:, 0], ids[:, 1], ids[:, 2], table[:, 11], vocabulary,
                    tuple(entry["size"]), table[:, 12],
                )  # fmt: skip

    def add(self, found: Detections) -> None:
        """Keep one more frame; it is on disk when this returns.

        Raises:
            HoiError: if the disk is full; earlier lines stay whole.
        """
        columns = [found.human_boxes, found.object_boxes, found.object_ids, found.verb_ids, found.hoi_ids,
                   found.scores, found.confidence]  # fmt: skip
        table = np.column_stack(columns).astype("<f4").tobytes()
        line = json.dumps({"size": found.image_size, "triplets": base64.b64encode(table).decode()}) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(line.encode("ascii"))
        except OSError as error:
            raise HoiError(f"{self.path}: cannot be written ({error.strerror}); free some space") from error
        self.frames += 1

    def finish(self) -> None:
        """The video is whole: only its options are still needed, so that it is not done again."""
        self._begin(finished=True)
        self.finished = True
