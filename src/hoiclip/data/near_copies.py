"""Merge the near-copies of a box that HICO-DET's official annotations hold, for training.

    image, merged = merge_near_copies(image)

The annotators of HICO-DET drew boxes of their own for each interaction (Chao et al., WACV 2018), so
that a man who sits on and straddles a horse has two boxes in ``anno_bbox.mat``, a few pixels apart.
A model that learns from both sees each label as a negative of the other.  In the JSON form that HOI
projects train on, one pair carries all its labels.  Counts on real annotations: ``docs/data.md``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from hoiclip.boxes import box_iou
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.errors import HoiError

NEAR_COPY_IOU = 0.5  # above it two boxes are one, as for the evaluators


def merge_near_copies(image: AnnotatedImage, threshold: float = NEAR_COPY_IOU) -> tuple[AnnotatedImage, int]:
    """One box for all near-copies of a person or an object, one pair with all its labels.

    Boxes are taken in their order.  A box becomes the kept box of its class with which it overlaps
    most, if their IoU is above the threshold; otherwise it is kept.  It is compared with kept boxes,
    which stay as they were drawn, so boxes in a row do not merge by way of those between them.

    Two boxes never become one, however much they overlap, where the annotation says that they are
    two: both are the person, or both the object, of pairs of the same interaction (the annotators
    drew those side by side), or they are the two boxes of one pair.

    Args:
        image: boxes xyxy in pixels, both ends inside.
        threshold: IoU above which two boxes are near-copies, 0 to 1, both excluded.

    Returns:
        The image with fewer boxes, every label of a pair kept; and how many distinct (human box,
        object box) became part of another.

    Raises:
        HoiError: the threshold is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise HoiError(f"data.merge_near_copies must lie between 0 and 1, or be null for no merging, not {threshold}")
    if len(image.boxes) < 2:
        return image, 0
    kept_as = _kept_boxes(image, threshold)
    kept = np.flatnonzero(kept_as == np.arange(len(kept_as)))
    if len(kept) == len(kept_as):
        return image, 0
    rows = np.append(np.searchsorted(kept, kept_as), -1)  # the last one answers for "no object", -1
    pairs = rows[image.pairs]
    merged = replace(image, boxes=image.boxes[kept], object_ids=image.object_ids[kept], pairs=pairs)
    return merged, _distinct(image.pairs) - _distinct(pairs)


def _kept_boxes(image: AnnotatedImage, threshold: float) -> np.ndarray:
    """(n,) which box each box becomes; itself where it is kept."""
    overlap = box_iou(image.boxes[:, None], image.boxes[None])
    same_class = image.object_ids[:, None] == image.object_ids[None]
    candidates = np.tril((overlap > threshold) & same_class, -1)  # NaN overlaps nothing
    labels: dict[int, set[tuple[str, int]]] = defaultdict(set)  # of a kept box, with all that became part of it
    partners: dict[int, set[int]] = defaultdict(set)
    for (human, obj), hoi in zip(image.pairs.tolist(), image.hoi_ids.tolist(), strict=True):
        labels[human].add(("human", hoi))
        if obj >= 0:
            labels[obj].add(("object", hoi))
            partners[human].add(obj)
            partners[obj].add(human)
    kept_as = np.arange(len(image.boxes))
    for box in np.flatnonzero(candidates.any(axis=1)).tolist():
        others = {int(kept_as[partner]) for partner in partners[box]}
        possible = [
            earlier
            for earlier in np.flatnonzero(candidates[box]).tolist()
            if kept_as[earlier] == earlier and earlier not in others and labels[earlier].isdisjoint(labels[box])
        ]
        if possible:
            kept_as[box] = max(possible, key=overlap[box].__getitem__)  # of equal ones the first
            labels[int(kept_as[box])] |= labels[box]
    return kept_as


def _distinct(pairs: np.ndarray) -> int:
    return len(set(map(tuple, pairs.tolist())))
