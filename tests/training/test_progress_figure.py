"""What is seen of a run: ``training.png``, and where else its log goes."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from PIL import Image

from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.errors import HoiError
from hoiclip.experiments.loading import load_experiment
from hoiclip.training.arguments import training_arguments
from hoiclip.training.progress_figure import draw_training


def test_the_picture_shows_the_loss_its_terms_on_the_last_layer_and_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        {"step": step, "loss": 10 / step, "loss_obj_ce": 2 / step, "loss_obj_ce_0": 9.0, "learning_rate": rate}
        for step, rate in ((10, 1e-4), (20, 1e-4), (30, 1e-5))
    ] + [{"step": 30, "eval_full": 0.25, "eval_non_rare": 0.5, "eval_max_recall": 0.9}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4')
    drawn: dict[str, tuple[list[float], list[float]]] = {}
    falls: list[float] = []
    plot, vertical = Axes.plot, Axes.axvline

    def watched(self: Axes, x: list[float], y: list[float], **options: object) -> object:
        drawn[str(options["label"])] = list(x), list(y)
        return plot(self, x, y, **options)

    monkeypatch.setattr(Axes, "plot", watched)
    monkeypatch.setattr(Axes, "axvline", lambda self, x, **o: falls.append(x) or vertical(self, x, **o))
    assert draw_training(tmp_path) == tmp_path / "training.png"
    assert drawn == {
        "all together, weighted": ([10, 20, 30], [1.0, 0.5, pytest.approx(1 / 3)]),
        "object class": ([10, 20, 30], [0.2, 0.1, pytest.approx(2 / 30)]),
        "full": ([30], [25.0]),
        "non-rare": ([30], [50.0]),
    }
    assert falls == [30, 30]
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 800


def test_a_run_that_logged_nothing_has_no_picture(tmp_path: Path) -> None:
    assert draw_training(tmp_path) is None
    (tmp_path / "log.jsonl").write_text('{"step": 1, "epoch": 1.0}\n')
    assert draw_training(tmp_path) is None
    assert not (tmp_path / "training.png").exists()


def test_nothing_is_reported_elsewhere_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_arguments(load_experiment("playground")).report_to == []
    board = types.ModuleType("tensorboard")
    board.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "tensorboard", board)
    assert training_arguments(load_experiment("playground")).report_to == []
    asked = training_arguments(load_experiment("playground", ["--train.report_to", "tensorboard"]))
    assert asked.report_to == ["tensorboard"]
    assert asked.run_name == "playground"


def test_a_package_that_is_not_installed_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HoiError, match=r"train\.report_to wandb: needs the package wandb: pip install wandb"):
        training_arguments(load_experiment("playground", ["--train.report_to", "wandb"]))
    assert main(["train", "playground", "--out", str(tmp_path / "run"), "--train.report_to", "comet"]) == BAD_INPUT
    assert "report_to" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
