"""Visual semantic arithmetic over a data set (paper section 3.3).

    hoiclip verbs hicodet --out verbs.safetensors

A pair is shown to CLIP as the smallest region around both boxes, an object as its box (Eq. 11).  All
pairs of an interaction are summed and brought to unit length (Eq. 12), all instances of an object
likewise (Eq. 13).  The interactions of a verb minus their objects, summed and brought to unit length,
are the verb (Eq. 14).

What the equations leave open: an interaction that was never seen takes no part in its verb; a pair
without an object (V-COCO) is the human box alone, from which the mean person is taken away; a verb
that was never seen at all keeps the direction its sentences give.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPModel

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.samples import Samples
from hoiclip.files import atomic_path
from hoiclip.vocabulary import NOTHING, HoiVocabulary

Method = Literal["arithmetic", "average"]
SAVE_EVERY = 500  # images between two saves of unfinished work


@dataclass
class RegionSums:
    """Sums of region features so far; K interactions, C objects, D wide, all float64.

    Attributes:
        interactions, objects: (K, D), (C, D) sums of f(R).
        persons: (D,) sum over all human boxes of pairs.
        interaction_counts, object_counts, person_count: how many regions, (K,), (C,), (1,).
        images: how many images were looked at.
    """

    interactions: Tensor
    objects: Tensor
    persons: Tensor
    interaction_counts: Tensor
    object_counts: Tensor
    person_count: Tensor
    images: Tensor

    @classmethod
    def empty(cls, vocabulary: HoiVocabulary, width: int) -> RegionSums:
        """Empty sums."""
        k, c, double = vocabulary.num_interactions, len(vocabulary.objects), torch.float64
        return cls(
            torch.zeros(k, width, dtype=double),
            torch.zeros(c, width, dtype=double),
            torch.zeros(width, dtype=double),
            torch.zeros(k, dtype=torch.int64),
            torch.zeros(c, dtype=torch.int64),
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(1, dtype=torch.int64),
        )


def sum_regions(
    samples: Samples,
    vocabulary: HoiVocabulary,
    clip: CLIPModel,
    clip_view: Callable[[Image.Image], Tensor],
    *,
    batch_size: int = 256,
    unfinished: Path | None = None,
    progress: bool = True,
) -> RegionSums:
    """Sum the CLIP features of every object and every pair of a dataset.

    Args:
        samples: (image, annotation) by index.
        vocabulary: what the ids of the annotations mean.
        clip: its image tower and projection are used (Eq. 11).
        clip_view: a crop to (3, s, s).
        batch_size: regions at once.
        unfinished: where to keep the sums every so often, to go on from there after an interruption.
        progress: show a bar.
    """
    sums = RegionSums.empty(vocabulary, clip.config.projection_dim)
    who = {"images": str(len(samples)), "vocabulary": _fingerprint(vocabulary)}
    if unfinished is not None:
        sums = _read_unfinished(unfinished, sums, who)
    done = int(sums.images)
    regions: list[tuple[Tensor, str, np.ndarray]] = []
    for index in tqdm(
        range(done, len(samples)), desc="verbs", unit="img", initial=done, total=len(samples), disable=not progress
    ):
        image, annotation = samples[index]
        regions += [(clip_view(crop), kind, ids) for crop, kind, ids in image_regions(image, annotation)]
        # whole images only, so that unfinished work can say how many it holds
        if len(regions) >= batch_size or index == len(samples) - 1:
            _add(sums, regions, clip, batch_size)
            regions.clear()
            sums.images[0] = index + 1
            if unfinished is not None and (index + 1) // SAVE_EVERY > done // SAVE_EVERY:
                done = index + 1
                with atomic_path(unfinished) as path:
                    save_file(vars(sums), path, metadata=who)
    return sums


def image_regions(image: Image.Image, annotation: AnnotatedImage) -> Iterator[tuple[Image.Image, str, np.ndarray]]:
    """The crops of one image: (crop, "object" | "interaction" | "person", ids it counts for)."""
    for box, object_id in zip(annotation.boxes, annotation.object_ids, strict=True):
        yield image.crop(_pixels(box, image)), "object", np.array([object_id])
    known = annotation.hoi_ids >= 0
    pairs, row = np.unique(annotation.pairs[known], axis=0, return_inverse=True)
    for i, (human, thing) in enumerate(pairs):
        box = annotation.boxes[human]
        if thing >= 0:
            other = annotation.boxes[thing]
            box = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
        yield image.crop(_pixels(box, image)), "interaction", annotation.hoi_ids[known][row.reshape(-1) == i]
    for human in np.unique(pairs[:, 0]):
        yield image.crop(_pixels(annotation.boxes[human], image)), "person", np.zeros(1, dtype=np.int64)


def _pixels(box: np.ndarray, image: Image.Image) -> tuple[int, int, int, int]:
    """The whole pixels a box covers inside the image, at least one."""
    x1, y1 = (int(np.floor(v)) for v in box[:2])
    x2, y2 = (int(np.ceil(v)) for v in box[2:])
    x1, y1 = min(max(x1, 0), image.width - 1), min(max(y1, 0), image.height - 1)
    return x1, y1, max(min(x2, image.width), x1 + 1), max(min(y2, image.height), y1 + 1)


@torch.no_grad()
def _add(sums: RegionSums, regions: list[tuple[Tensor, str, np.ndarray]], clip: CLIPModel, batch_size: int) -> None:
    table = {
        "object": (sums.objects, sums.object_counts),
        "interaction": (sums.interactions, sums.interaction_counts),
        "person": (sums.persons[None], sums.person_count),
    }
    for start in range(0, len(regions), batch_size):
        batch = regions[start : start + batch_size]
        features = region_features(clip, torch.stack([view for view, _, _ in batch]))
        for feature, (_, kind, ids) in zip(features, batch, strict=True):
            total, count = table[kind]
            index = torch.from_numpy(ids)
            total.index_add_(0, index, feature.expand(len(ids), -1))
            count.index_add_(0, index, torch.ones_like(index))


@torch.no_grad()
def region_features(clip: CLIPModel, views: Tensor) -> Tensor:
    """f(R) of Eq. 11, not normalised: (n, 3, s, s) -> (n, D) float64 on the CPU."""
    vision = clip.vision_model
    tokens = vision(views.to(clip.logit_scale.device)).last_hidden_state[:, 0]
    return clip.visual_projection(vision.post_layernorm(tokens)).cpu().double()


def verb_representations(
    sums: RegionSums, vocabulary: HoiVocabulary, method: Method = "arithmetic"
) -> tuple[Tensor, Tensor]:
    """Verb vectors from the sums (Eq. 12-14).

    Args:
        sums: of a whole data set.
        vocabulary: which interaction is which verb and object.
        method: ``arithmetic`` is Eq. 14; ``average`` leaves the objects in (Table 6).

    Returns:
        (V, D) unit rows, float64, zero where a verb was never seen; (V,) bool, which were.
    """
    interactions = nn.functional.normalize(sums.interactions, dim=-1)  # Eq. 12
    objects = nn.functional.normalize(sums.objects, dim=-1)  # Eq. 13
    if NOTHING in vocabulary.objects:
        objects[vocabulary.objects.index(NOTHING)] = nn.functional.normalize(sums.persons, dim=-1)
    present = sums.interaction_counts > 0
    difference = interactions
    if method == "arithmetic":
        difference = interactions - objects[torch.from_numpy(np.ascontiguousarray(vocabulary.object_ids))]
    spread = torch.from_numpy(vocabulary.verb_to_interaction).double()  # (V, K)
    total = spread @ (difference * present[:, None])
    return nn.functional.normalize(total, dim=-1), (spread @ present.double()) > 0


# --- unfinished sums on disk --------------------------------------------------------------------------


def _read_unfinished(path: Path, empty: RegionSums, who: dict[str, str]) -> RegionSums:
    try:
        with safe_open(str(path), framework="pt") as file:
            if (file.metadata() or {}) == who:
                return RegionSums(**{name: file.get_tensor(name) for name in vars(empty)})
    except (OSError, SafetensorError):
        pass
    return empty


def _fingerprint(vocabulary: HoiVocabulary) -> str:
    words = json.dumps([vocabulary.verbs, vocabulary.objects, vocabulary.interactions])
    return f"{vocabulary.name} {zlib.crc32(words.encode()):x}"
