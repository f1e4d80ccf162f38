"""Two methods on the same images: how sure a difference in mAP is.

for line in paired_differences(find_error_kinds(mine, ...), find_error_kinds(theirs, ...), len(annotations)):
    print(line.name, line.difference, line.low, line.high)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hoiclip.errors import HoiError
from hoiclip.evaluation.error_kinds import CORRECT, ErrorKinds
from hoiclip.evaluation.matching import RECALL_GRID, mean_over

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """One mean of two methods.

    Attributes:
        name: full, rare or non-rare.
        first, second: the mean AP of each, 0..1, as the protocol "hoiclip" has it.
        difference: first - second.
        low, high: ends of the percentile interval of the difference over resampled images.
    """

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float


def paired_differences(
    first: ErrorKinds, second: ErrorKinds, images: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Difference]:
    """Differences with 95 % intervals of a paired bootstrap: both methods see the same images, drawn with replacement.

    Args:
        first, second: two evaluations on the same annotations.
        images: how many are annotated, those without pairs included.
        resamples: how often images are drawn.
        seed: of the draws.

    Returns:
        Full, and rare and non-rare where the vocabulary names rare classes that are annotated.

    Raises:
        HoiError: the two were evaluated on different annotations.
    """
    same = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("truth_image", "truth_hoi_ids"))
    if not same or first.vocabulary.interactions != second.vocabulary.interactions:
        raise HoiError("only evaluations on the same annotations can be compared")
    classes = first.vocabulary.num_interactions
    rare = np.isin(np.arange(classes), list(first.vocabulary.rare))
    annotated = np.bincount(first.truth_hoi_ids, minlength=classes) > 0
    parts = {"full": np.ones(classes, dtype=bool), "rare": rare, "non-rare": ~rare}
    if not (rare & annotated).any():
        parts = {"full": parts["full"]}
    both = [_Resampled(errors, images) for errors in (first, second)]
    once = [method.average_precisions(np.ones(images, dtype=np.int64)) for method in both]
    random = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(parts)))
    for i in range(resamples):
        weights = np.bincount(random.integers(0, images, images), minlength=images)
        ours, theirs = (method.average_precisions(weights) for method in both)
        drawn[i] = [mean_over(ours, part) - mean_over(theirs, part) for part in parts.values()]
    tail = 100 * (1 - LEVEL) / 2
    # "weibull": as many draws lie outside as are meant, also of a few; NaN: no rare class among the images drawn
    low, high = np.nanpercentile(drawn, [tail, 100 - tail], axis=0, method="weibull")
    means = [[mean_over(precision, part) for precision in once] for part in parts.values()]
    return [
        Difference(name, a, b, a - b, float(least), float(most))
        for name, (a, b), least, most in zip(parts, means, low, high, strict=True)
    ]


class _Resampled:
    """Eleven-point AP of classes with images counted several times; quick, since only a hit can be the highest."""

    def __init__(self, errors: ErrorKinds, images: int) -> None:
        self.classes = errors.vocabulary.num_interactions
        order = np.lexsort((-errors.scores, errors.hoi_ids))
        self.image = errors.image[order]
        hoi_ids = errors.hoi_ids[order]
        self.hits = np.flatnonzero(errors.kind[order] == CORRECT)
        self.hit_image, self.hit_class = self.image[self.hits], hoi_ids[self.hits]
        self.start = np.searchsorted(hoi_ids, np.arange(self.classes))  # of each class among the detections
        self.hit_start = np.searchsorted(self.hit_class, np.arange(self.classes))
        self.truth_image, self.truth_hoi_ids = errors.truth_image, errors.truth_hoi_ids

    def average_precisions(self, weights: np.ndarray) -> np.ndarray:
        """(K,) AP, NaN where nothing is annotated; ``weights`` (images,) int64 says how often each image counts."""
        annotated = np.bincount(self.truth_hoi_ids, weights=weights[self.truth_image], minlength=self.classes)
        before = np.concatenate([[0], np.cumsum(weights[self.image])])
        seen = before[self.hits + 1] - before[self.start][self.hit_class]
        so_far = np.concatenate([[0], np.cumsum(weights[self.hit_image])])
        found = so_far[1:] - so_far[self.hit_start][self.hit_class]
        precision = np.divide(found, seen, out=np.zeros(len(found)), where=seen > 0)
        # the highest of a class from here on: what is added keeps later classes below
        lifted = precision + 2.0 * (self.classes - self.hit_class)
        highest = np.maximum.accumulate(lifted[::-1])[::-1] - 2.0 * (self.classes - self.hit_class)
        # the first hit at which a recall is reached, in whole numbers, so that nothing is rounded
        step = so_far[-1] + math.ceil(annotated.max(initial=0)) + 2
        needed = _needed(annotated)
        keys = np.arange(self.classes)[:, None] * step + needed
        place = np.searchsorted(self.hit_class * step + found, keys)
        reached = (place < len(found)) & (needed > -1)
        at = np.minimum(place, max(len(found) - 1, 0))
        if len(found):
            reached &= self.hit_class[at] == np.arange(self.classes)[:, None]
        value = np.where(reached, highest[at] if len(found) else 0.0, 0.0).mean(axis=1)
        return np.where(annotated > 0, value, np.nan)


def _needed(annotated: np.ndarray) -> np.ndarray:
    """(K, 11) the least number of hits with which each recall is reached, at least 0."""
    total = np.maximum(annotated, 1)[:, None]
    count = np.maximum(np.ceil(RECALL_GRID * total) - 1, 0)
    for _ in range(2):  # by the same division as the evaluator's
        count += count / total < RECALL_GRID
    return count.astype(np.int64)
