"""From scores to probabilities: how often a detection with this score is correct, and from where on to show a class.

    print(expected_calibration_error(probabilities, correct))
    calibration = fit_calibration(judged(evaluated))
    calibration.save("model/")                    # hoiclip.load finds it there

A score s becomes sigmoid(logit(s) / temperature + bias): one temperature as of Guo et al. (ICML 2017), and a bias
(Platt, 1999), because a detection is correct less often than its interaction is right.  The map only stretches the
scale, so no ranking changes, nor any AP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from hoiclip.errors import HoiError
from hoiclip.evaluation.error_kinds import CORRECT, find_error_kinds
from hoiclip.evaluation.reports import Evaluated
from hoiclip.score_calibration import Calibration, interaction_names, logit, sigmoid
from hoiclip.vocabulary import HoiVocabulary

BINS = 15
FEW = 10  # annotated pairs, below which a class is given the threshold of all classes together
SHOWN = 0.3  # score from which an uncalibrated model shows a detection


# --- how far scores are from probabilities -----------------------------------------------------------


def expected_calibration_error(probabilities: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of probability and share of correct ones over ``bins`` of equal width (ECE), 0..1.

    Args:
        probabilities: (D,) 0..1.
        correct: (D,) bool.
        bins: how many.

    Returns:
        NaN where there is no detection.
    """
    place = np.clip((probabilities * bins).astype(np.int64), 0, bins - 1)
    return _distance(probabilities, correct, place, bins)


def adaptive_calibration_error(probabilities: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """The same over bins of equally many detections, so that the many low scores do not share one."""
    place = np.zeros(len(probabilities), dtype=np.int64)
    order = np.argsort(probabilities, kind="stable")
    place[order] = np.arange(len(order)) * bins // max(len(order), 1)
    return _distance(probabilities, correct, place, bins)


def _distance(probabilities: np.ndarray, correct: np.ndarray, place: np.ndarray, bins: int) -> float:
    if not len(probabilities):
        return math.nan
    gap = np.bincount(place, np.asarray(probabilities, dtype=np.float64) - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(probabilities))


# --- fitting -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Judged:
    """D detections of many images, each correct or not.

    Attributes:
        scores: (D,) probability of the interaction as the model gives it.
        correct: (D,) bool.
        hoi_ids, image: (D,) int64.
        truth_hoi_ids, truth_image: (G,) int64 of the annotated pairs.
        images: how many.
        vocabulary: what the ids mean.
    """

    scores: np.ndarray
    correct: np.ndarray
    hoi_ids: np.ndarray
    image: np.ndarray
    truth_hoi_ids: np.ndarray
    truth_image: np.ndarray
    images: int
    vocabulary: HoiVocabulary

    @property
    def annotated(self) -> np.ndarray:
        """(K,) annotated pairs of each interaction."""
        return np.bincount(self.truth_hoi_ids, minlength=self.vocabulary.num_interactions)

    def every_other(self, first: int) -> Judged:
        """What is in the images 0, 2, 4 ... or 1, 3, 5 ..."""
        rows, truth = self.image % 2 == first, self.truth_image % 2 == first
        found = self.scores[rows], self.correct[rows], self.hoi_ids[rows], self.image[rows]
        images = (self.images + 1 - first) // 2
        return Judged(*found, self.truth_hoi_ids[truth], self.truth_image[truth], images, self.vocabulary)


def judged(evaluated: Evaluated) -> Judged:
    """Which detections of an evaluation are correct: both IoU from 0.5 on, and the first of its annotated pair.

    Raises:
        HoiError: detections without the probability of the interaction, beyond 0..1 or calibrated before; nothing
            correct, or everything.
    """
    errors = find_error_kinds(evaluated.detections, evaluated.annotations, evaluated.vocabulary)
    found = [evaluated.detections.get(image.file_name) for image in evaluated.annotations]
    some = [d for d in found if d is not None and len(d)]
    given = [d.interaction_scores for d in some if d.interaction_scores is not None]
    if any(d.calibration is not None for d in some):
        raise HoiError(
            f"{evaluated.title}: holds scores that are calibrated already; "
            "write them by hoiclip evaluate --save-detections"
        )
    if len(given) < len(some):
        raise HoiError(
            f"{evaluated.title}: not every detection has an interaction_score, the number that is shown; "
            "write them by hoiclip evaluate --save-detections"
        )
    scores = np.concatenate([np.zeros(0), *given])
    correct = errors.kind == CORRECT
    if not correct.any() or correct.all():
        what = "no" if not correct.any() else "every"
        raise HoiError(f"{evaluated.title}: {what} detection is correct, so no probabilities can be learned from them")
    if scores.min() < 0 or scores.max() > 1 + 1e-6:
        raise HoiError(f"{evaluated.title}: an interaction_score is not between 0 and 1, so it is no probability")
    truth = errors.truth_hoi_ids, errors.truth_image
    images = len(evaluated.annotations)
    return Judged(scores, correct, errors.hoi_ids, errors.image, *truth, images, evaluated.vocabulary)


def fit_calibration(found: Judged, least_precision: float | None = None) -> Calibration:
    """Temperature and bias of least negative log-likelihood, then a threshold for each class.

    Args:
        found: detections in images that the model has not learned from.
        least_precision: the lowest thresholds that keep this precision; None for those of the best F1.

    Returns:
        With errors, precision and F1 before and after in ``fitted_on``: each half of the images is measured with
        what was fitted on the other half.
    """
    return replace(_fitted(found, least_precision), fitted_on=_figures(found, least_precision))


def _fitted(found: Judged, least_precision: float | None) -> Calibration:
    annotated = found.annotated
    temperature, bias = _fit(found.scores, found.correct)
    probabilities = sigmoid(logit(found.scores) / temperature + bias)
    together = best_threshold(probabilities, found.correct, int(annotated.sum()), least_precision)
    thresholds = {}
    for k, name in enumerate(interaction_names(found.vocabulary)):
        rows, pairs = found.hoi_ids == k, int(annotated[k])
        thresholds[name] = together
        if pairs >= FEW and rows.any():
            thresholds[name] = best_threshold(probabilities[rows], found.correct[rows], pairs, least_precision)
    aim = "best F1" if least_precision is None else f"precision {least_precision:g}"
    return Calibration(temperature, bias, together, thresholds, aim)


def best_threshold(
    probabilities: np.ndarray, correct: np.ndarray, annotated: int, least_precision: float | None = None
) -> float:
    """From where on to show detections: halfway between the last that is shown and the next.

    Args:
        probabilities, correct: (D,), D at least 1.
        annotated: pairs that are to be found.
        least_precision: show as many as keep this precision, rather than those of the best F1.

    Returns:
        0..1; above all of them where no number of them has that precision.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, hits = probabilities[order], np.cumsum(correct[order])
    shown = np.arange(1, len(ranked) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], True)  # equal ones are shown together
    if least_precision is None:
        value = np.where(ends, 2 * hits / (shown + annotated), -1.0)
        last = int(value.argmax())
    else:
        good = np.flatnonzero(ends & (hits / shown >= least_precision))
        if not len(good):
            return float((ranked[0] + 1) / 2)
        last = int(good[-1])
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float((ranked[last] + below) / 2)


def _fit(scores: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Temperature and bias; the likelihood of such a map has one maximum."""
    logits, truth = logit(scores), correct.astype(np.float64)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = np.exp(weights[0]) * logits + weights[1]  # the factor 1 / temperature stays above 0
        off = sigmoid(z) - truth
        slope = np.array([(off * logits).mean() * np.exp(weights[0]), off.mean()])
        return float((np.logaddexp(0, z) - truth * z).mean()), slope

    # bounds: scores that part right and wrong without a fault would send the factor to infinity
    best = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-4.6, 4.6), (-20, 20)], tol=1e-12)
    return float(np.exp(-best.x[0])), float(best.x[1])


def _figures(found: Judged, least_precision: float | None) -> dict[str, Any]:
    """Sizes; where both halves of the images have something to learn from, also what calibration brings."""
    annotated = found.annotated
    figures: dict[str, Any] = {"images": found.images, "detections": len(found.scores)}
    figures |= {"correct": int(found.correct.sum()), "annotated": int(annotated.sum())}
    halves = [found.every_other(first) for first in (0, 1)]
    if not all(0 < half.correct.sum() < len(half.correct) for half in halves):
        return figures
    before = found.scores.astype(np.float64)
    after, least = before.copy(), np.empty(len(before))
    for first, other in ((0, halves[1]), (1, halves[0])):
        calibration, rows = _fitted(other, least_precision), found.image % 2 == first
        after[rows] = calibration.probabilities(before[rows])
        least[rows] = calibration.least(found.vocabulary)[found.hoi_ids[rows]]

    for name, values, limits in (("before", before, SHOWN), ("after", after, least)):
        surer = before >= SHOWN
        shown = values >= limits
        hits, number = (
            np.bincount(found.hoi_ids[rows], minlength=len(annotated)) for rows in (shown & found.correct, shown)
        )
        of_class = 2 * hits / np.maximum(number + annotated, 1)
        for figure, value in (
            ("expected_calibration_error", expected_calibration_error(values, found.correct)),
            ("adaptive_calibration_error", adaptive_calibration_error(values, found.correct)),
            ("expected_calibration_error_from_0.3", expected_calibration_error(values[surer], found.correct[surer])),
            ("precision_of_what_is_shown", float(hits.sum() / max(number.sum(), 1))),
            ("F1_of_what_is_shown", float(2 * hits.sum() / (number.sum() + annotated.sum()))),
            ("mean_F1_of_the_classes", float(of_class[annotated > 0].mean())),
        ):
            figures.setdefault(figure, {})[name] = None if math.isnan(value) else value
    return figures
