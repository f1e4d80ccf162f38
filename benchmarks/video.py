"""python benchmarks/video.py [--films 40] [--seed 9000] [--strip docs/video.png --strip-film 3]

Films of the playground, frame by frame and steadied: per-frame mAP, blinking, delay of onsets, changed tracks; and the
frames a second of `hoiclip detect` on a video beside those of the model alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import hoiclip
from hoiclip.benchmark.measurement import machine, seconds_of
from hoiclip.benchmark.synthetic import save_seeded_model
from hoiclip.boxes import box_iou
from hoiclip.cli.arguments import streams_for
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections, draw_triplets, first_alike
from hoiclip.evaluation.hicodet import HicoDetEvaluator
from hoiclip.images import save_image
from hoiclip.inference.annotated_video import CANDIDATES, LEAST, detect_video
from hoiclip.inference.tracking import PERSON, Steadier, SteadyDetections, Tracker
from hoiclip.inference.video import VideoReader, VideoWriter
from hoiclip.playground.dataset import SIZE
from hoiclip.playground.film import RATE, Film
from hoiclip.playground.scenes import HIDDEN

SHOWN, THRESHOLD = 10, 0.3
Label = tuple[int, int, int]  # human row, object row, interaction; rows -1 where no true pair is meant
Boxes = tuple[np.ndarray, np.ndarray]


@dataclass
class Count:
    """What one way of showing labels does to all films."""

    pair_seconds: float = 0.0
    changes: int = 0
    true_changes: int = 0
    onsets: int = 0
    delays: dict[tuple[str, Label], int] = field(default_factory=dict)  # by the frame and the label that begins
    switches: int = 0

    def row(self) -> str:
        late = np.array(list(self.delays.values()))
        blinks = (self.changes - self.true_changes) / self.pair_seconds
        return (
            f"{blinks:.3f} | {late.mean():.2f} | {np.median(late):.0f} | {np.quantile(late, 0.9):.0f} | "
            f"{len(late)} of {self.onsets} | {self.switches}"
        )


def labels(shown: Detections, truth: AnnotatedImage) -> Counter[Label]:
    """Each shown triplet as a label of the true pair it lies on.

    IoU of both boxes and the object's class choose the pair; a quarter is enough, because here it matters on what a
    label stands, and mAP judges how well the boxes fit.
    """
    found: Counter[Label] = Counter()
    pairs = np.unique(truth.pairs, axis=0)
    for i in range(len(shown)):
        human = box_iou(shown.human_boxes[i].astype(float), truth.boxes[pairs[:, 0]])
        thing = box_iou(shown.object_boxes[i].astype(float), truth.boxes[pairs[:, 1]])
        overlap = np.minimum(human, thing)
        overlap[truth.object_ids[pairs[:, 1]] != shown.object_ids[i]] = 0
        best = int(overlap.argmax())
        rows = tuple(pairs[best].tolist()) if overlap[best] >= 0.25 else (-1, -1)
        label = (*rows, int(shown.hoi_ids[i]))
        if rows == (-1, -1) or not found[label]:  # a pair has a label once
            found[label] += 1
    return found


def hidden(truth: AnnotatedImage, pair: tuple[int, int]) -> bool:
    """Whether nearer groups cover more of a box than the playground allows in a scene; later rows are nearer."""
    nearer = truth.boxes[max(pair) + 1 :]
    for box in truth.boxes[list(pair)]:
        sides = np.minimum(box[2:], nearer[:, 2:]) - np.maximum(box[:2], nearer[:, :2])
        if np.maximum(sides, 0).prod(axis=1).sum() > HIDDEN * (box[2:] - box[:2]).prod():
            return True
    return False


def add_labels(count: Count, shown: Sequence[Detections], truths: Sequence[AnnotatedImage]) -> None:
    """Count changes, true changes and delays of one film."""
    seen = [labels(d, t) for d, t in zip(shown, truths, strict=True)]
    true = [{(h, o, k) for (h, o), k in zip(t.pairs.tolist(), t.hoi_ids.tolist(), strict=True)} for t in truths]
    count.pair_seconds += len({key[:2] for key in true[0]}) * len(truths) / RATE
    for a, b in pairwise(seen):
        count.changes += sum(abs(a[key] - b[key]) for key in a.keys() | b.keys())
    for t, (old, new) in enumerate(pairwise(true), start=1):
        count.true_changes += len(old ^ new)
        for key in new - old:
            if hidden(truths[t], key[:2]):
                continue
            count.onsets += 1
            end = next((u for u in range(t, len(true)) if key not in true[u]), len(true))
            first = next((u for u in range(t, end) if seen[u][key]), None)
            if first is not None:
                count.delays[truths[t].file_name, key] = first - t


def switches(tracks: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], truths: Sequence[AnnotatedImage]) -> int:
    """How often the number of a true person or thing changes: boxes, kinds and numbers of each frame."""
    last: dict[int, int] = {}
    changes = 0
    people = [{int(h) for h, _ in t.pairs} for t in truths]
    for (boxes, kinds, numbers), truth, acting in zip(tracks, truths, people, strict=True):
        for row, box in enumerate(truth.boxes):
            kind = PERSON if row in acting else truth.object_ids[row]
            fit = np.where(kinds == kind, box_iou(boxes.astype(float), box), 0.0) if len(boxes) else np.zeros(1)
            if fit.max() >= 0.5:
                number = int(numbers[fit.argmax()])
                changes += last.get(row, number) != number
                last[row] = number
    return changes


def instances(found: Detections, human: Any = None, thing: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, kinds and, where given, track numbers of all people and things in a frame, each once."""
    people = np.unique(first_alike(found.human_boxes, np.zeros(len(found), dtype=np.int64)))
    things = np.unique(first_alike(found.object_boxes, found.object_ids))
    if human is not None:  # tracks say themselves what is one thing
        people, things = (np.unique(numbers, return_index=True)[1] for numbers in (human, thing))
    boxes = np.concatenate([found.human_boxes[people], found.object_boxes[things]])
    kinds = np.concatenate([np.full(len(people), PERSON), found.object_ids[things]])
    numbers = np.zeros(len(boxes)) if human is None else np.concatenate([human[people], thing[things]])
    return boxes, kinds, numbers


def detect_films(detector: Any, seed: int, films: int, frames: int) -> list[list[tuple[Detections, AnnotatedImage]]]:
    """All candidates and the truth of each frame of each film."""
    return [
        [(detector(image, top_k=100, threshold=0.0), truth) for image, truth in Film(seed, index, frames)]
        for index in range(films)
    ]


def compare(detected: list[list[tuple[Detections, AnnotatedImage]]], **options: Any) -> list[str]:
    """Rows of the table: frame by frame, and steadied."""
    vocabulary = detected[0][0][0].vocabulary
    truths = [truth for film in detected for _, truth in film]
    counts = {"frame by frame": Count(), "steadied": Count()}
    means = {name: [HicoDetEvaluator(truths, vocabulary) for _ in range(2)] for name in counts}
    for film in detected:
        of_film = [truth for _, truth in film]
        steadier, tracker = Steadier(THRESHOLD, **options), Tracker(patience=0)
        steady: list[SteadyDetections] = list(
            steadier.all_of(found[found.confidence >= LEAST][:CANDIDATES] for found, _ in film)  # as detect_video does
        )
        plain = [found[found.confidence >= THRESHOLD][:SHOWN] for found, _ in film]
        shown = [frame.shown(SHOWN).detections for frame in steady]
        add_labels(counts["frame by frame"], plain, of_film)
        add_labels(counts["steadied"], shown, of_film)
        followed = []
        for found, _ in film:
            boxes, kinds, _ = instances(found[found.confidence >= steadier.off])
            followed.append((boxes, kinds, tracker.update(boxes, kinds)))
        counts["frame by frame"].switches += switches(followed, of_film)
        numbered = [instances(s.detections, s.human_tracks, s.object_tracks) for s in steady]
        counts["steadied"].switches += switches(numbered, of_film)
        for i, truth in enumerate(of_film):
            for name, all_of, kept in (
                ("frame by frame", film[i][0], plain[i]),
                ("steadied", steady[i].detections[:100], shown[i]),
            ):
                means[name][0].add(truth.file_name, all_of)
                means[name][1].add(truth.file_name, kept)
    rows = []
    for name, count in counts.items():
        ap = " | ".join(f"{100 * evaluator.result().full:.1f}" for evaluator in means[name])
        rows.append(f"| {name} | {ap} | {count.row()} |")
    first, second = (count.delays for count in counts.values())
    both = [second[onset] - first[onset] for onset in first.keys() & second.keys()]
    rows.append(f"onsets shown both ways: {len(both)}, later by {np.mean(both):.2f} frames when steadied")
    return rows


HEAD = (
    "| | mAP of all | mAP of what is shown | blinks per pair and second | onset delay, frames | median "
    "| 9 of 10 within | onsets in sight shown | ID switches |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def forward_pass(detector: Any, image: Image.Image) -> Callable[[], Any]:
    """The model alone on one image."""
    views = detector.preparation.views(image)
    if isinstance(detector, hoiclip.ExportedDetector):
        inputs = {"pixel_values": np.asarray(views[0])[None], "clip_pixel_values": np.asarray(views[1])[None]}
        return lambda: detector.runtime.compute(inputs)
    tensors = detector.processor.together([(views[0], views[1])]).to(detector.device)
    return torch.inference_mode()(lambda: detector.backend(**tensors))


def model_seconds(detector: Any, image: Image.Image, frames: int) -> float:
    """What so many forward passes alone take."""
    times = seconds_of(forward_pass(detector, image), min(30, frames // 2), torch.device(detector.device))[3:]
    return frames * float(np.median(times))


def streams_seconds(detector: Any, image: Image.Image, frames: int) -> float:
    """What so many forward passes alone take, as many at once as the detector has streams."""
    forward = forward_pass(detector, image)
    with ThreadPoolExecutor(detector.streams) as pool:
        list(pool.map(lambda _: forward(), range(3 * detector.streams)))
        start = time.perf_counter()
        list(pool.map(lambda _: forward(), range(frames)))
        return time.perf_counter() - start


def throughput(one: Any, detector: Any, seed: int, frames: int, size: int = SIZE) -> list[str]:
    """Frames a second from a file to a file, beside those of the model alone, before and after.

    Args:
        one: the detector with an image at a time, the measure.
        detector: the same as ``hoiclip detect`` opens it for a video.
        seed, frames, size: of the film.
    """
    with tempfile.TemporaryDirectory() as scratch:
        film, path = Film(seed, 0, 100, size), Path(scratch, "film.mp4")
        with VideoWriter(path, Fraction(RATE)) as writer:
            for t in range(frames):
                writer.add(film[t % 100][0], t / RATE)
        alone = [model_seconds(one, film[0][0], frames)]
        streams_seconds(detector, film[0][0], detector.streams)  # warm, as the other is
        start = time.perf_counter()
        with VideoReader(path) as reader:
            detect_video(detector, reader, drawing=Path(scratch, "drawn.mp4"))
        whole = time.perf_counter() - start
        alone.append(model_seconds(one, film[0][0], frames))
        several = streams_seconds(detector, film[0][0], frames) if detector.streams > 1 else None
    model = sum(alone) / 2
    return [
        f"frames per second, file to file    {frames / whole:.1f}",
        f"frames per second, model alone     {frames / model:.1f}"
        f"   before {frames / alone[0]:.1f}, after {frames / alone[1]:.1f}",
        f"ratio                              {model / whole:.2f}",
    ] + ([f"frames per second, {detector.streams} streams alone   {frames / several:.1f}"] if several else [])


def both(model: Any) -> tuple[Any, Any]:
    """The detector with an image at a time, and as ``hoiclip detect`` opens it for a video."""
    one = hoiclip.load(model, device="cpu", batch_size=1)
    if not isinstance(one, hoiclip.ExportedDetector):
        return one, one
    return one, hoiclip.load(model, streams=streams_for(None))


def save_strip(detector: Any, seed: int, index: int, path: Path) -> None:
    """Four frames of a steadied film side by side."""
    film = Film(seed, index)
    frames = [film[t][0] for t in range(len(film))]
    steadier = Steadier(THRESHOLD)
    found = (detector(frame, top_k=CANDIDATES, threshold=LEAST) for frame in frames)
    steady = [frame.shown(SHOWN) for frame in steadier.all_of(found)]
    drawn = [
        draw_triplets(frames[t], steady[t].detections, human_tracks=steady[t].human_tracks)
        for t in np.linspace(8, len(film) - 8, 4).astype(int)
    ]
    strip = Image.new("RGB", (sum(d.width for d in drawn) + 8 * 3, drawn[0].height), "white")
    for i, drawing in enumerate(drawn):
        strip.paste(drawing, (i * (drawing.width + 8), 0))
    save_image(strip, path)


def main() -> None:
    """Print the table and the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=40)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--seed", type=int, default=9000, help="thresholds were chosen on films of seed 500")
    parser.add_argument("--model", help="by default the shipped one")
    parser.add_argument("--full-size", type=int, metavar="N", help="only the rates, N frames of 640 pixels, of "
                        "--model, or of the published shape with seeded weights")  # fmt: skip
    parser.add_argument("--size", type=int, help="with --full-size, as of hoiclip detect")
    parser.add_argument("--strip", type=Path, help="write a picture of four frames of a film")
    parser.add_argument("--strip-film", type=int, default=0)
    args = parser.parse_args()
    hoiclip.keep_freed_memory()  # as hoiclip detect does
    if args.full_size:
        with tempfile.TemporaryDirectory() as scratch:
            if args.model is None:
                save_seeded_model(Path(scratch), 0)
            one, detector = both(args.model or Path(scratch))
        if args.size:
            one.set_size(args.size), detector.set_size(args.size)
        for line in throughput(one, detector, args.seed, args.full_size, 640):
            print(line, flush=True)
        return
    detector = hoiclip.load(args.model, device="cpu")
    if args.strip:
        save_strip(detector, args.seed, args.strip_film, args.strip)
        return
    about = machine(torch.device(detector.device))
    print(f"{about['processor']}, {about['threads']} threads, {args.films} films of seed {args.seed}")
    for line in throughput(*both(args.model), args.seed, 1000):
        print(line, flush=True)
    print(HEAD)
    for line in compare(detect_films(detector, args.seed, args.films, args.frames)):
        print(line)


if __name__ == "__main__":
    main()
