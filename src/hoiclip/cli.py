"""The command line: one function per command, each reads arguments, calls, prints.

    hoiclip detect photos/ --model model/ --out found/

A complaint about what the user gave is one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import logging as transformers_logging

from hoiclip.errors import HoiError
from hoiclip.memory import keep_freed_memory

if TYPE_CHECKING:
    from PIL import Image

    from hoiclip.detections import Detections

BAD_INPUT = 2
INTERRUPTED = 130


# --- detect ----------------------------------------------------------------------------------------


def detect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="IMAGE|FOLDER", help="pictures, folders, or patterns in quotes")
    parser.add_argument("--model", metavar="DIR|ID", help="model folder or hub id (default: the playground model)")
    parser.add_argument(
        "--out", type=Path, default=Path("hoiclip-out"), help="folder for pictures and detections.jsonl"
    )
    parser.add_argument("--top-k", type=_positive, default=10, help="triplets per picture (default 10)")
    parser.add_argument(
        "--threshold", type=_fraction, default=0.3, help="least probability of the interaction, 0..1 (default 0.3)"
    )
    words = parser.add_mutually_exclusive_group()
    words.add_argument(
        "--interactions", metavar='"ride unicycle, ..."', help="ask for these instead of what was trained"
    )
    words.add_argument("--verbs", metavar='"ride, hold"', help="keep to these verbs, with all objects of the model")
    words.add_argument("--vocabulary", metavar="NAME|YAML", help="ask for a published or your own vocabulary")
    parser.add_argument("--zero-shot-top-k", type=_positive, help="training-free enhancement with this K (paper: 10)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    backend_arguments(parser)
    parser.add_argument("--no-pictures", action="store_true", help="write detections.jsonl only")
    parser.add_argument(
        "--draft", action="store_true", help="decode large JPEGs at reduced scale: faster, answers move a little"
    )
    parser.add_argument("--resume", action="store_true", help="skip pictures already in detections.jsonl")


def detect(args: argparse.Namespace) -> int:
    """Find human-verb-object triplets in pictures."""
    from tqdm import tqdm

    from hoiclip.detector import DetectionLog, load
    from hoiclip.pictures import find_images
    from hoiclip.vocabulary import HoiVocabulary

    if args.draft and not args.no_pictures:
        raise HoiError("--draft decodes no whole pictures to draw in: add --no-pictures, or leave it out")
    images = find_images(args.sources)
    log = DetectionLog(args.out / "detections.jsonl", resume=args.resume)
    waiting = [image for image in images if str(image) not in log.done]
    if not waiting:
        print(f"nothing to do: {args.out / 'detections.jsonl'} has all {len(images)} images")
        return 0
    pictures = {} if args.no_pictures else picture_names(images, args.out)
    words = None
    if args.interactions is not None:
        words = HoiVocabulary.from_words(args.interactions)
    elif args.vocabulary is not None:
        words = HoiVocabulary.coerce(args.vocabulary)
    detector = load(args.model, device=args.device, vocabulary=words, **backend_options(args))
    if args.verbs is not None:
        detector.set_vocabulary(detector.vocabulary.with_verbs(args.verbs.split(",")))

    failed = 0
    found = detector.detect_files(
        waiting,
        keep_pictures=not args.no_pictures,
        draft=args.draft,
        top_k=args.top_k,
        threshold=args.threshold,
        zero_shot_top_k=args.zero_shot_top_k,
    )
    for path, picture, result in tqdm(found, total=len(waiting), unit="image", disable=None):
        if isinstance(result, HoiError):
            failed += 1
            tqdm.write(f"hoiclip: {result}", file=sys.stderr)
            continue
        if picture is not None:
            save_picture(result.draw(picture), pictures[path])
        log.add(str(path), result)
        best = ", ".join(f"{t.name} {s:.2f}" for t, s in zip(result[:3], result.certainty[:3], strict=True))
        tqdm.write(f"{path}: {best or 'nothing found'}")
    done = len(waiting) - failed
    if done:
        print(f"{done} of {len(waiting)} images -> {log.path}" + (f", pictures in {args.out}" if pictures else ""))
    return BAD_INPUT if failed else 0


def picture_names(images: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each drawn picture goes: its own name, made distinct where folders share names.

    Raises:
        HoiError: if one of the pictures to look at would be overwritten.
    """
    originals = {os.path.realpath(image): image for image in images}
    names: dict[Path, Path] = {}
    taken: set[str] = set()
    for image in images:
        name, number = f"{image.stem}.jpg", 2
        while name.lower() in taken:
            name, number = f"{image.stem}-{number}.jpg", number + 1
        taken.add(name.lower())
        names[image] = out / name
        if os.path.realpath(out / name) in originals:
            raise HoiError(f"{out / name}: would be overwritten by its own drawing; use another --out")
    return names


def save_picture(picture: Image.Image, path: Path) -> None:
    from hoiclip.files import replacing

    with replacing(path) as temporary:
        picture.save(temporary, quality=92)


# --- backends, export ------------------------------------------------------------------------------


def backend_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", metavar="NAME", help="torch (default), compile, onnx or openvino")
    parser.add_argument("--precision", metavar="NAME", help="fp32 (default), bf16 or int8")


def backend_options(args: argparse.Namespace) -> dict[str, str]:
    """Those that were given; an exported folder chooses the others itself."""
    return {name: getattr(args, name) for name in ("backend", "precision") if getattr(args, name) is not None}


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model folder or hub id")
    parser.add_argument("--to", required=True, metavar="onnx|openvino", help="for which runtime")
    parser.add_argument("--precision", default="fp32", metavar="NAME", help="fp32 (default), bf16 or int8")
    parser.add_argument("--calibration", metavar="FOLDER", help="pictures of the kind that will come, for int8")
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--interactions", metavar='"ride unicycle, ..."', help="ask for these instead, for good")
    words.add_argument("--vocabulary", metavar="NAME|YAML", help="ask for a published or your own vocabulary, for good")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def export(args: argparse.Namespace) -> int:
    """Write a model as a graph for onnxruntime or OpenVINO."""
    from hoiclip.export import export as write
    from hoiclip.vocabulary import HoiVocabulary

    words = args.vocabulary if args.interactions is None else HoiVocabulary.from_words(args.interactions)
    write(args.model, args.out, args.to, args.precision, calibration=args.calibration, vocabulary=words)
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 2**20
    print(f"{args.out}: {args.to} {args.precision}, {size:.0f} MiB; hoiclip detect PHOTO --model {args.out}")
    return 0


# --- convert ---------------------------------------------------------------------------------------


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("hoiclip", "gen-vlkt", "detr"), help="whose checkpoint it is")
    parser.add_argument("file", metavar="FILE|ID", help=".pth file; for detr also a transformers folder or hub id")
    parser.add_argument(
        "--vocabulary", default="hico", help="what it was trained on: hico, hico_rf_uc, ..., vcoco, or YAML"
    )
    parser.add_argument("--clip", help="CLIP folder, hub id or OpenAI archive (needed by detr, optional for gen-vlkt)")
    parser.add_argument("--tokenizer", help="folder or hub id of CLIP's tokenizer, to be saved with the model")
    parser.add_argument("--seed", type=int, default=0, help="of the fresh half of a model made from DETR (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")


def convert(args: argparse.Namespace) -> int:
    """Turn somebody else's checkpoint into a hoiclip model folder."""
    from hoiclip.checkpoints import convert_gen_vlkt, convert_hoiclip, initialise_from, save_model

    if args.kind == "hoiclip":
        model = convert_hoiclip(args.file, args.vocabulary)
    elif args.kind == "gen-vlkt":
        model = convert_gen_vlkt(args.file, args.vocabulary, clip=args.clip)
    elif not args.clip:
        raise HoiError("--clip is missing: a model that starts from DETR also needs a CLIP folder, hub id or archive")
    else:
        model = initialise_from(args.file, args.clip, args.vocabulary, seed=args.seed, tokenizer=args.tokenizer)
    save_model(model, args.out, tokenizer=args.tokenizer)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(f"{args.out}: {args.vocabulary}, {total / 1e6:.1f} M parameters, {trained / 1e6:.1f} M of them trained")
    return 0


# --- demo ------------------------------------------------------------------------------------------


def demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("hoiclip-demo"), help="folder for the picture")
    parser.add_argument("--model", metavar="DIR|ID", help="a model of the playground (default: the shipped one)")
    parser.add_argument("--scenes", type=_positive, default=300, help="how many are judged (default 300)")


def demo(args: argparse.Namespace) -> int:
    """Let the shipped model look at new scenes of the playground, and judge it."""
    from hoiclip.demo import show

    return show(args.out, args.model, args.scenes)


# --- train, verbs, evaluate ------------------------------------------------------------------------


def train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="name of an experiment, or a YAML file")
    parser.epilog = (
        "Any option of the experiment can follow: --train.batch_size 8 --data.root data/hicodet --out runs/a"
    )


def train(args: argparse.Namespace) -> int:
    """Train an experiment, or go on with it."""
    from hoiclip.training import train as run

    out = run(args.config, args.options)
    if (out / "model.safetensors").is_file():  # not after a stop on the way
        print(f"{out}: hoiclip detect PHOTO --model {out}")
    return 0


def verbs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="name of an experiment, or a YAML file")
    parser.add_argument("--out", type=Path, help="file to write (default: verbs.safetensors in the run's folder)")
    parser.epilog = "Any option of the experiment can follow: --verbs.source seen --data.root data/hicodet"


def verbs(args: argparse.Namespace) -> int:
    """Make verb vectors by visual semantic arithmetic over a training set."""
    from hoiclip.training import extract_verbs

    print(extract_verbs(args.config, args.options, args.out))
    return 0


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="name of an experiment, or a YAML file: dataset and words")
    parser.add_argument("--model", metavar="DIR|ID", help="model folder or hub id (default: the playground model)")
    parser.add_argument("--detections", type=Path, help="JSON lines of any method, instead of a model")
    parser.add_argument("--annotations", type=Path, help="dataset folder or annotation file for --detections")
    parser.add_argument("--images", type=_positive, help="only the first so many images; the playground draws so many")
    parser.add_argument("--seed", type=int, help="of the playground's test scenes")
    parser.add_argument("--sweep", metavar="0,5,10", help="several K of the training-free enhancement in one pass")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    backend_arguments(parser)
    parser.add_argument("--out", type=Path, help="write every figure as JSON here")
    parser.add_argument("--save-detections", type=Path, help="write the model's detections as JSON lines here")
    parser.add_argument("--submission", type=Path, help="write the official form: .mat files, or a V-COCO pickle")
    parser.epilog = "Any option of the experiment can follow: --data.root data/hicodet --evaluation.protocol official"


def evaluate(args: argparse.Namespace) -> int:
    """Compute the published figures for a model, or for detections of any method."""
    from hoiclip.detector import load
    from hoiclip.evaluating import evaluate_detections, evaluate_model, sweep_top_k
    from hoiclip.evaluation import (
        render_table,
        save_detections,
        write_hicodet_matlab,
        write_results,
        write_vcoco_pickle,
    )
    from hoiclip.experiments import load_experiment

    experiment = load_experiment(args.config, args.options)
    playground = experiment.data.source == "playground"
    if args.seed is not None and not playground:
        raise HoiError(f"--seed chooses playground scenes; {args.config} has images of its own")
    if playground:
        experiment.data.evaluation_split = experiment.data.evaluation_split or "test"
        experiment.data.seed = args.seed if args.seed is not None else experiment.data.seed
    experiment.data.evaluation_images = args.images or experiment.data.evaluation_images
    results: dict[str, Any]
    if args.detections:
        results = evaluate_detections(experiment, args.detections, args.annotations)
    else:
        detector = load(args.model, device=args.device, **backend_options(args))
        if args.sweep:
            results = sweep_top_k(experiment, detector, [_whole(k) for k in args.sweep.split(",")])
        else:
            found: dict[str, Detections] = {}
            wanted = args.save_detections or args.submission
            results = evaluate_model(experiment, detector, keep=found if wanted else None)
            if args.save_detections:
                save_detections(args.save_detections, found)
            if args.submission:
                vcoco = experiment.evaluation.protocol == "vcoco"
                (write_vcoco_pickle if vcoco else write_hicodet_matlab)(found, args.submission)
    print(render_table(results))
    if args.out:
        write_results(args.out, next(iter(results.values())))
    return 0


def reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    from hoiclip.paper_tables import DATASETS, TABLES

    parser.add_argument("table", choices=TABLES, help="of the paper")
    parser.add_argument("--dataset", choices=DATASETS, default="playground", help="default: the playground")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2], metavar="0,1,2", help="a run of each cell for each")
    parser.add_argument("--out", type=Path, metavar="DIR", help="tables and runs (default: reproduction/DATASET)")
    parser.add_argument("--jobs", type=_positive, default=1, help="runs at once: they share the cores, or the GPUs")
    parser.epilog = "Any option of the experiments can follow: --train.max_steps 500 --data.root data/hicodet"


def reproduce(args: argparse.Namespace) -> int:
    """Train and judge what a table of the paper needs, and write it beside the paper's numbers."""
    from hoiclip.reproduce import reproduce as run

    path = run(
        args.table, dataset=args.dataset, seeds=args.seeds, out=args.out, options=args.options, jobs=args.jobs
    )  # fmt: skip
    if path is not None:
        print(f"\n{path.read_text(encoding='utf-8')}\n{path}, figure and numbers beside it")
    return 0


# --- data ------------------------------------------------------------------------------------------


def data_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    prepare = actions.add_parser("prepare", help="download or unpack a dataset, then check it")
    prepare.add_argument("dataset", choices=("hicodet",))
    prepare.add_argument("--root", type=Path, required=True, help="folder for the dataset")
    prepare.add_argument("--archive", type=Path, help="the release as .tar, .tar.gz or .zip")
    prepare.add_argument("--url", help="where to download the archive from; goes on where it was cut off")
    prepare.add_argument("--sha256", help="expected checksum of the archive")
    check = actions.add_parser("check", help="count everything and list every defect")
    check.add_argument("source", metavar="ROOT|FILE", help="dataset folder or annotation file")
    check.add_argument("--out", type=Path, help="write the whole report as JSON here")
    check.add_argument("--defects", type=_positive, default=10, help="examples shown of each kind (default 10)")
    show = actions.add_parser("show", help="draw what the annotators saw")
    show.add_argument("source", metavar="ROOT|FILE", help="dataset folder or annotation file")
    show.add_argument("image", metavar="NUMBER|FILE_NAME", help="which image of the split")
    show.add_argument("--out", type=Path, help="picture to write (default: its name in hoiclip-out/)")
    for action in (check, show):
        action.add_argument("--split", help="train, test, ... (default: check all, show the first)")
        action.add_argument("--vocabulary", metavar="NAME|YAML", help="instead of the dataset's own")
        action.add_argument("--images", type=Path, help="image folder, instead of the one found")
        action.add_argument("--box-format", choices=("xyxy", "xywh"), help="of the JSON form, if it does not say")


def data(args: argparse.Namespace) -> int:
    """Prepare, check and look at datasets."""
    from hoiclip.data import check, open_dataset, prepare_hicodet
    from hoiclip.visualize import draw_annotations

    if args.action == "prepare":
        print(prepare_hicodet(args.root, args.archive, args.url, args.sha256).to_text(), end="")
        return 0
    source = open_dataset(args.source, vocabulary=args.vocabulary, images=args.images, box_format=args.box_format)
    if args.action == "check":
        report = check(source, split=args.split)
        print(report.to_text(args.defects), end="")
        if args.out:
            report.save(args.out)
        return 0
    picture, annotation = source.sample(args.split, args.image)
    out = args.out or Path("hoiclip-out") / f"{Path(annotation.file_name).stem}.jpg"
    save_picture(draw_annotations(picture, annotation, source.vocabulary), out)
    print(f"{annotation.file_name}: {len(annotation.pairs)} pairs -> {out}")
    return 0


# --- bench -----------------------------------------------------------------------------------------


def bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the full-size model, seeded weights)")
    parser.add_argument("--backends", default="torch", metavar="torch,compile,...", help="also onnx, openvino")
    parser.add_argument("--precisions", default="fp32", metavar="fp32,bf16,...", help="also int8")
    parser.add_argument("--size", default="800x1066", metavar="HEIGHTxWIDTH,...", help="what the detector sees")
    parser.add_argument("--batch", default="1", metavar="1,16,...", help="pictures per forward pass")
    parser.add_argument("--repeats", type=_positive, default=7, help="of each timing (default 7)")
    parser.add_argument("--images", type=_positive, default=20, help="drawn photographs to detect in (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the photographs, and of weights without --model")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--out", type=Path, help="write every number as JSON here")


def bench(args: argparse.Namespace) -> int:
    """Measure backends: time, memory, operations and answers beside our own eager fp32."""
    from hoiclip.bench import bench as run
    from hoiclip.bench import parse_batches, parse_names, parse_sizes, table
    from hoiclip.files import write_text

    results = run(
        args.model,
        backends=parse_names("--backends", args.backends),
        precisions=parse_names("--precisions", args.precisions),
        sizes=parse_sizes(args.size),
        batches=parse_batches(args.batch),
        device=args.device,
        repeats=args.repeats,
        images=args.images,
        seed=args.seed,
        progress=lambda line: print(f"hoiclip: {line}", file=sys.stderr, flush=True),
    )
    print(table(results))
    if args.out:
        write_text(args.out, json.dumps(results, indent=1) + "\n")
    return 0


# --- playground ------------------------------------------------------------------------------------


def playground_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("pretrain", "measure", "pack"), help="what to do with it")
    parser.add_argument("part", metavar="clip|detector|RUN", help="which part; for pack, a run of hoiclip train")
    parser.epilog = (
        "Further options of pretrain: --out FOLDER (needed) --seed --samples --batch --lr --bf16 --start-from; "
        "of measure: --model --seed --scenes; of pack, which halves a finished run's weights: --out"
    )


def playground(args: argparse.Namespace) -> int:
    """Make, measure and pack the parts of the miniature world that are shipped."""
    from hoiclip.playground import parts

    parts.main(args.action, [args.part, *args.options])
    return 0


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None]]] = {
    "demo": (demo, demo_arguments),
    "detect": (detect, detect_arguments),
    "convert": (convert, convert_arguments),
    "export": (export, export_arguments),
    "train": (train, train_arguments),
    "evaluate": (evaluate, evaluate_arguments),
    "verbs": (verbs, verbs_arguments),
    "reproduce": (reproduce, reproduce_arguments),
    "data": (data, data_arguments),
    "bench": (bench, bench_arguments),
    "playground": (playground, playground_arguments),
}

TAKE_OPTIONS = ("train", "evaluate", "verbs", "reproduce", "playground")  # parsed where they are used


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; complaints about what the user gave are one sentence and exit code 2."""
    parser = argparse.ArgumentParser(prog="hoiclip", description="Human-object interaction detection.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (run, arguments) in COMMANDS.items():
        summary = (run.__doc__ or "").splitlines()[0]
        arguments(commands.add_parser(name, help=summary, description=summary))
    args, options = parser.parse_known_args(argv)
    if options and args.command not in TAKE_OPTIONS:
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    args.options = options
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        return COMMANDS[args.command][0](args)
    except HoiError as error:
        print(f"hoiclip: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # "| head" has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        advice = "; what is written stays, --resume goes on from there" if "resume" in args else ""
        print(f"hoiclip: interrupted{advice}", file=sys.stderr)
        return INTERRUPTED


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seeds(text: str) -> list[int]:
    seeds = text.split(",")
    if not all(seed.strip().isdecimal() for seed in seeds):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers such as 0,1,2")
    return list(dict.fromkeys(map(int, seeds)))


def _whole(text: str) -> int:
    if not text.strip().isdigit():
        raise HoiError(f"--sweep: {text!r} is not a whole number")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
