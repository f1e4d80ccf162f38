"""Tracks and steady labels: identities are kept, labels neither blink nor lag."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_vocabulary

from hoiclip.detections import Detections
from hoiclip.inference.tracking import LOOK_AHEAD, PATIENCE, PERSON, Steadier, SteadyDetections, Tracker

VOCABULARY = tiny_vocabulary()
Triplet = tuple[tuple[float, ...], tuple[float, ...], int, float]  # person, thing, interaction, probability


def frame(*triplets: Triplet) -> Detections:
    """What a detector would say to one frame of 200 x 100 pixels."""
    hoi = np.array([t[2] for t in triplets], dtype=np.int64)
    pairs = np.array(VOCABULARY.interactions).reshape(-1, 2)
    scores = np.array([t[3] for t in triplets], dtype=np.float32)
    people = np.array([t[0] for t in triplets], dtype=np.float32).reshape(-1, 4)
    things = np.array([t[1] for t in triplets], dtype=np.float32).reshape(-1, 4)
    return Detections(people, things, pairs[hoi, 1], pairs[hoi, 0], hoi, scores + 0.5, VOCABULARY, (100, 200), scores)


def box(x: float, y: float = 20, width: float = 20, height: float = 40) -> tuple[float, ...]:
    return (x, y, x + width, y + height)


def steady(frames: list[Detections], **options: float) -> list[SteadyDetections]:
    return list(Steadier(0.3, **options).all_of(frames))  # type: ignore[arg-type]


# --- tracks ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_order_of_boxes_does_not_matter(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    plain, shuffled = Tracker(), Tracker()
    corners = random.uniform(0, 150, (count, 2))
    kinds = random.integers(-1, 2, count)
    for _ in range(6):
        corners += random.normal(0, 3, corners.shape)
        boxes = np.concatenate([corners, corners + np.array([20, 30])], axis=1)
        order = random.permutation(count)
        assert (plain.update(boxes, kinds)[order] == shuffled.update(boxes[order], kinds[order])).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_numbers_are_distinct_and_never_used_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    tracker, ended, newest = Tracker(patience=2), set[int](), 0
    for _ in range(30):
        count = int(random.integers(0, 5))
        corners = random.uniform(0, 150, (count, 2))
        before = set(tracker.tracks)
        numbers = tracker.update(np.concatenate([corners, corners + 20], axis=1), np.full(count, PERSON)).tolist()
        assert len(set(numbers)) == count
        assert not ended & set(numbers)
        assert all(n in before or n > newest for n in numbers)
        newest = max([newest, *numbers])
        ended |= before - set(tracker.tracks)


def test_two_who_cross_keep_their_numbers() -> None:
    tracker = Tracker()
    for t in range(40):
        boxes = np.array([box(10 + 4 * t, 20), box(166 - 4 * t, 26)])
        numbers = tracker.update(boxes, np.array([PERSON, PERSON]))
        assert numbers.tolist() == [1, 2], t


def test_somebody_hidden_while_walking_comes_back_as_the_same_one() -> None:
    tracker = Tracker()
    for t in range(30):
        seen = t < 10 or t >= 10 + PATIENCE
        boxes = np.array([box(10 + 5 * t)] if seen else []).reshape(-1, 4)
        numbers = tracker.update(boxes, np.full(len(boxes), PERSON))
        assert numbers.tolist() == [1] * len(boxes)
    for _ in range(PATIENCE + 1):
        tracker.update(np.zeros((0, 4)), np.zeros(0))
    assert tracker.update(np.array([box(10 + 5 * 41)]), np.array([PERSON])).tolist() == [2]


def test_people_and_things_at_one_place_are_two_tracks_and_a_flickering_class_one() -> None:
    tracker = Tracker()
    boxes = np.array([box(10), box(10)])
    first = tracker.update(boxes, np.array([PERSON, 3])).tolist()
    assert len(set(first)) == 2
    assert tracker.update(boxes, np.array([PERSON, 5])).tolist() == first
    assert tracker.update(boxes[::-1], np.array([3, PERSON])).tolist() == first[::-1]


# --- labels ----------------------------------------------------------------------------------------


def test_a_label_that_drops_out_now_and_then_does_not_blink() -> None:
    scores = [0.05 if t % 3 == 1 else 0.9 for t in range(40)]
    found = steady([frame((box(20), box(60), 0, s)) for s in scores])
    assert [len(f.shown(10).on) for f in found] == [1] * 40
    assert {int(f.human_tracks[0]) for f in found} == {1}


def test_a_single_wrong_frame_shows_nothing() -> None:
    found = steady([frame((box(20), box(60), 0, 0.9), (box(20), box(60), 1, 0.9 * (t == 20))) for t in range(40)])
    assert {int(k) for f in found for k in f.shown(10).detections.hoi_ids} == {0}


def test_labels_come_and_go_within_a_few_frames_of_the_truth() -> None:
    frames = [frame((box(20), box(60), int(t >= 30), 0.9)) for t in range(60)]
    shown = [set(f.shown(10).detections.hoi_ids.tolist()) for f in steady(frames)]
    first = next(t for t in range(60) if 1 in shown[t])
    last = max(t for t in range(60) if 0 in shown[t])
    assert abs(first - 30) <= LOOK_AHEAD
    assert 30 <= last <= 40
    assert all(0 in s for s in shown[: first + 1])
    assert all(1 in s for s in shown[first:])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_steady_labels_do_not_depend_on_the_order_of_triplets(seed: int) -> None:
    random = np.random.default_rng(seed)
    frames, shuffled = [], []
    for t in range(12):
        triplets = [
            (box(20 + t + 50 * (i % 3)), box(40 + 50 * (i % 2), 30), i % 6, round(float(random.uniform(0, 1)), 3))
            for i in range(6)
        ]
        frames.append(frame(*triplets))
        shuffled.append(frame(*(triplets[i] for i in random.permutation(6))))
    for a, b in zip(steady(frames), steady(shuffled), strict=True):
        assert a.detections.to_dict() == b.detections.to_dict()
        assert (a.human_tracks == b.human_tracks).all()
        assert (a.object_tracks == b.object_tracks).all()


def test_every_frame_is_answered_once_and_in_order() -> None:
    for count in (0, 1, LOOK_AHEAD, LOOK_AHEAD + 1, 30):
        found = steady([frame((box(20 + 2 * t), box(60 + 2 * t), 0, 0.9)) for t in range(count)])
        assert len(found) == count
        for t, answer in enumerate(found[:-3]):
            if t >= 2:  # a mean of the frames around it, which is where it is
                assert answer.detections.human_boxes[0] == pytest.approx(box(20 + 2 * t), abs=1e-4)


def test_whoever_is_hidden_for_a_moment_keeps_the_label_and_whoever_is_gone_loses_it() -> None:
    there = frame((box(20), box(60), 0, 0.9))
    found = steady([there] * 20 + [frame()] * 5 + [there] * 20 + [frame()] * 30)
    shown = [len(f.shown(10).on) for f in found]
    assert shown[:45] == [1] * 45
    assert shown[-15:] == [0] * 15
    assert {int(f.human_tracks[0]) for f in found[:45]} == {1}
