"""``hoiclip demo``: the shipped model looks at scenes it has never seen, and is judged on them.

hoiclip demo --out hoiclip-demo
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections
from hoiclip.detector import DetectionLog, HoiDetector, load
from hoiclip.evaluation import HicoDetEvaluator
from hoiclip.files import replacing
from hoiclip.judging import EvaluationSet, detect_samples
from hoiclip.playground.dataset import PlaygroundDataset
from hoiclip.postprocessing import box_iou
from hoiclip.visualize import DrawnPair, draw_pairs
from hoiclip.vocabulary import HoiVocabulary

SEED, SCENES, SHOWN = 20_000, 300, 12
THRESHOLD = 0.4  # least probability of an interaction on the sheet
RIGHT, WRONG, MISSED, TRUTH = (18, 130, 60), (205, 38, 38), (120, 120, 120), (40, 90, 200)
PICTURE, GAP, LINE, COLUMNS = 216, 10, 15, 3


def show(out: Path, model: str | None = None, scenes: int = SCENES, seed: int = SEED) -> int:
    """Draw scenes, detect, write a contact sheet and every triplet, print the figures.

    Args:
        out: folder for ``demo.png`` and ``detections.jsonl``.
        model: folder or hub id of a model; None for the one that is shipped.
        scenes: how many test scenes are judged; the first twelve are shown.
        seed: of the scenes; training never drew from the test split, whatever the seed.
    """
    detector = load(model)
    world = PlaygroundDataset(seed, scenes, "test", detector.vocabulary)
    words, annotations = world.vocabulary, [world.annotation(i) for i in range(scenes)]
    judge = HicoDetEvaluator(annotations, words)
    log = DetectionLog(out / "detections.jsonl")
    began = time.monotonic()
    top_k = detector.processor.zero_shot_top_k
    data = EvaluationSet(world, annotations, detector.processor, batch_size=32, zero_shot_top_k=top_k)
    for file_name, found in detect_samples(detector.backend, data):
        judge.add(file_name, found)
        log.add(file_name, found[_certain(found) >= THRESHOLD])
    seconds = time.monotonic() - began
    with replacing(out / "demo.png") as temporary:
        contact_sheet(detector, world, range(min(SHOWN, scenes))).save(temporary)
    means = judge.result().means()
    names = {"full": "all", "rare": "rare", "unseen": "unseen"}
    counts = {"full": words.num_interactions, "rare": len(words.rare), "unseen": len(words.unseen)}
    print(f"{scenes} scenes drawn, looked at and judged in {seconds:.0f} s. Mean average precision:")
    for key, name in names.items():
        if not math.isnan(means.get(key, math.nan)):
            print(f"  {name:<7}{100 * means[key]:5.1f} %   ({counts[key]} interactions{EXPLAINED[key]})")
    print(f"look at {out / 'demo.png'}; every triplet stands in {log.path}")
    print("next: hoiclip train playground            # train this model yourself")
    print("      hoiclip convert hoiclip FILE.pth --out model/    # a published checkpoint, for photographs")
    return 0


EXPLAINED = {"full": "", "rare": ", at most six examples in training", "unseen": ", none in training: CLIP knows them"}


# --- the sheet -------------------------------------------------------------------------------------


def contact_sheet(detector: HoiDetector, world: PlaygroundDataset, which: Sequence[int]) -> Image.Image:
    """Truth beside prediction for some scenes; green is right, red wrong, grey was missed."""
    cells = [_cell(detector, *world[index], world.vocabulary) for index in which]
    width = COLUMNS * (2 * PICTURE + 3 * GAP) + GAP
    lines = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    heights = [max(cell.height for cell in line) + GAP for line in lines]
    sheet = Image.new("RGB", (width, 44 + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    title = "left: what was drawn    right: what was found    "
    x = 2 * GAP
    for text, colour in ((title, "black"), ("right  ", RIGHT), ("wrong  ", WRONG), ("missed  ", MISSED)):
        draw.text((x, 12), text, fill=colour, font=_font(17))
        x += int(draw.textlength(text, font=_font(17)))
    draw.text((x, 12), "   * never shown in training", fill="black", font=_font(17))
    y = 44
    for line, height in zip(lines, heights, strict=True):
        for column, cell in enumerate(line):
            sheet.paste(cell, (GAP + column * (2 * PICTURE + 3 * GAP), y))
        y += height
    return sheet


def _cell(detector: HoiDetector, image: Image.Image, truth: AnnotatedImage, words: HoiVocabulary) -> Image.Image:
    found = detector(image, threshold=THRESHOLD, top_k=8, zero_shot_top_k=detector.processor.zero_shot_top_k)
    matches = match(found, truth)
    right = {row for row in matches if row >= 0}
    told = [
        (f"{t.name}{_star(hoi, words)} {p:.2f}", RIGHT if row >= 0 else WRONG)
        for t, hoi, p, row in zip(found, found.hoi_ids.tolist(), _certain(found), matches, strict=True)
    ]
    drawn = [
        (f"{words.interaction_name(hoi)}{_star(hoi, words)}", TRUTH if row in right else MISSED)
        for row, hoi in enumerate(truth.hoi_ids.tolist())
    ]
    boxes = truth.boxes.tolist()
    left = _picture(image, [DrawnPair(tuple(boxes[h]), tuple(boxes[o]), []) for h, o in truth.pairs.tolist()], [TRUTH])
    pairs: dict[tuple[int, ...], tuple[DrawnPair, tuple[int, int, int]]] = {}
    for triplet, row in zip(found, matches, strict=True):
        key = tuple(round(x) for x in (*triplet.human_box, *triplet.object_box))
        if key not in pairs or row >= 0:
            pairs[key] = DrawnPair(triplet.human_box, triplet.object_box, []), RIGHT if row >= 0 else WRONG
    seen = sorted(pairs.values(), key=lambda pair: pair[1] == RIGHT)  # right ones on top
    right_side = _picture(image, [pair for pair, _ in seen], [colour for _, colour in seen])
    rows = max(len(told), len(drawn), 1)
    cell = Image.new("RGB", (2 * PICTURE + GAP, PICTURE + 6 + rows * LINE), "white")
    cell.paste(left, (0, 0))
    cell.paste(right_side, (PICTURE + GAP, 0))
    draw = ImageDraw.Draw(cell)
    for x, texts in ((0, drawn), (PICTURE + GAP, told)):
        for i, (text, colour) in enumerate(texts):
            draw.text((x + 2, PICTURE + 3 + i * LINE), text, fill=colour, font=_font(13))
    return cell


def match(found: Detections, truth: AnnotatedImage) -> list[int]:
    """For each triplet, best first, the row of ``truth`` it finds, or -1: same interaction, both IoU over 0.5."""
    free = list(range(len(truth.hoi_ids)))
    rows = []
    for human, thing, hoi in zip(found.human_boxes, found.object_boxes, found.hoi_ids, strict=True):
        best, overlap = -1, 0.5
        for row in free:
            if truth.hoi_ids[row] == hoi:
                h, o = truth.pairs[row]
                shared = float(min(box_iou(human, truth.boxes[h]), box_iou(thing, truth.boxes[o])))
                if shared > overlap:
                    best, overlap = row, shared
        if best >= 0:
            free.remove(best)
        rows.append(best)
    return rows


def _picture(image: Image.Image, pairs: Sequence[DrawnPair], colours: Sequence[tuple[int, int, int]]) -> Image.Image:
    colours = list(colours) * (len(pairs) if len(colours) == 1 else 1)
    return draw_pairs(image, pairs, colours[: len(pairs)]).resize((PICTURE, PICTURE), Image.Resampling.LANCZOS)


def _certain(found: Detections) -> np.ndarray:
    assert found.interaction_scores is not None
    return found.interaction_scores


def _star(hoi: int, words: HoiVocabulary) -> str:
    return "*" if hoi in words.unseen else ""


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
