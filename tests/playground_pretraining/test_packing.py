"""``hoiclip playground``: its parts measured, and a run made small enough to ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.playground.dataset import PlaygroundDataset


def test_scenes_are_drawn_and_their_pairs_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["playground", "measure", "scenes", "--seed", "3", "--scenes", "6"]) == 0
    found = json.loads(capsys.readouterr().out)
    world = PlaygroundDataset(3, 6)
    assert found["pairs"] == sum(len(set(map(tuple, world[i][1].pairs.tolist()))) for i in range(6)) / 6
    assert found["images_per_second"] > 0


def test_a_folder_without_weights_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["playground", "measure", "detector", "--model", str(tmp_path)]) == BAD_INPUT
    assert f"{tmp_path}: holds no detector that pretraining wrote" in capsys.readouterr().err


def test_only_a_finished_run_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "packed"
    assert main(["playground", "pack", str(tmp_path), "--out", str(out)]) == BAD_INPUT
    assert "holds no finished run" in capsys.readouterr().err
    assert not out.exists()
