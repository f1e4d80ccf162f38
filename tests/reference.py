"""Rebuilds the reference checkpoints and inputs: weights from a recipe, classifiers from files."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hoiclip.batching import pad_together
from hoiclip.image_preparation import IMAGENET_MEAN, IMAGENET_STD, normalised
from hoiclip.processing import clip_view

HERE = Path(__file__).parent / "golden" / "model"
_spec = importlib.util.spec_from_file_location("recipe", HERE / "recipe.py")
assert _spec is not None
assert _spec.loader is not None
recipe = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(recipe)

MANIFESTS = {"gen_vlkt": "gen_vlkt_hico"}


@cache
def _fill(key: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(recipe.fill(key, shape))


def manifest(config: str) -> dict[str, tuple[int, ...]]:
    content = json.loads((HERE / f"manifest_{MANIFESTS.get(config, config)}.json").read_text())
    return {key: tuple(shape) for key, (shape, _) in content.items()}


def checkpoint(config: str) -> dict[str, Tensor]:
    """The state dict a published training run would have written, with recipe weights."""
    shapes = manifest(config)
    weights = {key: _fill(key, shape) for key, shape in shapes.items() if not recipe.is_computed(key)}
    text = np.load(HERE / f"classifiers_{'vcoco' if config == 'vcoco' else 'hico'}.npz")
    constants = np.load(HERE / f"constants_{'hico' if config == 'gen_vlkt' else config}.npz")
    seen = constants["seen_columns"].astype(int)
    rows = torch.from_numpy(text["visual_projection"])
    weights["visual_projection.weight"] = rows[seen]
    weights["obj_visual_projection.weight"] = torch.from_numpy(text["obj_visual_projection"])
    spread = torch.zeros(29 if config == "vcoco" else 117, len(rows))
    verb, column = torch.from_numpy(constants["verb2hoi_nonzero"].astype(int)).T
    spread[verb, column] = 1
    computed = {
        "eval_visual_projection.weight": rows,
        "verb2hoi_proj": spread[:, seen],
        "verb2hoi_proj_eval": spread,
    }
    weights |= {key: value for key, value in computed.items() if key in shapes}
    assert set(weights) == set(shapes)
    return weights


def inputs(case: str) -> tuple[Tensor, Tensor, Tensor]:
    """pixel_values, pixel_mask, clip_pixel_values of ``batch2``, ``single0`` or ``single1``; unresized."""
    images = [Image.fromarray(recipe.image(11, 320, 416)), Image.fromarray(recipe.image(12, 288, 480))]
    if case != "batch2":
        images = [images[int(case[-1])]]
    views = [torch.from_numpy(normalised(image, IMAGENET_MEAN, IMAGENET_STD)) for image in images]
    return (*pad_together(views), torch.stack([clip_view(image) for image in images]))
