"""An evaluation taken apart: by class, size and crowd, by score, by verb, by image.

All of it follows the protocol "hoiclip", from what :func:`~hoiclip.evaluation.error_kinds.find_error_kinds` found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections
from hoiclip.evaluation.calibration import adaptive_calibration_error, expected_calibration_error
from hoiclip.evaluation.error_kinds import CORRECT, DUPLICATE, VERB, ErrorKinds, average_precisions, precision_at_recall
from hoiclip.evaluation.matching import all_point_ap, first_of_each, mean_over

SMALL, LARGE = 32.0**2, 96.0**2  # pixels, as COCO parts them
CROWDS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, None))  # annotated pairs of an image
INSTANCES = ((0, 0), (1, 9), (10, 99), (100, 999), (1000, None))  # annotated pairs in training
RECALLS = np.linspace(0, 1, 101)
BINS = 10


@dataclass(frozen=True)
class Part:
    """A part of the evaluation.

    Attributes:
        name: of the part.
        classes: how many interactions have annotated pairs in it.
        annotated, found: annotated pairs, and how many of them were found.
        mean_ap: mean AP over ``classes``, 0..1; NaN for an empty part.
    """

    name: str
    classes: int
    annotated: int
    found: int
    mean_ap: float


def by_training_instances(errors: ErrorKinds, instances: np.ndarray | None) -> list[Part]:
    """Classes by how often the training data shows them; rare and non-rare ones where that is not known.

    Args:
        errors: the evaluation.
        instances: (K,) annotated pairs in the training data, or None.

    Returns:
        One part for each range that has annotated pairs; none where the vocabulary names no rare classes either.
    """
    vocabulary, classes = errors.vocabulary, errors.vocabulary.num_interactions
    annotated = np.bincount(errors.truth_hoi_ids, minlength=classes)
    found = np.bincount(errors.truth_hoi_ids[errors.found], minlength=classes)
    precision = average_precisions(errors.hoi_ids, errors.scores, errors.kind == CORRECT, annotated)
    if instances is not None:
        masks = {_range_name(*r): _within(np.asarray(instances), *r) for r in INSTANCES}
    else:
        rare = np.isin(np.arange(classes), list(vocabulary.rare))
        masks = {"rare": rare, "non-rare": ~rare} if rare.any() else {}
    return [
        Part(name, int((annotated[m] > 0).sum()), int(annotated[m].sum()), int(found[m].sum()), mean_over(precision, m))
        for name, m in masks.items()
        if annotated[m].any()
    ]


def by_size(errors: ErrorKinds, areas: np.ndarray, truth_areas: np.ndarray) -> list[Part]:
    """Pairs by the area of their smaller box: small below 32 x 32 pixels, large from 96 x 96 on.

    As in COCO, a detection that matches an annotated pair of another size is left out, and every other false one
    counts where its own size belongs.

    Args:
        errors: the evaluation.
        areas, truth_areas: (D,) and (G,) pixels, see :func:`smaller_areas`.
    """
    sizes, truth_sizes = (np.digitize(a, [SMALL, LARGE]) for a in (areas, truth_areas))
    matched = (errors.kind == CORRECT) | (errors.kind == DUPLICATE)
    sizes[matched] = truth_sizes[errors.target[matched]]
    return [
        _part(errors, name, sizes == i, truth_sizes == i)
        for i, name in enumerate(("small", "medium", "large"))
        if (truth_sizes == i).any()
    ]


def by_crowd(errors: ErrorKinds, images: int) -> list[Part]:
    """Images by how many pairs are annotated in them; those without any are in no part."""
    pairs = np.bincount(errors.truth_image, minlength=images)
    return [
        _part(errors, _range_name(*r), _within(pairs[errors.image], *r), _within(pairs[errors.truth_image], *r))
        for r in CROWDS
        if _within(pairs, *r).any()
    ]


def _part(errors: ErrorKinds, name: str, rows: np.ndarray, truth_rows: np.ndarray) -> Part:
    """What of the evaluation lies in ``rows`` (D,) bool and ``truth_rows`` (G,) bool."""
    annotated = np.bincount(errors.truth_hoi_ids[truth_rows], minlength=errors.vocabulary.num_interactions)
    hits = errors.kind[rows] == CORRECT
    precision = average_precisions(errors.hoi_ids[rows], errors.scores[rows], hits, annotated)
    mean = mean_over(precision, np.ones(len(annotated), dtype=bool))
    return Part(name, int((annotated > 0).sum()), int(annotated.sum()), int(hits.sum()), mean)


def _within(values: np.ndarray, least: int, most: int | None) -> np.ndarray:
    return np.asarray((values >= least) & (values <= (math.inf if most is None else most)))


def _range_name(least: int, most: int | None) -> str:
    if most is None:
        return f"{least:,} and more"
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def smaller_areas(images: Sequence[Detections | AnnotatedImage | None]) -> np.ndarray:
    """(P,) area of the smaller box of each pair in pixels, image by image; None is an image without any."""
    empty = np.zeros((0, 4))
    some = [image for image in images if image is not None]
    human, object_ = (
        np.concatenate([empty, *(getattr(image, name) for image in some)]) for name in ("human_boxes", "object_boxes")
    )
    areas = [(b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1) for b in (human, object_)]
    return np.minimum(*areas)


# --- by score --------------------------------------------------------------------------------------


def precision_by_recall(errors: ErrorKinds) -> np.ndarray:
    """(101,) highest precision at recall 0, 0.01 ... 1 or above, the mean over the classes with annotated pairs."""
    annotated = np.bincount(errors.truth_hoi_ids, minlength=errors.vocabulary.num_interactions)
    hits = errors.kind == CORRECT
    precision = precision_at_recall(errors.hoi_ids, errors.scores, hits, annotated, RECALLS)
    return np.asarray(precision[annotated > 0].mean(axis=0))


@dataclass(frozen=True)
class ScoreBin:
    """Detections with scores from ``least`` to below ``most``: their number, mean score and share of correct ones."""

    least: float
    most: float
    detections: int
    mean_score: float
    precision: float


@dataclass(frozen=True)
class Reliability:
    """How often detections with a score are correct.

    Attributes:
        bins: ten of equal width; of an empty one the means are NaN.
        interaction: whether the scores are probabilities of the interaction alone, else those that rank.
        calibration_error: mean distance of score and precision over all detections (ECE, 15 bins of equal width),
            0..1; NaN where scores go beyond 1 and hence are no probabilities.
        adaptive_error: the same over 15 bins of equally many detections.
    """

    bins: list[ScoreBin]
    interaction: bool
    calibration_error: float
    adaptive_error: float


def reliability(errors: ErrorKinds, detections: Sequence[Detections | None]) -> Reliability:
    """Scores against the share of correct detections; probabilities of the interaction where all images have them.

    Args:
        errors: the evaluation.
        detections: by image, None for none.
    """
    some = [d for d in detections if d is not None and len(d)]
    given = [d.interaction_scores for d in some if d.interaction_scores is not None]
    interaction = bool(some) and len(given) == len(some)
    scores = np.concatenate(given) if interaction else errors.scores
    highest = max(1.0, float(scores.max(initial=0)))
    edges = np.linspace(0, highest, BINS + 1)
    place = np.clip(np.digitize(scores, edges) - 1, 0, BINS - 1)
    number = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=scores, minlength=BINS) / number
        precision = np.bincount(place, weights=errors.kind == CORRECT, minlength=BINS) / number
    columns = zip(edges, edges[1:], number.tolist(), mean.tolist(), precision.tolist(), strict=False)
    bins = [ScoreBin(float(low), float(high), *rest) for low, high, *rest in columns]
    # above 1 by a rounding error is still a probability
    probable = highest <= 1 + 1e-6
    correct = errors.kind == CORRECT
    errors_of = (expected_calibration_error, adaptive_calibration_error)
    return Reliability(bins, interaction, *(e(scores, correct) if probable else math.nan for e in errors_of))


# --- by verb and by image --------------------------------------------------------------------------


def verb_confusions(errors: ErrorKinds) -> list[tuple[int, int, int]]:
    """(annotated verb, detected verb, annotated pairs), most frequent first.

    Of a pair counts each wrong verb that has a higher score than the right one, or any where the right one was not
    found; each once.
    """
    right = np.full(len(errors.truth_hoi_ids), -np.inf)
    correct = errors.kind == CORRECT
    right[errors.target[correct]] = errors.scores[correct]
    rows = np.flatnonzero(errors.kind == VERB)
    rows = rows[errors.scores[rows] > right[errors.target[rows]]]
    verbs = errors.vocabulary.verb_ids
    once = np.unique(np.stack([errors.target[rows], verbs[errors.hoi_ids[rows]]], axis=1), axis=0)
    pairs = np.stack([verbs[errors.truth_hoi_ids[once[:, 0]]], once[:, 1]], axis=1)
    kinds, numbers = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-numbers, kind="stable")
    return [(int(a), int(b), int(n)) for (a, b), n in zip(kinds[order], numbers[order], strict=True)]


@dataclass(frozen=True)
class ImageFigures:
    """Place of an image in the annotations, AP over all its detections ranked together, pairs annotated and found."""

    image: int
    ap: float
    annotated: int
    found: int


def worst_images(errors: ErrorKinds, count: int) -> list[ImageFigures]:
    """The images with the lowest AP, those with more pairs not found first; images without annotated pairs are none."""
    order = np.lexsort((-errors.scores, errors.image))
    image, hits = errors.image[order], errors.kind[order] == CORRECT
    starts = np.flatnonzero(first_of_each(image))
    of_image = dict(zip(image[starts].tolist(), np.split(hits, starts[1:]), strict=False)) if len(image) else {}
    annotated, found = np.bincount(errors.truth_image), np.bincount(errors.truth_image[errors.found])
    found = np.pad(found, (0, len(annotated) - len(found)))
    nothing = np.zeros(0, dtype=bool)
    figures = [
        ImageFigures(i, all_point_ap(of_image.get(i, nothing), n), n, int(found[i]))
        for i, n in enumerate(annotated.tolist())
        if n
    ]
    return sorted(figures, key=lambda f: (f.ap, f.found - f.annotated))[:count]


def detections_in_order(
    detections: Mapping[str, Detections], annotations: Sequence[AnnotatedImage]
) -> list[Detections | None]:
    """The detections of each annotated image, None where there are none."""
    return [detections.get(image.file_name) for image in annotations]
