"""Attention over an image, drawn beside the pair it belongs to (paper Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

Region = tuple[float, float, float, float]
FORMATS = ("png", "pdf", "svg")
DPI = 200  # of pixels; lines and letters of pdf and svg have none


@dataclass(frozen=True)
class AttentionRow:
    """One triplet: its drawing, and maps over the image.

    Attributes:
        title: the interaction and its score.
        drawing: the image with the pair.
        maps: what was looked at, the values (h, w), and the region they cover, xyxy in pixels of the image.
    """

    title: str
    drawing: Image.Image
    maps: Sequence[tuple[str, np.ndarray, Region]]


def attention_figure(image: Image.Image, rows: Sequence[AttentionRow]) -> Figure:
    """One line a triplet: the pair, then each map over the image in grey, bright where it looked.

    Args:
        image: RGB.
        rows: at least one.
    """
    columns = 1 + len(rows[0].maps)
    width = 3.4
    height = width * image.height / image.width + 0.35
    figure = Figure(figsize=(width * columns, height * len(rows)), layout="constrained")
    places = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(places, rows, strict=True):
        _show(line[0], row.drawing, row.title)
        for place, (title, values, region) in zip(line[1:], row.maps, strict=True):
            _overlay(place, image, values, region)
            place.set_title(title, fontsize=9)
    return figure


def save_figure(figure: Figure, path: Path | IO[bytes], kind: str) -> None:
    """Write a figure as one of :data:`FORMATS`; the same figure is the same file."""
    undated = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with matplotlib.rc_context({"svg.hashsalt": "hoiclip"}):  # else ids are random
        figure.savefig(path, dpi=DPI, format=kind, metadata=undated[kind])


def _show(place: Axes, image: Image.Image, title: str) -> None:
    place.imshow(np.asarray(image))
    place.set_title(title, fontsize=9)
    place.axis("off")


def _overlay(place: Axes, image: Image.Image, values: np.ndarray, region: Region) -> None:
    grey = np.asarray(image.convert("L"), dtype=float) / 255
    place.imshow(0.35 + 0.65 * grey, cmap="gray", vmin=0, vmax=1)
    relative = values / max(float(values.max()), 1e-12)
    x1, y1, x2, y2 = region
    place.imshow(
        relative, cmap="inferno", alpha=0.8 * np.sqrt(relative), vmin=0, vmax=1, extent=(x1, x2, y2, y1),
        interpolation="bilinear",
    )  # fmt: skip
    if region != (0, 0, image.width, image.height):  # what lies outside was not seen
        place.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="white", linewidth=0.8, linestyle=":")
    place.set_xlim(0, image.width)
    place.set_ylim(image.height, 0)
    place.axis("off")
