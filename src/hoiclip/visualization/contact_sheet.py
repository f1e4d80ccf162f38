"""Several images on one sheet: targets beside predictions, or any drawings with a line below each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from hoiclip.visualization.pairs import Colour, DrawnPair, draw_pairs

CORRECT, WRONG, MISSED, TARGET = (18, 130, 60), (205, 38, 38), (120, 120, 120), (40, 90, 200)
SIDE, GAP, LINE, COLUMNS, HEADER = 216, 10, 15, 3, 44  # pixels; scenes in a row


@dataclass(frozen=True)
class SceneCell:
    """One scene: what was drawn on the left, what was predicted on the right.

    Attributes:
        image: the scene.
        targets, predictions: pairs with their colour; the last are drawn on top.
        target_lines, prediction_lines: text below each, with its colour.
    """

    image: Image.Image
    targets: Sequence[tuple[DrawnPair, Colour]]
    predictions: Sequence[tuple[DrawnPair, Colour]]
    target_lines: Sequence[tuple[str, Colour]]
    prediction_lines: Sequence[tuple[str, Colour]]


def draw_contact_sheet(cells: Sequence[SceneCell], note: str = "") -> Image.Image:
    """All cells in rows of three under a legend.

    Args:
        cells: in reading order.
        note: a few words at the end of the legend.
    """
    drawn = [_draw_cell(cell) for cell in cells]
    rows = [drawn[start : start + COLUMNS] for start in range(0, len(drawn), COLUMNS)]
    heights = [max(cell.height for cell in row) + GAP for row in rows]
    column = 2 * SIDE + 3 * GAP
    sheet = Image.new("RGB", (COLUMNS * column + GAP, HEADER + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    x = 2 * GAP
    legend = (
        ("left: what was drawn    right: what was found    ", (0, 0, 0)),
        ("correct  ", CORRECT),
        ("wrong  ", WRONG),
        ("missed  ", MISSED),
        (f"   {note}", (0, 0, 0)),
    )
    for text, colour in legend:
        draw.text((x, 12), text, fill=colour, font=_font(17))
        x += int(draw.textlength(text, font=_font(17)))
    y = HEADER
    for row, height in zip(rows, heights, strict=True):
        for i, cell in enumerate(row):
            sheet.paste(cell, (GAP + i * column, y))
        y += height
    return sheet


def draw_grid(images: Sequence[tuple[Image.Image, str]], columns: int = 4, side: int = 320) -> Image.Image:
    """Images in rows, each with its text below, none distorted.

    Args:
        images: at least one, in reading order.
        columns: images in a row, at most.
        side: of the square that an image is fitted into, pixels.
    """
    columns = min(columns, len(images))
    scaled = []
    for image, text in images:
        scale = side / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        scaled.append((image.resize(size, Image.Resampling.LANCZOS), text))
    rows = [scaled[start : start + columns] for start in range(0, len(scaled), columns)]
    heights = [max(image.height for image, _ in row) + LINE + GAP for row in rows]
    sheet = Image.new("RGB", (columns * (side + GAP) + GAP, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    y = GAP
    for row, height in zip(rows, heights, strict=True):
        for i, (image, text) in enumerate(row):
            x = GAP + i * (side + GAP)
            sheet.paste(image, (x, y))
            draw.text((x + 2, y + image.height + 2), text, fill=(0, 0, 0), font=_font(13))
        y += height
    return sheet


def _draw_cell(cell: SceneCell) -> Image.Image:
    lines = max(len(cell.target_lines), len(cell.prediction_lines), 1)
    canvas = Image.new("RGB", (2 * SIDE + GAP, SIDE + 6 + lines * LINE), "white")
    draw = ImageDraw.Draw(canvas)
    for x, pairs, texts in (
        (0, cell.targets, cell.target_lines),
        (SIDE + GAP, cell.predictions, cell.prediction_lines),
    ):
        drawing = draw_pairs(cell.image, [pair for pair, _ in pairs], [colour for _, colour in pairs])
        canvas.paste(drawing.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, 0))
        for i, (text, colour) in enumerate(texts):
            draw.text((x + 2, SIDE + 3 + i * LINE), text, fill=colour, font=_font(13))
    return canvas


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
