"""Makes the playground's pretrained parts, and measures them.

    hoiclip playground pretrain clip --out runs/clip
    hoiclip playground pretrain detector --out runs/detector
    hoiclip playground measure detector --seed 7 --scenes 1000
    hoiclip playground measure scenes
    hoiclip playground pack runs/playground --out src/hoiclip/assets/playground/model

Pretraining resumes from ``--out`` when started again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoTokenizer, CLIPModel, DetrForObjectDetection

from hoiclip.checkpoints import save_model
from hoiclip.errors import HoiError
from hoiclip.experiments import load_experiment
from hoiclip.modeling import HoiClipModel
from hoiclip.playground.clip_training import measure_clip, pretrain_clip
from hoiclip.playground.dataset import PlaygroundDataset
from hoiclip.playground.detector_training import measure_detector, pretrain_detector
from hoiclip.playground.running import halve_weights, write_provenance
from hoiclip.processing import HoiClipProcessor
from hoiclip.trainer import read_log
from hoiclip.vocabulary import HoiVocabulary

__all__ = ["main", "measure", "pack", "pretrain_clip", "pretrain_detector"]

SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "playground"


def measure(part: str, folder: Path, seed: int, scenes: int) -> dict[str, float]:
    """How good a mini CLIP or detector is on held-out scenes, uniform over interactions.

    Args:
        part: ``clip`` (see :func:`measure_clip`) or ``detector`` (see :func:`measure_detector`).
        folder: where its weights lie.
        seed: of the scenes.
        scenes: how many.

    Raises:
        HoiError: if there are no such weights.
    """
    vocabulary = HoiVocabulary.from_name("playground")
    kind: Any = {"clip": CLIPModel, "detector": DetrForObjectDetection}[part]
    try:
        model = kind.from_pretrained(folder, dtype=torch.float32)
        if part == "detector":
            return measure_detector(model, vocabulary, seed=seed, scenes=scenes)
        return measure_clip(model, AutoTokenizer.from_pretrained(folder), vocabulary, seed=seed, scenes=scenes)
    except (OSError, ValueError) as error:
        raise HoiError(f"{folder}: holds no {part} that pretraining wrote; name its folder with --model") from error


def measure_scenes(seed: int, scenes: int) -> dict[str, float]:
    """How fast training scenes are drawn, in one process: ``images_per_second``; and ``pairs`` in one of them."""
    world = PlaygroundDataset(seed, scenes)
    began = time.perf_counter()
    pairs = sum(len({tuple(pair) for pair in world[i][1].pairs.tolist()}) for i in range(scenes))
    return {"images_per_second": scenes / (time.perf_counter() - began), "pairs": pairs / scenes}


def pack(run: Path, out: Path) -> None:
    """Make the model of a finished run small enough to be shipped: fp16, with its provenance beside it.

    Args:
        run: folder of ``hoiclip train``.
        out: model folder to write.

    Raises:
        HoiError: if the run has not come to its end.
    """
    if not (run / "model.safetensors").is_file() or not (run / "config.yaml").is_file():
        raise HoiError(f"{run}: holds no finished run; give the folder of hoiclip train")
    experiment = load_experiment(run / "config.yaml")
    log = [record for _, record in read_log(run / "log.jsonl")]
    judged = [{k.removeprefix("eval_"): v for k, v in r.items()} for r in log if "eval_full" in r]
    model = HoiClipModel.from_pretrained(run, dtype=torch.float32)
    model.config.tokenizer = "playground"  # it lies beside the model; a path of this machine helps nobody
    save_model(model, out)
    HoiClipProcessor.from_pretrained(run).save_pretrained(out)
    halve_weights(out)
    write_provenance(
        out,
        command=f"hoiclip train playground --seed {experiment.seed}",
        seed=experiment.seed,
        options=yaml.safe_load(experiment.to_yaml()),
        metrics=judged[-1] if judged else {},
        held_out=f"mAP on {experiment.data.evaluation_images} uniform validation scenes of seed {experiment.data.seed}",
        history=judged,
    )


def main(action: str, arguments: Sequence[str] | None = None) -> None:
    """The command line of the actions ``pretrain``, ``measure`` and ``pack``."""
    parser = argparse.ArgumentParser(prog=f"hoiclip playground {action}", description=__doc__)
    if action == "pack":
        parser.add_argument("run", type=Path, help="folder of hoiclip train")
        parser.add_argument("--out", type=Path, required=True, help="model folder to write")
        packed = parser.parse_args(arguments)
        return pack(packed.run, packed.out)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("clip", "detector", "scenes") if action == "measure" else ("clip", "detector"):
        part = parts.add_parser(name)
        if action == "measure":
            if name != "scenes":
                part.add_argument("--model", type=Path, default=SHIPPED / name, help="folder (default: shipped)")
            part.add_argument("--seed", type=int, default=900_001, help="of the scenes (default 900001)")
            part.add_argument("--scenes", type=int, default=1000, help="how many (default 1000)")
            continue
        part.add_argument("--out", required=True, help="folder for the weights and the working checkpoint")
        part.add_argument("--seed", type=int, default=0)
        part.add_argument("--samples", type=int, default=None, help="pictures to see in all")
        part.add_argument("--batch", type=int, default=None)
        part.add_argument("--lr", type=float, default=None)
        part.add_argument("--start-from", default=None, help="folder of weights to begin with")
        part.add_argument("--device", default=None, help="cpu or cuda; by default a GPU if there is one")
        part.add_argument("--bf16", action="store_true", help="mixed precision, for CPUs with AVX-512 bf16 and GPUs")
        if name == "clip":
            part.add_argument("--crowded", action="store_true", help="second stage: fuller scenes, more crops")
        part.add_argument("--threads", type=int, default=1)
        part.add_argument("--workers", type=int, default=1)
        part.add_argument(
            "--stop-after", type=int, default=None, help="pause at the first checkpoint with so many samples"
        )
    options = vars(parser.parse_args(arguments))
    part = options.pop("part")
    if action == "measure":
        found = measure_scenes(**options) if part == "scenes" else measure(part, options.pop("model"), **options)
        print(json.dumps(found, indent=1))
        return
    given = {name: value for name, value in options.items() if value is not None}
    train: Any = {"clip": pretrain_clip, "detector": pretrain_detector}[part]
    print(train(given.pop("out"), **given))
