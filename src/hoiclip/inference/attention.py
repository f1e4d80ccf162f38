"""Where the interaction decoder looked for a triplet (paper Figure 5)."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.inference.detector import HoiDetector
from hoiclip.visualization.attention import AttentionRow, attention_figure, save_figure

Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of M triplets of one image, the mean over the heads of the last layer.

    Attributes:
        detector: (M, h, w) over the detector's features, which cover the whole image; None where the model
            does not look at them.
        clip: (M, g, g) over CLIP's patches, without its class token; None likewise.
        clip_region: xyxy in pixels of the image, the square in its middle that CLIP sees.
    """

    detector: np.ndarray | None
    clip: np.ndarray | None
    clip_region: Region


def check_attention(detector: Any) -> None:
    """Raise HoiError if a detector has no attention to show."""
    model = detector.model if isinstance(detector, HoiDetector) else None
    if model is None:
        raise HoiError("--attention looks into a model computed by torch: not into exported ones, nor training-free")
    if model.config.variant == "gen-vlkt":
        raise HoiError("--attention: GEN-VLKT has no decoder that looks at CLIP; give a HOICLIP model")


@torch.inference_mode()
def attention_maps(detector: HoiDetector, image: Image.Image, detections: Detections) -> AttentionMaps:
    """Look again at an image, and keep where each triplet's query looked.

    Args:
        detector: with a HOICLIP model.
        image: upright RGB, the one that was detected in.
        detections: some of what this detector found in it.

    Raises:
        HoiError: if the model has no attention to show.
    """
    check_attention(detector)
    assert detector.model is not None
    inputs = detector.processor(image).to(detector.device)
    outputs = detector.model(**inputs, output_attentions=True)
    queries = _queries_of(detector, outputs, image, detections)
    height, width = inputs["pixel_values"].shape[-2:]
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    over_features = _mean_of_heads(outputs.detector_attentions, queries)  # (M, S)
    over_patches = _mean_of_heads(outputs.clip_attentions, queries)  # (M, 1 + g * g)
    if over_features is not None:
        over_features = over_features.reshape(len(queries), *_grid(over_features.shape[1], height, width))
    if over_patches is not None:
        grid = math.isqrt(over_patches.shape[1] - 1)
        over_patches = over_patches[:, 1:].reshape(len(queries), grid, grid)
    return AttentionMaps(over_features, over_patches, (left, top, left + side, top + side))


def attention_panel(detector: HoiDetector, image: Image.Image, detections: Detections) -> Figure:
    """A figure with a line for each triplet: the pair, and where its query looked in both streams.

    Args:
        detector, image, detections: as of :func:`attention_maps`; at least one triplet.
    """
    found = attention_maps(detector, image, detections)
    whole = (0.0, 0.0, float(image.width), float(image.height))
    rows = []
    for i, (triplet, score) in enumerate(zip(detections, detections.confidence, strict=True)):
        maps = []
        if found.detector is not None:
            maps.append(("over the detector's features", found.detector[i], whole))
        if found.clip is not None:
            maps.append(("over CLIP's patches", found.clip[i], found.clip_region))
        rows.append(AttentionRow(f"{triplet.name} {score:.2f}", detections[i].draw(image), maps))
    return attention_figure(image, rows)


def attention_image(detector: HoiDetector, image: Image.Image, detections: Detections) -> Image.Image:
    """:func:`attention_panel` as an image."""
    buffer = io.BytesIO()
    save_figure(attention_panel(detector, image, detections), buffer, "png")
    return Image.open(buffer).convert("RGB")


def _mean_of_heads(maps: tuple[Tensor, ...] | None, queries: np.ndarray) -> np.ndarray | None:
    """Last layer's (1, heads, N, T) to (M, T) of the queries."""
    return None if maps is None else maps[-1][0].mean(0).float().cpu().numpy()[queries]


def _queries_of(detector: HoiDetector, outputs: Any, image: Image.Image, detections: Detections) -> np.ndarray:
    """(M,) the query that each triplet came from: that whose boxes it has."""
    human, thing = (boxes[0].cpu().numpy() for boxes in detector.processor.boxes_in_pixels(outputs, [image.size[::-1]]))
    limit = np.array([image.width, image.height, image.width, image.height])
    own = np.concatenate([human, thing], axis=1).clip(0, np.tile(limit, 2))  # (N, 8)
    wanted = np.concatenate([detections.human_boxes, detections.object_boxes], axis=1)  # (M, 8)
    return np.abs(own[None] - wanted[:, None]).sum(-1).argmin(1)


def _grid(count: int, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the detector's features, so many cells over a view of so many pixels."""
    for stride in (8, 16, 32, 64):
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        if rows * columns == count:
            return rows, columns
    raise HoiError(f"{count} features are no grid over {width} x {height} pixels")
