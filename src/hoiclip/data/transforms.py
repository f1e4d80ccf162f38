"""Resizing and the training augmentation: a PIL picture and its boxes move together.

Paper section 4.1 trains with DETR's augmentation; the exact steps and odds are those of the
published code.
"""

from __future__ import annotations


def resized_size(size: tuple[int, int], shorter: int = 800, longest: int | None = 1333) -> tuple[int, int]:
    """The size a picture is resized to, by DETR's rule.

    Args:
        size: (height, width) in pixels.
        shorter: wanted length of the shorter side.
        longest: the longer side stays within this many pixels; None for no limit.

    Returns:
        (height, width).  The shorter side is rounded (half to even) where the limit shortens it,
        the longer side truncated.
    """
    short, long = min(size), max(size)
    if longest is not None and long / short * shorter > longest:
        shorter = round(longest * short / long)
    if short == shorter:
        return size
    height, width = size
    if width < height:
        return max(1, int(shorter * height / width)), max(1, shorter)
    return max(1, shorter), max(1, int(shorter * width / height))
