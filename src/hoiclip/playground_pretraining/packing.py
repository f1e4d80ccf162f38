"""Make a finished run of the playground small enough to be shipped."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from hoiclip.checkpoints.folders import save_model
from hoiclip.errors import HoiError
from hoiclip.experiments.loading import load_experiment
from hoiclip.models.modeling import HoiClipModel
from hoiclip.playground_pretraining.loop import halve_weights, write_provenance
from hoiclip.processing import HoiClipProcessor
from hoiclip.training.callbacks import read_log


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
