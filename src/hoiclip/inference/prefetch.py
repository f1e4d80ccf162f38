"""Stream images through a model: reading overlaps with detecting, memory stays bounded.

    paths -> readers (threads): decode, resize, both views -> line of waiting images, in order
          -> the first one and others of its size: one batch -> results, in the order of the paths

With several streams, each thread detects in the image that it has read.

Threads, because decoding, resizing and normalising let go of the interpreter; processes would have to
send every image through a pipe.  Which images share a batch depends on their order alone, never
on who was read first, so a run can be repeated to the bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar

from PIL import Image

from hoiclip.batching import equal_size_batches
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.image_inputs import is_address, open_image
from hoiclip.image_preparation import ImagePreparation
from hoiclip.images import declared_pixels, load_reduced

# So many batches are looked through for images of equal size.
BATCHES_TO_CHOOSE_FROM = 3
# So many pixels are decoded at once, 4 bytes each and copies of them; Pillow reads single images of up to 179 million.
MOST_PIXELS = 1 << 28


@dataclass
class PreparedImage:
    """An image prepared for the model.

    Attributes:
        views: what the model takes, the detector's (3, h, w) first and CLIP's (3, s, s) second; tensors or arrays.
        size: (height, width) of the image itself, upright.
        image: itself, if it is to be handed on.
        names: what the views after the first are called, where a model takes others.
    """

    views: tuple[Any, ...]
    size: tuple[int, int]
    image: Image.Image | None = None
    names: tuple[str, ...] = ()


def prepare(
    path: Path | str, processor: ImagePreparation, *, keep_image: bool = True, draft: bool = False
) -> PreparedImage | HoiError:
    """Read one file and make both views from one decoding; or return what is wrong with it.

    Args:
        path: the file, or its http(s) address.
        processor: knows the sizes.
        keep_image: hand the decoded image on.
        draft: decode large JPEGs at reduced scale, see :func:`~hoiclip.images.load_reduced`; the
            image is not kept then.
    """
    try:
        if draft and not is_address(path):
            image, size = load_reduced(path, processor.shortest_edge, processor.longest_edge)
        else:
            image = open_image(path)
            size = (image.height, image.width)
    except HoiError as error:
        return error
    return PreparedImage(processor.views(image), size, image if keep_image and not draft else None)


class Answer(NamedTuple):
    """An image that the thread which read it has detected in as well."""

    image: Image.Image | None
    found: Detections


@dataclass
class Pending:
    """An image of the stream: being read, ready, or done."""

    path: Any
    pixels: int
    reading: Future[PreparedImage | HoiError | Answer]
    ready: PreparedImage | None = None
    image: Image.Image | None = None
    result: Detections | HoiError | None = None

    def wait(self) -> None:
        """Wait until it is read."""
        if self.ready is None and self.result is None:
            read = self.reading.result()
            if isinstance(read, HoiError):
                self.result = read
            elif isinstance(read, Answer):
                self.image, self.result = read
            else:
                self.ready = read
            del self.reading  # holds what was read

    def finish(self, found: Detections) -> None:
        """Keep the result and let the views go."""
        assert self.ready is not None
        self.image, self.result, self.ready = self.ready.image, found, None


def detect_stream(
    paths: Iterable[Any],
    read: Callable[[Any], PreparedImage | HoiError],
    detect: Callable[[Sequence[PreparedImage]], list[Detections]],
    *,
    batch_size: int = 1,
    readers: int = 2,
    pixels: Callable[[Any], int] = declared_pixels,
    streams: int = 1,
) -> Generator[tuple[Any, Image.Image | None, Detections | HoiError], None, None]:
    """Go through files; at most :func:`images_in_flight` of them are in memory at any time.

    So few, that together they have no more than :data:`MOST_PIXELS`, unless a single one has.

    Args:
        paths: files, addresses or whatever else ``read`` and ``pixels`` take, one by one as they are needed.
        read: called in a thread, :func:`prepare` with its arguments.
        detect: one result for each of at most ``batch_size`` images of equal view size.
        batch_size: how many images share a forward pass.
        readers: threads that read.
        pixels: how many a file will have once it is read.
        streams: so many images are detected in at once, by the threads that read them; needs batches of 1.

    Yields:
        In the order of ``paths``: the path, the image if kept, and its detections; or the path,
        None and what is wrong with the file.
    """
    work: Callable[[Any], PreparedImage | HoiError | Answer] = read
    if streams > 1:
        # half as many threads more: while one prepares an image, the streams have work
        readers, work = streams + max(1, streams // 2), partial(_answer, read, detect)
    limit = images_in_flight(batch_size, readers) - 1  # one more is with whoever called us
    named = (Path(path) if isinstance(path, str) and not is_address(path) else path for path in paths)
    coming = ((path, 0 if is_address(path) else pixels(path)) for path in named)
    line: deque[Pending] = deque()
    held_back: tuple[Any, int] | None = None
    pool = ThreadPoolExecutor(readers, thread_name_prefix="hoiclip-reader")
    try:
        while True:
            while len(line) < limit and (following := held_back or next(coming, None)):
                path, size = held_back = following
                if line and sum(place.pixels for place in line) + size > MOST_PIXELS:
                    break  # its turn comes when others are done; in order, so that batches do not depend on time
                line.append(Pending(path, size, pool.submit(work, path)))
                held_back = None
            if not line:
                return
            _detect_first(list(islice(line, _choice(batch_size))), detect, batch_size)
            done = line.popleft()
            assert done.result is not None
            yield done.path, done.image, done.result
    finally:
        pool.shutdown(cancel_futures=True)


def _answer(
    read: Callable[[Any], PreparedImage | HoiError],
    detect: Callable[[Sequence[PreparedImage]], list[Detections]],
    path: Any,
) -> Answer | HoiError:
    """Read one image and detect in it."""
    prepared = read(path)
    return prepared if isinstance(prepared, HoiError) else Answer(prepared.image, detect([prepared])[0])


def _detect_first(
    front: Sequence[Pending], detect: Callable[[Sequence[PreparedImage]], list[Detections]], batch_size: int
) -> None:
    """Detect in the first image of the stream, and in those that share its batch."""
    if front[0].result is not None:
        return
    for place in front:
        place.wait()
    if front[0].result is None:
        waiting = [place for place in front if place.ready is not None]
        batches = equal_size_batches(waiting, lambda place: place.ready and place.ready.views[0].shape, batch_size)
        batch = next(batch for batch in batches if batch[0] is waiting[0])
        found = detect([place.ready for place in batch if place.ready])
        for place, detections in zip(batch, found, strict=True):
            place.finish(detections)


T = TypeVar("T")


def read_ahead(items: Iterable[T], waiting: int = 4) -> Generator[T]:
    """The same items, made in a thread of their own, at most ``waiting`` of them before they are asked for."""
    line: Queue[tuple[T | None, BaseException | None, bool]] = Queue(waiting)
    stopped = Event()

    def put(*entry: Any) -> None:
        while not stopped.is_set():
            with suppress(Full):
                line.put(entry, timeout=0.1)
                return

    def make() -> None:
        try:
            for item in items:
                put(item, None, False)
                if stopped.is_set():
                    return
            put(None, None, True)
        except BaseException as error:
            put(None, error, True)

    thread = Thread(target=make, name="hoiclip-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error, ended = line.get()
            if error is not None:
                raise error
            if ended:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


class Behind:
    """Does what it is told in a thread of its own, one after the other, at most ``waiting`` of them late.

    What goes wrong there is raised by the next call.
    """

    def __init__(self, waiting: int = 4) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hoiclip-behind")
        self._line: deque[Future[None]] = deque()
        self._waiting = waiting

    def do(self, work: Callable[..., None], *arguments: Any) -> None:
        """Put work in line; waits where the line is full."""
        self._line.append(self._pool.submit(work, *arguments))
        while len(self._line) > self._waiting or (self._line and self._line[0].done()):
            self._line.popleft().result()

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for work in self._line:
                work.result()


def images_in_flight(batch_size: int, readers: int) -> int:
    """The most images in memory at once: to choose a batch from, being read, and one handed out."""
    return _choice(batch_size) + max(readers, batch_size) + 1


def _choice(batch_size: int) -> int:
    return 1 if batch_size == 1 else BATCHES_TO_CHOOSE_FROM * batch_size
