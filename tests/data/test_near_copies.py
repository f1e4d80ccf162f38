"""Near-copies of boxes become one box, and people who only stand close together stay two."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hoiclip.boxes import box_iou
from hoiclip.data import AnnotatedImage, merge_near_copies
from hoiclip.data.near_copies import NEAR_COPY_IOU
from hoiclip.errors import HoiError
from hoiclip.experiments.options import DataOptions

PERSON, HORSE, CART = 0, 17, 3
RIDE, STRADDLE, FEED, HUG = 10, 11, 12, 13


def image(boxes: list[list[float]], kinds: list[int], pairs: list[tuple[int, int]], hoi_ids: list[int]):
    return AnnotatedImage("a.jpg", boxes, kinds, pairs, hoi_ids, (200, 200))


def shifted(box: list[float], right: float) -> list[float]:
    return [box[0] + right, box[1], box[2] + right, box[3]]


RIDER, MOUNT = [10.0, 10, 59, 109], [5.0, 60, 104, 159]


def test_one_rider_drawn_for_each_of_two_interactions_is_one_pair_with_both() -> None:
    twice = image(
        [RIDER, MOUNT, shifted(RIDER, 5), shifted(MOUNT, 4)], [PERSON, HORSE, PERSON, HORSE], [(0, 1), (2, 3)],
        [RIDE, STRADDLE],
    )  # fmt: skip
    merged, count = merge_near_copies(twice)
    assert count == 1
    assert merged.boxes.tolist() == [RIDER, MOUNT]  # as they were drawn first
    assert merged.object_ids.tolist() == [PERSON, HORSE]
    assert merged.pairs.tolist() == [[0, 1], [0, 1]]
    assert merged.hoi_ids.tolist() == [RIDE, STRADDLE]
    assert (merged.file_name, merged.size) == ("a.jpg", (200, 200))
    assert len(twice.boxes) == 4  # the original is left alone


def test_boxes_at_the_threshold_and_below_stay_two() -> None:
    apart = shifted(RIDER, 50 / 3)  # a third of the union is shared with neither: IoU exactly 1/2
    assert box_iou(np.array(RIDER), np.array(apart)) == pytest.approx(0.5)
    pair = image([RIDER, MOUNT, apart, MOUNT], [PERSON, HORSE, PERSON, HORSE], [(0, 1), (2, 3)], [RIDE, STRADDLE])
    assert merge_near_copies(pair, 0.501)[1] == 0
    assert merge_near_copies(pair, 0.499)[1] == 1


def test_a_row_of_boxes_does_not_merge_by_way_of_those_between() -> None:
    row = [shifted(RIDER, 12.0 * i) for i in range(3)]  # IoU 0.61 to the next, 0.35 to the one after
    people = image([*row, MOUNT], [PERSON] * 3 + [HORSE], [(0, 3), (1, 3), (2, 3)], [RIDE, STRADDLE, FEED])
    merged, count = merge_near_copies(people)
    assert count == 1
    assert merged.boxes.tolist() == [row[0], row[2], MOUNT]
    assert merged.pairs.tolist() == [[0, 2], [0, 2], [1, 2]]


def test_people_drawn_side_by_side_for_one_interaction_stay_two_and_their_copies_find_them() -> None:
    left, right = RIDER, shifted(RIDER, 12)  # IoU 0.61
    two = image(
        [left, right, MOUNT, shifted(right, 1), shifted(left, 1), shifted(MOUNT, 2)],
        [PERSON, PERSON, HORSE, PERSON, PERSON, HORSE],
        [(0, 2), (1, 2), (3, 5), (4, 5)],
        [RIDE, RIDE, FEED, FEED],
    )
    merged, count = merge_near_copies(two)
    assert count == 2
    assert merged.boxes.tolist() == [left, right, MOUNT]
    assert merged.pairs.tolist() == [[0, 2], [1, 2], [1, 2], [0, 2]]


def test_two_objects_of_one_interaction_stay_two() -> None:
    carts = image([RIDER, MOUNT, shifted(MOUNT, 10)], [PERSON, CART, CART], [(0, 1), (0, 2)], [RIDE, RIDE])
    assert merge_near_copies(carts)[1] == 0


def test_the_two_people_of_one_pair_never_become_one() -> None:
    close = shifted(RIDER, 10)
    hug = image([RIDER, close, shifted(RIDER, 1)], [PERSON] * 3, [(0, 1), (2, 1)], [HUG, FEED])
    merged, count = merge_near_copies(hug)
    assert count == 1
    assert merged.pairs.tolist() == [[0, 1], [0, 1]]


def test_boxes_of_different_classes_are_never_one() -> None:
    both = image([RIDER, MOUNT, RIDER, MOUNT], [PERSON, HORSE, PERSON, CART], [(0, 1), (2, 3)], [RIDE, FEED])
    merged, count = merge_near_copies(both)
    assert count == 0  # one person, but a horse and a cart
    assert merged.pairs.tolist() == [[0, 1], [0, 2]]


def test_pairs_without_an_object_keep_none_and_verbs_are_kept() -> None:
    alone = AnnotatedImage("a", [RIDER, shifted(RIDER, 1)], [0, 0], [(0, -1), (1, -1)], [4, -1], verb_ids=[2, 3])
    merged, count = merge_near_copies(alone)
    assert count == 1
    assert merged.pairs.tolist() == [[0, -1], [0, -1]]
    assert (merged.hoi_ids.tolist(), merged.verb_ids.tolist()) == ([4, -1], [2, 3])


def test_no_label_is_lost_and_merging_again_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(50):
        corners = rng.integers(0, 2, (12, 2)) * 40 + rng.integers(0, 12, (12, 2))
        boxes = np.concatenate([corners, corners + rng.integers(40, 55, (12, 2))], axis=1).astype(float)
        kinds = np.array([PERSON, HORSE] * 6)
        pairs = np.arange(12).reshape(6, 2)
        crowd = AnnotatedImage("a", boxes, kinds, pairs, rng.integers(0, 8, 6))
        merged, count = merge_near_copies(crowd, 0.4)
        total += count
        assert Counter(merged.hoi_ids.tolist()) == Counter(crowd.hoi_ids.tolist())
        for old, new in ((crowd.human_boxes, merged.human_boxes), (crowd.object_boxes, merged.object_boxes)):
            moved = (old != new).any(axis=1)
            assert (box_iou(old, new)[moved] > 0.4).all()
        labels = list(zip(map(tuple, merged.pairs.tolist()), merged.hoi_ids.tolist(), strict=True))
        assert len(set(labels)) == len(labels)  # two instances of one interaction never fall together
        assert merge_near_copies(merged, 0.4)[1] == 0
    assert total > 30


def test_the_threshold_lies_between_0_and_1_and_the_options_default_is_the_functions() -> None:
    for threshold in (0, 1, -0.5, 1.5, float("nan")):
        with pytest.raises(HoiError, match=r"data\.merge_near_copies must lie between 0 and 1"):
            merge_near_copies(image([RIDER], [PERSON], [], []), threshold)
    assert DataOptions().merge_near_copies == NEAR_COPY_IOU
