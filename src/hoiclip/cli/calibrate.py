"""``hoiclip calibrate``: what makes a model's scores probabilities, and from where on to show each class."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.cli.arguments import (
    CommandParser,
    config_argument,
    experiment_arguments,
    hub_arguments,
    positive_int,
    probability,
    quiet_libraries,
    size_argument,
)
from hoiclip.errors import HoiError

if TYPE_CHECKING:
    from hoiclip.evaluation.reports import Evaluated
    from hoiclip.experiments.options import Experiment
    from hoiclip.inference.detector import HoiDetector
    from hoiclip.inference.exported_detector import ExportedDetector
    from hoiclip.score_calibration import Calibration


def add_arguments(parser: CommandParser) -> None:
    """The options of this command, and those of an experiment."""
    parser.add_argument("model", metavar="MODEL", help="model folder, hub id or name")
    config_argument(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write a calibrated copy of the model here, "
                        "instead of into its own folder")  # fmt: skip
    parser.add_argument(
        "--detections",
        type=Path,
        help="what hoiclip evaluate --save-detections found with this model, to save the time",
    )
    parser.add_argument("--annotations", type=Path, help="dataset folder or annotation file for --detections")
    parser.add_argument(
        "--least-precision", type=probability, metavar="SHARE",
        help="the lowest thresholds at which this share of what is shown is correct (default: those of the best F1)",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=positive_int, help="only the first so many images; the playground draws so many"
    )
    parser.add_argument("--seed", type=int, help="of the playground's scenes")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    size_argument(parser)
    hub_arguments(parser)
    experiment_arguments(parser, own=("name", "seed", "out"))


def run(args: argparse.Namespace) -> int:
    """Fit, write ``calibration.json`` and say what it brings."""
    from hoiclip.checkpoints.by_name import find_folder, model_by_name
    from hoiclip.evaluation.calibration import fit_calibration, judged
    from hoiclip.experiments import load_experiment
    from hoiclip.inference.loading import TRAINING_FREE, load
    from hoiclip.score_calibration import interaction_names

    quiet_libraries()
    if args.model == TRAINING_FREE:
        raise HoiError(f"{TRAINING_FREE} has no folder to keep a calibration in: calibrate a trained model")
    experiment = load_experiment(args.config, args.options)
    _settle(experiment, args)
    model = model_by_name(args.model)
    folder = Path(find_folder(model, args.revision, args.token))
    if args.out is None and (not os.path.isdir(model) or not os.access(folder, os.W_OK)):
        raise HoiError(f"{args.model}: is not yours to write into; name a folder for a calibrated copy by --out")
    if args.out is not None and args.out.exists():
        raise HoiError(f"{args.out}: is there already; name another --out")
    detector = load(model, device=args.device, revision=args.revision, token=args.token)
    if args.size:
        detector.set_size(args.size)
    own = detector.vocabulary
    found = judged(_evaluated(experiment, args, detector))
    if interaction_names(found.vocabulary) != interaction_names(own):
        raise HoiError(
            f"{args.model}: knows other interactions than {args.config} (vocabularies {own.name!r} and "
            f"{found.vocabulary.name!r}): calibrate it with data of its own"
        )
    calibration = fit_calibration(found, args.least_precision)
    if args.out is not None:
        _copy(folder, args.out)
    path = calibration.save(args.out or folder)
    print(_told(calibration))
    print(f"{path}: hoiclip detect shows probabilities from now on")
    return 0


def _settle(experiment: Experiment, args: argparse.Namespace) -> None:
    """Choose images and words as :mod:`hoiclip.cli.evaluate` does, and the scores that ``hoiclip detect`` shows."""
    if args.seed is not None and experiment.data.source != "playground":
        raise HoiError(f"--seed chooses playground scenes; {args.config} has images of its own")
    if experiment.evaluation.protocol == "vcoco":
        raise HoiError("calibrating needs annotated verb-object pairs, not V-COCO's roles: use hicodet or custom data")
    experiment.data.seed = experiment.data.seed if args.seed is None else args.seed
    experiment.data.evaluation_images = args.images or experiment.data.evaluation_images
    experiment.model.zero_shot_top_k = None  # hoiclip detect goes without
    held_out = experiment.data.hold_out or experiment.data.evaluation_split or experiment.data.source == "playground"
    if not (held_out or args.detections):
        print(
            "hoiclip: this calibrates on the images that are evaluated on; for numbers to report hold out others "
            "(--data.hold_out 0.1 as in the training, or --data.evaluation_split)",
            file=sys.stderr,
        )


def _evaluated(experiment: Experiment, args: argparse.Namespace, detector: HoiDetector | ExportedDetector) -> Evaluated:
    """The detections and the annotations."""
    from hoiclip.evaluation.runner import evaluate_detections, evaluate_model

    kept: list[Evaluated] = []
    if args.detections:
        evaluate_detections(experiment, args.detections, args.annotations, explain=kept.append)
    else:
        evaluate_model(experiment, detector, explain=kept.append, title=args.config)
    return kept[0]


def _copy(folder: Path, out: Path) -> None:
    """The files of a model, which appear together.  Raises HoiError if they cannot be written."""
    from hoiclip.files import atomic_folder

    with atomic_folder(out) as unfinished:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                shutil.copyfile(path, unfinished / path.name)


def _told(calibration: Calibration) -> str:
    """What was found, for people."""
    facts = calibration.fitted_on
    lines = [
        f"{facts['images']:,} images, {facts['detections']:,} detections, {facts['correct']:,} of them correct",
        f"temperature {calibration.temperature:.3f}, bias {calibration.bias:+.3f}; thresholds for {calibration.aim}: "
        f"{calibration.threshold:.3f} for all together, by class {min(calibration.thresholds.values()):.3f} to "
        f"{max(calibration.thresholds.values()):.3f}",
    ]
    for name, pair in facts.items():
        if isinstance(pair, dict) and None not in pair.values():
            what = name.replace("_", " ").replace("from 0.3", "of scores from 0.3 on")
            lines.append(f"{what}: {100 * pair['before']:.2f} % before, {100 * pair['after']:.2f} % after")
    return "\n".join(lines)
