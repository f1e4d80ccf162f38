"""Video files, streams and cameras as frames, and frames as an H.264 file.

    with VideoReader("clip.mp4") as reader, VideoWriter("drawn.mp4", sound_of="clip.mp4") as writer:
        for frame in reader:
            writer.add(frame.image, frame.time)

Needs PyAV.  Frames are upright RGB, whatever way the telephone was held.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from hoiclip.errors import HoiError, first_line
from hoiclip.images import SUFFIXES as IMAGE_SUFFIXES
from hoiclip.optional_modules import optional_module

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp",
     ".ogv", ".y4m", ".h264", ".hevc"]
)  # fmt: skip
MP4_BRANDS = (
    b"isom",
    b"iso2",
    b"iso4",
    b"iso5",
    b"iso6",
    b"mp41",
    b"mp42",
    b"avc1",
    b"qt  ",
    b"M4V ",
    b"3gp4",
    b"3gp5",
)
STREAMS = ("rtsp://", "rtsps://", "rtmp://", "udp://", "tcp://", "srt://")
PAUSES = (1.0, 3.0, 10.0)  # seconds before a stream is asked again
PATIENCE = 15.0  # seconds without a byte of a stream
CLOCK = 90_000  # ticks a second: whole for 24, 25, 30, 50, 60 and 30/1.001 frames a second
SHORT = 1.0  # seconds that may be missing at the end, unless a video is cut off
QUALITY = {"crf": "20", "preset": "veryfast"}
TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame: its number in the video from 0, its time in seconds from the start, upright RGB."""

    number: int
    time: float
    image: Image.Image


def is_stream(source: object) -> bool:
    """Whether a video is named by the address of a live stream."""
    return isinstance(source, str) and source.lower().startswith(STREAMS)


def is_video(path: str | Path) -> bool:
    """Whether an address names a video, or a file is one by its name or, where that tells nothing, by how it begins."""
    if _is_address(path):
        return is_stream(path) or Path(str(path).partition("?")[0]).suffix.lower() in VIDEO_SUFFIXES
    suffix = Path(path).suffix.lower()
    if suffix == ".ts":  # also the name of TypeScript
        return _begins_with(path)[:1] == b"\x47"
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    start = _begins_with(path)
    return (
        (start[4:8] == b"ftyp" and start[8:12] in MP4_BRANDS)
        or start[:4] == b"\x1aE\xdf\xa3"
        or (start[:4] == b"RIFF" and start[8:12] == b"AVI ")
    )


def _begins_with(path: str | Path) -> bytes:
    if not os.path.isfile(path):
        return b""
    with suppress(OSError), Path(path).open("rb") as file:
        return file.read(12)
    return b""


class VideoReader:
    """Goes once through a video.

    Args:
        source: a file, an address, or the number of a camera.
        every: only each so many-th frame.
        start, end: seconds; None for the end of the video.
        pauses: seconds to wait before each new try where a stream breaks; a file or a camera gets none.

    Attributes:
        rate: frames a second that are handed out, as the video says.
        expected: frames that will come, about; None where nothing tells.
        has_sound: whether there is sound.
        problem: once all frames have come: what was wrong, None where the video was read to its end.

    Raises:
        HoiError: without PyAV; if it cannot be opened or holds no video.
    """

    def __init__(
        self,
        source: str | Path | int,
        *,
        every: int = 1,
        start: float = 0.0,
        end: float | None = None,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        self._av = optional_module("av", "video")
        self.source, self.every, self.start, self.end = source, every, start, end
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        self.live = isinstance(source, int) or is_stream(source)
        self._pauses = pauses if is_stream(source) else ()
        self.problem: HoiError | None = None
        self._container: Any = self._open()
        stream = self._container.streams.video[0]
        self.has_sound = bool(self._container.streams.audio) and not self.live
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.rate = Fraction(rate) / every
        self.expected: int | None = None
        if (length := self._length()) is not None:
            seconds = max(0.0, min(length, end if end is not None else math.inf) - start)
            self.expected = math.ceil(seconds * float(self.rate) - 1e-6)

    def _length(self) -> float | None:
        """Seconds, as the file says."""
        stream = self._container.streams.video[0]
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return self._container.duration / 1e6 if self._container.duration else None

    def _open(self) -> Any:
        source, options, form = self.source, {}, None
        if isinstance(source, int):
            source, form = f"/dev/video{source}", "v4l2"
            if form not in self._av.formats_available:
                raise HoiError(f"{self.name}: this PyAV has no video4linux; build it from source with "
                               "'pip install --no-binary av av', or give a file or stream")  # fmt: skip
        elif is_stream(source):
            options = {"rtsp_transport": "tcp"} if str(source).lower().startswith("rtsp") else {}
        elif not _is_address(source) and not Path(source).is_file():
            raise HoiError(f"{source}: no such file; give a video")
        try:
            container = self._av.open(str(source), format=form, options=options, timeout=PATIENCE)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise HoiError(f"{self.name}: cannot be opened as a video ({_reason(error)}); {self._advice()}") from None
        if not container.streams.video:
            container.close()
            raise HoiError(f"{self.name}: holds no video; give a file with pictures")
        # with threads for whole frames, and freed memory kept, 2 KiB a frame are lost between blocks: 4 GiB a day
        container.streams.video[0].thread_type = "SLICE"
        return container

    def _advice(self) -> str:
        if isinstance(self.source, int):
            return "check that it is plugged in and that nobody else uses it"
        return "check the address" if self.live or _is_address(self.source) else "copy it again, or convert it"

    def __iter__(self) -> Iterator[VideoFrame]:
        """Frames in the order they are shown."""
        number, began = 0, 0.0
        tries = list(self._pauses)
        while True:
            count = number
            try:
                for frame in self._frames(number, began):
                    number, last = frame.number + 1, frame.time
                    if self.start - 1e-6 <= frame.time and frame.number % self.every == 0:
                        yield frame
                if not self._pauses or self._at_end:
                    return
                error: Exception | None = None
            except (self._av.FFmpegError, OSError) as broken:
                error = broken
            if not self._pauses:
                self.problem = HoiError(
                    f"{self.name}: is damaged after frame {number - 1} ({_reason(error)}); what was read before stays; "
                    "copy it again"
                    if number
                    else f"{self.name}: not a single frame of it can be read ({_reason(error)}); copy it again"
                )
                return
            if number > count:  # it worked for a while
                tries, began = list(self._pauses), last + float(1 / (self.rate * self.every))
            if not self._opened_again(tries, error):
                return

    def _opened_again(self, tries: list[float], error: Exception | None) -> bool:
        """Open a stream that broke once more; False where it stays broken, which :attr:`problem` then tells."""
        while tries:
            pause = tries.pop(0)
            print(f"hoiclip: {self.name}: broke off; trying again in {pause:g} s", file=sys.stderr)
            time.sleep(pause)
            self.close()
            with suppress(HoiError):
                self._container = self._open()
                return True
        reason = f" ({_reason(error)})" if error else ""
        self.problem = HoiError(f"{self.name}: broke off{reason} and did not come back; what was read before stays")
        return False

    def _frames(self, number: int, began: float) -> Iterator[VideoFrame]:
        """Frames of one connection; numbers and times go on from where the last one ended."""
        self._at_end = False
        stream = self._container.streams.video[0]
        first: float | None = None
        latest = previous = -math.inf
        step = float(1 / (self.rate * self.every))
        for packet in self._container.demux(stream):
            for decoded in packet.decode():
                at = decoded.time
                if at is None:  # raw streams have no clock
                    at = previous + step if previous > -math.inf else 0.0
                first = at if first is None else first
                # clocks of broken files go back; frames are shown in the order they come
                latest = began + at - first if at > previous else latest + step
                previous = max(at, previous)
                if self.end is not None and latest >= self.end - 1e-6:
                    self._at_end = True
                    return
                wanted = number % self.every == 0 and latest >= self.start - 1e-6
                # the others are decoded, which those after them need, but not made pictures of
                yield VideoFrame(number, latest, _upright(decoded) if wanted else _NOTHING)
                number += 1
        length = None if self.live else self._length()
        if first is None and not self.live:
            self.problem = HoiError(f"{self.name}: not a single frame of it can be read; copy it again")
        elif length is not None and latest + step < length - max(SHORT, 0.02 * length):
            self.problem = HoiError(f"{self.name}: is cut off: it ends at {latest + step:.1f} of {length:.1f} s; "
                                    "what was read before stays; copy it again")  # fmt: skip

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_NOTHING = Image.new("RGB", (1, 1))


def _upright(frame: Any) -> Image.Image:
    turn = TURNS.get(round(frame.rotation / 90) * 90 % 360)
    image: Image.Image = frame.to_image()
    return image if turn is None else image.transpose(turn)


def _is_address(source: object) -> bool:
    return isinstance(source, str) and "://" in source


def _reason(error: Exception | None) -> str:
    return "it ended" if error is None else getattr(error, "strerror", None) or first_line(error)


class VideoWriter:
    """An MP4 file of H.264 pictures, yuv420p, that any player shows; the sound of another file is copied.

    Args:
        path: the file; nobody should read it before :meth:`finish`.
        rate: frames a second, for players that ask; the frames' own times count.
        sound_of: take the sound of this file.
        start: seconds of that file that go before.

    Attributes:
        no_sound: why there is no sound although there is some in the file; None where there is.

    Raises:
        HoiError: without PyAV, or if it cannot be written.
    """

    def __init__(
        self, path: str | Path, rate: Fraction, *, sound_of: str | Path | None = None, start: float = 0.0
    ) -> None:
        self._av = optional_module("av", "video")
        self.path, self.rate, self.start = Path(path), rate, start
        self.no_sound: str | None = None
        self._out = self._av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self._video: Any = None
        self._size = (0, 0)
        self._last = -1
        self._sound = self._open_sound(sound_of) if sound_of is not None else None

    def _open_sound(self, source: str | Path) -> _Sound | None:
        try:
            return _Sound(self._av, self._out, str(source), self.start)
        except (self._av.FFmpegError, ValueError) as error:
            self.no_sound = f"{source}: its sound cannot be copied into MP4 ({_reason(error)}) and is left out"
            return None

    def add(self, image: Image.Image, at: float) -> None:
        """One more frame, ``at`` seconds after the start; all get the size of the first.

        Raises:
            HoiError: if the disk is full.
        """
        try:
            if self._video is None:
                self._begin(image)
            even = image.crop((0, 0, *self._size))  # yuv420p halves both sides; an odd one gets a black line more
            frame = self._av.VideoFrame.from_image(even)
            frame.time_base = Fraction(1, CLOCK)
            self._last = frame.pts = max(self._last + 1, round((at - self.start) * CLOCK))
            self._out.mux(self._video.encode(frame))
            if self._sound is not None:
                self._sound.copy_until(at)
        except (self._av.FFmpegError, OSError) as error:
            raise HoiError(f"{self.path}: cannot be written ({_reason(error)}); free some space") from None

    def _begin(self, image: Image.Image) -> None:
        self._size = (image.width + image.width % 2, image.height + image.height % 2)
        self._video = self._out.add_stream("libx264", rate=self.rate, options=QUALITY)
        self._video.width, self._video.height = self._size
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = Fraction(1, CLOCK)

    def finish(self) -> None:
        """Write what encoders still hold, and close the file."""
        try:
            if self._video is not None:
                self._out.mux(self._video.encode())
                if self._sound is not None:
                    self._sound.copy_until(self._last / CLOCK + self.start + float(1 / self.rate))
        except (self._av.FFmpegError, OSError) as error:
            raise HoiError(f"{self.path}: cannot be written ({_reason(error)}); free some space") from None
        finally:
            self.close()

    def close(self) -> None:
        """Let go of both files."""
        if self._sound is not None:
            self._sound.close()
            self._sound = None
        self._out.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        else:
            with suppress(Exception):  # the file goes anyway
                self.close()


class _Sound:
    """The sound of a file, copied as it is, in step with the pictures so that neither waits in memory."""

    def __init__(self, av: Any, out: Any, source: str, start: float) -> None:
        self._out, self._start = out, start
        self._in = av.open(source)
        try:
            stream = self._in.streams.audio[0]
            if stream.codec_context.name not in out.supported_codecs:
                raise ValueError(f"{stream.codec_context.name} is for other files")
            self._stream = out.add_stream_from_template(stream)
        except BaseException:
            self._in.close()
            raise
        video = self._in.streams.video[0]
        # pictures count from their first one, and so does sound
        self._zero = float((video.start_time or 0) * video.time_base) if video.time_base else 0.0
        self._packets = self._in.demux(stream)
        self._next: Any = None

    def copy_until(self, at: float) -> None:
        """Copy what sounds before ``at`` seconds."""
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = None
            if packet.dts is None or packet.pts is None:  # the empty one at the end
                continue
            sounds = float(packet.pts * packet.time_base) - self._zero
            if sounds >= at:
                self._next = packet
                return
            if sounds < self._start:
                continue
            shift = round((self._zero + self._start) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self._stream
            self._out.mux(packet)

    def close(self) -> None:
        self._in.close()
