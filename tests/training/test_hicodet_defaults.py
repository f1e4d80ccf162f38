"""``hoiclip train hicodet`` on a small HICO-DET in both official forms, everything at its published default."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from hicodet_of_the_playground import write_hicodet
from training_world import losses, write_parts

from hoiclip import HoiClipModel, HoiVocabulary
from hoiclip.data.hicodet import load_hicodet
from hoiclip.experiments.loading import load_experiment
from hoiclip.training.run import train


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("form", ["json", "mat"])
def test_a_run_from_either_official_form_has_the_published_defaults(form: str, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    root = write_hicodet(tmp_path / "hicodet", forms=[form])
    given = {"data.root": root, "out": tmp_path / "run", "model.detr": parts / "detr", "model.clip": parts / "clip"}
    miniature = {"model.interaction_layers": 2, "model.interaction_heads": 4}  # the parts are small ones
    cost = {"train.epochs": 1, "evaluation.every": 0, "train.cpu": True, "train.progress": False, "data.workers": 0,
            "train.log_every": 1}  # fmt: skip
    changed = {**given, **miniature, **cost}
    run = train("hicodet", [f"--{name}={json.dumps(v) if isinstance(v, bool) else v}" for name, v in changed.items()])
    written, defaults = yaml.safe_load((run / "config.yaml").read_text()), asdict(load_experiment("hicodet"))
    for group in ("data", "model", "verbs", "train"):
        for name, value in defaults[group].items():
            if f"{group}.{name}" not in changed:
                assert written[group][name] == value, name
    assert list(losses(run)) == [1, 2, 3, 4]  # 64 images in batches of 16
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses(run).values())
    model = HoiClipModel.from_pretrained(run)
    assert model.config.detector.dropout == model.config.detector.attention_dropout == 0.1
    assert model.config.detector.activation_dropout == 0.1

    record = json.loads((run / "data.json").read_text())
    assert (record["images"], record["file"]["without_pairs"], record["file"]["out_of_range"]) == (64, 0, 0)
    assert record["labels"] == 209
    annotated = load_hicodet(root, "train")
    distinct = sum(len({tuple(pair) for pair in image.pairs.tolist()}) for image in annotated)
    assert record["file"]["pairs"] == distinct
    # 129 of 202 are left, of the 126 that there are: in three the copies lie too far apart for such small boxes
    assert record["file"]["merged_pairs"] == (0 if form == "json" else 73)
    assert record["file"]["merge_near_copies"] == (None if form == "json" else 0.5)
    assert sum(record["instances"].values()) == 209
    assert len(record["instances"]) == HoiVocabulary.from_name("hico").num_interactions
