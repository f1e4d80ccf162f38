"""How long evaluation takes, per protocol, beside a plain loop over detections.

    OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/evaluation.py                # 9,658 + 2,633 images if at hand
    OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/evaluation.py --images 1000  # to check that time is linear

Prints one Markdown table: CPU seconds per 1,000 images, without the time to make the predictions;
the same for a straightforward Python loop, timed in the same run on a subset; their ratio; and how
far memory rose above what annotations and one batch of predictions take (HICO-DET: with ranking and
all three evaluators at once).  Without the full
reference data beside the repository it uses the 303 images and the synthetic V-COCO in tests/.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.vcoco_ground_truth import ACTIONS, VcocoImage, load_vcoco_ground_truth
from hoiclip.detections import Detections
from hoiclip.evaluation import HicoDetEvaluator, VcocoEvaluator, evaluate_vcoco_pairwise, rank_verbs
from hoiclip.postprocessing import rank_batch
from hoiclip.vocabulary import HoiVocabulary

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "eval"
SHARED = ROOT / ".." / "shared" / "facts"
sys.path.insert(0, str(GOLDEN))

import partial_vcoco  # noqa: E402
import predictions  # noqa: E402
import synth_vcoco  # noqa: E402

BATCH = 8
LOOP_IMAGES = 60  # enough for the plain loop

Row = tuple[str, int, float, float, float]  # name, images, our s/1000, loop s/1000, MB


class Clock:
    """Adds up CPU seconds of the parts under ``with``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Clock:
        self.start = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self.start


def timed(call: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    with Clock() as clock:
        call()
    return clock.seconds


def memory() -> float:
    """Greatest resident memory so far in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- HICO-DET --------------------------------------------------------------------------------------


def hico_rows(limit: int | None) -> list[Row]:
    """Ranking with NMS and the three ways to evaluate, on the HICO-DET test images."""
    source = predictions.Hico(SHARED if (SHARED / "hico_test_hoia.json.gz").exists() else GOLDEN / "facts")
    count = min(len(source), limit or len(source))
    vocabulary = HoiVocabulary.from_name("hico")
    annotations = [annotated(image, source.coco91_to_80) for image in source.images[:count]]
    names = [a.file_name for a in annotations]
    evaluators = {
        "HICO-DET, the authors' evaluator": HicoDetEvaluator(annotations, vocabulary),
        "HICO-DET official, Default": HicoDetEvaluator(annotations, vocabulary, protocol="official"),
        "HICO-DET official, Known-Object": HicoDetEvaluator(
            annotations, vocabulary, protocol="official", setting="known_object"
        ),
    }
    clocks = {name: Clock() for name in evaluators}
    ranking, loop_ranking, loop_found = Clock(), Clock(), {}
    before = 0.0
    for start in range(0, count, BATCH):
        made = [predictions.predict(source, i, 1) for i in range(start, min(start + BATCH, count))]
        arrays = [np.stack([m[k] for m in made]) for k in ("boxes_h", "boxes_o", "obj_scores", "hoi_scores")]
        if start == 0:
            rank_batch(*arrays, vocabulary)  # warm
            before = memory()
        with ranking:
            found = rank_batch(*arrays, vocabulary)
        for name, evaluator in evaluators.items():
            with clocks[name]:
                for file_name, detections in zip(names[start:], found, strict=False):
                    evaluator.add(file_name, detections)
        if start < LOOP_IMAGES:
            for i, detections in enumerate(found):
                with loop_ranking:
                    loop_rank(*(a[i] for a in arrays), vocabulary)
                loop_found[names[start + i]] = detections
    for name, evaluator in evaluators.items():
        with clocks[name]:
            evaluator.result()
    rise = memory() - before

    subset = annotations[: len(loop_found)]
    loop = min(timed(lambda: loop_evaluate(loop_found, subset, vocabulary.num_interactions)) for _ in range(3))
    loop *= 1000 / len(subset)
    rows: list[Row] = [
        (
            "ranking, top 100 and NMS",
            count,
            ranking.seconds / count * 1000,
            loop_ranking.seconds / len(subset) * 1000,
            rise,
        )
    ]
    return rows + [(name, count, clock.seconds / count * 1000, loop, rise) for name, clock in clocks.items()]


def annotated(image: dict[str, Any], category_to_object: dict[int, int]) -> AnnotatedImage:
    """One entry of a HOIA file."""
    return AnnotatedImage(
        image["file_name"],
        np.array([a["bbox"] for a in image["annotations"]]),
        np.array([category_to_object[a["category_id"]] for a in image["annotations"]]),
        np.array([[h["subject_id"], h["object_id"]] for h in image["hoi_annotation"]]),
        np.array([h["hoi_category_id"] - 1 for h in image["hoi_annotation"]]),
    )


# --- V-COCO ----------------------------------------------------------------------------------------


def vcoco_rows(limit: int | None) -> list[Row]:
    """The official program (both scenarios and agents) and the pairwise evaluator."""
    if (SHARED / "vcoco_val.json.gz").exists() and limit is None:
        coco, vcoco, hoia = partial_vcoco.build(SHARED)
    else:
        coco, vcoco, hoia = synth_vcoco.load(GOLDEN / "vcoco_synth")
    truth = load_vcoco_ground_truth(vcoco, coco)
    records = synth_vcoco.official_detections(coco, vcoco, 1)
    before = memory()

    def official() -> None:
        evaluator = VcocoEvaluator(truth)
        evaluator.add_records(records)
        evaluator.result(1), evaluator.result(2)

    seconds = timed(official) / len(truth) * 1000
    rise = memory() - before
    few = truth[:LOOP_IMAGES]
    own = [r for r in records if r["image_id"] in {t.image_id for t in few}]
    loop = timed(lambda: loop_vcoco(own, few)) / len(few) * 1000
    rows: list[Row] = [("V-COCO official, both scenarios and agents", len(truth), seconds, loop, rise)]

    vocabulary = HoiVocabulary.from_name("vcoco")
    pairs = [list(pair) for pair in vocabulary.interactions]
    found: dict[str, Detections] = {}
    clock, before = Clock(), memory()
    for i, entry in enumerate(hoia):
        p = synth_vcoco.hoia_predictions(hoia, i, 1, pairs)
        with clock:
            arrays = (p[k] for k in ("boxes_h", "boxes_o", "labels_o", "obj_scores", "hoi_scores"))
            found[entry["file_name"]] = rank_verbs(*arrays, vocabulary)
    with clock:
        evaluate_vcoco_pairwise(found, truth)
    seconds = clock.seconds / len(hoia) * 1000
    return [*rows, ("V-COCO pairwise, ranking included", len(hoia), seconds, float("nan"), memory() - before)]


# --- the plain loops -------------------------------------------------------------------------------


def loop_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes, one number after the other."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    area = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area - width * height)


def loop_rank(
    human: np.ndarray, object_: np.ndarray, objects: np.ndarray, interactions: np.ndarray, vocabulary: HoiVocabulary
) -> list[tuple[float, int, int]]:
    """Fuse and sort all scores of an image, then suppress pair by pair."""
    fused = interactions + objects[:, vocabulary.object_ids] ** 2
    kept: list[tuple[float, int, int]] = []
    for entry in np.argsort(-fused, axis=None, kind="stable")[:100]:
        q, k = divmod(int(entry), fused.shape[1])
        rivals = [p for _, p, c in kept if c == k]
        if all(loop_iou(human[q], human[p]) * loop_iou(object_[q], object_[p]) ** 0.5 <= 0.7 for p in rivals):
            kept.append((float(fused[q, k]), q, k))
    return kept


def loop_evaluate(found: dict[str, Detections], annotations: Sequence[AnnotatedImage], classes: int) -> list[float]:
    """The pairwise protocol, one detection at a time."""
    marks: list[list[tuple[float, bool]]] = [[] for _ in range(classes)]
    totals = [0] * classes
    for image in annotations:
        human, object_ = image.human_boxes, image.object_boxes
        for k in image.hoi_ids:
            totals[k] += 1
        taken = set()
        detections = found[image.file_name]
        for row in range(len(detections)):
            best, choice = 0.0, -1
            for g, k in enumerate(image.hoi_ids):
                if k == detections.hoi_ids[row]:
                    overlap = min(
                        loop_iou(detections.human_boxes[row], human[g]),
                        loop_iou(detections.object_boxes[row], object_[g]),
                    )
                    if overlap >= 0.5 and overlap > best:
                        best, choice = overlap, g
            marks[detections.hoi_ids[row]].append((-float(detections.scores[row]), choice >= 0 and choice not in taken))
            taken.add(choice)
    figures = []
    for k in range(classes):
        hits, points = 0, []
        for rank, (_, hit) in enumerate(sorted(marks[k]), 1):
            hits += hit
            points.append((hits / max(1, totals[k]), hits / rank))
        figures.append(sum(max((p for r, p in points if r >= t * 0.1), default=0.0) for t in range(11)) / 11)
    return figures


def loop_vcoco(records: Sequence[dict[str, Any]], truth: Sequence[VcocoImage]) -> int:
    """True positives of the official V-COCO protocol: one record, action, role and scenario at a time."""
    images = {image.image_id: image for image in truth}
    hits = 0
    for scenario in (1, 2):
        for a, action in enumerate(ACTIONS):
            for role in range(-1, len(action.roles)):
                key = f"{action.name}_agent" if role < 0 else action.verbs[role]
                scored = [(record[key] if role < 0 else record[key][4], record) for record in records]
                taken = set()
                for _, record in sorted((pair for pair in scored if pair[0] == pair[0]), key=lambda pair: -pair[0]):
                    image = images[record["image_id"]]
                    boxes, kept = image.official_boxes()
                    people = [i for i in range(len(boxes)) if kept[i] and image.object_ids[i] == 0]
                    overlap, person = max((loop_iou(record["person_box"], boxes[i]), -i) for i in people)
                    place = next((p for p, row in enumerate(image.people) if row == -person), None)
                    if place is None or overlap < 0.5 or not image.actions[place, a]:
                        continue
                    if (image.image_id, place) in taken:
                        continue
                    if role >= 0:
                        row, box = image.role_objects[place, a, role], record[key][:4]
                        nothing = not any(box) or box[0] != box[0]
                        if row < 0 and scenario == 1 and not nothing:
                            continue
                        if row >= 0 and (nothing or loop_iou(box, boxes[row]) < 0.5):
                            continue
                    taken.add((image.image_id, place))
                    hits += 1
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="only the first N HICO-DET images and the synthetic V-COCO")
    parser.add_argument("--out", type=Path, help="write the rows as JSON too")
    arguments = parser.parse_args()
    rows = hico_rows(arguments.images) + vcoco_rows(arguments.images)
    print("| protocol | images | s per 1,000 images | plain loop | ratio | memory, MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, images, seconds, loop, rise in rows:
        beside = f"{loop:.2f} | {loop / seconds:.0f} x" if loop == loop else "- | -"
        print(f"| {name} | {images:,} | {seconds:.3f} | {beside} | {rise:.0f} |")
    if arguments.out:
        from hoiclip.files import write_text_atomic

        keys = ("protocol", "images", "seconds_per_1000", "loop_seconds_per_1000", "memory_mb")
        write_text_atomic(
            arguments.out, json.dumps({"rows": [dict(zip(keys, row, strict=True)) for row in rows]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
