"""Detections with known faults are told apart exactly; what fixing each kind would bring."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluate_hicodet import SMALL, detections, world

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.errors import HoiError
from hoiclip.evaluation import evaluate_hicodet
from hoiclip.evaluation.error_kinds import ERRORS, KINDS, MISSED, ErrorKinds, find_error_kinds
from hoiclip.vocabulary import HoiVocabulary

FOUR = HoiVocabulary.from_words("ride horse, feed horse, ride bicycle, feed bicycle")
RIDE_HORSE, FEED_HORSE, RIDE_BICYCLE, _ = range(4)
HUMAN, OBJECT = np.array([0.0, 0, 100, 100]), np.array([200.0, 0, 300, 100])
ASIDE = np.array([55.0, 0, 55, 0])  # of a box of 101 pixels: IoU 46 / 156
FAR = np.array([5000.0, 0, 5000, 0])
#: human box, object box, interaction in a place where a person rides a horse
FAULTS = {
    "correct": (HUMAN, OBJECT, RIDE_HORSE),
    "verb": (HUMAN, OBJECT, FEED_HORSE),
    "object class": (HUMAN, OBJECT, RIDE_BICYCLE),
    "human box": (HUMAN + ASIDE, OBJECT, RIDE_HORSE),
    "object box": (HUMAN, OBJECT + ASIDE, RIDE_HORSE),
    "both boxes": (HUMAN + ASIDE, OBJECT + ASIDE, RIDE_HORSE),
    "background": (HUMAN + FAR, OBJECT, RIDE_HORSE),
}
every_kind = st.sampled_from([*KINDS, MISSED])


class Made:
    """An image made of places far from one another, each with one fault."""

    def __init__(self, name: str, faults: list[str], seed: int) -> None:
        random = np.random.default_rng(seed)
        self.kinds: list[str] = []
        self.missed = 0
        boxes: list[np.ndarray] = []
        triplets: list[tuple] = []
        self.place = np.zeros(4)
        for fault in faults:
            scores = np.sort(random.uniform(size=2))[::-1]
            if fault == "duplicate":
                rows = [(fault_of, *FAULTS["correct"]) for fault_of in ("correct", "duplicate")]
            elif fault == "pairing":
                rows = [(fault, HUMAN, OBJECT + np.array([0, 1000, 0, 1000]), RIDE_HORSE)]
            else:
                rows = [(fault, *FAULTS[fault])] if fault != MISSED else []
            for score, (kind, human, thing, hoi) in zip(scores, rows, strict=False):
                triplets.append((human + self.place, thing + self.place, hoi, score))
                self.kinds.append(kind)
            for _ in range(2 if fault == "pairing" else 1):  # the partner is another person's horse
                boxes += [HUMAN + self.place, OBJECT + self.place]
                self.place = self.place + np.array([0, 1000, 0, 1000])
            self.missed += fault in ("pairing", "background", MISSED)
        objects = np.tile([-1, FOUR.objects.index("horse")], len(boxes) // 2)
        objects[0::2] = FOUR.objects.index("bicycle")  # FOUR names no person: a person is who is in a pair
        pairs = np.arange(len(boxes)).reshape(-1, 2)
        hois = np.full(len(pairs), RIDE_HORSE)
        self.annotation = AnnotatedImage(name, np.array(boxes), objects, pairs, hois)
        order = random.permutation(len(triplets))
        columns = list(zip(*(triplets[i] for i in order), strict=True)) if triplets else [[], [], [], []]
        self.found = detections(*columns, vocabulary=FOUR)
        by_score = np.argsort([-triplets[i][3] for i in order], kind="stable")
        self.kinds = [self.kinds[order[i]] for i in by_score]


def kinds_of(errors: ErrorKinds) -> list[str]:
    return [KINDS[k] for k in errors.kind]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(every_kind, min_size=1, max_size=8), min_size=1, max_size=4), st.integers(0, 2**20))
def test_made_faults_of_each_kind_are_found_exactly(faults: list[list[str]], seed: int) -> None:
    images = [Made(f"{i}.jpg", kinds, seed + i) for i, kinds in enumerate(faults)]
    annotations = [image.annotation for image in images]
    errors = find_error_kinds({image.annotation.file_name: image.found for image in images}, annotations, FOUR)
    assert kinds_of(errors) == [kind for image in images for kind in image.kinds]
    assert errors.counts() == {
        **dict.fromkeys(KINDS, 0),
        **Counter(kind for image in images for kind in image.kinds),
        MISSED: sum(image.missed for image in images),
    }
    gains = errors.gains()
    assert min(gains.values()) >= 0
    assert errors.mean_ap(ERRORS) == 1.0
    for kind, gain in gains.items():
        if not errors.counts()[kind]:
            assert gain == 0, kind


@pytest.mark.parametrize("kind", [k for k in ERRORS if k not in ("duplicate", "background")])
def test_fixing_the_only_error_there_is_makes_everything_right(kind: str) -> None:
    image = Made("0.jpg", ["correct", kind], 1)
    errors = find_error_kinds({"0.jpg": image.found}, [image.annotation], FOUR)
    assert errors.mean_ap() < 1
    kinds = [kind] if kind != "pairing" else [kind, MISSED]  # one triplet cannot be two pairs
    assert errors.mean_ap(kinds) == 1.0


def test_of_two_errors_near_one_pair_one_is_mended_and_the_other_goes() -> None:
    image = Made("0.jpg", ["human box"], 0)
    twice = detections(
        np.stack([HUMAN + ASIDE, HUMAN, HUMAN]), np.stack([OBJECT, OBJECT, OBJECT]),
        [RIDE_HORSE, FEED_HORSE, RIDE_BICYCLE], [0.9, 0.8, 0.7], FOUR,
    )  # fmt: skip
    errors = find_error_kinds({"0.jpg": twice}, [image.annotation], FOUR)
    assert kinds_of(errors) == ["human box", "verb", "object class"]
    assert errors.mean_ap() == 0
    assert errors.gains() == dict.fromkeys(ERRORS, 0) | {
        "human box": 1.0,
        "verb": pytest.approx(0.5),  # second in its class, after the human box error
        "object class": pytest.approx(0.5),
    }


def test_an_error_near_a_pair_that_is_found_already_brings_nothing_when_mended() -> None:
    image = Made("0.jpg", [MISSED, MISSED], 0)
    twice = detections([HUMAN, HUMAN + ASIDE], [OBJECT, OBJECT], [RIDE_HORSE, RIDE_HORSE], [0.9, 0.8], FOUR)
    errors = find_error_kinds({"0.jpg": twice}, [image.annotation], FOUR)
    assert kinds_of(errors) == ["correct", "human box"]
    assert errors.mean_ap() == pytest.approx(6 / 11)
    assert errors.gains()["human box"] == 0


def test_a_right_verb_of_a_pair_with_two_leaves_the_other_one_to_be_mended() -> None:
    boxes = np.stack([HUMAN, OBJECT])
    both = AnnotatedImage("0.jpg", boxes, np.array([0, 0]), np.array([[0, 1], [0, 1]]), np.array([0, 1]))
    wide = HoiVocabulary.from_words("ride horse, feed horse, wash horse")
    found = detections([HUMAN, HUMAN], [OBJECT, OBJECT], [0, 2], [0.9, 0.8], wide)
    errors = find_error_kinds({"0.jpg": found}, [both], wide)
    assert kinds_of(errors) == ["correct", "verb"]
    assert errors.target.tolist() == [0, 1]
    assert errors.gains()["verb"] == 0.5


@pytest.mark.parametrize("seed", range(8))
def test_matches_and_map_are_those_of_the_evaluator(seed: int) -> None:
    annotations, found = world(seed, images=30)
    result = evaluate_hicodet(found, annotations)
    errors = find_error_kinds(found, annotations, SMALL)
    correct = errors.hoi_ids[kinds_index(errors, "correct")]
    assert np.bincount(correct, minlength=4).tolist() == result.num_tp.tolist()
    assert errors.mean_ap() == pytest.approx(result.full, abs=1e-12)
    assert min(errors.gains().values()) >= 0
    assert errors.mean_ap(ERRORS) == 1.0
    assert sum(errors.counts()[kind] for kind in KINDS) == sum(len(d) for d in found.values())
    assert not (errors.found & errors.missed).any()


def kinds_index(errors: ErrorKinds, kind: str) -> np.ndarray:
    return errors.kind == KINDS.index(kind)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**20))
def test_the_order_of_equal_scores_changes_no_count(seed: int) -> None:
    annotations, found = world(seed % 1000)
    random = np.random.default_rng(seed)
    equal = {}
    for name, d in found.items():
        rows = np.tile(np.arange(len(d)), 2)  # each twice, so that there are duplicates
        equal[name] = detections(d.human_boxes[rows], d.object_boxes[rows], d.hoi_ids[rows], np.full(len(rows), 0.5))
    shuffled = {name: d[random.permutation(len(d))] for name, d in equal.items()}
    counts = find_error_kinds(equal, annotations, SMALL).counts()
    assert counts == find_error_kinds(shuffled, annotations, SMALL).counts()
    assert counts["duplicate"] >= counts["correct"]


def test_images_without_detections_or_annotations_count_for_what_they_are() -> None:
    image, empty = Made("0.jpg", [MISSED], 0), AnnotatedImage("1.jpg")
    errors = find_error_kinds({"1.jpg": Made("1.jpg", ["correct"], 0).found}, [image.annotation, empty], FOUR)
    assert kinds_of(errors) == ["background"]
    assert errors.counts()[MISSED] == 1
    assert errors.mean_ap() == 0
    assert errors.mean_ap(ERRORS) == 1.0


def test_unknown_files_and_kinds_are_refused() -> None:
    image = Made("0.jpg", ["correct"], 0)
    with pytest.raises(HoiError, match=r"'9\.jpg', which the annotations do not contain"):
        find_error_kinds({"9.jpg": image.found}, [image.annotation], FOUR)
    errors = find_error_kinds({"0.jpg": image.found}, [image.annotation], FOUR)
    with pytest.raises(ValueError, match="unknown kind of error 'correct'"):
        errors.mean_ap(["correct"])
