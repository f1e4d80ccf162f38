"""V-COCO evaluated like HICO-DET: verbs instead of people, 11-point AP.

    detections = rank_verbs(human_boxes, object_boxes, labels, object_scores, interaction_scores, vocabulary)
    result = evaluate_vcoco_pairwise({file_name: detections, ...}, truth)

It is the evaluator that pair-based methods watch during training; the numbers in papers come from
:mod:`hoiclip.evaluation.vcoco`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.vcoco_ground_truth import ACTIONS, PAIR_VERBS, VcocoImage, vcoco_images
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.matching import Pairs, by_class, eleven_point_ap, mean_over, true_positives
from hoiclip.evaluation.vcoco import refuse_nothing
from hoiclip.postprocessing import fuse_scores, top_k_pairs
from hoiclip.vocabulary import HoiVocabulary

NOT_REPORTED = ("stand", "walk", "run", "smile", "point_instr")  # the means in papers are over the other 24


@dataclass(frozen=True, eq=False)
class VcocoPairwiseResult:
    """AP by verb, fractions 0..1; NaN where a verb has no ground truth.

    Attributes:
        mean_all: over the verbs with ground truth.
        mean: over the 24 that papers report (without stand, walk, run, smile, point).
        per_verb: AP by name of the 29 verbs.
        num_gt, num_det, num_tp: by verb.
        num_images, num_images_without_detections: as in HICO-DET.
    """

    mean_all: float
    mean: float
    per_verb: dict[str, float]
    num_gt: dict[str, int]
    num_det: dict[str, int]
    num_tp: dict[str, int]
    num_images: int = 0
    num_images_without_detections: int = 0

    def means(self) -> dict[str, float]:
        """The numbers a table shows, by name."""
        return {"mean_all": self.mean_all, "mean": self.mean}


def verb_object_mask(vocabulary: HoiVocabulary) -> np.ndarray:
    """(V, C) bool: which object classes the official annotation allows a verb; "nothing" always."""
    allowed = {
        verb: objects
        for action in ACTIONS
        for verb, objects in zip(action.verbs, action.objects or ((),), strict=True)
        if objects
    }
    mask = np.ones((len(vocabulary.verbs), len(vocabulary.objects)), dtype=bool)
    for v, verb in enumerate(vocabulary.verbs):
        if verb in allowed:
            mask[v] = [name in allowed[verb] or name == "nothing" for name in vocabulary.objects]
    return mask


def rank_verbs(
    human_boxes: Any,
    object_boxes: Any,
    object_labels: Any,
    object_scores: Any,
    interaction_scores: Any,
    vocabulary: HoiVocabulary,
    top_k: int = 100,
) -> Detections:
    """The (query, verb) pairs of one image as the pairwise protocol ranks them, without NMS.

    A verb's score is the greatest fused score (Eq. 21) of its interactions, set to 0 where the
    verb does not go with the label of the query's object box.

    Args:
        human_boxes, object_boxes: (N, 4) xyxy pixels.
        object_labels: (N,) object class of each object box, "nothing" included.
        object_scores: (N, C) or (N, C+1).
        interaction_scores: (N, K).
        vocabulary: K interactions over C objects.
        top_k: pairs kept.

    Returns:
        Detections whose ``object_ids`` are the labels of the boxes, and whose ``hoi_ids`` name the
        interaction that gave the verb its score.

    Raises:
        HoiError: scores hold NaN.
    """
    arrays = [np.asarray(a) for a in (human_boxes, object_boxes, object_labels, object_scores, interaction_scores)]
    human, object_, labels, object_scores, interaction_scores = arrays
    fused = fuse_scores(interaction_scores, object_scores, vocabulary)  # (N, K)
    order = np.argsort(vocabulary.verb_ids, kind="stable")
    verbs, first = np.unique(vocabulary.verb_ids[order], return_index=True)
    verb_scores = np.zeros((len(fused), len(vocabulary.verbs)), dtype=fused.dtype)
    verb_scores[:, verbs] = np.maximum.reduceat(fused[:, order], first, axis=1)
    verb_scores *= verb_object_mask(vocabulary).T[labels]
    _, query, verb, scores = top_k_pairs(verb_scores[None], top_k)
    own = np.where(vocabulary.verb_ids == verb[:, None], fused[query], -np.inf)
    return Detections(human[query], object_[query], labels[query], verb, own.argmax(axis=1), scores, vocabulary)


def evaluate_vcoco_pairwise(
    detections: Mapping[str, Detections],
    annotations: Sequence[VcocoImage | AnnotatedImage],
) -> VcocoPairwiseResult:
    """Evaluate (query, verb) pairs: both boxes at IoU 0.5, their classes equal.

    An annotated pair without object asks for the person only.

    Args:
        detections: by file name, from :func:`rank_verbs`, of the "vcoco" verbs.
        annotations: official ground truth, or pairs of the "vcoco" vocabulary.

    Raises:
        HoiError: no detections, or for an unknown file, NaN, or other verbs.
    """
    images = vcoco_images(annotations)
    refuse_nothing(detections)
    position = {image.file_name: i for i, image in enumerate(images)}
    truth = _annotated_verbs(images)
    count = len(PAIR_VERBS)
    num_gt = np.bincount(truth.group % count, minlength=count)

    for file_name, found in detections.items():
        if file_name not in position:
            raise HoiError(f"detections for {file_name!r}, which the annotations do not contain")
        if found.vocabulary.verbs != PAIR_VERBS:
            raise HoiError(f"detections for {file_name!r} use other verbs than the vocabulary 'vcoco'")
        for what in ("human_boxes", "object_boxes", "scores"):
            if not np.isfinite(getattr(found, what)).all():
                raise HoiError(f"detections for {file_name!r}: {what.replace('_', ' ')} hold NaN or infinity")
    found_all = list(detections.values())
    image = np.repeat([position[name] for name in detections], [len(d) for d in found_all])
    verb = np.concatenate([d.verb_ids for d in found_all])
    scores = np.concatenate([d.scores for d in found_all]).astype(np.float64)
    detected = Pairs(
        image * count + verb,
        np.concatenate([d.human_boxes for d in found_all]).astype(np.float64),
        np.concatenate([d.object_boxes for d in found_all]).astype(np.float64),
        np.concatenate([d.object_ids for d in found_all]),
    )
    hits = true_positives(detected, scores, truth)
    rows = by_class(verb, scores, image, count)
    ap = np.array([eleven_point_ap(hits[r], int(n))[0] for r, n in zip(rows, num_gt, strict=True)])
    return VcocoPairwiseResult(
        mean_all=mean_over(ap, np.ones(count, dtype=bool)),
        mean=mean_over(ap, ~np.isin(PAIR_VERBS, NOT_REPORTED)),
        per_verb=dict(zip(PAIR_VERBS, ap.tolist(), strict=True)),
        num_gt=dict(zip(PAIR_VERBS, num_gt.tolist(), strict=True)),
        num_det={v: len(r) for v, r in zip(PAIR_VERBS, rows, strict=True)},
        num_tp={v: int(hits[r].sum()) for v, r in zip(PAIR_VERBS, rows, strict=True)},
        num_images=len(images),
        num_images_without_detections=len(images) - len(detections),
    )


def _annotated_verbs(images: Sequence[VcocoImage]) -> Pairs:
    """All annotated (person, object, verb); group = image * 29 + verb, sorted."""
    groups, human, object_, object_ids = [], [], [], []
    for i, image in enumerate(images):
        rows, verbs = image.pairs()
        groups.append(i * len(PAIR_VERBS) + verbs)
        human.append(image.boxes[rows[:, 0]])
        object_.append(image.boxes[rows[:, 1]])  # row -1 is any box: it is not looked at
        object_ids.append(np.where(rows[:, 1] >= 0, image.object_ids[rows[:, 1]], -1))
    return Pairs(
        np.concatenate(groups), np.concatenate(human), np.concatenate(object_), np.concatenate(object_ids)
    ).in_order()
