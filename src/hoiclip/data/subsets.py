"""Subsets of the annotated images, and of their pairs, that a run may learn from.

    images = without_unseen(images, vocabulary)            # zero-shot settings (paper section 4.1)
    images = fraction(images, 0.05, seed=0)                # fractional data (paper section 4.2)
    train, validation = hold_out(images, 0.05, seed=0)     # the test set is not for tuning

Every view keeps the order of the images and leaves the given list alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.transforms import keep_boxes
from hoiclip.errors import HoiError
from hoiclip.files import read_text
from hoiclip.vocabulary import HoiVocabulary

MAX_BOXES = 64  # as many as the published model has queries; a run takes its own number


def without_unseen(images: Sequence[AnnotatedImage], vocabulary: HoiVocabulary) -> list[AnnotatedImage]:
    """The zero-shot training set: no pair that carries an unseen interaction, no image left without labels.

    A pair with one unseen label goes with all its labels.  Boxes stay, the detector may see them.
    A vocabulary without unseen interactions changes nothing.
    """
    if not vocabulary.unseen:
        return list(images)
    kept = (drop_unseen_pairs(image, vocabulary) for image in images)
    return [image for image in kept if len(image.pairs)]


def drop_unseen_pairs(image: AnnotatedImage, vocabulary: HoiVocabulary) -> AnnotatedImage:
    """One image without the (human, object) pairs that carry an unseen interaction."""
    hidden = np.isin(image.hoi_ids, list(vocabulary.unseen))
    if not hidden.any():
        return image
    tainted = {tuple(pair) for pair in image.pairs[hidden].tolist()}
    return _keep_labels(image, np.array([tuple(pair) not in tainted for pair in image.pairs.tolist()]))


def with_pairs(images: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """The images that have at least one pair; HICO-DET is trained on them, V-COCO on all."""
    return [image for image in images if len(image.pairs)]


def fraction(images: Sequence[AnnotatedImage], share: float, seed: int = 0) -> list[AnnotatedImage]:
    """A random share of the images, at least one.

    Depends on the file names and the seed alone, not on the order of the list.  A smaller share of
    the same seed is a subset of a larger one, so that data curves differ by data only.

    Raises:
        HoiError: if ``share`` is not in 0..1 (0 excluded).
    """
    if not 0 < share <= 1:
        raise HoiError(f"the fraction of training data must be above 0 and at most 1, not {share}")
    return _first_of(images, max(1, round(share * len(images))), [seed, 0])[0]


def listed(images: Sequence[AnnotatedImage], path: str | Path) -> list[AnnotatedImage]:
    """The images that a text file names, one file name per line; ``#`` starts a comment.

    Raises:
        HoiError: unreadable list, or a name that is not in the dataset.
    """
    lines = read_text(path, "a text file with one image name per line").splitlines()
    names = {line.split("#")[0].strip(): number for number, line in reversed(list(enumerate(lines, 1)))}
    names.pop("", None)
    unknown = set(names) - {image.file_name for image in images}
    if unknown:
        first = min(unknown, key=names.__getitem__)
        raise HoiError(f"{path}: line {names[first]}: the dataset has no image {first!r}; correct or remove the line")
    return [image for image in images if image.file_name in names]


def hold_out(
    images: Sequence[AnnotatedImage], share: float = 0.05, seed: int = 0
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Split a training set into (training, validation), ``share`` of the images for validation.

    Depends on the file names and the seed alone.

    Raises:
        HoiError: if ``share`` is not in 0..1 (both excluded).
    """
    if not 0 < share < 1:
        raise HoiError(f"the held-out share must lie between 0 and 1, not {share}")
    validation, training = _first_of(images, max(1, round(share * len(images))), [seed, 1])
    return training, validation


def first_boxes(image: AnnotatedImage, limit: int = MAX_BOXES) -> AnnotatedImage:
    """At most ``limit`` boxes, the first ones, and the pairs among them (before augmentation)."""
    return keep_boxes(image, np.arange(len(image.boxes)) < limit)


def _first_of(
    images: Sequence[AnnotatedImage], count: int, seed: Sequence[int]
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """(the first ``count`` images of a random ranking, the others), both in the order given."""
    by_name = sorted(range(len(images)), key=lambda i: images[i].file_name)
    rank = np.random.default_rng(seed).permutation(len(images))
    chosen = {index for index, place in zip(by_name, rank.tolist(), strict=True) if place < count}
    return (
        [image for i, image in enumerate(images) if i in chosen],
        [image for i, image in enumerate(images) if i not in chosen],
    )


def _keep_labels(image: AnnotatedImage, kept: np.ndarray) -> AnnotatedImage:
    return replace(
        image,
        pairs=image.pairs[kept],
        hoi_ids=image.hoi_ids[kept],
        verb_ids=None if image.verb_ids is None else image.verb_ids[kept],
    )
