"""Paints scenes with Pillow: drawn at three times the size, then averaged down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from hoiclip.playground.objects import Primitive
from hoiclip.playground.scenes import Placement, Scene

OVERSAMPLING = 3


def render(scene: Scene) -> Image.Image:
    """The image of a scene, RGB, ``scene.size`` pixels wide and high."""
    canvas = _paint_background(scene)
    draw = ImageDraw.Draw(canvas)
    factor = float(OVERSAMPLING)
    _paint(draw, scene.background.clutter, None, factor, factor, 0.0, 0.0)
    for place in scene.placements:
        _paint_placement(draw, place)
    _paint(draw, scene.foreground, None, factor, factor, 0.0, 0.0)
    return canvas.reduce(OVERSAMPLING)


def silhouette(scene: Scene, row: int) -> np.ndarray:
    """(size, size) bool: the pixels that person or thing ``row`` covers, were nothing before it."""
    side = scene.size * OVERSAMPLING
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for place in scene.placements:
        for part in place.parts:
            if part.owner == row:
                _paint(draw, part.primitives, dict.fromkeys(part.palette, 255), *_affine(place))
    return np.asarray(canvas.reduce(OVERSAMPLING)) > 0


def _paint_background(scene: Scene) -> Image.Image:
    size, side = scene.size, scene.size * OVERSAMPLING
    background = scene.background
    grid = np.array(background.grid, dtype=np.uint8)
    small = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
    if background.ground is not None:
        top, bottom = background.ground
        draw = ImageDraw.Draw(small)
        start = int(background.horizon)
        bands = 6
        for band in range(bands):
            mix = band / bands
            colour = tuple(int(a + (b - a) * mix) for a, b in zip(top, bottom, strict=True))
            draw.rectangle((0, start + (size - start) * band // bands, size, size), fill=colour)
    return small.resize((side, side), Image.Resampling.NEAREST)


def _affine(place: Placement) -> tuple[float, float, float, float]:
    factor = OVERSAMPLING
    return (
        place.mirror * place.scale * factor,
        -place.scale * factor,
        place.x * factor,
        place.y * factor,
    )


def _paint_placement(draw: ImageDraw.ImageDraw, place: Placement) -> None:
    affine = _affine(place)
    for part in place.parts:
        _paint(draw, part.primitives, part.palette, *affine)


def _paint(
    draw: ImageDraw.ImageDraw,
    primitives: Sequence[Primitive],
    palette: object,
    ax: float,
    ay: float,
    bx: float,
    by: float,
) -> None:
    """Canvas x = ax * x + bx and y = ay * y + by; a palette of None means RGB colours already."""
    grow = abs(ax)
    for primitive in primitives:
        colour = primitive[-1]
        fill = colour if palette is None else palette[colour]  # type: ignore[index]
        what = primitive[0]
        if what == "disc":
            x, y, r = primitive[1] * ax + bx, primitive[2] * ay + by, primitive[3] * grow
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        elif what == "line":
            points = [(x * ax + bx, y * ay + by) for x, y in primitive[1]]
            width = primitive[2] * grow
            draw.line(points, fill=fill, width=max(1, round(width)))
            r = (width - 1) / 2
            if r > 1:
                for x, y in points:
                    draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        else:
            draw.polygon([(x * ax + bx, y * ay + by) for x, y in primitive[1]], fill=fill)
