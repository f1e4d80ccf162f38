"""``hoiclip data``: datasets prepared, checked and drawn; labels of other tools read and written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.cli.arguments import offline_argument, positive_int, probability
from hoiclip.errors import HoiError
from hoiclip.words import split_words

if TYPE_CHECKING:
    from hoiclip.data.dataset import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of this command and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    prepare = actions.add_parser("prepare", help="fetch what is missing of a dataset, or unpack it, then check it")
    prepare.add_argument("dataset", choices=("hicodet",), help="which one")
    prepare.add_argument("--root", type=Path, required=True, help="folder for the dataset")
    prepare.add_argument("--archive", type=Path, help="the release as .tar, .tar.gz or .zip")
    prepare.add_argument("--url", help="where to download the archive from; goes on where it was cut off")
    prepare.add_argument("--sha256", help="expected checksum of the archive")
    prepare.add_argument("--shares", action="store_true", help="fetch the published 5 to 50 %% of the annotations too")
    offline_argument(prepare)
    check = actions.add_parser("check", help="count everything and list every defect")
    check.add_argument("source", metavar="ROOT|FILE", help="dataset folder or annotation file")
    check.add_argument("--out", type=Path, help="write the whole report as JSON here")
    check.add_argument("--defects", type=positive_int, default=10, help="examples shown of each kind (default 10)")
    show = actions.add_parser("show", help="draw the annotations of an image")
    show.add_argument("source", metavar="ROOT|FILE", help="dataset folder or annotation file")
    show.add_argument(
        "image",
        nargs="?",
        metavar="NUMBER|FILE_NAME",
        help="which image of the split (--augmented: default the first ones)",
    )
    show.add_argument(
        "--augmented", type=positive_int, metavar="N",
        help="draw N times what training sees of the image, or once of each of the first N images",
    )  # fmt: skip
    show.add_argument(
        "--experiment",
        metavar="CONFIG",
        default="custom",
        help="whose augmentation: name or YAML file (default custom)",
    )
    show.add_argument("--seed", type=int, default=0, help="of the augmentation (default 0)")
    show.add_argument("--out", type=Path, help="drawing to write (default: the image's name in hoiclip-out/)")
    _label_arguments(actions)
    _detection_arguments(actions)
    for action in (check, show):
        action.add_argument("--split", help="train, test, ... (default: check all, show the first)")
        action.add_argument("--vocabulary", metavar="NAME|YAML", help="instead of the dataset's own")
        action.add_argument("--images", type=Path, help="image folder, instead of the one found")
        action.add_argument("--box-format", choices=("xyxy", "xywh"), help="of the JSON form, if it does not say")


def _label_arguments(actions: Any) -> None:
    """The actions between a folder of one's own and a labelling tool."""
    bring = actions.add_parser("import", help="make a folder of your own from a labelling tool's export")
    bring.add_argument("file", type=Path, metavar="FILE", help="what the tool exported")
    bring.add_argument(
        "--from", dest="form", choices=("label-studio", "cvat", "coco"), required=True, help="which tool"
    )
    bring.add_argument("--out", type=Path, required=True, help="new folder to write")
    bring.add_argument("--images", type=Path, help="folder of the images (default: beside FILE, or in images/ there)")
    bring.add_argument("--link", action="store_true", help="make links to the images instead of copies")
    bring.add_argument("--test-share", type=probability, default=0.2, help="share of test images (default 0.2)")
    bring.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    bring.add_argument("--people", type=names, default=["person"], metavar='"man, woman"', help="labels of people")
    bring.add_argument("--vocabulary", metavar="NAME|YAML", help="words to keep to (default: those that occur)")
    give = actions.add_parser("export", help="write a dataset in the form of a labelling tool")
    give.add_argument("source", metavar="ROOT|FILE", help="dataset folder or annotation file")
    give.add_argument("--to", dest="form", choices=("coco", "label-studio"), required=True, help="which form")
    give.add_argument("--out", type=Path, required=True, help="file to write")
    give.add_argument("--split", help="train, test, ... (default: all)")
    give.add_argument("--images", type=Path, help="image folder, instead of the one found")


def _detection_arguments(actions: Any) -> None:
    convert = actions.add_parser("convert-detections", help="write anybody's detections in the form of another program")
    convert.add_argument("file", type=Path, metavar="FILE", help="file or folder in any form of docs/compare.md")
    convert.add_argument(
        "--to", dest="form", choices=("jsonl", "parquet", "qpic", "coco", "hico-mat", "vcoco-pickle"), required=True,
        help="which form; qpic is PPDM's, CDN's and GEN-VLKT's, too",
    )  # fmt: skip
    convert.add_argument("--out", type=Path, required=True, help="file to write; a folder for parquet and hico-mat")
    convert.add_argument(
        "--annotations", type=Path, help="dataset folder or annotation file of these images; .mat files need it"
    )
    convert.add_argument("--split", help="train, test, ... of a dataset folder (default: test, else the first)")
    convert.add_argument("--vocabulary", metavar="NAME|YAML", help="default: that of the annotations, else hico")


def names(text: str) -> list[str]:
    """Words between commas."""
    found = [word for word in split_words(text) if word]
    if not found:
        raise argparse.ArgumentTypeError("name at least one label")
    return found


def run(args: argparse.Namespace) -> int:
    """Do one of the actions."""
    if args.action in ("import", "export"):
        return _exchange(args)
    if args.action == "convert-detections":
        return _convert_detections(args)
    from hoiclip.data import check, open_dataset, prepare_hicodet
    from hoiclip.data.annotations import draw_annotations
    from hoiclip.files import sole_writer
    from hoiclip.images import save_image

    if args.action == "prepare":
        with sole_writer(args.root):
            report = prepare_hicodet(args.root, args.archive, args.url, args.sha256, shares=args.shares)
        print(report.to_text(), end="")
        return 0
    dataset = open_dataset(args.source, vocabulary=args.vocabulary, images=args.images, box_format=args.box_format)
    if args.action == "check":
        report = check(dataset, split=args.split)
        print(report.to_text(args.defects), end="")
        if args.out:
            report.save(args.out)
        return 0
    if args.augmented:
        return _show_augmented(args, dataset)
    if args.image is None:
        raise HoiError("name an image, by its number or file name, or give --augmented 16")
    image, annotation = dataset.sample(args.split, args.image)
    out = args.out or Path("hoiclip-out") / f"{Path(annotation.file_name).stem}.jpg"
    save_image(draw_annotations(image, annotation, dataset.vocabulary), out)
    print(f"{annotation.file_name}: {len(annotation.pairs)} pairs -> {out}")
    return 0


def _show_augmented(args: argparse.Namespace, dataset: Dataset) -> int:
    """A sheet of what training makes of one image, or of several."""
    from hoiclip.data.annotations import draw_annotations
    from hoiclip.data.training_dataset import HoiTrainingDataset
    from hoiclip.experiments import load_experiment
    from hoiclip.images import save_image
    from hoiclip.processing import clip_view, detector_view
    from hoiclip.training.run import training_augmentation
    from hoiclip.visualization.contact_sheet import draw_grid

    experiment = load_experiment(args.experiment)
    if experiment.data.shorter is None or experiment.data.longest is None:
        raise HoiError(f"--experiment {args.experiment}: takes its size from model.start; name another, such as custom")
    augmentation = training_augmentation(experiment)
    if args.image is not None:
        samples: Any = [dataset.sample(args.split, args.image)]
        name = Path(samples[0][1].file_name).stem
    else:
        split = args.split or dataset.splits[0]
        samples = dataset.samples(split, dataset.load(split)[: args.augmented])
        name = split
    training = HoiTrainingDataset(
        samples, dataset.vocabulary, detector_view=detector_view, clip_view=clip_view, augmentation=augmentation,
        seed=args.seed,
    )  # fmt: skip
    cells = []
    for number in range(args.augmented if args.image is not None else len(training)):
        training.set_epoch(number if args.image is not None else 0)
        image, annotation = training.augmented(0 if args.image is not None else number)
        text = (
            f"{image.width} x {image.height}, {len(annotation.pairs)} pair{'' if len(annotation.pairs) == 1 else 's'}"
        )
        cells.append((draw_annotations(image, annotation, dataset.vocabulary), text))
    if not cells:
        raise HoiError(f"{args.source}: holds no image to show")
    out = args.out or Path("hoiclip-out") / f"{name}-augmented.jpg"
    save_image(draw_grid(cells), out)
    print(f"{len(cells)} views as {args.experiment} trains on them -> {out}")
    return 0


def _exchange(args: argparse.Namespace) -> int:
    """Labels from a tool, or to it."""
    from hoiclip.data import export_labels, import_labels

    if args.action == "export":
        count = export_labels(args.source, args.form, args.out, split=args.split, images=args.images)
        print(f"{args.source}: {count} images -> {args.out}")
        return 0
    report = import_labels(
        args.file,
        args.form,
        args.out,
        images=args.images,
        link=args.link,
        test_share=args.test_share,
        seed=args.seed,
        people=args.people,
        vocabulary=args.vocabulary,
    )
    print(report.to_text(), end="")
    return 0


def _convert_detections(args: argparse.Namespace) -> int:
    """Detections from one form to another."""
    from hoiclip.data import open_dataset
    from hoiclip.errors import HoiError
    from hoiclip.evaluation import load_detections
    from hoiclip.evaluation.written_forms import write_detections
    from hoiclip.vocabulary import HoiVocabulary

    sizes, vocabulary = None, HoiVocabulary.coerce(args.vocabulary or "hico")
    if args.annotations is not None:
        dataset = open_dataset(args.annotations, vocabulary=args.vocabulary)
        split = args.split or ("test" if "test" in dataset.splits else dataset.splits[0])
        sizes, vocabulary = {image.file_name: image.size for image in dataset.load(split)}, dataset.vocabulary
    elif args.form == "hico-mat":
        raise HoiError("hico-mat holds a column for every test image: name them with --annotations")
    found = load_detections(args.file, vocabulary, sizes, sizes=sizes)
    write_detections(found, args.form, args.out, None if sizes is None else list(sizes))
    print(f"{args.file}: {sum(map(len, found.values())):,} detections in {len(found):,} images -> {args.out}")
    return 0
