"""Synthetic inputs of a benchmark: drawn photographs, and a full-size model with seeded weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from hoiclip.checkpoints.folders import save_model
from hoiclip.models.configuration import HoiClipConfig
from hoiclip.models.modeling import HoiClipModel
from hoiclip.vocabulary import HoiVocabulary


@torch.no_grad()
def save_seeded_model(folder: Path, seed: int) -> None:
    """Save the full-size model with weights of normal noise, scaled so that outputs depend on the image.

    Plain noise would let attention average everything: all queries would say the same.  Sharper
    attention and a weaker update of the residual stream keep them apart.
    """
    vocabulary = HoiVocabulary.from_name("hico")
    model = HoiClipModel(HoiClipConfig(vocabulary=vocabulary, unused_parameters=False))
    random = torch.Generator().manual_seed(seed)
    for name, weight in model.state_dict().items():
        if name.endswith("logit_scale"):
            continue
        weight.normal_(generator=random)
        if name.endswith("running_var"):
            weight.abs_().mul_(0.1).add_(1)
        elif weight.ndim == 1:
            weight.mul_(0.05 if name.endswith(("bias", "running_mean")) else 0.1)
            if name.endswith("weight"):
                weight.add_(1)
        elif "queries" in name or "pair_positions" in name:
            weight.mul_(1.5)
        else:
            weight.mul_(_gain(name) / math.sqrt(weight[0].numel()))
    for classifier in (model.interactions, model.objects, model.verbs):
        assert classifier is not None
        classifier.weight.copy_(nn.functional.normalize(classifier.weight, dim=-1))
    model.verbs.verb_to_interaction = torch.from_numpy(vocabulary.verb_to_interaction)  # type: ignore[union-attr]
    model.vocabulary = vocabulary
    save_model(model, folder)


def _gain(name: str) -> float:
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        return 2.0 if name.startswith("clip.") else 4.0
    residual = name.endswith(("o_proj.weight", "fc2.weight"))
    if residual and (name.startswith("detector.encoder.") or "self_att" in name):
        return 0.25
    return 4.0 if name.endswith("box_head.4.weight") else 1.0


def draw_photo(size: tuple[int, int], seed: int) -> Image.Image:
    """Coloured blobs with grain, (height, width): about as hard to decode and resize as a photograph."""
    height, width = size
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(3, height // 96), max(3, width // 96), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = random.integers(-9, 10, (height, width, 1), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def draw_photos(folder: Path, size: tuple[int, int], number: int, seed: int) -> None:
    """Write JPEG files of twice ``size``, so that the detector's view is exactly ``size``."""
    folder.mkdir(parents=True)
    for i in range(number):
        draw_photo((2 * size[0], 2 * size[1]), seed * 1000 + i).save(folder / f"{i:04d}.jpg", quality=90)
