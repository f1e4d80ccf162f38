"""``finetune``: a trained model taken on to one's own images, at the sizes it knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_world import write_custom

import hoiclip
from hoiclip import published
from hoiclip.cli import main
from hoiclip.errors import HoiError
from hoiclip.experiments import load_experiment
from hoiclip.training.initial_model import settled_by_start
from hoiclip.training.run import train

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "own_data.py"


def test_a_start_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "finetune", "--data.root", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "model.start is missing: give the folder of a trained model, --model.start MODEL" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_sizes_are_those_of_the_start_and_what_is_learned_at_is_near_it() -> None:
    data = settled_by_start(load_experiment("finetune", ["--model.start=playground"])).data
    assert (data.shorter, data.longest) == (128, 128)
    assert (data.scales, data.crop) == ([112, 120, 128], 0)


def test_sizes_that_are_given_stay() -> None:
    options = ["--model.start=playground", "--data.longest=200", "--data.scales=[100]"]
    data = settled_by_start(load_experiment("finetune", options)).data
    assert (data.shorter, data.longest, data.scales) == (128, 200, [100])
    options = ["--model.start=playground", "--data.shorter=100"]
    data = settled_by_start(load_experiment("finetune", options)).data
    assert (data.shorter, data.longest, data.scales) == (100, 128, list(published.SCALES))


@pytest.mark.parametrize(
    ("option", "name"),
    [("--data.shorter=null", "data.shorter"), ("--data.longest=null", "data.longest"),
     ("--model.dropout=null", "model.dropout")],
)  # fmt: skip
def test_null_without_a_start_is_told(option: str, name: str) -> None:
    with pytest.raises(HoiError, match=rf"{name} is null, which takes it from a model to start from"):
        settled_by_start(load_experiment("custom", [option]))


def test_a_run_keeps_what_the_start_was_and_says_all_it_took(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model.start": "playground", "data.root": write_custom(tmp_path / "mine"), "out": tmp_path / "run",
        "train.max_steps": 1, "train.batch_size": 2, "train.cpu": True, "train.progress": False, "data.workers": 0,
        "evaluation.every": 0, "train.checkpoint_every": 0,
    }  # fmt: skip
    out = train("finetune", [f"--{name}={value}" for name, value in options.items()])
    detector = hoiclip.load(out, device="cpu")
    assert (detector.processor.shortest_edge, detector.processor.longest_edge) == (128, 128)
    assert detector.model is not None
    assert detector.model.vocabulary is not None
    assert detector.model.vocabulary.verbs == ("ride", "hold", "feed")
    assert detector.model.config.detector.dropout == 0  # as the shipped model was trained
    written = yaml.safe_load((out / "config.yaml").read_text())
    assert (written["data"]["shorter"], written["model"]["start"]) == (128, "playground")


@pytest.mark.slow
def test_forty_labelled_scenes_of_another_camera_make_the_model_better_on_others(tmp_path: Path) -> None:
    """The whole way by its commands: export, import, check, evaluate, finetune, evaluate."""
    command = [sys.executable, str(BENCHMARK), "--out", str(tmp_path / "all"), "--train.cpu", "--train.progress=false"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "32 images to learn from, 8 to test on" in done.stdout
    assert done.stdout.count("no defects") == 2
    before, after = (
        float(re.search(rf"^\| {when} \|.*\| ([\d.]+) % \|$", done.stdout, re.MULTILINE).group(1))
        for when in ("before", "after")
    )
    assert before < 20  # 12 where it was measured
    assert after > before + 6  # 15 more where it was measured; nothing learned gives nothing more
