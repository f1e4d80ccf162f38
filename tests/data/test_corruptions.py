"""Corrupted images: what each kind does, and that chance hangs on the image's name alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.corruptions import BENCHMARK, KINDS, LEVELS, CorruptedSamples, Corruption, corrupt, corruptions
from hoiclip.data.samples import annotation_of
from hoiclip.errors import HoiError
from hoiclip.playground.dataset import PlaygroundDataset

SCENE = PlaygroundDataset(seed=3, length=1, split="test")[0][0]
PLAIN = Image.new("RGB", (40, 30), (100, 150, 200))


GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "data" / "corruptions.npz")


class LegacyChance:
    """The random stream of the published program, for :mod:`hoiclip.data.corruptions` to draw from."""

    def __init__(self, seed: int) -> None:
        self.stream = np.random.RandomState(seed)

    def normal(self, mean: float, spread: float, shape: tuple[int, ...]) -> np.ndarray:
        return self.stream.normal(mean, spread, shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...] | None = None) -> np.ndarray | float:
        return self.stream.uniform(low, high, shape)

    def poisson(self, mean: np.ndarray) -> np.ndarray:
        return self.stream.poisson(mean)

    def integers(self, low: int, high: int, shape: tuple[int, int]) -> np.ndarray:
        return self.stream.randint(low, high, size=shape[::-1]).T


@pytest.mark.parametrize("name", GOLDEN.files)
def test_a_kind_is_that_of_the_published_program(name: str) -> None:
    """Every fifth pixel of imagecorruptions 1.1.2's own functions, given this stream.

    For the functions that it takes from OpenCV and scikit-image stood scipy's, with their kernels and borders.
    """
    kind, _, level = name.rpartition("_")
    rows, columns = np.mgrid[:48, :64]
    pixels = np.stack([(rows * 5 + columns) % 256, (columns * 4) % 256, (rows * columns // 7) % 256], axis=2)
    chance = LegacyChance(7)
    found = KINDS[kind](pixels.astype(np.float32) / np.float32(255), int(level) - 1, chance)  # type: ignore[arg-type]
    found = (np.clip(found, 0, 1) * 255).astype(np.uint8)[1::5, 1::5]
    # theirs is cut off from float64, ours from float32; JPEG's own decoder may round otherwise elsewhere
    bound = 4 if kind in ("glass_blur", "jpeg_compression") else 1
    assert np.abs(found.astype(int) - GOLDEN[name]).max() <= bound


def lost(kind: str, level: int) -> float:
    """1 - the correlation with the image as it is, the mean over 24 seeds."""
    before = np.asarray(SCENE, dtype=float).ravel()
    after = [
        np.asarray(corrupt(SCENE, Corruption(kind, level, seed), "a.jpg"), dtype=float).ravel() for seed in range(24)
    ]
    return float(np.mean([1 - np.corrcoef(before, one)[0, 1] for one in after]))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("glass_blur", "saturate")])
def test_each_level_takes_more_of_the_image_than_the_one_before(kind: str) -> None:
    # by the published constants fog is as thick at its fourth level as at its third, and rougher
    values = [lost(kind, level) for level in LEVELS if (kind, level) != ("fog", 4)]
    assert values == sorted(values)
    assert values[-1] > 1.5 * values[0] > 0


def test_glass_blur_at_its_strongest_takes_more_than_at_its_weakest() -> None:
    # by the published constants its fourth level shuffles fewer times than its third
    assert lost("glass_blur", 5) > 1.5 * lost("glass_blur", 1) > 0


def test_saturate_takes_colour_away_at_the_first_levels_and_adds_it_later() -> None:
    def spread(level: int) -> float:
        pixels = np.asarray(corrupt(PLAIN, Corruption("saturate", level), "a"), dtype=float)
        return float((pixels.max(axis=2) - pixels.min(axis=2)).mean())

    assert [spread(level) for level in LEVELS] == pytest.approx([30, 10, 200, 200, 200], abs=1)  # of 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (33, 20)])
def test_an_image_of_any_size_keeps_its_size_and_is_rgb(kind: str, size: tuple[int, int]) -> None:
    for level in (1, 5):
        found = corrupt(SCENE.resize(size).convert("L"), Corruption(kind, level), "a.jpg")
        assert found.size == size
        assert found.mode == "RGB"


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow",
                                  "frost", "fog", "elastic_transform", "speckle_noise"])  # fmt: skip
def test_chance_hangs_on_name_level_and_seed_alone(kind: str) -> None:
    def pixels(name: str, seed: int = 0) -> np.ndarray:
        return np.asarray(corrupt(SCENE, Corruption(kind, 3, seed), name))

    first = pixels("a.jpg")
    assert np.array_equal(first, pixels("a.jpg"))
    assert not np.array_equal(first, pixels("b.jpg"))
    assert not np.array_equal(first, pixels("a.jpg", seed=1))


def test_noise_has_the_published_strength() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    noise = np.asarray(corrupt(grey, Corruption("gaussian_noise", 1), "a"), dtype=float) / 255
    assert noise.std() == pytest.approx(0.08, rel=0.02)
    shot = np.asarray(corrupt(grey, Corruption("shot_noise", 1), "a"), dtype=float) / 255
    assert shot.std() == pytest.approx(np.sqrt(128 / 255 / 60), rel=0.02)  # Poisson: the variance is the mean
    struck = np.asarray(corrupt(grey, Corruption("impulse_noise", 5), "a"))
    assert np.isin(struck, (0, 255)).mean() == pytest.approx(0.27, abs=0.01)
    assert (struck == 255).sum() == pytest.approx((struck == 0).sum(), rel=0.05)


def test_what_has_no_structure_is_left_by_blur_and_moved_by_contrast_to_its_mean() -> None:
    for kind in ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "elastic_transform", "pixelate"):
        # the published disk of defocus_blur reaches the border of its kernel from level 4 on, and brightens by 1 of 255
        after = np.asarray(corrupt(PLAIN, Corruption(kind, 3), "a"), dtype=int)
        assert np.abs(after - np.asarray(PLAIN, dtype=int)).max() <= 1
    halves = Image.fromarray(np.repeat(np.uint8([[[0] * 3, [200] * 3]]), 10, axis=1))
    after = np.asarray(corrupt(halves, Corruption("contrast", 1), "a"), dtype=int)
    assert sorted(np.unique(after)) == [60, 140]  # 100 -+ 0.4 * 100, cut off


def test_brightness_keeps_the_hue() -> None:
    after = np.asarray(corrupt(PLAIN, Corruption("brightness", 1), "a"), dtype=float)[0, 0]
    assert after == pytest.approx(np.array([100, 150, 200]) * (200 + 25.5) / 200, abs=1)
    black = corrupt(Image.new("RGB", (3, 3)), Corruption("brightness", 2), "a")
    assert black.getpixel((1, 1)) == (51, 51, 51)


def test_kinds_are_asked_for_by_name_with_or_without_a_level() -> None:
    assert corruptions(["fog:3", "fog:3"]) == [Corruption("fog", 3)]
    assert [str(c) for c in corruptions(["jpeg-compression"], 7)] == [f"jpeg_compression:{n}" for n in LEVELS]
    assert len(corruptions(["all"])) == 75
    assert [c.kind for c in corruptions(["all:2"])] == list(BENCHMARK)
    with pytest.raises(HoiError, match="--corrupt gausian_noise:3: no such kind of corruption; did you mean gaussian_"):
        corruptions(["gausian_noise:3"])
    with pytest.raises(HoiError, match="choose all, gaussian_noise, shot_noise"):
        corruptions(["xyz"])
    for level in ("6", "0", "", "one"):
        with pytest.raises(HoiError, match="the level is a number from 1 to 5, as in fog:3"):
            corruptions([f"fog:{level}"])


def test_corrupted_samples_keep_their_annotations() -> None:
    scenes = PlaygroundDataset(seed=3, length=2, split="test")
    corrupted = CorruptedSamples(scenes, Corruption("contrast", 5))
    image, annotation = corrupted[1]
    assert len(corrupted) == 2
    assert isinstance(annotation, AnnotatedImage)
    assert annotation.file_name == scenes[1][1].file_name == annotation_of(corrupted, 1).file_name
    before = np.asarray(scenes[1][0])
    assert np.asarray(image)[..., 0].std() == pytest.approx(0.05 * before[..., 0].std(), rel=0.1)
