"""Draw pairs: boxes, the link between them, and labels."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Smaller images are enlarged, or their labels would hide them.
READABLE_SIDE, LONGEST_SIDE = 400, 1300
Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]


class DrawnPair(NamedTuple):
    """One person and one object (None where there is none), xyxy pixels, the labels beside the person, the object's."""

    human: Box
    object: Box | None
    labels: list[str]
    name: str = ""


def pair_colours(count: int) -> list[Colour]:
    """Colours far apart from one another, the same ones every time."""
    return [pair_colour(i) for i in range(count)]


def pair_colour(number: int) -> Colour:
    """The colour of a number, always the same, far from those of the numbers near it."""
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb((0.03 + number * 0.618034) % 1.0, 0.85, 0.95))  # type: ignore[return-value]


def draw_pairs(
    image: Image.Image,
    pairs: Sequence[DrawnPair],
    colours: Sequence[Colour] | None = None,
    line_width: int | None = None,
) -> Image.Image:
    """Draw boxes and links first, then labels above everything, none over another where there is room.

    Args:
        image: the image; the drawing is a copy.
        pairs: boxes xyxy in its pixels.
        colours: of each pair; by default all different.
        line_width: of boxes in pixels of the drawing; by default what suits its size.
    """
    factor = enlargement(image.size)
    canvas = image.convert("RGB")  # a copy
    if factor > 1:
        canvas = canvas.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    unit = max(1, round(min(canvas.size) / 260))
    line = line_width or 2 * unit
    font_size = max(10, round(min(canvas.size) / 36))
    colours = colours or pair_colours(len(pairs))
    for pair, colour in zip(pairs, colours, strict=True):
        human = _inside(pair.human, image.size, factor)
        draw.rectangle(human, outline=colour, width=line)
        if pair.object is not None:
            obj = _inside(pair.object, image.size, factor)
            _dashed(draw, obj, colour, line)
            ends = [_centre(human), _centre(obj)]
            draw.line(ends, fill="white", width=line + 2)
            draw.line(ends, fill=colour, width=line)
            for x, y in ends:
                r = 3 * unit
                draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline="white", width=unit)
    taken: list[Box] = []
    for pair, colour in zip(pairs, colours, strict=True):
        if pair.labels:
            _label(
                canvas, "\n".join(pair.labels), _inside(pair.human, image.size, factor), colour, font_size, unit, taken
            )
    named: set[tuple[Box, str]] = set()
    for pair, colour in zip(pairs, colours, strict=True):
        if pair.object is not None and pair.name and (pair.object, pair.name) not in named:
            named.add((pair.object, pair.name))
            _label(canvas, pair.name, _inside(pair.object, image.size, factor), colour, font_size, unit, taken)
    return canvas


def enlargement(size: tuple[int, int]) -> int:
    """The factor by which a (width, height) image is enlarged to be drawn on."""
    return max(1, min(-(-READABLE_SIDE // min(size)), LONGEST_SIDE // max(size)))


def _label(
    canvas: Image.Image, text: str, human: Box, colour: Colour, font_size: int, unit: int, taken: list[Box]
) -> None:
    """Above the person's box, inside where there is no room above, beside nobody else's label."""
    label = _label_image(text, colour, font_size, unit)
    width, height = label.size
    room = canvas.size
    x = max(0.0, min(human[0], room[0] - width))
    wanted = human[1] - height if human[1] >= height else human[1]
    wanted = max(0.0, min(wanted, room[1] - height))
    beside = [t for t in taken if x < t[2] and t[0] < x + width]
    y = _free_height(wanted, height, beside, room[1])
    taken.append((x, y, x + width, y + height))
    canvas.paste(label, (round(x), round(y)))


@lru_cache(maxsize=512)  # the labels of a film are the same from frame to frame, and text is slow to draw
def _label_image(text: str, colour: Colour, font_size: int, unit: int) -> Image.Image:
    """Text on the colour of its pair."""
    font = ImageFont.load_default(size=font_size)
    left, top, right, bottom = _MEASURING.multiline_textbbox((0, 0), text, font=font, spacing=unit)
    label = Image.new("RGB", (math.ceil(right - left) + 4 * unit, math.ceil(bottom - top) + 4 * unit), colour)
    dark = sum(c * w for c, w in zip(colour, (0.299, 0.587, 0.114), strict=True)) < 140
    fill = "white" if dark else "black"
    ImageDraw.Draw(label).multiline_text((2 * unit - left, 2 * unit - top), text, font=font, fill=fill, spacing=unit)
    return label


_MEASURING = ImageDraw.Draw(Image.new("RGB", (1, 1)))


def _free_height(wanted: float, height: float, taken: Sequence[Box], limit: int) -> float:
    """The next free place for a label below, else above, else where it was wanted."""
    for downwards in (True, False):
        y = wanted
        while 0 <= y <= limit - height:
            clash = next((t for t in taken if y < t[3] and t[1] < y + height), None)
            if clash is None:
                return y
            y = clash[3] + 1 if downwards else clash[1] - height - 1
    return wanted


def _dashed(draw: ImageDraw.ImageDraw, box: Box, colour: Colour, width: int) -> None:
    """A dashed rectangle, so that an object's box is told from a person's."""
    x0, y0, x1, y1 = box
    step = 5 * width
    for (ax, ay), (bx, by) in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))):
        length = float(np.hypot(bx - ax, by - ay))
        for start in np.arange(0, length, step):
            end = min(start + 0.6 * step, length)
            a, b = start / length, end / length
            draw.line(
                [(ax + a * (bx - ax), ay + a * (by - ay)), (ax + b * (bx - ax), ay + b * (by - ay))], colour, width
            )


def _inside(box: Sequence[float], size: tuple[int, int], factor: int) -> Box:
    """A box of the (width, height) image in pixels of its enlarged drawing."""
    width, height = size[0] * factor, size[1] * factor
    x0, x1 = sorted(min(max(float(x) * factor, 0.0), width - 1.0) for x in (box[0], box[2]))
    y0, y1 = sorted(min(max(float(y) * factor, 0.0), height - 1.0) for y in (box[1], box[3]))
    return x0, y0, x1, y1


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
