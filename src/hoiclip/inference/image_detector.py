"""The face that all detectors share: images in, detections out."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, overload

from PIL import Image

from hoiclip.batching import equal_size_batches
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.image_inputs import ImageLike, is_address, open_image
from hoiclip.images import declared_pixels, decode_image
from hoiclip.inference.prefetch import BATCHES_TO_CHOOSE_FROM, PreparedImage, detect_stream, read_ahead
from hoiclip.vocabulary import HoiVocabulary

if TYPE_CHECKING:
    import torch

READERS = 8  # threads that decode and resize while the model works, on at most half of the cores
PLAYGROUND = "playground"  # as a part of the training-free detector: the shipped miniature


class HasImage(Protocol):
    """A frame of a video."""

    @property
    def image(self) -> Image.Image:
        """Upright RGB."""


Frame = TypeVar("Frame", bound=HasImage)
Source: TypeAlias = "Path | str | Callable[[], ImageLike]"


class ImageDetector(ABC):
    """Finds triplets in images, however it does so.

    Attributes:
        device: where it computes.
        batch_size: how many images of equal input size share a forward pass.
        streams: how many images are computed at once.
        default_threshold: least probability of what is shown, where the caller names none; of a calibrated model
            that of classes without one of their own.
    """

    device: torch.device | str
    batch_size: int
    streams: int = 1
    default_threshold: float = 0.3

    @property
    @abstractmethod
    def vocabulary(self) -> HoiVocabulary:
        """What the detector is asked for."""

    @abstractmethod
    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> ImageDetector:
        """Ask for other interactions."""

    @abstractmethod
    def set_size(self, shorter: int) -> ImageDetector:
        """Resize images to so many pixels on the shorter side from now on; the limit of the longer one follows."""

    @abstractmethod
    def _prepare(self, image: Image.Image) -> PreparedImage:
        """An upright RGB image, made ready for :meth:`_detect_batch`."""

    @abstractmethod
    def _read(self, path: Path | str, *, keep_image: bool, draft: bool) -> PreparedImage | HoiError:
        """Read a file and make it ready, in a thread; or return what is wrong with it."""

    @abstractmethod
    def _detect_batch(
        self,
        batch: Sequence[PreparedImage],
        *,
        top_k: int,
        threshold: float | None,
        zero_shot_top_k: int | None,
        nms: bool,
    ) -> list[Detections]:
        """One forward pass over images whose views have one size."""

    def _shown(self, found: Detections, threshold: float | None) -> Detections:
        """The triplets that reach a threshold, by default the detector's own."""
        return found[found.confidence >= (self.default_threshold if threshold is None else threshold)]

    @overload  # a path is a sequence of letters too, but never taken for one
    def __call__(  # type: ignore[overload-overlap]
        self,
        images: ImageLike,
        *,
        top_k: int = 10,
        threshold: float | None = None,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> Detections: ...
    @overload
    def __call__(
        self,
        images: Sequence[ImageLike],
        *,
        top_k: int = 10,
        threshold: float | None = None,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> list[Detections]: ...
    @overload
    def __call__(
        self,
        images: Iterator[ImageLike],
        *,
        top_k: int = 10,
        threshold: float | None = None,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> Iterator[Detections]: ...
    def __call__(
        self,
        images: Any,
        *,
        top_k: int = 10,
        threshold: float | None = None,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> Detections | list[Detections] | Iterator[Detections]:
        """Detect the triplets of one image, of each in a list, or of each that a generator gives, as they come.

        A result never depends on what else is in the call: only images of equal resized size
        share a batch, so none is padded.  A list is read a few images at a time.

        Args:
            images: path, http(s) address, encoded bytes, binary file, Pillow image, (h, w, 3) uint8 array, torch
                tensor (3, h, w) of uint8 or 0..1; or a list or generator of them.
            top_k: the most triplets of an image.
            threshold: least probability of the interaction, 0..1; by default the detector's own.
            zero_shot_top_k: K of the training-free enhancement (paper: 10); None for none.
            nms: drop near copies.

        Raises:
            HoiError: if a file is no readable image.
        """
        options: dict[str, Any] = {
            "top_k": top_k,
            "threshold": threshold,
            "zero_shot_top_k": zero_shot_top_k,
            "nms": nms,
        }
        one_by_one = self._at_once if self.streams > 1 else self._one_by_one
        if isinstance(images, Iterator) and not hasattr(images, "read"):  # files give their lines
            return one_by_one(images, options)
        if isinstance(images, (list, tuple)):
            return list(one_by_one(images, options))
        return next(self._one_by_one([images], options))

    def _one_by_one(self, images: Iterable[ImageLike], options: dict[str, Any]) -> Iterator[Detections]:
        """Detections in order; a long list is not in memory as a whole."""
        coming = iter(images)
        while given := list(islice(coming, BATCHES_TO_CHOOSE_FROM * self.batch_size)):
            results: dict[int, Detections] = {}
            prepared = ((i, self._prepare(open_image(image))) for i, image in enumerate(given))
            for batch in equal_size_batches(prepared, lambda item: item[1].views[0].shape, self.batch_size):
                found = self._detect_batch([image for _, image in batch], **options)
                results |= zip((i for i, _ in batch), found, strict=True)
            for i, image in enumerate(given):
                yield replace(results[i], source=None if hasattr(image, "read") else image)  # a file was read up

    def _at_once(self, images: Iterable[ImageLike], options: dict[str, Any]) -> Iterator[Detections]:
        """Detections in order; as many images are computed at once as there are streams."""
        stream = detect_stream(
            enumerate(images),
            lambda item: self._prepare(open_image(item[1])),
            partial(self._detect_batch, **options),
            pixels=lambda item: 0,
            streams=self.streams,
        )
        with closing(stream):
            for (_, image), _, found in stream:
                assert isinstance(found, Detections)  # what is wrong with an image was raised
                yield replace(found, source=None if hasattr(image, "read") else image)

    def detect_files(
        self,
        paths: Iterable[str | Path],
        *,
        keep_images: bool = True,
        draft: bool = False,
        top_k: int = 10,
        threshold: float | None = None,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> Iterator[tuple[Path | str, Image.Image | None, Detections | HoiError]]:
        """Go through files; the next ones are read while the model works, a few at a time.

        Args:
            paths: image files, see :func:`hoiclip.images.find_images`, or http(s) addresses; taken one by one, so
                there may be any number.
            keep_images: hand out the decoded images too.
            draft: decode JPEGs of more than twice the detector's size at reduced scale.  Faster;
                scores move a little, and the images are not handed out.
            top_k, threshold, zero_shot_top_k, nms: as for calling the detector.

        Yields:
            In order: the path, the image (None if not kept) and its detections; or the path, None
            and what is wrong with it.
        """
        detect = partial(
            self._detect_batch,
            top_k=top_k,
            threshold=threshold,
            zero_shot_top_k=zero_shot_top_k,
            nms=nms,
        )
        stream = detect_stream(
            paths,
            partial(self._read, keep_image=keep_images, draft=draft),
            detect,
            batch_size=self.batch_size,
            readers=max(1, min(READERS, (os.cpu_count() or 1) // 2)),
            streams=self.streams,
        )
        with closing(stream):  # readers end with whoever stops listening
            for path, image, result in stream:
                yield path, image, result if isinstance(result, HoiError) else replace(result, source=path)

    def detect_named(
        self,
        images: Iterable[tuple[str, Source]],
        *,
        draft: bool = False,
        top_k: int = 10,
        threshold: float | None = None,
        zero_shot_top_k: int | None = None,
        readers: int | None = None,
    ) -> Generator[tuple[str, Detections | HoiError]]:
        """Go through images that have names of their own, as :meth:`detect_files` goes through files.

        Args:
            images: name, and path, http(s) address, or a function that gives encoded bytes or anything else that
                the detector is called with; called in a thread, it may raise HoiError.
            draft, top_k, threshold, zero_shot_top_k: as for :meth:`detect_files`.
            readers: threads that read; by default half of the cores, 8 at most.

        Yields:
            In order: the name, and its detections or what is wrong with it.
        """

        def read(named: tuple[str, Source]) -> PreparedImage | HoiError:
            name, source = named
            if not callable(source):
                return self._read(source, keep_image=False, draft=draft)
            try:
                content = source()
                return self._prepare(decode_image(content, name) if isinstance(content, bytes) else open_image(content))
            except HoiError as error:
                return error

        detect = partial(
            self._detect_batch,
            top_k=top_k,
            threshold=threshold,
            zero_shot_top_k=zero_shot_top_k,
            nms=True,
        )
        stream = detect_stream(
            images,
            read,
            detect,
            batch_size=self.batch_size,
            readers=readers or max(1, min(READERS, (os.cpu_count() or 1) // 2)),
            pixels=lambda named: 0 if callable(named[1]) or is_address(named[1]) else declared_pixels(named[1]),
            streams=self.streams,
        )
        with closing(stream):
            for (name, _), _, found in stream:
                yield name, found

    def detect_frames(
        self, frames: Iterable[Frame], *, top_k: int, threshold: float, zero_shot_top_k: int | None = None
    ) -> Generator[tuple[Frame, Detections]]:
        """Go through frames of a video in order; the next ones are decoded and prepared while the model works.

        Args:
            frames: objects with an upright RGB ``image``; taken a few ahead, in a thread.
            top_k, threshold, zero_shot_top_k: as for calling the detector.
        """

        def read(frame: Frame) -> PreparedImage:
            return self._prepare(frame.image)

        detect = partial(
            self._detect_batch, top_k=top_k, threshold=threshold, zero_shot_top_k=zero_shot_top_k, nms=True
        )
        with closing(read_ahead(frames)) as coming:
            stream = detect_stream(
                coming,
                read,
                detect,
                batch_size=self.batch_size,
                readers=max(1, min(READERS, (os.cpu_count() or 1) // 2)),
                pixels=lambda frame: frame.image.width * frame.image.height,
                streams=self.streams,
            )
            for frame, _, found in stream:
                assert isinstance(found, Detections)  # reading a picture that is there cannot fail
                yield frame, found

    def _same_process(self, process: int) -> None:
        """Raise HoiError in a fork: the threads that compute were not copied, and it would wait for ever."""
        if os.getpid() != process:
            raise HoiError(
                "this detector was made before the process was forked: make one in each process, or start them with "
                'multiprocessing.get_context("spawn")'
            )
