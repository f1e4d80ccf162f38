"""``hoiclip detect``: triplets of images, as JSON lines and drawn."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.cli.arguments import (
    BAD_INPUT,
    backend_arguments,
    fetch_named_model,
    model_argument,
    positive_int,
    probability,
    quiet_libraries,
)
from hoiclip.errors import HoiError

if TYPE_CHECKING:
    from hoiclip.inference.detector import HoiDetector
    from hoiclip.vocabulary import HoiVocabulary

LONGEST_STEM = 240  # bytes, of a drawing's name: file systems take 255, and a number may follow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("sources", nargs="+", metavar="IMAGE|FOLDER", help="images, folders, or patterns in quotes")
    model_argument(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("hoiclip-out"), help="folder for drawings and detections.jsonl"
    )
    parser.add_argument("--top-k", type=positive_int, default=10, help="triplets per image (default 10)")
    parser.add_argument(
        "--threshold",
        type=probability,
        help="least probability of the interaction, 0..1 (default 0.3; of training-free 0.1)",
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
    parser.add_argument("--no-pictures", action="store_true", help="write detections.jsonl only")
    parser.add_argument(
        "--draft", action="store_true", help="decode large JPEGs at reduced scale: faster, scores move a little"
    )
    parser.add_argument("--resume", action="store_true", help="skip images already in detections.jsonl")


def run(args: argparse.Namespace) -> int:
    """Detect, draw and write; broken images are told and make the exit code 2."""
    from hoiclip.files import sole_writer

    with sole_writer(args.out):
        return detect(args)


def detect(args: argparse.Namespace) -> int:
    """:func:`run` in an output folder that nobody else writes to."""
    from tqdm import tqdm

    from hoiclip.detection_files import DetectionWriter
    from hoiclip.images import find_images, save_image

    if args.draft and not args.no_pictures:
        raise HoiError("--draft decodes no whole images to draw in: add --no-pictures, or leave it out")
    images = find_images(args.sources)
    writer = DetectionWriter(args.out / "detections.jsonl", resume=args.resume)
    waiting = [image for image in images if str(image) not in writer.done]
    if not waiting:
        print(f"nothing to do: {args.out / 'detections.jsonl'} has all {len(images)} images")
        return 0
    drawings = {} if args.no_pictures else drawing_paths(images, args.out)
    failed = 0
    detector = open_detector(args)
    threshold = detector.default_threshold if args.threshold is None else args.threshold
    writer.refuse_other_options(detector.vocabulary, args.top_k, threshold)
    stream = detector.detect_files(
        waiting,
        keep_images=not args.no_pictures,
        draft=args.draft,
        top_k=args.top_k,
        threshold=threshold,
        zero_shot_top_k=args.zero_shot_top_k,
    )
    for path, image, result in tqdm(stream, total=len(waiting), unit="image", disable=None):
        if isinstance(result, HoiError):
            failed += 1
            tqdm.write(f"hoiclip: {result}", file=sys.stderr)
            continue
        if image is not None:
            save_image(result.draw(image), drawings[path])
        writer.add(str(path), result)
        best = result.most_probable(3)
        named = ", ".join(f"{t.name} {s:.2f}" for t, s in zip(best, best.confidence, strict=True))
        tqdm.write(f"{path}: {named or 'nothing found'}")
    done = len(waiting) - failed
    if done:
        print(f"{done} of {len(waiting)} images -> {writer.path}" + (f", drawings in {args.out}" if drawings else ""))
    return BAD_INPUT if failed else 0


def open_detector(args: argparse.Namespace) -> HoiDetector:
    """The detector, asked for the interactions that the options name; likely slips are told on stderr."""
    from hoiclip.vocabulary import HoiVocabulary
    from hoiclip.words import split_words

    vocabulary = None
    if args.interactions is not None:
        vocabulary = HoiVocabulary.from_words(args.interactions)
    elif args.vocabulary is not None:
        vocabulary = HoiVocabulary.coerce(args.vocabulary)

    from hoiclip.inference.detector import (  # heavy: what can be refused has been refused by now
        SHIPPED_MODEL,
        TRAINING_FREE,
        load,
    )

    quiet_libraries()
    fetch_named_model(args)
    at_hub = {"revision": args.revision, "token": args.token}
    detector = load(
        args.model,
        device=args.device,
        vocabulary=vocabulary,
        backend=args.backend,
        precision=args.precision,
        detector=args.detector,
        clip=args.clip,
        **at_hub,
    )
    if args.verbs is not None:
        vocabulary = detector.vocabulary.with_verbs(split_words(args.verbs))
        tell_slips(vocabulary, detector.vocabulary)
        detector.set_vocabulary(vocabulary)
    elif args.interactions is not None and vocabulary is not None and args.model != TRAINING_FREE:
        tell_slips(vocabulary, HoiVocabulary.from_pretrained(args.model or SHIPPED_MODEL, **at_hub))
    return detector


def tell_slips(asked: HoiVocabulary, known: HoiVocabulary) -> None:
    """Say on stderr, in one line, which new words look like misspelt ones that the model knows."""
    slips = asked.slips(known)
    if slips:
        shown = ", ".join(f"{word!r} (did you mean {near!r}?)" for word, near in slips[:5])
        print(f"hoiclip: new to this model, and asked for as typed: {shown}", file=sys.stderr)


def drawing_paths(images: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each drawing goes: the image's own name, made distinct where folders share names.

    Raises:
        HoiError: if one of the images to read would be overwritten.
    """
    originals = {os.path.realpath(image): image for image in images}
    names: dict[Path, Path] = {}
    taken: set[str] = set()
    for image in images:
        stem = image.stem
        while len(os.fsencode(stem)) > LONGEST_STEM:
            stem = stem[:-1]
        name, number = f"{stem}.jpg", 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}.jpg", number + 1
        taken.add(name.lower())
        names[image] = out / name
        if os.path.realpath(out / name) in originals:
            raise HoiError(f"{out / name}: would be overwritten by its own drawing; use another --out")
    return names
