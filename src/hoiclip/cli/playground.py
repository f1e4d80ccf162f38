"""``hoiclip playground``: the pretrained parts of the miniature world, made, measured and packed.

hoiclip playground pretrain clip --out runs/clip
hoiclip playground pretrain detector --out runs/detector
hoiclip playground measure detector --seed 7 --scenes 1000
hoiclip playground measure scenes
hoiclip playground pack runs/playground --out src/hoiclip/assets/playground/model
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hoiclip.cli.arguments import positive_int, quiet_libraries
from hoiclip.files import ASSETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of this command, their parts and options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    pretrain = actions.add_parser("pretrain", help="pretrain a part; goes on where it stopped")
    parts = pretrain.add_subparsers(dest="part", required=True, metavar="PART")
    for name, summary in (
        ("clip", "the mini CLIP, on captioned scenes"),
        ("detector", "the mini DETR, on still lifes"),
    ):
        part = parts.add_parser(name, help=summary, description=f"Pretrain {summary}.")
        part.add_argument("--out", required=True, help="folder for the weights and the working checkpoint")
        part.add_argument("--seed", type=int, default=0, help="of fresh weights and scenes (default 0)")
        part.add_argument("--samples", type=positive_int, help="images to learn from in all")
        part.add_argument("--batch", type=positive_int, help="images per step")
        part.add_argument("--lr", type=float, help="highest learning rate")
        part.add_argument("--start-from", help="folder of weights to begin with")
        part.add_argument("--device", help="cpu or cuda; by default a GPU if there is one")
        part.add_argument("--bf16", action="store_true", help="mixed precision, for CPUs with AVX-512 bf16 and GPUs")
        part.add_argument("--threads", type=positive_int, default=1, help="of torch on a CPU (default 1)")
        part.add_argument("--workers", type=int, default=1, help="processes that draw scenes (default 1)")
        part.add_argument(
            "--stop-after", type=positive_int, help="pause at the first checkpoint with so many images, to go on later"
        )
        if name == "clip":
            part.add_argument("--crowded", action="store_true", help="second stage: fuller scenes, more crops")
    measure = actions.add_parser("measure", help="measure a part on held-out scenes")
    parts = measure.add_subparsers(dest="part", required=True, metavar="PART")
    for name, summary in (
        ("clip", "zero-shot accuracy"),
        ("detector", "mean average precision"),
        ("scenes", "how fast scenes are drawn"),
    ):
        part = parts.add_parser(name, help=summary, description=f"Measure {summary}.")
        if name != "scenes":
            shipped = ASSETS / "playground" / name
            part.add_argument("--model", type=Path, default=shipped, help="folder (default: the shipped one)")
        part.add_argument("--seed", type=int, default=900_001, help="of the scenes (default 900001)")
        part.add_argument("--scenes", type=positive_int, default=1000, help="how many (default 1000)")
    pack = actions.add_parser("pack", help="halve the weights of a finished run, so that it can be shipped")
    pack.add_argument("run", type=Path, help="folder of hoiclip train")
    pack.add_argument("--out", type=Path, required=True, help="model folder to write")


def run(args: argparse.Namespace) -> int:
    """Do one of the actions."""
    from hoiclip.playground_pretraining import measurement
    from hoiclip.playground_pretraining.packing import pack

    quiet_libraries()
    options = {name: value for name, value in vars(args).items() if value is not None}
    action, part = options.pop("action"), options.pop("part", None)
    if action == "pack":
        pack(args.run, args.out)
    elif action == "measure":
        found = measurement.measure_scenes(**options) if part == "scenes" else measurement.measure(part, **options)
        print(json.dumps(found, indent=1))
    else:
        from hoiclip.playground_pretraining.clip_training import ClipSettings, pretrain_clip
        from hoiclip.playground_pretraining.detector_training import DetectorSettings, pretrain_detector

        parts: dict[str, tuple[Any, Any]] = {
            "clip": (pretrain_clip, ClipSettings),
            "detector": (pretrain_detector, DetectorSettings),
        }
        pretrain, settings = parts[part]
        print(pretrain(options.pop("out"), settings(**options)))
    return 0
