"""Resizing and the training augmentation: a PIL image and its boxes move together.

Paper section 4.1 trains with DETR's augmentation; the exact steps and odds are those of the
published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from hoiclip import published
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.samples import Sample
from hoiclip.errors import HoiError
from hoiclip.images import resized_size


def flip(image: Image.Image, annotation: AnnotatedImage) -> Sample:
    """Mirror left and right."""
    x1, y1, x2, y2 = annotation.boxes.T
    boxes = np.stack([image.width - x2, y1, image.width - x1, y2], axis=1)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), replace(annotation, boxes=boxes, size=_size(image))


def jitter(
    image: Image.Image, brightness: float, contrast: float, saturation: float, order: Sequence[int]
) -> Image.Image:
    """Scale brightness, contrast and saturation (1 = as it is) in the given order of 0, 1 and 2."""
    steps = (
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, saturation),
    )
    for step in order:
        enhance, factor = steps[step]
        image = enhance(image).enhance(factor)
    return image


def resize(image: Image.Image, annotation: AnnotatedImage, size: tuple[int, int]) -> Sample:
    """Bring the image to (height, width) with Pillow's bilinear filter; boxes scale along."""
    height, width = size
    scale = np.array([width / image.width, height / image.height] * 2)
    annotation = replace(annotation, boxes=annotation.boxes * scale, size=size)
    return image.resize((width, height), Image.Resampling.BILINEAR), annotation


def crop(image: Image.Image, annotation: AnnotatedImage, top: int, left: int, height: int, width: int) -> Sample:
    """Cut out a window.  Boxes are cut to it; those with no area left go, and their pairs with them."""
    boxes = annotation.boxes - np.array([left, top, left, top])
    annotation = replace(annotation, boxes=boxes, size=(height, width))
    return image.crop((left, top, left + width, top + height)), clip_boxes(annotation, (height, width))


def clip_boxes(annotation: AnnotatedImage, size: tuple[int, int]) -> AnnotatedImage:
    """Cut boxes to an image of (height, width) pixels and drop those with no area left."""
    height, width = size
    boxes = np.clip(annotation.boxes, 0, np.array([width, height, width, height]))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return keep_boxes(replace(annotation, boxes=boxes, size=size), kept)


def keep_boxes(annotation: AnnotatedImage, kept: np.ndarray) -> AnnotatedImage:
    """Drop boxes and every pair that lost one.

    Args:
        annotation: n boxes.
        kept: (n,) bool.
    """
    if kept.all():
        return annotation
    rows = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)  # the last row answers for "no object", -1
    there = np.append(kept, True)
    whole = there[annotation.pairs].all(axis=1)
    return replace(
        annotation,
        boxes=annotation.boxes[kept],
        object_ids=annotation.object_ids[kept],
        pairs=rows[annotation.pairs[whole]],
        hoi_ids=annotation.hoi_ids[whole],
        verb_ids=None if annotation.verb_ids is None else annotation.verb_ids[whole],
    )


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


# --- the augmentation of training ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainingAugmentation:
    """Flip, colour jitter, then resize or resize-crop-resize, each drawn from the generator given.

        image, annotation = TrainingAugmentation()(image, annotation, np.random.default_rng(0))

    Same generator state, same result.  The defaults are those of the published training script;
    small images want smaller numbers.

    Attributes:
        flip_probability: how often an image is mirrored.
        jitter: brightness, contrast and saturation factors are uniform in 1 - jitter .. 1 + jitter.
        scales: shorter sides to choose from, pixels.
        longest: limit of the longer side, pixels.
        crop_probability: how often a window is cut out before the last resize.
        crop_scales: shorter sides to choose from before cutting, without a limit on the longer one.
        crop_range: smallest and largest side of the window, pixels; width and height are independent.
    """

    flip_probability: float = published.FLIP_PROBABILITY
    jitter: float = published.JITTER
    scales: tuple[int, ...] = published.SCALES
    longest: int | None = published.LONGEST_EDGE
    crop_probability: float = published.CROP_PROBABILITY
    crop_scales: tuple[int, ...] = published.CROP_SCALES
    crop_range: tuple[int, int] = published.CROP_RANGE

    def __post_init__(self) -> None:
        if not (0 <= self.flip_probability <= 1 and 0 <= self.crop_probability <= 1):
            raise HoiError("augmentation: probabilities lie between 0 and 1")
        if not 0 <= self.jitter <= 1:
            raise HoiError(f"augmentation: jitter must lie between 0 and 1, not {self.jitter}")
        if not self.scales or not self.crop_scales or min(*self.scales, *self.crop_scales, *self.crop_range) < 1:
            raise HoiError("augmentation: scales and crop sizes are lists of at least one positive number of pixels")

    def __call__(self, image: Image.Image, annotation: AnnotatedImage, rng: np.random.Generator) -> Sample:
        """Augment one image.

        Args:
            image: RGB.
            annotation: boxes in its pixels.
            rng: where all choices come from.
        """
        if rng.random() < self.flip_probability:
            image, annotation = flip(image, annotation)
        factors = rng.uniform(1 - self.jitter, 1 + self.jitter, size=3).tolist()
        order = rng.permutation(3)
        if self.jitter:
            image = jitter(image, factors[0], factors[1], factors[2], order.tolist())
        if rng.random() < self.crop_probability:
            image, annotation = resize(
                image, annotation, resized_size(_size(image), _pick(self.crop_scales, rng), None)
            )
            image, annotation = self._crop(image, annotation, rng)
        return resize(image, annotation, resized_size(_size(image), _pick(self.scales, rng), self.longest))

    def _crop(self, image: Image.Image, annotation: AnnotatedImage, rng: np.random.Generator) -> Sample:
        low, high = self.crop_range
        width = int(rng.integers(min(low, image.width), min(high, image.width) + 1))
        height = int(rng.integers(min(low, image.height), min(high, image.height) + 1))
        top = int(rng.integers(image.height - height + 1))
        left = int(rng.integers(image.width - width + 1))
        return crop(image, annotation, top, left, height, width)


@dataclass(frozen=True, kw_only=True)
class FixedResize:
    """The size evaluation uses and nothing else, in the place of :class:`TrainingAugmentation`."""

    shorter: int = published.SHORTEST_EDGE
    longest: int | None = published.LONGEST_EDGE

    def __call__(self, image: Image.Image, annotation: AnnotatedImage, rng: np.random.Generator) -> Sample:
        """Resize; ``rng`` is not used."""
        return resize(image, annotation, resized_size(_size(image), self.shorter, self.longest))


def _pick(choices: Sequence[int], rng: np.random.Generator) -> int:
    return choices[int(rng.integers(len(choices)))]
