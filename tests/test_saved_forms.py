"""What earlier versions wrote still loads: models, exports, detections, and runs that stopped half-way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from training_world import losses, tiny_options, write_custom, write_parts

import hoiclip
from hoiclip.errors import HoiError
from hoiclip.evaluation import load_detections
from hoiclip.experiments import load_experiment
from hoiclip.training import train

SAVED = Path(__file__).parent / "saved_by_0.1"
FORMS = ["model", "exported-onnx", "exported-openvino"]


@pytest.mark.parametrize("form", FORMS)
def test_a_model_folder_of_0_1_finds_what_it_found(form: str, one_thread: None) -> None:
    detector = hoiclip.load(SAVED / form, device="cpu")
    found = detector(SAVED / "noise.png", threshold=0.0, top_k=5)
    expected = json.loads((SAVED / "detections.jsonl").read_text())["triplets"]
    assert [triplet.name for triplet in found] == [triplet["interaction"] for triplet in expected]
    np.testing.assert_allclose(found.scores, [t["score"] for t in expected], atol=1e-3)
    np.testing.assert_allclose(found.human_boxes, [t["human_box"] for t in expected], atol=0.05)
    assert (detector.model is None) == (form != "model")


def test_detections_of_0_1_are_read() -> None:
    vocabulary = hoiclip.HoiVocabulary.from_pretrained(SAVED / "model")
    (found,) = load_detections(SAVED / "detections.jsonl", vocabulary).values()
    assert len(found) == 5
    assert found.vocabulary.interaction_name(int(found.hoi_ids[0])) == "hold umbrella"


def test_a_run_of_0_1_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    shutil.copytree(SAVED / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)  # the run was started with relative paths
    write_parts(Path("parts"))
    write_custom(Path("own"))
    more = {"data__root": "own", "train__epochs": 2, "train__drop_epoch": 1, "train__resume": True}
    with pytest.raises(HoiError, match=r"was started with model\.dropout 0\.0, not 0\.1"):  # the default was another
        train("custom", tiny_options(Path("parts"), Path("run"), **more))
    more["model__dropout"] = 0.0
    out = train("custom", tiny_options(Path("parts"), Path("run"), **more))
    assert load_experiment(out / "config.yaml").train.cache_features is False
    found = losses(out)
    assert list(found) == list(range(1, 9))
    assert found[4] == pytest.approx(27.455554962158203)  # kept from then
    assert found[5] == pytest.approx(35.72937774658203, rel=0.02)  # as if it had never stopped
    assert (out / "model.safetensors").is_file()
