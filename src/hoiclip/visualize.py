"""Pictures for people: boxes, the link between them, and what is going on."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections
from hoiclip.vocabulary import NOTHING, HoiVocabulary

Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]


class DrawnPair(NamedTuple):
    """One person and one object (None where there is none), xyxy pixels, and what is said of them."""

    human: Box
    object: Box | None
    labels: list[str]


def draw_triplets(image: Image.Image, detections: Detections, *, max_labels: int = 3) -> Image.Image:
    """A copy with one colour per pair: both boxes, a link, and its best interactions by name.

    Args:
        image: the picture the detections belong to.
        detections: boxes xyxy in pixels of ``image``.
        max_labels: interactions named per pair.
    """
    pairs: dict[tuple[float, ...], DrawnPair] = {}
    for triplet, score in zip(detections, detections.certainty, strict=True):
        object_box = None if triplet.object == NOTHING else triplet.object_box
        key = tuple(round(x) for x in (*triplet.human_box, *(object_box or ())))
        pair = pairs.setdefault(key, DrawnPair(triplet.human_box, object_box, []))
        if len(pair.labels) < max_labels:
            pair.labels.append(f"{triplet.name} {score:.2f}")
    return draw_pairs(image, list(pairs.values()))


def draw_annotations(image: Image.Image, annotated: AnnotatedImage, vocabulary: HoiVocabulary) -> Image.Image:
    """A copy with what the annotators saw, drawn as :func:`draw_triplets` draws predictions."""
    pairs: dict[tuple[int, int], DrawnPair] = {}
    verbs = annotated.verbs(vocabulary)
    for (human, obj), hoi, verb in zip(annotated.pairs.tolist(), annotated.hoi_ids, verbs, strict=True):
        object_box = tuple(annotated.boxes[obj]) if obj >= 0 else None
        pair = pairs.setdefault((human, obj), DrawnPair(tuple(annotated.boxes[human]), object_box, []))
        known = hoi >= 0  # V-COCO files label pairs that are no interaction of the vocabulary
        pair.labels.append(vocabulary.interaction_name(hoi) if known else vocabulary.verbs[verb].replace("_", " "))
    return draw_pairs(image, list(pairs.values()))


def pair_colours(count: int) -> list[Colour]:
    """Colours far apart from one another, the same ones every time."""
    hues = [(0.03 + i * 0.618034) % 1.0 for i in range(count)]
    return [tuple(int(255 * c) for c in colorsys.hsv_to_rgb(h, 0.85, 0.95)) for h in hues]  # type: ignore[misc]


def draw_pairs(image: Image.Image, pairs: Sequence[DrawnPair], colours: Sequence[Colour] | None = None) -> Image.Image:
    """Boxes and links first, then labels above everything, none over another where there is room."""
    canvas = image.convert("RGB").copy()
    draw = ImageDraw.Draw(canvas)
    unit = max(1, round(min(canvas.size) / 260))
    font = ImageFont.load_default(size=max(10, round(min(canvas.size) / 36)))
    colours = colours or pair_colours(len(pairs))
    for pair, colour in zip(pairs, colours, strict=True):
        human = _inside(pair.human, canvas.size)
        draw.rectangle(human, outline=colour, width=2 * unit)
        if pair.object is not None:
            obj = _inside(pair.object, canvas.size)
            _dashed(draw, obj, colour, 2 * unit)
            ends = [_centre(human), _centre(obj)]
            draw.line(ends, fill="white", width=2 * unit + 2)
            draw.line(ends, fill=colour, width=2 * unit)
            for x, y in ends:
                r = 3 * unit
                draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline="white", width=unit)
    taken: list[tuple[float, ...]] = []
    for pair, colour in zip(pairs, colours, strict=True):
        if pair.labels:
            _label(draw, pair, colour, font, unit, canvas.size, taken)
    return canvas


def _label(
    draw: ImageDraw.ImageDraw,
    pair: DrawnPair,
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    unit: int,
    size: tuple[int, int],
    taken: list[tuple[float, ...]],
) -> None:
    text = "\n".join(pair.labels)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, spacing=unit)
    width, height = right - left + 4 * unit, bottom - top + 4 * unit
    human = _inside(pair.human, size)
    x = min(max(0.0, human[0]), max(0.0, size[0] - width))
    y = human[1] - height if human[1] >= height else human[1]
    for _ in range(12):  # step down past labels already there
        spot = (x, y, x + width, y + height)
        clash = next(
            (t for t in taken if spot[0] < t[2] and t[0] < spot[2] and spot[1] < t[3] and t[1] < spot[3]), None
        )
        if clash is None or clash[3] + height > size[1]:
            break
        y = clash[3] + 1
    y = min(y, max(0.0, size[1] - height))
    taken.append((x, y, x + width, y + height))
    dark = sum(c * w for c, w in zip(colour, (0.299, 0.587, 0.114), strict=True)) < 140
    draw.rectangle(taken[-1], fill=colour)
    draw.multiline_text(
        (x + 2 * unit - left, y + 2 * unit - top), text, font=font, fill="white" if dark else "black", spacing=unit
    )


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


def _inside(box: Sequence[float], size: tuple[int, int]) -> Box:
    width, height = size
    x0, x1 = sorted(min(max(float(x), 0.0), width - 1.0) for x in (box[0], box[2]))
    y0, y1 = sorted(min(max(float(y), 0.0), height - 1.0) for y in (box[1], box[3]))
    return x0, y0, x1, y1


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
