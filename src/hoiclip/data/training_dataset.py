"""The training dataset: augmented views and targets of each image, and their batches.

samples = ImageFolder(load_hoia("trainval_hico.json"), "images/train2015")    # or a PlaygroundDataset
dataset = HoiTrainingDataset(samples, "hico", detector_view=detector_view, clip_view=clip_view,
                             augmentation=TrainingAugmentation())
loader = DataLoader(dataset, batch_size=4, collate_fn=collate)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from hoiclip.batching import pad_together
from hoiclip.boxes import xyxy_to_cxcywh
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.samples import Sample, Samples
from hoiclip.data.subsets import MAX_BOXES, drop_unseen_pairs, first_boxes
from hoiclip.data.transforms import clip_boxes
from hoiclip.errors import HoiError
from hoiclip.vocabulary import NOTHING, HoiVocabulary

Augmentation = Callable[[Image.Image, AnnotatedImage, np.random.Generator], Sample]


class HoiTrainingDataset(Dataset[dict[str, Any]]):
    """Augmented tensors and targets of annotated images.

    What an item looks like depends on (seed, epoch, index) alone: the number of workers, their
    order and the process change nothing.

    Args:
        samples: gives (image, :class:`AnnotatedImage`) by index.
        vocabulary: a :class:`HoiVocabulary`, its name or YAML file; its unseen interactions have no
            column in the targets, and pairs that carry one are left out.
        detector_view: called as ``detector_view(image, shortest_edge=s, longest_edge=l)`` with the
            sides of the augmented image, so that it normalises and does not resize.
        clip_view: the augmented image to (3, 224, 224) float32.
        augmentation: called as ``augmentation(image, annotation, rng)``, usually a
            :class:`TrainingAugmentation`, or a :class:`FixedResize` for none but the evaluation's
            size; None takes images at the size they have.
        max_boxes: annotations are cut to so many boxes before augmentation.
        seed: of the augmentation.
    """

    def __init__(
        self,
        samples: Samples,
        vocabulary: HoiVocabulary | str | Path,
        *,
        detector_view: Callable[..., torch.Tensor],
        clip_view: Callable[[Image.Image], torch.Tensor],
        augmentation: Augmentation | None = None,
        max_boxes: int = MAX_BOXES,
        seed: int = 0,
    ) -> None:
        self.samples, self.vocabulary = samples, HoiVocabulary.coerce(vocabulary)
        self.detector_view, self.clip_view, self.augmentation = detector_view, clip_view, augmentation
        self.max_boxes, self.seed = max_boxes, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's augmentation, also in workers that are already running."""
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One image.

        Returns:
            ``pixel_values`` (3, h, w), ``clip_pixel_values`` (3, 224, 224), ``labels`` (see
            :func:`make_targets`) and ``file_name``.
        """
        image, annotation = self.augmented(index)
        return {
            "pixel_values": self.detector_view(image, shortest_edge=min(image.size), longest_edge=max(image.size)),
            "clip_pixel_values": self.clip_view(image),
            "labels": make_targets(annotation, self.vocabulary, (image.height, image.width)),
            "file_name": annotation.file_name,
        }

    def augmented(self, index: int) -> Sample:
        """The image and its annotation as this epoch shows them, before they become tensors."""
        image, annotation = self.samples[index]
        annotation = clip_boxes(first_boxes(annotation, self.max_boxes), (image.height, image.width))
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, self.epoch, index])
            image, annotation = self.augmentation(image, annotation, rng)
        return image, annotation


def make_targets(
    annotation: AnnotatedImage, vocabulary: HoiVocabulary, size: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """Make the targets of one image: one row per distinct (human box, object box).

    Args:
        annotation: boxes in pixels of the image the model sees.
        vocabulary: columns are its seen interactions, in the order of ``vocabulary.seen``.
        size: (height, width) of that image.

    Returns:
        ``human_boxes``, ``object_boxes`` (n, 4) float32 cxcywh 0..1, ``object_labels`` (n,) int64,
        ``interaction_labels`` (n, K seen) float32 of 0 and 1.  A pair without an object (V-COCO) has
        an all-zero object box and the object label "nothing".

    Raises:
        HoiError: a pair without an object in a vocabulary without "nothing".
    """
    annotation = drop_unseen_pairs(annotation, vocabulary)
    known = annotation.hoi_ids >= 0
    pairs, rows = np.unique(annotation.pairs[known], axis=0, return_inverse=True)
    columns = np.searchsorted(vocabulary.seen, annotation.hoi_ids[known])
    interactions = np.zeros((len(pairs), len(vocabulary.seen)), dtype=np.float32)
    interactions[rows.reshape(-1), columns] = 1

    alone = pairs[:, 1] < 0
    if alone.any() and NOTHING not in vocabulary.objects:
        raise HoiError(f"{annotation.file_name}: a pair has no object, but {vocabulary.name!r} knows no {NOTHING!r}")
    boxes = np.concatenate([xyxy_to_cxcywh(annotation.boxes, size), np.zeros((1, 4))])  # last row: no object, -1
    labels = np.append(annotation.object_ids, vocabulary.objects.index(NOTHING) if alone.any() else -1)
    return {
        "human_boxes": torch.from_numpy(boxes[pairs[:, 0]].astype(np.float32)),
        "object_boxes": torch.from_numpy(boxes[pairs[:, 1]].astype(np.float32)),
        "object_labels": torch.from_numpy(labels[pairs[:, 1]]),
        "interaction_labels": torch.from_numpy(interactions),
    }


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch: images padded with zeros at the bottom and right to the largest height and width.

    Returns:
        ``pixel_values`` (B, 3, H, W), ``pixel_mask`` (B, H, W) int64 (1 = image, 0 = padding),
        ``clip_pixel_values`` (B, 3, 224, 224), ``labels`` (B dicts), ``file_names`` (B names).
    """
    pixel_values, pixel_mask = pad_together([item["pixel_values"] for item in items])
    return {
        "pixel_values": pixel_values,
        "pixel_mask": pixel_mask,
        "clip_pixel_values": torch.stack([item["clip_pixel_values"] for item in items]),
        "labels": [item["labels"] for item in items],
        "file_names": [item["file_name"] for item in items],
    }
