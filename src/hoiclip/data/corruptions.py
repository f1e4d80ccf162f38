"""Images corrupted as in the benchmark of Hendrycks and Dietterich (ICLR 2019), for any image size.

    corrupted = corrupt(image, Corruption("fog", 3), "test_0001.jpg")

Kinds, levels and constants are those of ImageNet-C as Michaelis et al. (2019) use them for detection; here they need
numpy, scipy and Pillow alone.  What differs is told in ``docs/robustness.md``.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from PIL import Image
from scipy import ndimage, signal

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.samples import Sample, Samples, annotation_of
from hoiclip.errors import HoiError

LEVELS = (1, 2, 3, 4, 5)
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
Pixels = np.ndarray  # (h, w, 3) float32, 0..1


@dataclass(frozen=True)
class Corruption:
    """What is done to every image; equal ones do the same to an image of the same name."""

    kind: str
    level: int
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.level}"


def corruptions(texts: Sequence[str], seed: int = 0) -> list[Corruption]:
    """``KIND:LEVEL``, ``KIND`` for its five levels, ``all`` for the benchmark's 15 kinds; each once, in their order.

    Raises:
        HoiError: an unknown kind or level.
    """
    found: dict[Corruption, None] = {}
    for text in texts:
        kind, colon, level = text.strip().replace("-", "_").partition(":")
        if kind != "all" and kind not in KINDS:
            near = get_close_matches(kind, ["all", *KINDS], n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; choose all, {', '.join(KINDS)}"
            raise HoiError(f"--corrupt {text}: no such kind of corruption{hint}")
        if colon and level not in map(str, LEVELS):
            raise HoiError(f"--corrupt {text}: the level is a number from 1 to 5, as in {kind}:3")
        for name in BENCHMARK if kind == "all" else (kind,):
            found |= {Corruption(name, n, seed): None for n in ((int(level),) if colon else LEVELS)}
    return list(found)


def corrupt(image: Image.Image, corruption: Corruption, file_name: str) -> Image.Image:
    """A corrupted copy, RGB and of the same size.

    Chance depends on file name, kind, level and seed alone, so neither the order nor the number of images matters.
    """
    named = "\0".join((file_name, corruption.kind, str(corruption.level), str(corruption.seed)))
    chance = np.random.default_rng(list(hashlib.sha256(named.encode()).digest()))
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
    changed = KINDS[corruption.kind](pixels, corruption.level - 1, chance)
    return Image.fromarray((np.clip(changed, 0, 1) * 255).astype(np.uint8))  # cut off, not rounded, as published


class CorruptedSamples:
    """Samples whose images are corrupted; boxes stay where they are."""

    def __init__(self, samples: Samples, corruption: Corruption) -> None:
        self.samples, self.corruption = samples, corruption

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        image, annotation = self.samples[index]
        return corrupt(image, self.corruption, annotation.file_name), annotation

    def annotation(self, index: int) -> AnnotatedImage:
        """One annotation, without its image."""
        return annotation_of(self.samples, index)


# --- noise -----------------------------------------------------------------------------------------


def _gaussian_noise(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    return x + chance.normal(0, (0.08, 0.12, 0.18, 0.26, 0.38)[level], x.shape)


def _shot_noise(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    photons = (60, 25, 12, 5, 3)[level]
    return chance.poisson(x * photons) / photons


def _impulse_noise(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    struck = chance.random(x.shape) <= (0.03, 0.06, 0.09, 0.17, 0.27)[level]
    return np.where(struck, chance.random(x.shape) <= 0.5, x)


def _speckle_noise(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    return x + x * chance.normal(0, (0.15, 0.2, 0.35, 0.45, 0.6)[level], x.shape)


# --- blur ------------------------------------------------------------------------------------------


def _gaussian_blur(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    return _smoothed(x, (1, 2, 3, 4, 6)[level])


def _defocus_blur(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    radius, softness = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[level]
    reach = max(8, radius)
    across = np.arange(-reach, reach + 1)
    disk = (across[:, None] ** 2 + across**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    soft = np.exp(-(taps**2) / (2 * softness**2))
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, soft / soft.sum(), axis, mode="mirror")
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return signal.fftconvolve(padded, disk[..., None], mode="valid", axes=(0, 1))


def _glass_blur(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    """Each pixel takes the place of a near one, one after the other.

    The published program means to swap them; its assignment between views of an array copies.
    """
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[level]
    height, width = x.shape[:2]
    x = np.floor(_smoothed(x, sigma) * 255) / 255
    source = list(range(height * width))
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    places = (rows[:, None] * width + columns).reshape(-1)
    for _ in range(rounds):
        across, down = chance.integers(-reach, reach, (2, len(places)))
        for place, near in zip(places.tolist(), (places + down * width + across).tolist(), strict=True):
            source[place] = source[near]  # a list: numpy would take ten times as long, value by value
    return _smoothed(x.reshape(-1, 3)[source].reshape(x.shape), sigma)


def _motion_blur(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[level]
    return _moved(x, radius, sigma, chance.uniform(-45, 45))


def _zoom_blur(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    most, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[level]
    factors, (height, width) = np.arange(1, most, step), x.shape[:2]
    return (x + sum(_magnified(x, factor)[:height, :width] for factor in factors.tolist())) / (len(factors) + 1)


# --- weather ---------------------------------------------------------------------------------------


def _snow(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    mean, spread, size, least, radius, sigma, clear = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[level]
    flakes = _magnified(chance.normal(mean, spread, (*x.shape[:2], 1)), size)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    flakes = np.round(_moved(flakes, radius, sigma, chance.uniform(-135, -45)) * 255) / 255
    flakes = flakes[: x.shape[0], : x.shape[1]]
    x = clear * x + (1 - clear) * np.maximum(x, (x @ LUMA)[..., None] * 1.5 + 0.5)
    return x + flakes + flakes[::-1, ::-1]


def _frost(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    """The published program lays photographs of frost over the image; this one draws needles of ice."""
    clear, ice = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[level]
    shape = x.shape[:2]
    where = _plasma(shape, 2.0, chance)
    needles = np.zeros(shape)
    for angle in chance.uniform(0, 180, 8):
        seeds = (chance.random((*shape, 1)) < 0.004) * chance.random((*shape, 1))
        needles = np.maximum(needles, _moved(seeds, 30, 14, angle)[..., 0])
    needles /= max(float(np.quantile(needles, 0.98)), 1e-6)
    thick = np.clip(0.25 + 0.5 * where, 0, 1) * np.clip(0.45 + 0.55 * needles, 0, 1)
    return clear * x + ice * thick[..., None] * np.array([0.9, 0.97, 1.0])


def _fog(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    thickness, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[level]
    brightest = float(x.max())
    return (x + thickness * _plasma(x.shape[:2], decay, chance)[..., None]) * brightest / (brightest + thickness)


def _brightness(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    """More of V of HSV: the channels keep their ratio."""
    value = x.max(axis=2, keepdims=True)
    brighter = np.clip(value + (0.1, 0.2, 0.3, 0.4, 0.5)[level], 0, 1)
    return np.where(value > 0, x / np.maximum(value, 1e-9), 1.0) * brighter


# --- digital ---------------------------------------------------------------------------------------


def _contrast(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level] + mean


def _elastic_transform(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    height, width = x.shape[:2]
    most, strength = height * 0.005, 250 * (0.05, 0.065, 0.085, 0.1, 0.12)[level]
    across, down = (
        ndimage.gaussian_filter(
            chance.uniform(-most, most, (height, width)), (height * 0.01, width * 0.01), mode="reflect", truncate=3
        )
        * strength
        for _ in range(2)
    )
    rows, columns = np.mgrid[:height, :width]
    where = rows + down, columns + across
    return np.stack([ndimage.map_coordinates(x[..., c], where, order=1, mode="reflect") for c in range(3)], axis=2)


def _pixelate(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    image, share = _image(x), (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    small = max(1, int(image.width * share)), max(1, int(image.height * share))
    return _pixels(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST))


def _jpeg_compression(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    _image(x).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[level])
    return _pixels(Image.open(file))


def _saturate(x: Pixels, level: int, chance: np.random.Generator) -> Pixels:
    """Another S of HSV: the distance of each channel to the greatest is scaled; grey has the hue of red."""
    factor, more = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[level]
    value, least = x.max(axis=2, keepdims=True), x.min(axis=2, keepdims=True)
    saturation = (value - least) / np.maximum(value, 1e-9)
    below = np.where(saturation > 0, (value - x) / np.maximum(saturation, 1e-9), value * np.array([0, 1, 1]))
    return value - below * np.clip(saturation * factor + more, 0, 1)


# --- pieces ----------------------------------------------------------------------------------------


def _smoothed(x: Pixels, sigma: float) -> Pixels:
    return np.clip(ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest"), 0, 1)


def _moved(x: Pixels, radius: int, sigma: float, angle: float) -> Pixels:
    """Blurred along a line of 2 * radius + 1 pixels at an angle in degrees; edges go on beyond the image."""
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    down, across = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    rows, columns = np.arange(x.shape[0]), np.arange(x.shape[1])
    blurred = np.zeros(x.shape)
    for i, weight in enumerate((weights / weights.sum()).tolist()):
        dy, dx = -int(np.ceil(i * down - 0.5)), -int(np.ceil(i * across - 0.5))
        moved = x[np.clip(rows - dy, 0, len(rows) - 1)][:, np.clip(columns - dx, 0, len(columns) - 1)]
        blurred += weight * moved
    return blurred


def _magnified(x: Pixels, factor: float) -> Pixels:
    """The middle of (h, w, c), enlarged to the size of the whole or a little more."""
    height, width = x.shape[:2]
    high, wide = int(np.ceil(height / factor)), int(np.ceil(width / factor))
    top, left = (height - high) // 2, (width - wide) // 2
    part = x[top : top + high, left : left + wide]
    return ndimage.zoom(part, (factor, factor, 1), order=1)


def _plasma(shape: tuple[int, int], decay: float, chance: np.random.Generator) -> np.ndarray:
    """(h, w) clouds of 0..1 by the diamond-square algorithm, which needs a square of a power of two."""
    side = 1 << (max(2, *shape) - 1).bit_length()
    field, step, wobble = np.zeros((side, side)), side, 100.0

    def shaken(total: np.ndarray) -> np.ndarray:
        return total / 4 + wobble * chance.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        field[half::step, half::step] = shaken(pairs + np.roll(pairs, -1, axis=1))
        middles = field[half::step, half::step]
        beside = middles + np.roll(middles, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        field[::step, half::step] = shaken(beside)
        above = middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        field[half::step, ::step] = shaken(above)
        step, wobble = half, wobble / decay
    field -= field.min()
    return (field / max(float(field.max()), 1e-9))[: shape[0], : shape[1]]


def _image(x: Pixels) -> Image.Image:
    return Image.fromarray(np.round(x * 255).astype(np.uint8))


def _pixels(image: Image.Image) -> Pixels:
    # a little more than the value, so that cutting off after * 255 gives the value again
    return (np.asarray(image.convert("RGB"), dtype=np.float32) + np.float32(0.01)) / np.float32(255)


#: the 15 kinds over which the benchmark takes its mean
BENCHMARK = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
#: every kind by name, those of the benchmark first
KINDS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    name: globals()[f"_{name}"] for name in (*BENCHMARK, "speckle_noise", "gaussian_blur", "saturate")
}
