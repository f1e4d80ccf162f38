"""One detector for many callers: in turn, with an end to the queue, each with words of their own."""

from __future__ import annotations

import copy
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.images import declared_pixels, decode_image
from hoiclip.inference.detector import HoiDetector
from hoiclip.inference.image_detector import ImageDetector
from hoiclip.vocabulary import HoiVocabulary

if TYPE_CHECKING:
    from hoiclip.inference.tracking import SteadyDetections
    from hoiclip.inference.video import VideoFrame

MOST_LETTERS, MOST_INTERACTIONS = 10_000, 200  # of a visitor's words
MOST_TRIPLETS = 100
PUBLISHED = ("hico", "vcoco", "playground")  # vocabularies that a name in place of words means


class Busy(HoiError):
    """Too many are waiting, or it took too long; the same call may succeed in a moment."""


class TooLarge(HoiError):
    """More bytes or pixels than this server takes."""


@dataclass(frozen=True)
class ServiceLimits:
    """What a server takes.

    Attributes:
        waiting: calls that may wait for their turn; the next one is told to try again.
        seconds: longest wait for a turn.
        megabytes: of an uploaded image.
        megapixels: of an image once it is decoded.
        video_seconds, video_frames: how much of a video is looked at.
    """

    waiting: int = 16
    seconds: float = 60.0
    megabytes: float = 20.0
    megapixels: float = 50.0
    video_seconds: float = 30.0
    video_frames: int = 450


class DetectionService:
    """A detector that any number of threads may ask, one after the other.

    Args:
        detector: the model.
        limits: what is taken.
        name: of the model, as the page shows it.
    """

    def __init__(self, detector: ImageDetector, limits: ServiceLimits, name: str) -> None:
        self.detector, self.limits, self.name = detector, limits, name
        self.own = detector.vocabulary
        self._turn, self._counting = threading.Lock(), threading.Lock()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many calls wait or are computed."""
        return self._waiting

    def open(self, content: bytes) -> Image.Image:
        """An uploaded image.

        Raises:
            TooLarge: more bytes or pixels than :attr:`limits` allow.
            HoiError: no image.
        """
        if len(content) > self.limits.megabytes * 1e6:
            raise TooLarge(f"the image is larger than {self.limits.megabytes:g} MB; make it smaller first")
        if declared_pixels("the image", content) > self.limits.megapixels * 1e6:
            raise TooLarge(f"the image has more than {self.limits.megapixels:g} million pixels; make it smaller first")
        return decode_image(content, "the image")

    def vocabulary(self, words: str | None) -> HoiVocabulary:
        """What a visitor asks for: their words, a published vocabulary by its name, or the model's own interactions.

        Raises:
            HoiError: too many words, or none that make sense.
        """
        if not (words and words.strip()):
            return self.own
        if words.strip() in PUBLISHED:
            return HoiVocabulary.from_name(words.strip())
        if len(words) > MOST_LETTERS:
            raise HoiError(f"these are more than {MOST_LETTERS:,} letters; ask for fewer interactions")
        vocabulary = HoiVocabulary.from_words(words)
        if vocabulary.num_interactions > MOST_INTERACTIONS:
            raise HoiError(f"these are more than {MOST_INTERACTIONS} interactions; ask for fewer")
        return vocabulary

    def detect(
        self, image: Image.Image, words: str | None = None, threshold: float | None = None, top_k: int = 10
    ) -> Detections:
        """Triplets of one image; waits for its turn.

        Args:
            image: upright RGB.
            words: the interactions to look for, ``"ride horse, hold cup"``, or a name of :data:`PUBLISHED`; by
                default the model's own.
            threshold: least probability, 0..1; by default the detector's own.
            top_k: the most triplets, 1..100.

        Raises:
            Busy: too many are waiting, or the turn did not come in time.
            HoiError: words or numbers that cannot be meant.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise HoiError(f"threshold {threshold:g}: give a probability, 0 to 1")
        if not 1 <= top_k <= MOST_TRIPLETS:
            raise HoiError(f"top_k {top_k}: give 1 to {MOST_TRIPLETS}")
        vocabulary = self.vocabulary(words)
        with self._my_turn():
            if self.detector.vocabulary != vocabulary:
                self.detector.set_vocabulary(vocabulary)
            return self.detector(image, threshold=threshold, top_k=top_k)

    def attention(self, image: Image.Image, one: Detections) -> Image.Image | None:
        """Where the model looked for a triplet; None where it cannot tell.

        Raises:
            Busy: as :meth:`detect`.
        """
        from hoiclip.inference.attention import attention_image, check_attention

        try:
            check_attention(self.detector)
        except HoiError:
            return None
        assert isinstance(self.detector, HoiDetector)
        with self._my_turn():
            return attention_image(self.detector, image, one)

    def film(
        self,
        source: str | Path,
        folder: Path,
        words: str | None = None,
        threshold: float | None = None,
        top_k: int = 10,
    ) -> tuple[Path, Path]:
        """A short video with steady triplets; each frame waits for its turn, so that others go on.

        Args:
            source: the video, of which the first :attr:`ServiceLimits.video_seconds` count; where it has more than
                :attr:`ServiceLimits.video_frames`, every second or third frame is taken.
            folder: for what is written.
            words, threshold, top_k: as of :meth:`detect`.

        Returns:
            The drawn video, and the triplets as JSON lines.

        Raises:
            HoiError: no video, or as :meth:`detect`.
        """
        from hoiclip.inference.annotated_video import detect_video
        from hoiclip.inference.video import VideoReader

        vocabulary = self.vocabulary(words)
        with VideoReader(source, end=self.limits.video_seconds) as first:
            every = max(1, math.ceil((first.expected or 1) / self.limits.video_frames))
        drawing, lines = folder / "found.mp4", folder / "detections.jsonl"
        with (
            VideoReader(source, every=every, end=self.limits.video_seconds) as reader,
            lines.open("w", encoding="utf-8") as file,
        ):

            def note(frame: VideoFrame, steady: SteadyDetections) -> None:
                line = {"frame": frame.number, "time": round(frame.time, 3), **steady.detections.to_dict()}
                file.write(json.dumps(line) + "\n")

            detect_video(
                self._in_turn(vocabulary), reader, drawing=drawing, on_frame=note, threshold=threshold, top_k=top_k,
                tell=lambda _: None,
            )  # fmt: skip
        return drawing, lines

    def _in_turn(self, vocabulary: HoiVocabulary) -> ImageDetector:
        """The detector for one caller: each batch waits for its turn and asks for the caller's own words."""
        mine, compute = copy.copy(self.detector), self.detector._detect_batch

        def detect_batch(*args: Any, **options: Any) -> list[Detections]:
            with self._my_turn():
                if self.detector.vocabulary != vocabulary:
                    self.detector.set_vocabulary(vocabulary)
                return compute(*args, **options)

        mine._detect_batch = detect_batch  # type: ignore[method-assign]
        return mine

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        with self._counting:
            if self._waiting > self.limits.waiting:
                raise Busy(f"busy: {self._waiting} calls are waiting; try again in a moment")
            self._waiting += 1
        begun = time.monotonic()
        try:
            if not self._turn.acquire(timeout=self.limits.seconds):
                waited = time.monotonic() - begun
                raise Busy(f"busy: no turn within {waited:.0f} seconds; try again in a moment")
            try:
                yield
            finally:
                self._turn.release()
        finally:
            with self._counting:
                self._waiting -= 1
