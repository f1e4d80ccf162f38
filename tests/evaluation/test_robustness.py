"""Robustness: the means over corruptions, and the command that measures them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.data.corruptions import BENCHMARK, LEVELS, Corruption
from hoiclip.evaluation import load_detections, runner
from hoiclip.evaluation.robustness import Robustness
from hoiclip.vocabulary import HoiVocabulary


def test_mpc_is_the_mean_of_the_kinds_means_and_rpc_its_share_of_the_clean_value() -> None:
    corrupted = {("fog", 1): 0.4, ("fog", 2): 0.2, ("snow", 5): 0.1}
    means = {Corruption(*name): {"full": value, "rare": 0.0} for name, value in corrupted.items()}
    robustness = Robustness({"full": 0.5, "rare": 0.0}, means)
    assert robustness.of_kind("fog")["full"] == pytest.approx(0.3)
    assert robustness.mean()["full"] == pytest.approx((0.3 + 0.1) / 2)  # each kind counts once
    assert robustness.relative()["full"] == pytest.approx(0.4)
    figures = robustness.to_dict()
    assert figures["rPC"] == {"full": pytest.approx(0.4), "rare": None}
    assert figures["kinds"]["fog"]["levels"]["2"]["full"] == 0.2
    assert not figures["benchmark"]
    table = robustness.render()
    assert "clean 50.00, mPC 20.00, rPC 40.00 %" in table
    assert "the published one is over --corrupt all" in table


def test_only_all_kinds_at_all_levels_are_the_benchmark() -> None:
    every = {Corruption(kind, level): {"full": 0.25} for kind in BENCHMARK for level in LEVELS}
    whole = Robustness({"full": 0.5}, every)
    assert whole.of_the_benchmark
    assert "published" not in whole.render()
    every.pop(Corruption("fog", 3))
    assert not Robustness({"full": 0.5}, every).of_the_benchmark


def test_the_command_measures_clean_and_corrupted_and_keeps_them_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["evaluate", "playground", "--images", "12", "--device", "cpu"]
    assert main([*plain, "--out", str(tmp_path / "plain.json")]) == 0
    command = [*plain, "--corrupt", "contrast:5", "--corrupt", "jpeg_compression:1", "--out", str(tmp_path / "m.json")]
    assert main([*command, "--save-detections", str(tmp_path / "found.jsonl")]) == 0
    figures, clean = (json.loads((tmp_path / name).read_text()) for name in ("m.json", "plain.json"))
    robustness = figures.pop("robustness")
    assert figures == clean
    assert robustness["clean"]["full"] == clean["full"]
    levels = {kind: next(iter(of_kind["levels"].values()))["full"] for kind, of_kind in robustness["kinds"].items()}
    assert levels["contrast"] < 0.5 * clean["full"] < levels["jpeg_compression"]
    mean = (levels["contrast"] + levels["jpeg_compression"]) / 2
    assert robustness["mPC"]["full"] == pytest.approx(mean)
    assert robustness["rPC"]["full"] == pytest.approx(mean / clean["full"])
    assert "jpeg_compression" in capsys.readouterr().out
    files = [tmp_path / f"found{name}.jsonl" for name in ("", ".contrast-5", ".jpeg_compression-1")]
    words = HoiVocabulary.from_name("playground")
    best = [max(float(d.scores.max()) for d in load_detections(file, words).values()) for file in files]
    assert len(set(best)) == 3
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_cut_off_evaluation_goes_on_with_the_same_corruption_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detected: list[str] = []
    original = runner.detect_samples

    def watched(*args: Any, **options: Any) -> Iterator[Any]:
        for item in original(*args, **options):
            detected.append(item[0])
            yield item
            if len(detected) == 5:  # three clean ones and two in fog
                raise KeyboardInterrupt

    monkeypatch.setattr(runner, "detect_samples", watched)
    command = ["evaluate", "playground", "--images", "3", "--device", "cpu", "--corrupt", "fog:5"]
    command += ["--evaluation.batch_size", "1", "--save-detections", str(tmp_path / "found.jsonl")]
    main(command)
    assert len(detected) == 5
    begun = (tmp_path / "found.fog-5.jsonl").read_text().splitlines()
    assert len(begun) == 2
    detected[:] = [""] * 10
    assert main([*command, "--corrupt-seed", "1"]) == 0  # other fog: only the clean ones are taken over
    assert len(detected) == 10 + 3
    other = (tmp_path / "found.fog-5.jsonl").read_text().splitlines()
    assert other[:2] != begun
    detected[:] = []
    main(command)
    detected[:] = [""] * 10
    assert main(command) == 0
    assert len(detected) == 10 + 1
    assert (tmp_path / "found.fog-5.jsonl").read_text().splitlines()[:2] == begun


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--corrupt", "fogg"], "did you mean fog"),
        (["--corrupt", "fog:9"], "the level is a number from 1 to 5"),
        (["--corrupt", "fog", "--report", "r"], "leave out --report"),
        (["--corrupt", "fog", "--sweep", "0,5"], "leave out --sweep"),
        (["--corrupt", "fog", "--detections", "mine.jsonl"], "leave out --detections"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_before_anything_runs(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "playground", *options]) == BAD_INPUT
    assert told in capsys.readouterr().err
