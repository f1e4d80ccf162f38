"""``hoiclip detect``: triplets of images, as JSON lines and drawn."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.cli.arguments import (
    BAD_INPUT,
    backend_arguments,
    model_argument,
    open_detector,
    positive_int,
    probability,
    size_argument,
    streams_for,
)
from hoiclip.cli.detect_ray import check_ray_arguments, detect_on_ray, folder_name, ray_arguments
from hoiclip.cli.detect_video import check_video_arguments, detect_videos, split_sources, video_arguments
from hoiclip.errors import HoiError

if TYPE_CHECKING:
    from PIL import Image

    from hoiclip.detection_files import DetectionWriter
    from hoiclip.detections import Detections
    from hoiclip.inference.detector import HoiDetector
    from hoiclip.inference.image_detector import ImageDetector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="IMAGE|VIDEO|FOLDER|URL",
        help="images, videos, folders, patterns in quotes, addresses, also rtsp://",
    )
    model_argument(parser)
    parser.add_argument(
        "--out", type=folder_name, default=Path("hoiclip-out"), help="folder for drawings and detections.jsonl"
    )
    parser.add_argument("--top-k", type=positive_int, default=10, help="triplets per image (default 10)")
    parser.add_argument(
        "--threshold",
        type=probability,
        help="least probability of the interaction, 0..1 (default 0.3; of training-free 0.1; of a calibrated model "
        "that of each class)",
    )
    vocabulary = parser.add_mutually_exclusive_group()
    vocabulary.add_argument(
        "--interactions", metavar='"ride unicycle, ..."', help="ask for these instead of what was trained"
    )
    vocabulary.add_argument(
        "--verbs", metavar='"ride, hold"', help="keep to these verbs, with all objects of the model"
    )
    vocabulary.add_argument("--vocabulary", metavar="NAME|YAML", help="ask for a published or your own vocabulary")
    parser.add_argument(
        "--zero-shot-top-k", type=positive_int, help="training-free enhancement with this K (paper: 10)"
    )
    backend_arguments(parser)
    size_argument(parser)
    parser.add_argument("--max-labels", type=positive_int, default=3, help="interactions named per pair (default 3)")
    parser.add_argument("--line-width", type=positive_int, help="of drawn boxes in pixels (default: by image size)")
    parser.add_argument(
        "--attention",
        nargs="?",
        const="3",
        metavar="N|WORDS",
        help='draw where the model looked for the best N triplets (default 3), or for these: "ride horse, hold cup"',
    )
    parser.add_argument("--attention-as", choices=("png", "pdf", "svg"), default="png", help="default png")
    parser.add_argument("--html", action="store_true", help="write index.html too: a page of all drawings, to be "
                        "filtered, sorted and enlarged without a server")  # fmt: skip
    parser.add_argument("--no-pictures", action="store_true", help="write detections.jsonl only")
    parser.add_argument(
        "--draft", action="store_true", help="decode large JPEGs at reduced scale: faster, scores move a little"
    )
    parser.add_argument("--resume", action="store_true", help="skip images already in detections.jsonl")
    video_arguments(parser)
    ray_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, draw and write; broken images are told and make the exit code 2."""
    from hoiclip.files import sole_writer

    check_ray_arguments(args)
    with sole_writer(args.out):
        return detect(args) if args.ray is None else detect_on_ray(args)


def detect(args: argparse.Namespace) -> int:
    """:func:`run` in an output folder that nobody else writes to."""
    from hoiclip.detection_files import DetectionWriter
    from hoiclip.visualization.drawing_names import drawing_paths

    if args.draft and not args.no_pictures:
        raise HoiError("--draft decodes no whole images to draw in: add --no-pictures, or leave it out")
    if args.html and args.no_pictures:
        raise HoiError("--html shows the drawings: leave --no-pictures out")
    images, videos = split_sources(args)
    check_video_arguments(args, videos)
    writer = DetectionWriter(args.out / "detections.jsonl", resume=args.resume)
    waiting = [image for image in images if str(image) not in writer.done]
    drawings = {} if args.no_pictures else drawing_paths(images, args.out)
    if not waiting and not videos:
        print(f"nothing to do: {args.out / 'detections.jsonl'} has all {len(images)} images")
        if args.html:
            save_gallery(args.out, drawings)
        return 0
    detector = open_detector(args, streams=streams_for(None if videos else len(waiting)))
    known = getattr(detector, "probabilities", None)
    least = detector.default_threshold if args.threshold is None else args.threshold
    if known is not None and args.threshold is None:
        least = float(known.least(detector.vocabulary).min())
    if args.attention is not None:
        refuse_attention(args, detector)
    writer.refuse_other_options(detector.vocabulary, args.top_k, least, known and (known.temperature, known.bias))
    code = detect_images(args, detector, writer, waiting, drawings) if waiting else 0
    if args.html:
        save_gallery(args.out, drawings)
    if videos:
        threshold = detector.default_threshold if args.threshold is None else args.threshold
        code = max(code, detect_videos(args, detector, writer, videos, threshold))
    return code


def detect_images(
    args: argparse.Namespace,
    detector: HoiDetector,
    writer: DetectionWriter,
    waiting: Sequence[Path | str],
    drawings: Mapping[Path | str, Path],
) -> int:
    """Detect in the images that wait; the exit code."""
    from tqdm import tqdm

    from hoiclip.images import save_image

    failed = 0
    stream = detector.detect_files(
        waiting,
        keep_images=not args.no_pictures,
        draft=args.draft,
        top_k=args.top_k,
        threshold=args.threshold,
        zero_shot_top_k=args.zero_shot_top_k,
    )
    for path, image, result in tqdm(stream, total=len(waiting), unit="image", disable=None):
        if isinstance(result, HoiError):
            failed += 1
            tqdm.write(f"hoiclip: {result}", file=sys.stderr)
            continue
        if image is not None:
            drawing = result.draw(image, max_labels=args.max_labels, line_width=args.line_width)
            save_image(drawing, drawings[path])
            if args.attention is not None:
                save_attention(args, detector, image, result, drawings[path])
        writer.add(str(path), result)
        best = result.most_probable(3)
        named = ", ".join(f"{t.name} {s:.2f}" for t, s in zip(best, best.confidence, strict=True))
        tqdm.write(f"{path}: {named or 'nothing found'}")
    done = len(waiting) - failed
    if done:
        print(f"{done} of {len(waiting)} images -> {writer.path}" + (f", drawings in {args.out}" if drawings else ""))
    return BAD_INPUT if failed else 0


def save_gallery(out: Path, drawings: Mapping[Path | str, Path]) -> None:
    """The page of all images that have a line and a drawing, also of an earlier run that was resumed."""
    from hoiclip.visualization.gallery import GalleryImage, write_gallery

    by_name = {str(image): drawing for image, drawing in drawings.items()}
    shown: list[GalleryImage] = []
    if not (out / "detections.jsonl").is_file():
        return
    with (out / "detections.jsonl").open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if "frame" in line:
                continue
            drawing = by_name.get(line["file_name"])
            if drawing is not None and drawing.is_file():
                found = [
                    (t["verb"], t["object"], t["interaction"], t.get("interaction_score", t["score"]))
                    for t in line["triplets"]
                ]
                shown.append(GalleryImage(line["file_name"], drawing, sorted(found, key=lambda t: -t[3])))
    print(f"gallery: {write_gallery(out, shown)}")


def refuse_attention(args: argparse.Namespace, detector: ImageDetector) -> None:
    """Tell before any image is detected that there is no attention to draw."""
    from hoiclip.inference.attention import check_attention
    from hoiclip.words import split_words

    if args.no_pictures:
        raise HoiError("--attention is drawn on images: leave --no-pictures out")
    check_attention(detector)
    words = split_words(args.attention)
    known = {detector.vocabulary.interaction_name(k) for k in range(detector.vocabulary.num_interactions)}
    if not args.attention.isdecimal() and (unknown := [word for word in words if word not in known]):
        raise HoiError(f"--attention {unknown[0]!r}: is no interaction of this model; give a number or its words")


def save_attention(
    args: argparse.Namespace, detector: HoiDetector, image: Image.Image, found: Detections, drawing: Path
) -> None:
    """Write the panel of one image beside its drawing, where there is something to show."""
    from hoiclip.files import atomic_path
    from hoiclip.inference.attention import attention_panel
    from hoiclip.visualization.attention import save_figure
    from hoiclip.words import split_words

    chosen = found.most_probable(len(found))
    if args.attention.isdecimal():
        chosen = chosen[: int(args.attention)]
    else:
        wanted = set(split_words(args.attention))
        chosen = chosen[[triplet.name in wanted for triplet in chosen]]
    if len(chosen):
        with atomic_path(drawing.with_name(f"{drawing.stem}-attention.{args.attention_as}")) as unfinished:
            save_figure(attention_panel(detector, image, chosen), unfinished, args.attention_as)
