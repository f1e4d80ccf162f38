"""Videos, streams and cameras of ``hoiclip detect``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.cli.arguments import BAD_INPUT, positive_int
from hoiclip.errors import HoiError

if TYPE_CHECKING:
    from hoiclip.detection_files import DetectionWriter
    from hoiclip.inference.image_detector import ImageDetector
    from hoiclip.inference.tracking import SteadyDetections
    from hoiclip.inference.video import VideoFrame, VideoReader


def video_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that videos have besides those of images."""
    videos = parser.add_argument_group("videos")
    videos.add_argument("--camera", type=_camera, metavar="N", help="the camera /dev/videoN; ends with Ctrl-C")
    videos.add_argument("--every", type=positive_int, default=1, metavar="N", help="each N-th frame only")
    videos.add_argument("--start", type=_seconds, default=0.0, metavar="S", help="from this second on")
    videos.add_argument("--end", type=_seconds, metavar="S", help="up to this second")


def _camera(text: str) -> int:
    if not text.isdecimal() or len(text) > 3:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a camera; give 0 for the first")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give seconds, such as 12.5")
    return value


def split_sources(args: argparse.Namespace) -> tuple[list[Path | str], list[Path | str | int]]:
    """What was named, as images and videos, each once.

    Raises:
        HoiError: if nothing was, or as :func:`hoiclip.images.find_images`.
    """
    from hoiclip.image_inputs import is_address
    from hoiclip.images import find_images
    from hoiclip.inference.video import is_stream, is_video

    if not args.sources and args.camera is None:
        raise HoiError("nothing to detect in: give images, videos, folders, addresses, or --camera 0")
    found: list[Path | str] = []
    for source in args.sources:
        found += [source] if is_address(source) or is_stream(source) else find_images([source], is_video)
    found = list(dict.fromkeys(found))
    videos: list[Path | str | int] = [source for source in found if is_video(source)]
    images = [source for source in found if source not in set(videos)]
    return images, videos + ([] if args.camera is None else [args.camera])


def check_video_arguments(args: argparse.Namespace, videos: Sequence[Path | str | int]) -> None:
    """Tell before a model is loaded what cannot be done.  Raises HoiError."""
    from hoiclip.inference.video import is_stream
    from hoiclip.optional_modules import optional_module

    if args.end is not None and args.end <= args.start:
        raise HoiError(f"--end {args.end:g}: is not after --start {args.start:g}")
    if not videos:
        for option, given in (("--every", args.every != 1), ("--start", args.start), ("--end", args.end is not None)):
            if given:
                raise HoiError(f"{option}: is for videos, and none was named")
        return
    optional_module("av", "video")
    for option, given in (("--attention", args.attention is not None), ("--html", args.html), ("--draft", args.draft)):
        if given:
            raise HoiError(f"{option}: is for images; detect in videos by a command of its own")
    for source in videos:
        if args.resume and (isinstance(source, int) or is_stream(source)):
            name = f"--camera {source}" if isinstance(source, int) else source
            raise HoiError(f"{name}: what was live cannot be resumed; leave --resume out")


def detect_videos(
    args: argparse.Namespace,
    detector: ImageDetector,
    writer: DetectionWriter,
    videos: Sequence[Path | str | int],
    threshold: float,
) -> int:
    """Detect in one video after the other; broken ones are told and make the exit code 2."""
    from hoiclip.visualization.drawing_names import drawing_paths

    named: dict[Any, Path | str] = {v: f"camera-{v}" if isinstance(v, int) else v for v in videos}
    drawings = drawing_paths(list(named.values()), args.out, ".mp4")
    failed = False
    for source in videos:
        try:
            problem = detect_one(args, detector, writer, source, drawings[named[source]], threshold)
        except HoiError as error:
            problem = error
        if problem is not None:
            failed = True
            print(f"hoiclip: {problem}", file=sys.stderr)
    return BAD_INPUT if failed else 0


def detect_one(
    args: argparse.Namespace,
    detector: ImageDetector,
    writer: DetectionWriter,
    source: Path | str | int,
    drawing: Path,
    threshold: float,
) -> HoiError | None:
    """Detect in one video; what was wrong with it, where something was found all the same."""
    from tqdm import tqdm

    from hoiclip.inference.annotated_video import detect_video
    from hoiclip.inference.video import VideoReader
    from hoiclip.inference.video_record import VideoRecord

    with VideoReader(source, every=args.every, start=args.start, end=args.end) as reader:
        record = None
        written = writer.frames[reader.name]
        if not reader.live:
            path = drawing.with_name(f".{drawing.stem}.frames.jsonl")
            record = VideoRecord(path, _options(args, detector, reader, threshold), resume=args.resume)
            if written and not record.known:
                raise HoiError(f"{writer.path}: holds frames of {source} of a run that nothing else is known of; "
                               "use another --out")  # fmt: skip
            if record.finished and written and (args.no_pictures or drawing.is_file()):
                print(f"nothing to do: {source}: all {written} frames are in {writer.path}")
                return None
        progress = tqdm(total=reader.expected, unit="frame", desc=reader.name, disable=None)

        done = 0

        def note(frame: VideoFrame, steady: SteadyDetections) -> None:
            nonlocal done
            progress.update()
            done += 1
            if done > written:  # the earlier lines say the same
                tracks = steady.human_tracks, steady.object_tracks
                writer.add_frame(reader.name, frame.number, frame.time, steady.detections, *tracks)

        with progress:
            frames = detect_video(
                detector,
                reader,
                drawing=None if args.no_pictures else drawing,
                on_frame=note,
                record=record,
                top_k=args.top_k,
                threshold=threshold,
                zero_shot_top_k=args.zero_shot_top_k,
                max_labels=args.max_labels,
                line_width=args.line_width,
                tell=lambda sentence: tqdm.write(sentence, file=sys.stderr),
            )
        where = "" if args.no_pictures or not frames else f", drawn in {drawing}"
        print(f"{reader.name}: {frames} frames -> {writer.path}{where}")
        return reader.problem


def _options(
    args: argparse.Namespace, detector: ImageDetector, reader: VideoReader, threshold: float
) -> dict[str, Any]:
    """All that changes what is found, as far as it can be told; for the record."""
    about = os.stat(reader.source) if os.path.isfile(reader.source) else None
    vocabulary = detector.vocabulary
    words = [vocabulary.interaction_name(k) for k in range(vocabulary.num_interactions)]
    calibration = getattr(detector, "probabilities", None)
    known = {} if calibration is None else {"calibration": [calibration.temperature, calibration.bias]}
    names = ("model", "size", "every", "start", "end", "top_k", "zero_shot_top_k")
    return {
        "video": [reader.name, about and about.st_size],
        "threshold": threshold,
        "interactions": words,
        **known,
        **{name: getattr(args, name) if name != "model" else str(args.model) for name in names},
    }
