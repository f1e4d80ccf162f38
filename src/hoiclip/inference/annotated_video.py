"""From the frames of a video to steady triplets and drawn frames, in constant memory.

    decoding (thread) -> views (threads) -> model -> tracks, steadied, drawn and encoded (thread)

Between any two of them wait a few frames at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

from hoiclip.detections import Detections, draw_triplets
from hoiclip.files import atomic_path
from hoiclip.inference.image_detector import ImageDetector
from hoiclip.inference.prefetch import Behind
from hoiclip.inference.tracking import Steadier, SteadyDetections
from hoiclip.inference.video import VideoFrame, VideoReader, VideoWriter
from hoiclip.inference.video_record import VideoRecord

CANDIDATES = 50  # triplets of a frame that are followed
LEAST = 0.02  # probability of the interaction, below which none is
OnFrame = Callable[[VideoFrame, SteadyDetections], None]


def detect_video(
    detector: ImageDetector,
    reader: VideoReader,
    *,
    drawing: str | Path | None = None,
    on_frame: OnFrame = lambda frame, steady: None,
    record: VideoRecord | None = None,
    top_k: int = 10,
    threshold: float | None = None,
    zero_shot_top_k: int | None = None,
    max_labels: int = 3,
    line_width: int | None = None,
    tell: Callable[[str], None] = print,
) -> int:
    """Detect in all frames that a reader gives.

    Args:
        detector: any.
        reader: open; what is wrong with its video is in ``reader.problem`` afterwards.
        drawing: MP4 file to write, whole or not at all; None for none.
        on_frame: called for each frame in order, with what is shown, in another thread.
        record: keeps what the model said, and has what it said in an earlier run.
        top_k: the most triplets of a frame.
        threshold: smoothed probability from which an interaction is shown; by default the detector's own.
        zero_shot_top_k: as for calling the detector.
        max_labels, line_width: as for drawing.
        tell: takes a sentence of what is missing in the drawing.

    Returns:
        How many frames there were.

    Raises:
        HoiError: if the drawing or the record cannot be written.  An interrupted live source ends there.
    """
    threshold = detector.default_threshold if threshold is None else threshold
    frames = 0
    with ExitStack() as stack:
        writer = None
        if drawing is not None:
            writer = stack.enter_context(_Drawing(Path(drawing), reader, tell, max_labels, line_width))
        following = _Following(threshold, top_k, writer, on_frame)
        behind = stack.enter_context(Behind())
        coming = stack.enter_context(closing(_candidates(detector, reader, record, zero_shot_top_k)))
        try:
            for frame, found in coming:
                behind.do(following.add, frame, found)
                frames += 1
        except KeyboardInterrupt:  # that is how a camera is switched off
            if not reader.live:
                raise
        behind.do(following.finish)
        if reader.problem is not None and not frames:
            raise reader.problem
    if record is not None and reader.problem is None:
        record.finish()
    return frames


def _candidates(
    detector: ImageDetector, reader: VideoReader, record: VideoRecord | None, zero_shot_top_k: int | None
) -> Generator[tuple[VideoFrame, Detections]]:
    """Each frame with all that it may hold: from the record as far as that goes, then from the model."""
    frames = iter(reader)
    if record is not None and record.frames:
        yield from zip(islice(frames, record.frames), record.kept(detector.vocabulary), strict=False)
    with closing(
        detector.detect_frames(frames, top_k=CANDIDATES, threshold=LEAST, zero_shot_top_k=zero_shot_top_k)
    ) as stream:
        for frame, found in stream:
            if record is not None:
                record.add(found)
            yield frame, found


class _Following:
    """Steadies each frame's triplets, and hands on the frames that can be answered."""

    def __init__(self, threshold: float, top_k: int, writer: _Drawing | None, on_frame: OnFrame) -> None:
        self._steadier, self._waiting = Steadier(threshold), deque[VideoFrame]()
        self._top_k, self._writer, self._on_frame = top_k, writer, on_frame

    def add(self, frame: VideoFrame, found: Detections) -> None:
        """Go on by one frame."""
        self._waiting.append(frame)
        if (steady := self._steadier.update(found)) is not None:
            self._show(steady)

    def finish(self) -> None:
        """Answer the last frames."""
        for steady in self._steadier.finish():
            self._show(steady)

    def _show(self, steady: SteadyDetections) -> None:
        frame, shown = self._waiting.popleft(), steady.shown(self._top_k)
        if self._writer is not None:
            self._writer.add(frame, shown)
        self._on_frame(frame, shown)


class _Drawing:
    """The writer of a drawing that takes its name once it is whole.

    Begun with the first frame only, so that nothing takes the place of an older file for a video that has none.
    """

    def __init__(
        self, path: Path, reader: VideoReader, tell: Callable[[str], None], max_labels: int, line_width: int | None
    ) -> None:
        self._path, self._reader, self._tell = path, reader, tell
        self._max_labels, self._line_width = max_labels, line_width
        self._stack = ExitStack()
        self._writer: VideoWriter | None = None

    def add(self, frame: VideoFrame, steady: SteadyDetections) -> None:
        """Draw one more frame."""
        if self._writer is None:
            reader = self._reader
            temporary = self._stack.enter_context(atomic_path(self._path))
            sound = str(reader.source) if reader.has_sound else None
            self._writer = self._stack.enter_context(
                VideoWriter(temporary, reader.rate, sound_of=sound, start=reader.start)
            )
            if self._writer.no_sound:
                self._tell(f"hoiclip: {self._writer.no_sound}")
        image = draw_triplets(
            frame.image,
            steady.detections,
            max_labels=self._max_labels,
            line_width=self._line_width,
            human_tracks=steady.human_tracks,
        )
        self._writer.add(image, frame.time)

    def __enter__(self) -> _Drawing:
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.__exit__(*details)
