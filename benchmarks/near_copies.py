"""python benchmarks/near_copies.py FILE

Counts near-copies of pairs in annotations that come from HICO-DET's official file (``anno_bbox.mat``, or such in
the JSON form), and prints what ``data.merge_near_copies`` would do at each threshold, as a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hoiclip.boxes import box_iou
from hoiclip.data import AnnotatedImage, merge_near_copies, open_dataset

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HEADS = (
    "IoU above", "pairs with a near-copy", "pairs merged", "two pairs of one interaction", "of two interactions",
    "of these expected to differ",
)  # fmt: skip


def overlaps(image: AnnotatedImage) -> tuple[np.ndarray, np.ndarray]:
    """(n, n) smaller IoU of human and object boxes, 0 for different object classes; (n, n) same interaction."""
    human, obj, kinds = image.human_boxes, image.object_boxes, image.object_ids[image.pairs[:, 1]]
    both = np.minimum(box_iou(human[:, None], human[None]), box_iou(obj[:, None], obj[None]))
    both[kinds[:, None] != kinds[None]] = 0
    return np.where(np.eye(len(kinds), dtype=bool), 0, both), image.hoi_ids[:, None] == image.hoi_ids[None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--split")
    args = parser.parse_args()
    dataset = open_dataset(args.file)
    images = [i for i in dataset.load(args.split or dataset.splits[0]) if len(i.pairs)]
    pairs = sum(len(image.pairs) for image in images)
    copies = np.zeros(len(THRESHOLDS))
    same: list[np.ndarray] = []  # of two pairs of one interaction: two different pairs, drawn side by side
    other: list[np.ndarray] = []
    for image in images:
        overlap, equal = overlaps(image)
        copies += [(np.where(equal, 0, overlap) > t).any(axis=1).sum() for t in THRESHOLDS]
        kinds = image.object_ids[image.pairs[:, 1]]
        once = np.triu(kinds[:, None] == kinds[None], 1)
        same.append(overlap[once & equal])
        other.append(overlap[once & ~equal])
    drawn_apart, perhaps_copies = np.concatenate(same), np.concatenate(other)
    print(f"{args.file}: {len(images):,} images with {pairs:,} pairs; two pairs of one image and object class are of")
    print(f"one interaction {len(drawn_apart):,} times and of two interactions {len(perhaps_copies):,} times\n")
    print(f"| {' | '.join(HEADS)} |\n|{'---:|' * len(HEADS)}")
    for threshold, count in zip(THRESHOLDS, copies, strict=True):
        merged = sum(merge_near_copies(image, threshold)[1] for image in images)
        chance, found = (drawn_apart > threshold).mean(), int((perhaps_copies > threshold).sum())
        differ = chance * len(perhaps_copies)
        row = f"{threshold}", f"{count / pairs:.1%}", f"{merged / pairs:.1%}", f"{(drawn_apart > threshold).sum():,}"
        print(f"| {' | '.join((*row, f'{found:,}', f'{differ:.0f} ({differ / found:.1%})'))} |")


if __name__ == "__main__":
    main()
