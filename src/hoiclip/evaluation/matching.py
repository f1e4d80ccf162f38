"""Matching detected pairs with annotated ones, and average precision: what all protocols share.

Pairs of all images lie in flat arrays.  A ``group`` number says which detections and which
annotations may meet: the same image and the same class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoiclip.boxes import box_iou

RECALL_GRID = np.arange(11) * 0.1  # the fourth value is 0.30000000000000004, as in the published evaluators
MINIMUM_OVERLAP = 0.5


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of many images.

    Attributes:
        group: (P,) int64, equal for pairs that may match: image and class in one number.
        human_boxes, object_boxes: (P, 4) float64 xyxy in pixels.
        object_ids: (P,) int64 object classes where these must agree too; -1 in an annotation means
            that it has no object and the human box alone decides.  None: classes are not compared.
    """

    group: np.ndarray
    human_boxes: np.ndarray
    object_boxes: np.ndarray
    object_ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, rows: np.ndarray) -> Pairs:
        object_ids = None if self.object_ids is None else self.object_ids[rows]
        return Pairs(self.group[rows], self.human_boxes[rows], self.object_boxes[rows], object_ids)

    def in_order(self) -> Pairs:
        """Sorted by group, otherwise in the same order."""
        return self[np.argsort(self.group, kind="stable")]


def true_positives(detected: Pairs, scores: np.ndarray, truth: Pairs, *, touching: bool = False) -> np.ndarray:
    """Mark the true positives, all images and classes at once.

    A detection belongs to the annotated pair of its group with the greatest overlap, the overlap of
    two pairs being the smaller of their human and object IoU and at least 0.5 (of equal ones the
    first).  Going down the scores, the first detection of each annotated pair is a true positive;
    the later ones are false, even if another annotated pair would have been free.

    Args:
        detected: D pairs.
        scores: (D,); of equal scores the first detection goes first.
        truth: G annotated pairs sorted by group (:meth:`Pairs.in_order`).
        touching: whether boxes that share one row or column of pixels overlap.

    Returns:
        (D,) bool.
    """
    first = np.searchsorted(truth.group, detected.group, side="left")
    count = np.searchsorted(truth.group, detected.group, side="right") - first
    start = np.cumsum(count) - count  # where a detection's candidates begin
    which = np.repeat(np.arange(len(detected)), count)  # detection of each candidate
    candidate = np.arange(len(which)) - start[which] + first[which]  # its row in truth

    human = overlap_of(detected.human_boxes[which], truth.human_boxes[candidate], touching)
    object_ = overlap_of(detected.object_boxes[which], truth.object_boxes[candidate], touching)
    if truth.object_ids is not None and detected.object_ids is not None:
        wanted = truth.object_ids[candidate]
        object_ *= wanted == detected.object_ids[which]
        object_[wanted < 0] = 1.0
    overlap = np.minimum(human, object_)

    result = np.zeros(len(detected), dtype=bool)
    enough = overlap >= MINIMUM_OVERLAP
    which, candidate, overlap = which[enough], candidate[enough], overlap[enough]
    order = np.lexsort((-overlap, which))  # stable: equal overlaps in the order of the annotation
    which, candidate = which[order], candidate[order]
    best = first_of_each(which)
    which, candidate = which[best], candidate[best]  # one annotated pair per detection
    order = np.lexsort((-scores[which], candidate))
    which, candidate = which[order], candidate[order]
    result[which[first_of_each(candidate)]] = True
    return result


def overlap_of(a: np.ndarray, b: np.ndarray, touching: bool) -> np.ndarray:
    """(n,) IoU of (n, 4) xyxy boxes; 0 where they share one row or column of pixels, unless ``touching``."""
    iou = box_iou(a, b)
    if not touching:
        apart = (np.maximum(a[:, :2], b[:, :2]) >= np.minimum(a[:, 2:], b[:, 2:])).any(axis=1)
        iou[apart] = 0.0
    return iou


def first_of_each(numbers: np.ndarray) -> np.ndarray:
    """For sorted (M,) numbers: (M,) bool, True at the first of each run."""
    first = np.ones(len(numbers), dtype=bool)
    first[1:] = numbers[1:] != numbers[:-1]
    return first


def eleven_point_ap(hits: np.ndarray, num_truth: int) -> tuple[float, float]:
    """Average precision of one class: the mean, over recall 0, 0.1 ... 1, of the highest precision
    at that recall or above.

    Args:
        hits: (D,) bool, true positives by descending score.
        num_truth: annotated pairs of the class.

    Returns:
        AP and the greatest recall reached, both 0..1; NaN where nothing is annotated.
    """
    if num_truth == 0:
        return float("nan"), float("nan")
    if not len(hits):
        return 0.0, 0.0
    found = np.cumsum(hits)
    recall = found / num_truth  # ascending
    precision = found / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this rank or later
    rank = np.searchsorted(recall, RECALL_GRID, side="left")
    reached = rank < len(hits)
    return float(sum((highest[rank[reached]] / len(RECALL_GRID)).tolist())), float(recall[-1])


def all_point_ap(hits: np.ndarray, num_truth: int) -> float:
    """Average precision as the area under the interpolated precision curve, all points (PASCAL VOC 2010).

    Args:
        hits: (D,) bool, true positives by descending score.
        num_truth: annotated instances.

    Returns:
        AP 0..1; NaN where nothing is annotated.
    """
    if num_truth == 0:
        return float("nan")
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((highest * hits).sum() / num_truth)  # recall grows by 1 / num_truth at each hit


def by_class(class_ids: np.ndarray, scores: np.ndarray, image: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Rows of each class by descending score; equal scores in the order of image, then of rows.

    Args:
        class_ids, scores, image: (D,).
        num_classes: how many lists to return.
    """
    order = np.lexsort((image, -scores, class_ids))
    bounds = np.searchsorted(class_ids[order], np.arange(num_classes + 1))
    return [order[bounds[c] : bounds[c + 1]] for c in range(num_classes)]


def mean_over(values: np.ndarray, classes: np.ndarray) -> float:
    """Mean of the picked classes that have a value; NaN if there is none.

    Args:
        values: (K,), NaN where a class has no annotation.
        classes: (K,) bool.
    """
    picked = values[classes & ~np.isnan(values)]
    return float(picked.mean()) if len(picked) else float("nan")
