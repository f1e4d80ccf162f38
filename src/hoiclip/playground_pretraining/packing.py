"""Measurements of the playground's parts, and how a finished run becomes small enough to be shipped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoTokenizer, CLIPModel, DetrForObjectDetection

from hoiclip.checkpoints.folders import save_model
from hoiclip.errors import HoiError
from hoiclip.experiments.loading import load_experiment
from hoiclip.models.modeling import HoiClipModel
from hoiclip.playground.dataset import PlaygroundDataset
from hoiclip.playground_pretraining.clip import measure_clip
from hoiclip.playground_pretraining.detector import measure_detector
from hoiclip.playground_pretraining.loop import halve_weights, write_provenance
from hoiclip.processing import HoiClipProcessor
from hoiclip.training.callbacks import read_log
from hoiclip.vocabulary import HoiVocabulary


def measure(part: str, model: Path, seed: int, scenes: int) -> dict[str, float]:
    """How good a mini CLIP or detector is on held-out scenes, uniform over interactions.

    Args:
        part: ``clip`` (see :func:`measure_clip`) or ``detector`` (see :func:`measure_detector`).
        model: folder of its weights.
        seed: of the scenes.
        scenes: how many.

    Raises:
        HoiError: if there are no such weights.
    """
    vocabulary = HoiVocabulary.from_name("playground")
    kind: Any = {"clip": CLIPModel, "detector": DetrForObjectDetection}[part]
    try:
        part_model = kind.from_pretrained(model, dtype=torch.float32)
        if part == "detector":
            return measure_detector(part_model, vocabulary, seed=seed, scenes=scenes)
        return measure_clip(part_model, AutoTokenizer.from_pretrained(model), vocabulary, seed=seed, scenes=scenes)
    except (OSError, ValueError) as error:
        raise HoiError(f"{model}: holds no {part} that pretraining wrote; name its folder with --model") from error


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
    evaluated = [{k.removeprefix("eval_"): v for k, v in r.items()} for r in log if "eval_full" in r]
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
        metrics=evaluated[-1] if evaluated else {},
        held_out=f"mAP on {experiment.data.evaluation_images} uniform validation scenes of seed {experiment.data.seed}",
        history=evaluated,
    )
