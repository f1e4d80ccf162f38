"""Augmentation: golden box results, and what must hold whatever is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from hoiclip.boxes import xyxy_to_cxcywh
from hoiclip.data import AnnotatedImage, FixedResize, TrainingAugmentation
from hoiclip.data.transforms import crop, flip, jitter, resize
from hoiclip.errors import HoiError
from hoiclip.images import resized_size

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "data" / "preprocess_boxes.json").read_text())
BOXES = GOLDEN["boxes"]


@pytest.fixture
def sample():
    height, width = BOXES["image_hw"]
    image = Image.new("RGB", (width, height))
    return image, AnnotatedImage("a.jpg", np.array(BOXES["boxes_xyxy"]), [0, 1, 2, 3], [[0, 1], [2, 3]], [7, 8])


@pytest.mark.parametrize("case", GOLDEN["sizes"], ids=lambda case: "x".join(map(str, case["hw"])))
def test_resized_size_is_the_references(case):
    assert list(resized_size(tuple(case["hw"]))) == case["resized_hw"]


def test_resized_size_without_limit_and_for_slivers():
    assert resized_size((100, 1000), 400, None) == (400, 4000)
    assert resized_size((1, 100_000)) == (1, 1333)
    assert resized_size((100, 100), 100, 100) == (100, 100)


def test_flipped_boxes_are_the_references(sample):
    np.testing.assert_allclose(flip(*sample)[1].boxes, BOXES["hflip"]["boxes"], atol=1e-3)


def test_resized_boxes_are_the_references(sample):
    expected = BOXES["resize_512_max1333"]
    image, annotation = resize(*sample, resized_size((480, 640), 512, 1333))
    assert [image.height, image.width] == list(annotation.size) == expected["size_hw"]
    np.testing.assert_allclose(annotation.boxes, expected["boxes"], atol=1e-3)


def test_cropped_boxes_are_the_references_and_lost_boxes_take_their_pairs(sample):
    expected = BOXES["crop_top40_left70_h400_w384"]
    image, annotation = crop(*sample, top=40, left=70, height=400, width=384)
    assert [image.height, image.width] == list(annotation.size) == expected["size_hw"]
    np.testing.assert_allclose(annotation.boxes, expected["boxes"])
    assert annotation.object_ids.tolist() == expected["kept"]
    assert (annotation.pairs.tolist(), annotation.hoi_ids.tolist()) == ([[0, 1]], [7])
    cxcywh = xyxy_to_cxcywh(annotation.boxes, annotation.size)
    np.testing.assert_allclose(cxcywh, BOXES["then_normalise"]["boxes_cxcywh"], atol=1e-6)


def test_pairs_without_object_survive_a_crop_that_keeps_the_person():
    boxes = [[0, 0, 10, 10], [50, 50, 90, 90]]
    annotation = AnnotatedImage("a", boxes, [0, 0], [[0, -1], [1, -1], [1, 0]], [1, 2, 3], verb_ids=[4, 5, 6])
    _, after = crop(Image.new("RGB", (100, 100)), annotation, top=40, left=40, height=60, width=60)
    assert (after.pairs.tolist(), after.hoi_ids.tolist(), after.verb_ids.tolist()) == ([[0, -1]], [2], [5])


def test_pixels_move_with_their_boxes():
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[10:30, 20:50] = 255
    annotation = AnnotatedImage("a", [[20, 10, 50, 30]], [0])
    sample = Image.fromarray(pixels), annotation
    for image, after in (flip(*sample), resize(*sample, (120, 160)), crop(*sample, 5, 15, 40, 50)):
        x1, y1, x2, y2 = after.boxes[0].astype(int)
        white = np.asarray(image)[..., 0] > 127
        assert white[y1:y2, x1:x2].all()
        assert white.sum() == (y2 - y1) * (x2 - x1)


def test_jitter_is_pillows_enhancement_in_the_given_order():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8))
    expected = ImageEnhance.Color(image).enhance(0.7)
    expected = ImageEnhance.Brightness(expected).enhance(1.3)
    expected = ImageEnhance.Contrast(expected).enhance(0.6)
    mine = jitter(image, brightness=1.3, contrast=0.6, saturation=0.7, order=(2, 0, 1))
    assert mine.tobytes() == expected.tobytes()


def test_same_generator_same_picture_and_boxes_other_seed_another(sample):
    def run(seed):
        image, annotation = TrainingAugmentation()(*sample, np.random.default_rng(seed))
        return image.size, image.tobytes(), annotation.boxes.tobytes()

    assert run(3) == run(3)
    assert len({run(seed)[0] for seed in range(6)}) > 1


def test_draws_come_with_the_published_odds(monkeypatch):
    import hoiclip.data.transforms as transforms

    seen = {"flip": 0, "crop": 0}
    sizes, windows, factors = [], [], []

    def fake_resize(image, annotation, size):
        sizes.append(size)
        return Image.new("L", size[::-1]), annotation

    def fake_crop(image, annotation, top, left, height, width):
        seen["crop"] += 1
        windows.append((image.size, top, left, height, width))
        return Image.new("L", (width, height)), annotation

    def fake_flip(image, annotation):
        seen["flip"] += 1
        return image, annotation

    def fake_jitter(image, brightness, contrast, saturation, order):
        factors.append((brightness, contrast, saturation, *order))
        return image

    for name, fake in (("resize", fake_resize), ("crop", fake_crop), ("flip", fake_flip), ("jitter", fake_jitter)):
        monkeypatch.setattr(transforms, name, fake)
    rng, n = np.random.default_rng(0), 2000
    image, annotation = Image.new("L", (640, 480)), AnnotatedImage("a")
    for _ in range(n):
        TrainingAugmentation()(image, annotation, rng)
    assert 0.45 < seen["flip"] / n < 0.55
    assert 0.45 < seen["crop"] / n < 0.55
    values = np.array(factors)[:, :3]
    assert values.min() >= 0.6
    assert values.max() <= 1.4
    assert np.abs(values.mean(axis=0) - 1).max() < 0.03
    assert len({tuple(row[3:]) for row in factors}) == 6
    assert {min(size) for (width, height), *_ in windows for size in [(height, width)]} == {400, 500, 600}
    for (width, height), top, left, h, w in windows:
        assert 384 <= h <= min(600, height)
        assert 384 <= w <= min(600, width)
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w
    final = [size for size in sizes if size not in {(400, 533), (500, 666), (600, 800)}]
    assert {min(size) for size in final} <= set(range(400, 801))
    assert max(max(size) for size in final) <= 1333


@settings(derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    corners=st.lists(st.lists(st.floats(-30, 130), min_size=4, max_size=4), min_size=0, max_size=6),
)
def test_augmented_boxes_lie_in_the_picture_and_pairs_point_at_boxes(seed, corners):
    n = len(corners)
    pairs = [[i, (i * 7) % (n + 1) - 1] for i in range(n)]
    boxes = np.sort(np.array(corners).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    annotation = AnnotatedImage("a", boxes, np.arange(n), pairs, np.arange(n))
    augment = TrainingAugmentation(scales=(48, 64), longest=90, crop_scales=(40, 50), crop_range=(20, 48))
    image, after = augment(Image.new("RGB", (100, 80)), annotation, np.random.default_rng(seed))
    assert after.size == (image.height, image.width)
    assert max(after.size) <= 90
    assert len(after.pairs) == len(after.hoi_ids)
    assert ((after.pairs >= [0, -1]) & (after.pairs < max(len(after.boxes), 1))).all()
    if len(corners) and not (boxes < 0).any() and not (boxes > [100, 80, 100, 80]).any():
        assert (after.boxes >= -1e-9).all()
        assert (after.boxes <= np.array([image.width, image.height] * 2) + 1e-9).all()
    for (human, obj), hoi in zip(after.pairs, after.hoi_ids, strict=True):  # object ids tell where rows came from
        assert after.object_ids[human] == pairs[hoi][0]
        assert (after.object_ids[obj] if obj >= 0 else -1) == pairs[hoi][1]


def test_picture_smaller_than_the_window_is_cut_to_itself():
    image, _ = TrainingAugmentation(crop_scales=(64,), crop_probability=1)(
        Image.new("RGB", (64, 64)), AnnotatedImage("a"), np.random.default_rng(0)
    )
    assert min(image.size) >= 480


def test_fixed_resize_is_the_evaluations(sample):
    image, annotation = FixedResize()(*sample, np.random.default_rng(0))
    assert (image.height, image.width) == annotation.size == (800, 1066)


@pytest.mark.parametrize(
    "options",
    [{"flip_probability": 2}, {"crop_probability": -1}, {"jitter": 1.5}, {"scales": ()}, {"crop_range": (0, 5)}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(HoiError, match="augmentation"):
        TrainingAugmentation(**options)
