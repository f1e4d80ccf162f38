"""``hoiclip data``: datasets prepared, checked and drawn."""

from __future__ import annotations

import argparse
from pathlib import Path

from hoiclip.cli.arguments import offline_argument, positive_int


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
    show.add_argument("image", metavar="NUMBER|FILE_NAME", help="which image of the split")
    show.add_argument("--out", type=Path, help="drawing to write (default: the image's name in hoiclip-out/)")
    for action in (check, show):
        action.add_argument("--split", help="train, test, ... (default: check all, show the first)")
        action.add_argument("--vocabulary", metavar="NAME|YAML", help="instead of the dataset's own")
        action.add_argument("--images", type=Path, help="image folder, instead of the one found")
        action.add_argument("--box-format", choices=("xyxy", "xywh"), help="of the JSON form, if it does not say")


def run(args: argparse.Namespace) -> int:
    """Do one of the actions."""
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
    image, annotation = dataset.sample(args.split, args.image)
    out = args.out or Path("hoiclip-out") / f"{Path(annotation.file_name).stem}.jpg"
    save_image(draw_annotations(image, annotation, dataset.vocabulary), out)
    print(f"{annotation.file_name}: {len(annotation.pairs)} pairs -> {out}")
    return 0
