"""Both views of a picture against the published preprocessing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import HERE, recipe

from hoiclip import HoiClipProcessor
from hoiclip.image_preparation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImagePreparation,
    clip_image,
    detector_image,
    normalised,
)
from hoiclip.processing import clip_view, detector_view

CASES = json.loads((HERE / "preprocess.json").read_text())
ARRAYS = np.load(HERE / "preprocess.npz")
HALF = 3e-3  # rounding to float16 costs up to 1e-3; one grey level is 1.5e-2


@pytest.mark.parametrize("index", range(len(CASES["images"])))
def test_views_equal_the_published_ones(index: int) -> None:
    case = CASES["images"][index]
    image = Image.fromarray(recipe.image(case["seed"], case["h"], case["w"]))
    view = detector_view(image).numpy()
    height, width = view.shape[1:]
    assert [height, width] == case["resized_hw"]
    sample = view[:, (np.arange(64) * height) // 64][:, :, (np.arange(64) * width) // 64]
    assert np.abs(sample - ARRAYS[f"img{index}_sample"]).max() <= HALF
    inputs = HoiClipProcessor("hico")(image)
    assert np.array_equal(inputs["pixel_values"][0].numpy(), view)  # same machine, same number of threads
    if f"img{index}_clip_from_resized" not in ARRAYS:
        return  # the reference keeps CLIP's view of the first two only
    resized = detector_image(image)
    assert np.abs(clip_view(resized).numpy() - ARRAYS[f"img{index}_clip_from_resized"]).max() <= HALF
    assert np.abs(clip_view(image).numpy() - ARRAYS[f"img{index}_clip_from_original"]).max() <= HALF
    assert np.abs(inputs["clip_pixel_values"][0].numpy() - ARRAYS[f"img{index}_clip_from_resized"]).max() <= HALF


@pytest.mark.parametrize("case", CASES["sizes"], ids=lambda c: "x".join(map(str, c["hw"])))
def test_pictures_are_resized_to_the_published_size(case: dict[str, list[int]]) -> None:
    height, width = case["hw"]
    resized = detector_image(Image.new("RGB", (width, height)))
    assert [resized.height, resized.width] == case["resized_hw"]


@pytest.mark.parametrize(
    ("width", "height"),
    [(2132, 1600), (1201, 1777), (4000, 1333), (1100, 3301), (1024, 1024), (640, 480), (480, 640), (1333, 801)],
)
def test_large_images_are_prepared_by_two_threads_to_the_same_bits(width: int, height: int) -> None:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    resized = detector_image(image, 800, 1333)
    assert np.array_equal(resized, image.resize(resized.size, Image.Resampling.BILINEAR))
    scale = 224 / min(resized.size)
    small = resized.resize([int(side * scale + 1e-9) for side in resized.size], Image.Resampling.BICUBIC)
    left, top = round((small.width - 224) / 2), round((small.height - 224) / 2)
    assert np.array_equal(clip_image(resized), small.crop((left, top, left + 224, top + 224)))
    scaled = np.asarray(resized, dtype=np.float32) / np.float32(255)
    expected = (scaled - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    assert np.array_equal(normalised(resized, IMAGENET_MEAN, IMAGENET_STD), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(640, 480), (1400, 900)])
def test_an_image_that_is_only_opened_has_the_views_of_a_loaded_one(size: tuple[int, int], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.jpg")
    loaded = Image.open(tmp_path / "photo.jpg")
    loaded.load()
    views = ImagePreparation().views(loaded)
    for _ in range(5):  # two threads that decode meet nearly always
        for found, expected in zip(ImagePreparation().views(Image.open(tmp_path / "photo.jpg")), views, strict=True):
            assert np.array_equal(found, expected)
