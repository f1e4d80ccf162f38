"""Several exponents of the object score from one pass of the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hoiclip.backends.torch_backend import ModelBackend
from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.postprocessing import fuse_scores
from hoiclip.vocabulary import HoiVocabulary

COMMAND = ["evaluate", "playground", "--images", "12", "--device", "cpu"]


def test_the_object_score_is_raised_to_the_exponent_and_added() -> None:
    words = HoiVocabulary.from_name("playground")
    chance = np.random.default_rng(0)
    interactions, objects = chance.random((2, 5, 90)), chance.random((2, 5, len(words.objects) + 1))
    for exponent in (0, 0.5, 2, 3):
        fused = fuse_scores(interactions, objects, words, exponent)
        assert fused == pytest.approx(interactions + objects[..., words.object_ids] ** exponent)
    assert np.array_equal(fuse_scores(interactions, objects, words), fuse_scores(interactions, objects, words, 2))


def test_one_pass_gives_each_exponent_and_the_published_one_is_what_evaluate_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*COMMAND, "--out", str(tmp_path / "plain.json")]) == 0
    passes = []
    original = ModelBackend.__call__
    monkeypatch.setattr(ModelBackend, "__call__", lambda self, **i: passes.append(1) or original(self, **i))
    capsys.readouterr()
    assert main([*COMMAND, "--object-exponents", "0,2,0.5,2", "--out", str(tmp_path / "m.json")]) == 0
    assert len(passes) == 1  # 12 images of one size share a batch
    plain, swept = (json.loads((tmp_path / name).read_text()) for name in ("plain.json", "m.json"))
    assert list(swept["results"]) == ["exponent 0", "exponent 2", "exponent 0.5"]
    assert swept["results"]["exponent 2"] == plain["results"]["hoiclip"]
    values = {name: result["full"] for name, result in swept["results"].items()}
    assert len(set(values.values())) > 1
    shown = capsys.readouterr().out
    assert f"best here: {max(values, key=values.__getitem__)}. Chosen on these images its number is too good" in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--object-exponents", "1", "--corrupt", "fog"], "--object-exponents makes several evaluations of the model: "
         "leave out --corrupt"),
        (["--object-exponents", "1", "--save-detections", "d"], "leave out --save-detections"),
        (["--object-exponents", "1", "--model", "training-free"], "training-free multiplies its scores"),
    ],
)  # fmt: skip
def test_what_has_no_exponent_is_refused(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, *options]) == BAD_INPUT
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "a", "1,,2", "inf", "nan"])
def test_an_exponent_is_a_number_from_0_on(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*COMMAND, f"--object-exponents={text}"])
    assert "is no list of numbers from 0 to 100" in capsys.readouterr().err
