"""Scores that become probabilities: errors of made data, a known temperature found again, and what a model keeps."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hoiclip
from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.calibration import (
    Judged,
    adaptive_calibration_error,
    best_threshold,
    expected_calibration_error,
    fit_calibration,
    judged,
)
from hoiclip.evaluation.reports import Evaluated
from hoiclip.files import ASSETS
from hoiclip.playground.dataset import PlaygroundDataset
from hoiclip.score_calibration import CALIBRATION_FILE, Calibration, interaction_names
from hoiclip.vocabulary import HoiVocabulary

MODEL = ASSETS / "playground" / "model"
WORDS = HoiVocabulary.from_name("playground")


def made(temperature: float, bias: float, count: int = 40_000) -> Judged:
    """Detections that are right as often as sigmoid(logit(score) / temperature + bias) says."""
    chance = np.random.default_rng(5)
    logits = chance.normal(0, 2, count)
    correct = chance.random(count) < 1 / (1 + np.exp(-(logits / temperature + bias)))
    hoi_ids, image = chance.integers(0, 90, count), np.arange(count) // 10
    truth = hoi_ids[correct], image[correct]  # as if nothing was missed
    return Judged(1 / (1 + np.exp(-logits)), correct, hoi_ids, image, *truth, count // 10, WORDS)


# --- errors ------------------------------------------------------------------------------------------


def test_the_calibration_error_of_made_data_is_exact() -> None:
    probabilities = np.array([0.1] * 10 + [0.9] * 10)
    correct = np.array([True] * 3 + [False] * 7 + [True] * 5 + [False] * 5)
    for error in (expected_calibration_error, adaptive_calibration_error):
        assert error(probabilities, correct, 2) == pytest.approx((0.2 + 0.4) / 2)
        assert error(np.array([0.3] * 10), correct[:10]) >= 0
        assert math.isnan(error(np.zeros(0), np.zeros(0, dtype=bool)))
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


def test_bins_of_equal_numbers_part_what_bins_of_equal_width_lump_together() -> None:
    low = np.array([0.01] * 50 + [0.05] * 50)  # one bin of width 1/15, two of equal number
    correct = np.repeat([True, False], [3, 97])  # 6 % of the lower half
    assert expected_calibration_error(low, correct) == pytest.approx(0)
    assert adaptive_calibration_error(low, correct, 2) == pytest.approx(0.05)


# --- fitting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (2.5, 0.0), (0.5, -1.5), (1.5, 2.0)])
def test_a_known_temperature_and_bias_are_found_again(temperature: float, bias: float) -> None:
    calibration = fit_calibration(made(temperature, bias))
    assert calibration.temperature == pytest.approx(temperature, rel=0.05)
    assert calibration.bias == pytest.approx(bias, abs=0.18)  # 40,000 draws; without the bias it is 1.5 off
    errors = calibration.fitted_on["expected_calibration_error"]
    assert errors["after"] < 0.01
    if (temperature, bias) != (1, 0):
        assert errors["after"] < 0.2 * errors["before"]


def test_the_map_keeps_every_order_and_the_float_type() -> None:
    calibration = fit_calibration(made(2.5, -1.0))
    scores = np.sort(np.random.default_rng(0).random(1000)).astype(np.float32)
    probabilities = calibration.probabilities(scores)
    assert probabilities.dtype == np.float32
    assert (np.diff(probabilities) >= 0).all()
    extremes = calibration.probabilities(np.array([0.0, 1.0, 1 + 1e-7]))
    assert np.isfinite(extremes).all()
    assert (extremes >= 0).all()
    assert (extremes <= 1).all()


def test_scores_that_part_right_from_wrong_without_a_fault_have_a_finite_fit() -> None:
    found = made(1, 0, 400)
    calibration = fit_calibration(replace(found, scores=np.where(found.correct, 0.9, 0.2)))
    assert calibration.temperature > 0
    assert calibration.probabilities(np.array([0.2, 0.9])) == pytest.approx([0, 1], abs=0.01)


def test_the_threshold_is_that_of_the_best_f1_or_of_the_asked_precision() -> None:
    probabilities = np.array([0.9, 0.8, 0.6, 0.4, 0.2])
    correct = np.array([True, True, False, True, False])
    assert best_threshold(probabilities, correct, 3) == pytest.approx(0.3)  # F1 6/7
    assert best_threshold(probabilities, correct, 30) == pytest.approx(0.3)
    assert best_threshold(probabilities, correct, 3, 0.9) == pytest.approx(0.7)
    assert best_threshold(probabilities, correct, 3, 0.75) == pytest.approx(0.3)
    assert best_threshold(probabilities, correct, 3, 0.0) == pytest.approx(0.1)
    assert best_threshold(probabilities, ~correct, 3, 0.9) == pytest.approx(0.95)  # nothing has it
    assert best_threshold(np.array([0.5, 0.5, 0.1]), np.array([True, False, False]), 1) == pytest.approx(0.3)


def test_a_class_with_few_annotated_pairs_takes_the_threshold_of_all_together() -> None:
    found = made(1, 0, 4000)
    third = np.flatnonzero(found.truth_hoi_ids == 3)
    assert len(third) > 9
    fewer = (np.delete(of_truth, third[9:]) for of_truth in (found.truth_hoi_ids, found.truth_image))
    calibration = fit_calibration(replace(found, **dict(zip(("truth_hoi_ids", "truth_image"), fewer, strict=True))))
    assert calibration.thresholds[WORDS.interaction_name(3)] == calibration.threshold
    assert sum(value != calibration.threshold for value in calibration.thresholds.values()) > 60
    strict = fit_calibration(found, 0.9)
    assert strict.aim == "precision 0.9"
    assert strict.threshold > calibration.threshold
    precision = [one.fitted_on["precision_of_what_is_shown"]["after"] for one in (calibration, strict)]
    assert precision[0] < 0.8 < precision[1]


def test_detections_without_a_probability_or_with_nothing_to_learn_are_refused() -> None:
    boxes, ids = np.array([[0.0, 0.0, 9.0, 9.0]]), np.zeros(1, dtype=np.int64)
    words = WORDS
    image = AnnotatedImage("a.jpg", np.concatenate([boxes, boxes]), np.array([0, words.object_ids[0]]),
                           np.array([[0, 1]]), np.array([0]), (20, 20))  # fmt: skip
    one = Detections(boxes, boxes, words.object_ids[:1], words.verb_ids[:1], ids, np.ones(1), words, (20, 20))
    with pytest.raises(HoiError, match="x: not every detection has an interaction_score"):
        judged(Evaluated("x", {}, {"a.jpg": one}, [image], words))
    right = replace(one, interaction_scores=np.array([0.5]))
    with pytest.raises(HoiError, match="x: every detection is correct"):
        judged(Evaluated("x", {}, {"a.jpg": right}, [image], words))
    with pytest.raises(HoiError, match="x: no detection is correct"):
        judged(Evaluated("x", {}, {}, [image], words))


# --- what a model keeps --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, calibrated on 150 scenes by the command."""
    out = tmp_path_factory.mktemp("calibrated") / "model"
    command = ["calibrate", str(MODEL), "playground", "--images", "150", "--seed", "31", "--device", "cpu"]
    assert main([*command, "--out", str(out)]) == 0
    return out


def test_the_command_makes_a_model_whose_detections_are_probabilities(calibrated: Path) -> None:
    plain, model = hoiclip.load(MODEL, device="cpu"), hoiclip.load(calibrated, device="cpu")
    calibration = model.probabilities
    assert calibration is not None
    assert calibration.fitted_on["images"] == 150
    assert model.default_threshold == calibration.threshold
    image = PlaygroundDataset(seed=9, length=1, split="test")[0][0]
    raw, shown = (detector(image, threshold=0, top_k=100) for detector in (plain, model))
    assert raw.interaction_scores is not None
    assert shown.interaction_scores is not None
    assert np.array_equal(shown.scores, raw.scores)  # what ranks stays, bit for bit
    assert np.array_equal(shown.interaction_scores, calibration.probabilities(raw.interaction_scores))
    by_class = model(image)
    least = calibration.least(model.vocabulary)
    assert np.array_equal(by_class.hoi_ids, shown.hoi_ids[shown.confidence >= least[shown.hoi_ids]][:10])
    assert len(model(image, threshold=0.6)) == (shown.confidence >= 0.6).sum()


def test_calibration_lowers_the_error_on_scenes_it_was_not_fitted_on(
    calibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.jsonl"
    command = ["evaluate", "playground", "--images", "150", "--seed", "77", "--device", "cpu"]
    figures = []
    for name, model in (("a", MODEL), ("b", calibrated)):
        options = ["--model", str(model), "--out", str(tmp_path / name)]
        assert main([*command, *options, "--save-detections", str(file)]) == 0
        figures.append(((tmp_path / name).read_text(), file.read_text()))
    assert figures[0] == figures[1]  # evaluation uses the scores as they are

    from hoiclip.detection_files import load_detections

    scenes = PlaygroundDataset(77, 150, "test", WORDS)
    found = judged(Evaluated("x", {}, load_detections(file, WORDS), [scenes.annotation(i) for i in range(150)], WORDS))
    calibration = Calibration.read(calibrated, WORDS)
    assert calibration is not None
    for error in (expected_calibration_error, adaptive_calibration_error):
        before, after = (error(p, found.correct) for p in (found.scores, calibration.probabilities(found.scores)))
        assert after < 0.6 * before


def test_other_words_take_the_threshold_of_all_together(calibrated: Path) -> None:
    model = hoiclip.load(calibrated, device="cpu", vocabulary=WORDS.with_verbs(["hold", "paint"]))
    calibration = model.probabilities
    assert calibration is not None
    least = dict(zip(interaction_names(model.vocabulary), calibration.least(model.vocabulary).tolist(), strict=True))
    assert least["hold ball"] == calibration.thresholds["hold ball"]
    assert least["paint ball"] == calibration.threshold
    kept = calibration.for_vocabulary(model.vocabulary)
    assert kept.thresholds == least


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:40],
        lambda text: "[]",
        lambda text: text.replace('"bias": ', '"bias": 1e999, "bias_": '),
        lambda text: json.dumps({**json.loads(text), "temperature": 0}),
        lambda text: json.dumps({**json.loads(text), "threshold": 1.5}),
        lambda text: json.dumps({**json.loads(text), "bias": "low"}),
        lambda text: json.dumps({**json.loads(text), "thresholds": [0.5]}),
    ],
)
def test_a_damaged_calibration_is_told_in_one_sentence(calibrated: Path, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / CALIBRATION_FILE
    file.write_text(change((calibrated / CALIBRATION_FILE).read_text()))
    with pytest.raises(HoiError, match=r"calibration\.json: cannot be read as hoiclip calibrate wrote it; run hoiclip"):
        Calibration.read(tmp_path, WORDS)


def test_a_calibration_of_other_interactions_is_refused(
    calibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "model"
    shutil.copytree(calibrated, broken)
    content = json.loads((broken / CALIBRATION_FILE).read_text())
    content["thresholds"]["ride unicycle"] = content["thresholds"].pop("hold ball")
    (broken / CALIBRATION_FILE).write_text(json.dumps(content))
    assert main(["detect", "absent.jpg", "--model", str(broken)]) == BAD_INPUT
    with pytest.raises(HoiError, match="was made for other interactions than those of the model beside it"):
        hoiclip.load(broken, device="cpu")


def test_an_export_keeps_the_calibration(calibrated: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from hoiclip.inference.export import export

    export(calibrated, tmp_path / "fast", "openvino")
    assert Calibration.read(tmp_path / "fast", WORDS) == Calibration.read(calibrated, WORDS)
    assert hoiclip.load(tmp_path / "fast").probabilities is not None


def test_a_push_takes_the_calibration_along(calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(files: dict[str, Path], *_: object, **__: object) -> str:
        for name, file in files.items():
            shutil.copyfile(file, tmp_path / name)
        return "commit"

    monkeypatch.setattr("hoiclip.inference.push.push_files", keep)
    hoiclip.load(calibrated, device="cpu").push_to_hub("owner/name")
    assert Calibration.read(tmp_path, WORDS) == Calibration.read(calibrated, WORDS)


def test_detect_shows_a_class_from_its_own_threshold_on_unless_one_is_given(
    calibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(calibrated, model)
    known = Calibration.read(model, WORDS)
    assert known is not None
    thresholds = {name: 0.8 if WORDS.verbs[WORDS.verb_ids[k]] == "hold" else 0.1
                  for k, name in enumerate(interaction_names(WORDS))}  # fmt: skip
    replace(known, thresholds=thresholds).save(model)
    scenes = PlaygroundDataset(seed=9, length=12, split="test")
    files = [str(tmp_path / f"{i}.png") for i in range(12)]
    for i, file in enumerate(files):
        scenes[i][0].save(file)

    def shown(*options: str) -> list[tuple[str, float]]:
        command = ["detect", *files, "--model", str(model), "--device", "cpu", "--no-pictures", "--top-k", "100"]
        assert main([*command, "--out", str(tmp_path / "out"), *options]) == 0
        lines = (tmp_path / "out" / "detections.jsonl").read_text().splitlines()
        return [(t["interaction"], t["interaction_score"]) for line in lines for t in json.loads(line)["triplets"]]

    every = shown("--threshold", "0.05")
    by_class = [(name, p) for name, p in every if p >= thresholds[name]]
    assert shown() == by_class
    assert len({thresholds[name] for name, _ in by_class}) == 2
    assert len(by_class) < sum(p >= 0.1 for _, p in every)
    assert shown("--resume") == by_class

    lines = (tmp_path / "out" / "detections.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out" / "detections.jsonl").write_text("".join(lines[:5]))
    assert shown("--resume") == by_class  # goes on
    (tmp_path / "out" / "detections.jsonl").write_text("".join(lines[:5]))
    replace(known, bias=known.bias + 1, thresholds=thresholds).save(model)
    command = ["detect", *files, "--model", str(model), "--device", "cpu", "--no-pictures", "--top-k", "100"]
    assert main([*command, "--out", str(tmp_path / "out"), "--resume"]) == BAD_INPUT
    assert "from before the model was calibrated, or calibrated otherwise" in capsys.readouterr().err
    annotations = tmp_path / "test.json"
    save_hoia([replace(scenes.annotation(i), file_name=f"{i}.png") for i in range(12)], annotations, WORDS)
    calibrate = [
        "calibrate",
        str(calibrated),
        "custom",
        "--vocabulary",
        "playground",
        "--annotations",
        str(annotations),
    ]
    found = ["--detections", str(tmp_path / "out" / "detections.jsonl"), "--out", str(tmp_path / "again")]
    assert main([*calibrate, *found]) == BAD_INPUT
    assert "holds scores that are calibrated already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["training-free", "playground"], "has no folder to keep a calibration in"),
        ([str(MODEL), "custom", "--seed", "3", "--out", "o"], "--seed chooses playground scenes"),
        ([str(MODEL), "vcoco", "--evaluation.protocol", "vcoco", "--out", "o"], "not V-COCO's roles"),
        ([str(MODEL), "playground", "--out", "."], "is there already; name another --out"),
        (["no-such-model", "playground"], "no such model folder"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *options]) == BAD_INPUT
    assert told in capsys.readouterr().err
