"""Boxes as numpy arrays."""

from __future__ import annotations

import numpy as np


def xyxy_to_cxcywh(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(n, 4) xyxy pixels -> (n, 4) centre x, centre y, width, height as fractions of (height, width)."""
    x1, y1, x2, y2 = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    height, width = size
    return np.stack([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], axis=1)


def cxcywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) centre x, centre y, width, height -> (..., 4) left, top, right, bottom, in the same units."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes whose last pixel belongs to them.

    Args:
        a, b: (..., 4) xyxy in pixels, compared element by element (shapes broadcast).

    Returns:
        (...) in 0..1.  Widths and heights are x2 - x1 + 1, as in all HOI evaluators.
    """
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + 1
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + 1
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a = (a[..., 2] - a[..., 0] + 1) * (a[..., 3] - a[..., 1] + 1)
    area_b = (b[..., 2] - b[..., 0] + 1) * (b[..., 3] - b[..., 1] + 1)
    union = area_a + area_b - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


# --- boxes that cannot be meant --------------------------------------------------------------------


def in_fractions(boxes: np.ndarray) -> np.ndarray:
    """Which boxes are fractions of the image instead of pixels, whatever the order of their numbers.

    Args:
        boxes: (n, 4), in any box format.

    Returns:
        (n,) bool.  All four numbers are at most 1.5, and not all of them whole: no box of pixels is
        that small, but for one in the first pixel of the image.  Boxes of zeros are none.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(boxes) <= 1.5).all(axis=1) & (boxes != np.round(boxes)).any(axis=1))


def reversed_corners(boxes: np.ndarray, tolerance: float = 0.01) -> np.ndarray:
    """(n,) bool: which xyxy boxes (n, 4) have x2 < x1 or y2 < y1 by more than a rounding error."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        return np.asarray((boxes[:, 2:] < boxes[:, :2] - tolerance).any(axis=1))


def far_outside(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which boxes are not boxes of an image of this size.

    Args:
        boxes: (n, 4) xyxy pixels.
        size: (height, width).

    Returns:
        (n,) bool: more than a tenth of the image beside it, or a corner more than the whole image away.
        Boxes that reach a little over the edge, as annotators and models make them, are none.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    extent = np.array([size[1], size[0]], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        beside = (boxes[:, :2] > 1.1 * extent + 2) | (boxes[:, 2:] < -0.1 * extent - 2)
        away = (boxes[:, 2:] > 2 * extent + 2) | (boxes[:, :2] < -extent - 2)
    return np.asarray((beside | away).any(axis=1))
