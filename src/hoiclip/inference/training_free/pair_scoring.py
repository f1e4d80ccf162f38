"""How well each interaction describes a person and a thing, told by a frozen CLIP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel

from hoiclip.image_preparation import CLIP_MEAN
from hoiclip.inference.training_free.object_detection import FoundObjects
from hoiclip.models.text_embedder import TextEmbedder, verb_directions
from hoiclip.processing import clip_view
from hoiclip.vocabulary import HoiVocabulary

CROPS_AT_ONCE = 64
BACKGROUND = tuple(round(255 * value) for value in CLIP_MEAN)  # zero, once normalised


class PairScorer(Protocol):
    """What scores pairs: CLIP here; a vision-language model could take its place."""

    def set_vocabulary(self, vocabulary: HoiVocabulary) -> None:
        """Score these interactions from now on."""

    def __call__(self, image: Image.Image, found: FoundObjects, pairs: np.ndarray) -> np.ndarray:
        """(P, K) probabilities of the interactions; ``pairs`` (P, 2) are rows of person and thing."""


@dataclass(frozen=True)
class Ingredients:
    """What the scores are made of; chosen on validation scenes of the playground (docs/training_free.md).

    Attributes:
        margin: around the square that holds both boxes, as a fraction of its side.
        object_margin: likewise around the thing alone.
        scene: how much of a pair's feature is the whole image's (the global feature of Eq. 17).
        arithmetic: weight of the visual semantic arithmetic (section 3.3): what the pair adds to the thing,
            against what the verb's sentences add to the object's.
        sharpness: factor of CLIP's own logit scale, before the softmax over all sentences.
    """

    margin: float = 0.05
    object_margin: float = 0.07
    scene: float = 0.4
    arithmetic: float = 0.2
    sharpness: float = 0.5


class ClipPairScorer:
    """Scores pairs by the sentences that CLIP finds nearest to their crop.

    The softmax runs over the sentences of all interactions and of all objects alone, so that a crop that
    shows something else gives little to each interaction of its object.

    Args:
        clip: frozen.
        embedder: of its text tower.
        device: where it computes.
        ingredients: what the scores are made of.

    Raises:
        HoiError: from :meth:`set_vocabulary`, where CLIP's tokenizer cannot tell the sentences apart.
    """

    def __init__(self, clip: CLIPModel, embedder: TextEmbedder, device: torch.device, ingredients: Ingredients) -> None:
        self.clip, self.embedder, self.device = clip.to(device).eval(), embedder, device  # type: ignore[arg-type]
        self.ingredients = ingredients
        self.size = int(clip.config.vision_config.image_size)

    def set_vocabulary(self, vocabulary: HoiVocabulary) -> None:
        self.vocabulary = vocabulary
        interactions = self.embedder(self.clip, vocabulary.interaction_prompts)  # (K, D)
        objects = self.embedder(self.clip, vocabulary.object_prompts[:-1])  # (C, D), without "nothing"
        self.sentences = torch.cat([interactions, objects]).to(self.device)  # (K + C, D)
        self.directions = verb_directions(interactions, objects, vocabulary).to(self.device)  # (V, D)

    @torch.inference_mode()
    def __call__(self, image: Image.Image, found: FoundObjects, pairs: np.ndarray) -> np.ndarray:
        mix, vocabulary = self.ingredients, self.vocabulary
        if not len(pairs):
            return np.zeros((0, vocabulary.num_interactions))
        boxes = found.boxes
        both = np.concatenate(
            [np.minimum(boxes[pairs[:, 0], :2], boxes[pairs[:, 1], :2]),
             np.maximum(boxes[pairs[:, 0], 2:], boxes[pairs[:, 1], 2:])], axis=1,
        )  # fmt: skip  # (P, 4)
        things, thing = np.unique(pairs[:, 1], return_inverse=True)
        crops = [square_crop(image, box, mix.margin, self.size) for box in both]
        crops += [square_crop(image, box, mix.object_margin, self.size) for box in boxes[things]]
        crops.append(image)
        features = self._features(crops)  # (P + things + 1, D)
        pair, alone, scene = features.split([len(pairs), len(things), 1])

        logits = ((1 - mix.scene) * pair + mix.scene * scene) @ self.sentences.T  # (P, K + C)
        added = nn.functional.normalize(pair - alone[torch.from_numpy(thing.reshape(-1)).to(self.device)], dim=-1)
        verbs = added @ self.directions.T  # (P, V)
        logits[:, : vocabulary.num_interactions] += (
            mix.arithmetic * verbs[:, torch.from_numpy(np.ascontiguousarray(vocabulary.verb_ids)).to(self.device)]
        )
        scale = mix.sharpness * self.clip.logit_scale.exp().float()
        scores = (scale * logits).softmax(-1)[:, : vocabulary.num_interactions].double().cpu().numpy()
        of_the_thing = vocabulary.object_ids[None, :] == found.object_ids[pairs[:, 1], None]  # (P, K)
        return np.where(of_the_thing, scores, 0.0)

    def _features(self, crops: Sequence[Image.Image]) -> Tensor:
        """Unit rows, (crops, D) float32 on the device."""
        rows: list[Any] = []
        for start in range(0, len(crops), CROPS_AT_ONCE):
            views = torch.stack([clip_view(crop, size=self.size) for crop in crops[start : start + CROPS_AT_ONCE]])
            rows.append(self.clip.get_image_features(pixel_values=views.to(self.device)).pooler_output.float())
        return nn.functional.normalize(torch.cat(rows), dim=-1)


def square_crop(image: Image.Image, box: np.ndarray, margin: float, size: int) -> Image.Image:
    """A square around a box, undistorted, (size, size).

    It is moved into the image where it fits, and filled up with CLIP's mean colour where it does not.

    Args:
        image: RGB.
        box: (4,) xyxy in pixels.
        margin: added on each side, as a fraction of the box's longer side.
        size: side of the result in pixels.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    side = max(x2 - x1, y2 - y1, 1.0) * (1 + 2 * margin)
    side = min(side, float(max(image.size)))
    left, top = (
        _moved(middle, side, length) for middle, length in (((x1 + x2) / 2, image.width), ((y1 + y2) / 2, image.height))
    )
    inside = max(left, 0.0), max(top, 0.0), min(left + side, image.width), min(top + side, image.height)
    scale = size / side
    width, height = (
        max(1, min(size, round(scale * length))) for length in (inside[2] - inside[0], inside[3] - inside[1])
    )
    part = image.resize((width, height), Image.Resampling.BICUBIC, box=inside, reducing_gap=3.0)
    if part.size == (size, size):
        return part
    square = Image.new("RGB", (size, size), BACKGROUND)
    square.paste(part, (math.floor(scale * (inside[0] - left)), math.floor(scale * (inside[1] - top))))
    return square


def _moved(middle: float, side: float, length: int) -> float:
    """Where a square of a side begins: around the middle, inside the image if it fits, else centred on it."""
    if side > length:
        return (length - side) / 2
    return min(max(middle - side / 2, 0.0), length - side)
