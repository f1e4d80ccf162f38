"""``hoiclip demo``: the shipped model detects in scenes it has never seen, and is evaluated on them."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.cli.arguments import hub_arguments, positive_int, quiet_libraries

if TYPE_CHECKING:
    from PIL import Image

    from hoiclip.data.annotations import AnnotatedImage
    from hoiclip.detections import Detections
    from hoiclip.visualization.contact_sheet import SceneCell

SEED, SCENES, SHOWN = 20_000, 300, 12
THRESHOLD = 0.4  # least probability of an interaction on the sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--out", type=Path, default=Path("hoiclip-demo"), help="folder for the picture")
    parser.add_argument("--model", metavar="DIR|ID", help="a model of the playground (default: the shipped one)")
    hub_arguments(parser)
    parser.add_argument("--scenes", type=positive_int, default=SCENES, help=f"how many (default {SCENES})")


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    quiet_libraries()
    show(args.out, args.model, args.scenes, revision=args.revision, token=args.token)
    return 0


def show(
    out: Path,
    model: str | None = None,
    scenes: int = SCENES,
    seed: int = SEED,
    *,
    revision: str | None = None,
    token: str | None = None,
) -> None:
    """Draw scenes, detect, write a contact sheet and every triplet, print the metrics.

    Args:
        out: folder for ``demo.png`` and ``detections.jsonl``.
        model: folder or hub id of a model; None for the one that is shipped.
        scenes: how many test scenes are evaluated; the first twelve are shown.
        seed: of the scenes; training never drew from the test split, whatever the seed.
        revision, token: of a hub id.
    """
    from hoiclip.detection_files import DetectionWriter
    from hoiclip.evaluation import HicoDetEvaluator
    from hoiclip.evaluation.runner import EvaluationSet, detect_samples
    from hoiclip.files import atomic_path
    from hoiclip.inference.loading import load
    from hoiclip.playground.dataset import PlaygroundDataset
    from hoiclip.visualization.contact_sheet import draw_contact_sheet

    detector = load(model, revision=revision, token=token)
    world = PlaygroundDataset(seed, scenes, "test", detector.vocabulary)
    vocabulary, annotations = world.vocabulary, [world.annotation(i) for i in range(scenes)]
    evaluator = HicoDetEvaluator(annotations, vocabulary)
    writer = DetectionWriter(out / "detections.jsonl")
    began = time.monotonic()
    top_k = detector.processor.zero_shot_top_k
    data = EvaluationSet(world, annotations, detector.processor, batch_size=32, zero_shot_top_k=top_k)
    for file_name, detections in detect_samples(detector.backend, data):
        evaluator.add(file_name, detections)
        writer.add(file_name, detections[detections.confidence >= THRESHOLD])
    seconds = time.monotonic() - began
    cells = []
    for index in range(min(SHOWN, scenes)):
        image, target = world[index]
        predicted = detector(image, threshold=THRESHOLD, top_k=8, zero_shot_top_k=top_k)
        cells.append(scene_cell(image, target, predicted))
    with atomic_path(out / "demo.png") as temporary:
        draw_contact_sheet(cells, "* never shown in training").save(temporary)
    means = evaluator.result().means()
    print(f"{scenes} scenes drawn, detected in and evaluated in {seconds:.0f} s. Mean average precision:")
    for name, title, count, explained in (
        ("full", "all", vocabulary.num_interactions, ""),
        ("rare", "rare", len(vocabulary.rare), ", at most six examples in training"),
        ("unseen", "unseen", len(vocabulary.unseen), ", none in training: CLIP knows them"),
    ):
        if not math.isnan(means.get(name, math.nan)):
            print(f"  {title:<7}{100 * means[name]:5.1f} %   ({count} interactions{explained})")
    print(f"look at {out / 'demo.png'}; every triplet stands in {writer.path}")
    print("next: hoiclip detect photo.jpg --model training-free    # a photograph, without HOI weights")
    print("      hoiclip models                                    # published weights by name")
    print("      hoiclip train playground                          # train this model yourself")


def scene_cell(image: Image.Image, target: AnnotatedImage, predicted: Detections) -> SceneCell:
    """Targets and predictions of one scene: green is correct, red wrong, grey was missed."""
    from hoiclip.visualization.contact_sheet import CORRECT, MISSED, TARGET, WRONG, SceneCell
    from hoiclip.visualization.pairs import DrawnPair

    vocabulary, rows = predicted.vocabulary, match(predicted, target)

    def name(hoi: int) -> str:
        return vocabulary.interaction_name(hoi) + ("*" if hoi in vocabulary.unseen else "")

    pairs = {}
    for triplet, row in zip(predicted, rows, strict=True):
        key = tuple(round(x) for x in (*triplet.human_box, *triplet.object_box))
        if key not in pairs or row >= 0:
            pairs[key] = DrawnPair(triplet.human_box, triplet.object_box, []), CORRECT if row >= 0 else WRONG
    boxes = target.boxes.tolist()
    return SceneCell(
        image,
        targets=[(DrawnPair(tuple(boxes[h]), tuple(boxes[o]), []), TARGET) for h, o in target.pairs.tolist()],
        predictions=sorted(pairs.values(), key=lambda pair: pair[1] == CORRECT),  # correct ones on top
        target_lines=[
            (name(hoi), TARGET if row in rows else MISSED) for row, hoi in enumerate(target.hoi_ids.tolist())
        ],
        prediction_lines=[
            (f"{name(hoi)} {p:.2f}", CORRECT if row >= 0 else WRONG)
            for hoi, p, row in zip(predicted.hoi_ids.tolist(), predicted.confidence, rows, strict=True)
        ],
    )


def match(predicted: Detections, target: AnnotatedImage) -> list[int]:
    """For each triplet, best first, the row of ``target`` it finds, or -1: same interaction, both IoU over 0.5."""
    from hoiclip.boxes import box_iou

    free = list(range(len(target.hoi_ids)))
    rows = []
    for human, thing, hoi in zip(predicted.human_boxes, predicted.object_boxes, predicted.hoi_ids, strict=True):
        best, overlap = -1, 0.5
        for row in free:
            if target.hoi_ids[row] == hoi:
                h, o = target.pairs[row]
                shared = float(min(box_iou(human, target.boxes[h]), box_iou(thing, target.boxes[o])))
                if shared > overlap:
                    best, overlap = row, shared
        if best >= 0:
            free.remove(best)
        rows.append(best)
    return rows
