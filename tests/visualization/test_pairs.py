"""Drawings: the right pixels, readable labels, nothing that crashes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hoiclip import Detections, HoiVocabulary
from hoiclip.data.annotations import AnnotatedImage, draw_annotations
from hoiclip.detections import draw_triplets
from hoiclip.visualization.pairs import DrawnPair, draw_pairs, enlargement, pair_colours

BLACK = (0, 0, 0)


@pytest.fixture(scope="module")
def words() -> HoiVocabulary:
    return HoiVocabulary.from_words("ride bicycle, hold bicycle, walk dog, sit on bench")


def found(words: HoiVocabulary, human: list, objects: list, hoi_ids: list[int], size: tuple[int, int]) -> Detections:
    """Detections of a picture of (width, height), best first."""
    ids = np.array(hoi_ids, dtype=np.int64)
    certain = np.linspace(0.9, 0.4, len(ids))
    return Detections(
        np.array(human, dtype=np.float32).reshape(-1, 4),
        np.array(objects, dtype=np.float32).reshape(-1, 4),
        words.object_ids[ids],
        words.verb_ids[ids],
        ids,
        certain + 0.5,
        words,
        (size[1], size[0]),
        certain,
    )


def drawn_colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(1 << 24)}


def test_boxes_lie_at_their_pixels(words: HoiVocabulary) -> None:
    size = (640, 480)
    human, obj = (100, 120, 300, 400), (350, 200, 600, 450)
    drawing = draw_triplets(Image.new("RGB", size), found(words, [human], [obj], [0], size))
    assert drawing.size == size
    (colour,) = pair_colours(1)
    for x, y in ((100, 250), (300, 250), (200, 400), (100, 400), (350, 200), (350, 204)):
        assert drawing.getpixel((x, y)) == colour, (x, y)
    for x, y in ((96, 250), (110, 250), (304, 250), (340, 210), (610, 300), (200, 410)):
        assert drawing.getpixel((x, y)) == BLACK, (x, y)
    # the link's middle
    assert drawing.getpixel((337, 292)) == colour


def test_an_object_is_dashed_and_a_person_is_not(words: HoiVocabulary) -> None:
    size = (640, 480)
    drawing = draw_triplets(
        Image.new("RGB", size), found(words, [(20, 200, 200, 400)], [(300, 200, 500, 400)], [0], size)
    )
    (colour,) = pair_colours(1)
    assert all(drawing.getpixel((x, 400)) == colour for x in range(20, 200))
    below = {drawing.getpixel((x, 400)) for x in range(300, 500)}
    assert below == {colour, BLACK}


def test_the_label_sits_on_top_of_the_person(words: HoiVocabulary) -> None:
    size = (640, 480)
    drawing = draw_triplets(
        Image.new("RGB", size), found(words, [(100, 200, 300, 400)], [(400, 300, 500, 400)], [0], size)
    )
    label = np.asarray(drawing.crop((100, 180, 180, 200))).reshape(-1, 3)
    assert (label == pair_colours(1)[0]).all(axis=1).mean() > 0.5
    assert label.std() > 10  # and there is writing on it


def test_small_pictures_are_enlarged_and_boxes_with_them(words: HoiVocabulary) -> None:
    size = (128, 96)
    drawing = draw_triplets(Image.new("RGB", size), found(words, [(10, 30, 50, 90)], [(70, 30, 120, 90)], [0], size))
    assert drawing.size == (640, 480)
    (colour,) = pair_colours(1)
    assert drawing.getpixel((50, 300)) == colour
    assert drawing.getpixel((200, 449)) == colour
    assert drawing.getpixel((30, 300)) == BLACK


@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((640, 480), 1),
        ((400, 400), 1),
        ((128, 128), 4),
        ((300, 500), 2),
        ((1, 1), 400),
        ((30000, 10), 1),
        ((900, 9), 1),
    ],
)
def test_enlargement_is_whole_and_bounded(size: tuple[int, int], factor: int) -> None:
    assert enlargement(size) == factor


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (40, 30), (128, 128), (3000, 2000), (4000, 3)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_no_size_crashes(words: HoiVocabulary, size: tuple[int, int], mode: str) -> None:
    width, height = size
    human = [(0, 0, width, height), (width, height, width, height), (0, 0, 0, 0), (0, 0, width / 2, height)]
    drawing = draw_triplets(Image.new(mode, size), found(words, human, human[::-1], [0, 1, 2, 3], size))
    assert drawing.mode == "RGB"
    assert drawing.size == (width * enlargement(size), height * enlargement(size))
    assert set(pair_colours(4)) & drawn_colours(drawing)


def test_boxes_beyond_the_border_are_drawn_on_it(words: HoiVocabulary) -> None:
    size = (500, 400)
    drawing = draw_triplets(
        Image.new("RGB", size), found(words, [(-50, -50, 900, 900)], [(-9, 100, 600, 200)], [0], size)
    )
    (colour,) = pair_colours(1)
    assert drawing.getpixel((0, 399)) == colour
    assert drawing.getpixel((499, 300)) == colour


def test_nothing_found_leaves_the_picture_as_it_is(words: HoiVocabulary) -> None:
    picture = Image.effect_noise((500, 420), 60).convert("RGB")
    drawing = draw_triplets(picture, Detections.empty(words, (420, 500)))
    assert drawing.tobytes() == picture.tobytes()
    assert drawing is not picture


def test_the_picture_given_is_left_alone(words: HoiVocabulary) -> None:
    picture = Image.new("RGB", (500, 420))
    draw_triplets(picture, found(words, [(10, 10, 90, 90)], [(100, 100, 200, 200)], [0], picture.size))
    assert drawn_colours(picture) == {BLACK}


def test_one_pair_keeps_one_colour_for_all_its_labels(words: HoiVocabulary) -> None:
    size = (640, 480)
    human, obj = (100, 200, 300, 400), (350, 200, 600, 450)
    one = draw_triplets(Image.new("RGB", size), found(words, [human] * 2, [obj] * 2, [0, 1], size))
    two = draw_triplets(Image.new("RGB", size), found(words, [human, (90, 90, 200, 200)], [obj] * 2, [0, 1], size))
    first, second = pair_colours(2)
    assert first in drawn_colours(one)
    assert second not in drawn_colours(one)
    assert {first, second} <= drawn_colours(two)


def test_labels_of_one_person_do_not_cover_one_another() -> None:
    human = (200.0, 150.0, 300.0, 390.0)
    pairs = [DrawnPair(human, None, [f"hold thing {i}"]) for i in range(12)]
    colours = pair_colours(12)
    drawing = np.asarray(draw_pairs(Image.new("RGB", (640, 480)), pairs))
    # the labels are wider than the box: beside it every label shows its own colour over its full height
    column = [tuple(int(v) for v in c) for c in drawing[:, 203]]
    heights = [column.count(c) for c in colours[:-1]]
    assert min(heights) > 8


def test_a_verb_without_object_has_no_second_box() -> None:
    words = HoiVocabulary.from_name("vcoco")
    alone = next(k for k, (_, o) in enumerate(words.interactions) if words.objects[o] == "nothing")
    size = (640, 480)
    human = (50, 100, 200, 400)
    boxes = [(400, 300, 500, 400), (420, 320, 520, 420)]
    drawing = draw_triplets(Image.new("RGB", size), found(words, [human] * 2, boxes, [alone, alone], size))
    assert drawn_colours(drawing.crop((300, 250, 640, 480))) == {BLACK}
    assert pair_colours(2)[1] not in drawn_colours(drawing)


def test_annotations_are_drawn_like_predictions(words: HoiVocabulary) -> None:
    size = (640, 480)
    annotated = AnnotatedImage(
        "a.jpg",
        boxes=np.array([[100, 200, 300, 400], [350, 200, 600, 450]]),
        object_ids=np.array([0, 0]),
        pairs=np.array([[0, 1], [0, 1], [0, -1]]),
        hoi_ids=np.array([0, 1, 2]),
    )
    drawing = draw_annotations(Image.new("RGB", size), annotated, words)
    first, second = pair_colours(2)
    assert drawing.getpixel((350, 204)) == first
    assert {first, second} <= drawn_colours(drawing)
    nothing = draw_annotations(Image.new("RGB", size), AnnotatedImage("b.jpg"), words)
    assert drawn_colours(nothing) == {BLACK}


def test_an_annotated_pair_outside_the_vocabulary_is_named_by_its_verb(
    words: HoiVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[list[str]] = []
    monkeypatch.setattr(
        "hoiclip.data.annotations.draw_pairs", lambda image, pairs: labels.extend(p.labels for p in pairs) or image
    )
    annotated = AnnotatedImage(
        "a.jpg",
        boxes=np.array([[0, 0, 9, 9], [5, 5, 9, 9]]),
        object_ids=np.array([0, 1]),
        pairs=np.array([[0, 1], [0, 1]]),
        hoi_ids=np.array([-1, 0]),
        verb_ids=np.array([words.verbs.index("sit_on"), 0]),
    )
    draw_annotations(Image.new("RGB", (10, 10)), annotated, words)
    assert labels == [["sit on", "ride bicycle"]]


def test_colours_are_distinct_and_the_same_every_time() -> None:
    colours = pair_colours(20)
    assert len(set(colours)) == 20
    assert pair_colours(3) == colours[:3]
