"""``hoiclip evaluate``: the published metrics of a model, or of anybody's detections."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.cli.arguments import (
    CommandParser,
    backend_arguments,
    config_argument,
    experiment_arguments,
    exponents,
    model_argument,
    open_model,
    positive_int,
    quiet_libraries,
    size_argument,
    whole_number,
    whole_numbers,
)
from hoiclip.errors import HoiError

if TYPE_CHECKING:
    import numpy as np

    from hoiclip.data.corruptions import Corruption
    from hoiclip.detections import Detections
    from hoiclip.evaluation.kept_detections import KeptDetections
    from hoiclip.evaluation.reports import Evaluated
    from hoiclip.experiments.options import Experiment
    from hoiclip.vocabulary import HoiVocabulary


def add_arguments(parser: CommandParser) -> None:
    """The options of this command, and those of an experiment."""
    config_argument(parser)
    model_argument(parser)
    parser.add_argument("--detections", type=Path, help="detections of any method instead of a "
                        "model: JSON lines, or any form of docs/compare.md, known by content")  # fmt: skip
    parser.add_argument("--annotations", type=Path, help="dataset folder or annotation file for --detections")
    parser.add_argument(
        "--train-annotations", type=Path, metavar="FILE",
        help="what the model was trained on; adds the means over classes with fewer than 10 instances there "
        "(default: as the run of --model recorded it, if it did)",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=positive_int, help="only the first so many images; the playground draws so many"
    )
    parser.add_argument("--seed", type=int, help="of the playground's test scenes")
    parser.add_argument(
        "--sweep", type=whole_numbers, metavar="0,5,10", help="several K of the training-free enhancement in one pass"
    )
    parser.add_argument(
        "--object-exponents", type=exponents, metavar="0,1,2",
        help="several exponents of the object score, which is added to the interaction score, in one pass (paper: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--corrupt", action="append", metavar="KIND[:LEVEL]",
        help="also on corrupted images, such as gaussian_noise:3 (one of 5 levels), fog (all five), or all for the "
        "benchmark's 15 kinds; may be given again",
    )  # fmt: skip
    parser.add_argument("--corrupt-seed", type=whole_number, default=0, help="of their noise (default 0)")
    backend_arguments(parser)
    size_argument(parser)
    parser.add_argument("--out", type=Path, help="write every metric that is printed, and of each class, as JSON here")
    parser.add_argument(
        "--save-detections",
        type=Path,
        help="write the model's detections as JSON lines here, as they "
        "are found; the same command goes on after them where it was cut off",
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR",
        help="write a web page here that explains the numbers: kinds of errors and what fixing each would bring, "
        "curves, classes, confused verbs, the worst images; figures beside it as PNG and CSV",
    )  # fmt: skip
    parser.add_argument(
        "--compare", type=Path, metavar="OTHER",
        help="a second file like --detections: differences in mAP with 95%% intervals of a paired bootstrap over "
        "images; with --report on the page, too",
    )  # fmt: skip
    parser.add_argument("--submission", type=Path, help="write the official form: .mat files, or a V-COCO pickle")
    experiment_arguments(parser, own=("name", "seed", "out"))


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table and write what was asked for."""
    from hoiclip.evaluation import render_table, write_results
    from hoiclip.evaluation.runner import evaluate_detections
    from hoiclip.experiments import load_experiment

    quiet_libraries()
    experiment = load_experiment(args.config, args.options)
    playground = experiment.data.source == "playground"
    if args.seed is not None and not playground:
        raise HoiError(f"--seed chooses playground scenes; {args.config} has images of its own")
    if playground:
        experiment.data.evaluation_split = experiment.data.evaluation_split or "test"
        experiment.data.seed = args.seed if args.seed is not None else experiment.data.seed
    experiment.data.evaluation_images = args.images or experiment.data.evaluation_images
    _refuse_together(args)
    if args.corrupt:
        return _evaluate_corrupted(experiment, args)
    evaluated: list[Evaluated] = []
    explain = None
    if args.report or args.compare:
        _check_report(args, experiment)
        explain = evaluated.append
    if args.detections:
        counts = partial(_training_instances, args)
        results = {}
        for file in filter(None, (args.compare, args.detections)):  # the first one's results last, to be shown
            results = evaluate_detections(
                experiment, file, args.annotations, training_instances=counts, explain=explain
            )
    else:
        results = _evaluate_model(experiment, args, explain)
    print(render_table(results))
    if args.object_exponents:
        _tell_best(results)
    if args.out:
        write_results(args.out, results)
    if evaluated:  # after the table: what fails here loses no number
        _explain(args, evaluated)
    return 0


def _refuse_together(args: argparse.Namespace) -> None:
    """Raise HoiError where one evaluation is asked for and several at once."""
    alone = ["detections", "sweep", "report", "compare", "submission"]
    for several, others in (("corrupt", alone), ("object_exponents", [*alone, "corrupt", "save_detections"])):
        for other in others if getattr(args, several) else ():
            if getattr(args, other):
                names = (f"--{name.replace('_', '-')}" for name in (several, other))
                raise HoiError("{} makes several evaluations of the model: leave out {}".format(*names))


def _evaluate_corrupted(experiment: Experiment, args: argparse.Namespace) -> int:
    """Evaluate on the images as they are and corrupted; print and write both."""
    from hoiclip.data.corruptions import corruptions
    from hoiclip.evaluation import render_table, write_results
    from hoiclip.evaluation.robustness import evaluate_corrupted

    wanted = corruptions(args.corrupt, args.corrupt_seed)
    kept: list[KeptDetections] = []

    def keep(corruption: Corruption | None, vocabulary: HoiVocabulary) -> MutableMapping[str, Detections]:
        if not args.save_detections:
            return {}
        kept.append(_kept_detections(experiment, args, vocabulary, corruption))
        return kept[-1]

    results, robustness = evaluate_corrupted(
        experiment,
        open_model(args, playground=experiment.data.source == "playground"),
        wanted,
        keep=keep,
        training_instances=partial(_training_instances, args),
    )
    print(f"{render_table(results)}\n\n{robustness.render()}")
    if args.out:
        write_results(args.out, results, robustness=robustness.to_dict())
    for detections in kept:
        detections.finish()
    return 0


def _tell_best(results: dict[str, Any]) -> None:
    """Name the best of several settings, and what its number is worth."""
    values = {name: next(iter(result.means().values())) for name, result in results.items()}
    best = max(values, key=lambda name: (not math.isnan(values[name]), values[name]))
    print(
        f"best here: {best}. Chosen on these images its number is too good: choose on held-out ones "
        "(--data.hold_out, --data.evaluation_split), then evaluate that one alone"
    )


def _explain(args: argparse.Namespace, evaluated: list[Evaluated]) -> None:
    """Print the comparison and write the report, as far as they are asked for.

    Args:
        args: of the command.
        evaluated: what was evaluated, that of --compare first.
    """
    from dataclasses import replace

    from hoiclip.evaluation.html_report import compare, write_report
    from hoiclip.evaluation.reports import render_differences

    explained = evaluated[-1]
    lines = []
    if args.compare:
        explained = replace(explained, other=evaluated[0])
        lines = compare(explained)
        print(f"\n{args.detections} (first) and {args.compare} (second), protocol hoiclip\n{render_differences(lines)}")
    if args.report:
        print(f"report: {write_report(args.report, explained, lines)}")


def _check_report(args: argparse.Namespace, experiment: Experiment) -> None:
    """Raise HoiError where there can be no report, before anything is evaluated."""
    from hoiclip.evaluation.html_report import report_folder

    if args.compare and not args.detections:
        raise HoiError("--compare compares two files of detections: give the first one with --detections")
    if args.sweep:
        raise HoiError("--report explains one evaluation, --sweep makes several: leave one of them out")
    if experiment.evaluation.protocol == "vcoco":
        what = "--report" if args.report else "--compare"
        raise HoiError(f"{what} explains results of verb-object pairs, not V-COCO's roles: leave it out")
    if args.report:
        report_folder(args.report)


def _evaluate_model(
    experiment: Experiment, args: argparse.Namespace, explain: Callable[[Evaluated], Any] | None
) -> dict[str, Any]:
    from hoiclip.evaluation import write_hicodet_matlab, write_vcoco_pickle
    from hoiclip.evaluation.runner import evaluate_model, sweep_object_exponents, sweep_top_k

    detector = open_model(args, playground=experiment.data.source == "playground")
    counts = partial(_training_instances, args)
    if args.sweep:
        return dict(sweep_top_k(experiment, detector, args.sweep, training_instances=counts))
    if args.object_exponents:
        return sweep_object_exponents(experiment, detector, args.object_exponents, training_instances=counts)
    title = f"{args.model or 'the shipped model'} on {args.config}"
    if not (args.save_detections or args.submission):
        return evaluate_model(experiment, detector, training_instances=counts, explain=explain, title=title)
    found: dict[str, Detections] = {}
    kept: list[KeptDetections] = []

    def keep(vocabulary: HoiVocabulary) -> MutableMapping[str, Detections]:
        if not args.save_detections:
            return found
        kept.append(_kept_detections(experiment, args, vocabulary))
        return kept[0]

    results = evaluate_model(experiment, detector, keep=keep, training_instances=counts, explain=explain, title=title)
    if args.submission:
        vcoco = experiment.evaluation.protocol == "vcoco"
        (write_vcoco_pickle if vcoco else write_hicodet_matlab)(kept[0] if kept else found, args.submission)
    for detections in kept:
        detections.finish()
    return results


def _kept_detections(
    experiment: Experiment, args: argparse.Namespace, vocabulary: HoiVocabulary, corruption: Corruption | None = None
) -> KeptDetections:
    """The file of detections, with those that the same command found before it was cut off.

    Those in corrupted images have a file of their own: ``found.fog-3.jsonl`` beside ``found.jsonl``.
    """
    from hoiclip import __version__
    from hoiclip.evaluation.kept_detections import KeptDetections, stamp
    from hoiclip.inference.loading import SHIPPED_MODEL, TRAINING_FREE

    model = args.model or SHIPPED_MODEL
    parts = [args.detector, args.clip] if model == TRAINING_FREE else [model]
    made_by = {
        "hoiclip": __version__,
        "model": [part and stamp(part, args.revision) for part in parts],
        "revision": args.revision,
        "experiment": experiment.to_yaml(),
        "runtime": [args.backend, args.precision, args.device, args.size],
    }
    path: Path = args.save_detections
    if corruption is not None:
        path = path.with_name(f"{path.stem}.{corruption.kind}-{corruption.level}{path.suffix}")
        made_by["corruption"] = [corruption.kind, corruption.level, corruption.seed]
    kept = KeptDetections(path, vocabulary, made_by)
    if kept:
        print(f"{path}: going on after {len(kept):,} images", file=sys.stderr)
    return kept


def _training_instances(args: argparse.Namespace, vocabulary: HoiVocabulary) -> np.ndarray | None:
    """How often the training data shows each interaction, as far as that is known."""
    from hoiclip.experiments.data_record import annotated_instances, recorded_instances

    if args.train_annotations is not None:
        return annotated_instances(args.train_annotations, vocabulary)
    return None if args.model is None else recorded_instances(args.model, vocabulary)
