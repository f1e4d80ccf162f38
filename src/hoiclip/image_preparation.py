"""From an image to what a model looks at, as numpy arrays: no torch is loaded.

The detector sees the whole image (shorter side 800, longest 1333), CLIP a square of 224 cut from
the middle of that same resized image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hoiclip.errors import HoiError, whole_number
from hoiclip.images import resized_size, to_rgb
from hoiclip.published import CLIP_SIZE, LONGEST_EDGE, SHORTEST_EDGE, ZERO_SHOT_TOP_K
from hoiclip.vocabulary import HoiVocabulary

PROCESSOR_FILE = "processor_config.json"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# Beyond this a side ratio the resized strip would need gigabytes; only its middle is resized.
EXTREME_RATIO = 20
MANY_PIXELS = 1 << 18  # from which an image is worked on by two threads
LARGEST_VIEW = 8192  # pixels; no detector or CLIP looks at more


def detector_image(
    image: Image.Image, shortest_edge: int = SHORTEST_EDGE, longest_edge: int = LONGEST_EDGE
) -> Image.Image:
    """The image at the detector's size (Pillow bilinear), still 8-bit RGB."""
    width, height = image.size
    height, width = resized_size((height, width), shortest_edge, longest_edge)
    return image if (width, height) == image.size else _resized(image, (width, height), Image.Resampling.BILINEAR)


def clip_image(image: Image.Image, size: int = CLIP_SIZE) -> Image.Image:
    """Shorter side to ``size`` (Pillow bicubic), middle square, still 8-bit.

    The published pipeline hands in the image at the detector's size (:func:`detector_image`).
    """
    width, height = image.size
    if max(width, height) > EXTREME_RATIO * min(width, height):
        shorter = min(width, height)
        left, top = (width - shorter) / 2, (height - shorter) / 2
        box = (left, top, left + shorter, top + shorter)
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    image = _resized(image, (width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def normalised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(3, h, w) float32: (pixel / 255 - mean) / std."""
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # which would be a copy
    height, width = pixels.shape[:2]
    values = np.empty((3, height, width), dtype=np.float32)

    def fill(rows: slice) -> None:
        for i, channel in enumerate(values[:, rows]):
            np.divide(pixels[rows, :, i], np.float32(255), out=channel)  # (h, w, 3) -> (3, h, w)
            channel -= np.float32(mean[i])
            channel /= np.float32(std[i])

    if height * width < MANY_PIXELS:
        fill(slice(None))
    else:
        _both_halves(fill, slice(height // 2), slice(height // 2, None))
    return values


def _resized(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """``image.resize(size, resampling)``; halves of a large image at once, to the same bits as both have one scale."""
    width, height = size
    if height % 2 or image.width * image.height < MANY_PIXELS:
        return image.resize(size, resampling)
    image.load()  # a file that is only opened: two threads that decode it at once damage it
    whole, middle = Image.new(image.mode, size), image.height / 2

    def fill(top: int) -> None:
        half = image.resize((width, height // 2), resampling, (0, top * middle, image.width, (top + 1) * middle))
        whole.paste(half, (0, top * (height // 2)))

    _both_halves(fill, 0, 1)
    return whole


def _both_halves(work: Callable[[Any], None], one: Any, other: Any) -> None:
    """Work on two halves of an image at once; Pillow and numpy let go of the interpreter."""
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(work, one)
        work(other)
        done.result()


class ImagePreparation:
    """The sizes of both views, and what the answer's columns mean.

    Args:
        vocabulary: what the model's columns mean.
        shortest_edge, longest_edge: the detector's size in pixels.
        clip_size: side of CLIP's square in pixels.
        zero_shot_top_k: default K of the training-free enhancement, None for none.

    Raises:
        HoiError: if a size is no whole number of pixels, or beyond what can be meant.
    """

    def __init__(
        self,
        vocabulary: HoiVocabulary | str = "hico",
        shortest_edge: int = SHORTEST_EDGE,
        longest_edge: int = LONGEST_EDGE,
        clip_size: int = CLIP_SIZE,
        zero_shot_top_k: int | None = ZERO_SHOT_TOP_K,
    ) -> None:
        self.vocabulary = HoiVocabulary.coerce(vocabulary)
        for name, value in (("shortest_edge", shortest_edge), ("longest_edge", longest_edge), ("clip_size", clip_size)):
            whole_number(name, value, 1, LARGEST_VIEW)
        if zero_shot_top_k is not None:
            whole_number("zero_shot_top_k", zero_shot_top_k, 1, 10**6)
        self.shortest_edge = shortest_edge
        self.longest_edge = longest_edge
        self.clip_size = clip_size
        self.zero_shot_top_k = zero_shot_top_k
        super().__init__()

    def views(self, image: Image.Image) -> tuple[Any, Any]:
        """One image to the detector's view (3, h, w) and CLIP's (3, s, s), arrays of float32."""
        image = detector_image(to_rgb(image), self.shortest_edge, self.longest_edge)
        square = clip_image(image, self.clip_size)
        return normalised(image, IMAGENET_MEAN, IMAGENET_STD), normalised(square, CLIP_MEAN, CLIP_STD)

    def resized_size(self, image: Image.Image) -> tuple[int, int]:
        """(height, width) of the detector's view; images of equal size can share a batch unpadded."""
        return resized_size((image.height, image.width), self.shortest_edge, self.longest_edge)

    def set_size(self, shorter: int) -> None:
        """Resize images to so many pixels on the shorter side from now on; the limit of the longer one follows.

        Raises:
            HoiError: outside 32..4096 pixels.
        """
        if not 32 <= shorter <= 4096:
            raise HoiError(f"size {shorter}: is no size for a detector; give 32 to 4096 pixels")
        self.longest_edge = round(self.longest_edge * shorter / self.shortest_edge)
        self.shortest_edge = shorter

    @classmethod
    def settings_of(cls, folder: str | Path, source: str | Path | None = None) -> dict[str, Any]:
        """What processor_config.json of a folder says, its class's name left out.

        Args:
            folder: where it is.
            source: what the user called the folder, for complaints.

        Raises:
            HoiError: if there is none that can be read.
        """
        try:
            settings = json.loads((Path(folder) / PROCESSOR_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise HoiError(f"{source or folder}: {_ADVICE}") from error
        if not isinstance(settings, dict) or not settings:
            raise HoiError(f"{source or folder}: {_ADVICE}")
        settings.pop("processor_class", None)
        return settings

    @classmethod
    def read(cls, folder: str | Path, source: str | Path | None = None) -> ImagePreparation:
        """Read processor_config.json and vocabulary.json of a folder.

        Args:
            folder: where they are.
            source: what the user called the folder, for complaints.

        Raises:
            HoiError: if one of them is not there or cannot be read.
        """
        source = source or folder
        settings = cls.settings_of(folder, source)
        vocabulary = HoiVocabulary.from_pretrained(folder)
        try:
            return cls(vocabulary=vocabulary, **settings)
        except HoiError as error:
            raise HoiError(f"{source}: in {PROCESSOR_FILE} {error}") from error
        except TypeError as error:
            raise HoiError(f"{source}: {_ADVICE} ({error})") from error


_ADVICE = f"no readable {PROCESSOR_FILE} there; give a folder that hoiclip wrote"
