"""Differences between two methods on the same images, and how sure they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_evaluate_hicodet import SMALL, world

from hoiclip.errors import HoiError
from hoiclip.evaluation.error_kinds import ErrorKinds, average_precisions, find_error_kinds
from hoiclip.evaluation.paired_bootstrap import _Resampled, paired_differences


def copied(errors: ErrorKinds, weights: np.ndarray) -> np.ndarray:
    """AP with each image really as often there as its weight says."""
    rows, truth = np.repeat(np.arange(len(errors.image)), weights[errors.image]), weights[errors.truth_image]
    annotated = np.bincount(errors.truth_hoi_ids, weights=truth, minlength=4).astype(int)
    return average_precisions(errors.hoi_ids[rows], errors.scores[rows], errors.kind[rows] == 0, annotated)


@pytest.mark.parametrize("seed", range(6))
def test_images_that_count_several_times_are_as_good_as_copies(seed: int) -> None:
    annotations, found = world(seed, images=20)
    errors = find_error_kinds(found, annotations, SMALL)
    random = np.random.default_rng(seed)
    for weights in (
        np.ones(20, dtype=int),
        random.integers(0, 4, 20),
        np.zeros(20, dtype=int),
        np.eye(20, dtype=int)[3],
    ):
        np.testing.assert_allclose(
            _Resampled(errors, 20).average_precisions(weights), copied(errors, weights), atol=1e-9
        )


def test_a_method_beside_itself_and_beside_nothing() -> None:
    annotations, found = world(3, images=30)
    errors, nothing = find_error_kinds(found, annotations, SMALL), find_error_kinds({}, annotations, SMALL)
    same = paired_differences(errors, errors, 30, resamples=50)
    assert [(line.name, line.difference, line.low, line.high) for line in same] == [
        ("full", 0, 0, 0), ("rare", 0, 0, 0), ("non-rare", 0, 0, 0),
    ]  # fmt: skip
    full = paired_differences(errors, nothing, 30, resamples=200)[0]
    assert full.first == pytest.approx(errors.mean_ap(), abs=1e-9)
    assert full.second == 0
    assert 0 < full.low < full.difference < full.high
    other = paired_differences(nothing, errors, 30, resamples=200)[0]
    assert (other.low, other.high) == pytest.approx((-full.high, -full.low), abs=1e-12)
    assert paired_differences(errors, nothing, 30, resamples=200)[0] == full


def test_other_annotations_are_refused() -> None:
    one, other = (find_error_kinds({}, world(seed)[0], SMALL) for seed in (1, 2))
    with pytest.raises(HoiError, match="only evaluations on the same annotations"):
        paired_differences(one, other, 6)


def simulated(random: np.random.Generator, images: int, skill: float, annotated: np.ndarray) -> ErrorKinds:
    """A method that finds an annotated pair with some luck, each with its own, and as many errors."""
    truth = np.arange(images)
    luck = random.random(images) < skill
    scores = np.concatenate([random.beta(4, 2, images), random.beta(2, 4, images)])
    kind = np.concatenate([np.where(luck, 0, 8), np.full(images, 8)]).astype(np.int8)
    target = np.concatenate([np.where(luck, truth, -1), np.full(images, -1)])
    hoi_ids = np.concatenate([annotated, random.integers(0, 4, images)])
    vocabulary = replace(SMALL, rare=frozenset())
    return ErrorKinds(np.tile(truth, 2), hoi_ids, scores, kind, target, truth, annotated, vocabulary)


@pytest.mark.slow
def test_intervals_hold_their_nominal_coverage() -> None:
    def difference(random: np.random.Generator, images: int, resamples: int):
        annotated = random.integers(0, 4, images)
        both = (simulated(random, images, skill, annotated) for skill in (0.7, 0.6))
        return paired_differences(*both, images, resamples=resamples, seed=int(random.integers(2**31)))[0]

    true = difference(np.random.default_rng(0), 400_000, 1).difference
    lines = [difference(np.random.default_rng(1 + i), 400, 200) for i in range(400)]
    coverage = np.mean([line.low <= true <= line.high for line in lines])
    print(f"coverage {coverage:.3f} of a difference of {true:.4f}")
    assert 0.92 <= coverage <= 0.98  # 0.95 within three standard deviations of 400 trials
