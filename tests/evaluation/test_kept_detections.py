"""No image takes the work on the others with it: bad files are told first, and what was detected stays on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import tiny_clip, tiny_detector, tiny_model
from training_world import write_custom, write_parts

from hoiclip import Detections, HoiVocabulary
from hoiclip.checkpoints.folders import save_model
from hoiclip.cli import command_parser, main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.cli.evaluate import _kept_detections
from hoiclip.data import open_dataset
from hoiclip.data.samples import Subset, check_images
from hoiclip.errors import HoiError
from hoiclip.evaluation import runner
from hoiclip.experiments import load_experiment


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``scenes`` with four test images, and ``model`` that knows their words."""
    folder = tmp_path_factory.mktemp("world")
    write_custom(folder / "scenes")
    vocabulary = HoiVocabulary.from_yaml(folder / "scenes" / "vocabulary.yaml")
    model = tiny_model(vocabulary=vocabulary, detector=tiny_detector(), clip=tiny_clip())
    save_model(model, folder / "model")
    return folder


@pytest.fixture
def scenes(world: Path, tmp_path: Path) -> Path:
    shutil.copytree(world / "scenes", tmp_path / "scenes")
    return tmp_path / "scenes"


def evaluate(world: Path, scenes: Path, out: Path, *more: str) -> int:
    options = ["--data.root", str(scenes), "--model", str(world / "model"), "--evaluation.batch_size", "1"]
    return main(["evaluate", "custom", *options, "--save-detections", str(out / "d.jsonl"), *more])


def detected(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """The names of images that are detected from now on, filled as they are; then a crash."""
    names: list[str] = []
    original = runner.detect_samples

    def watched(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for name, found in original(*args, **kwargs):
            names.append(name)
            yield name, found
            if len(names) == stop_after:
                raise KeyboardInterrupt

    monkeypatch.setattr(runner, "detect_samples", watched)
    return names


def test_a_cut_off_image_is_told_before_anything_starts(
    world: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = scenes / "images" / "test002.png"
    broken.write_bytes(broken.read_bytes()[:-400])
    assert evaluate(world, scenes, tmp_path) == BAD_INPUT
    told = capsys.readouterr().err
    assert "test002.png: is damaged" in told
    assert "1 of 4 images cannot be used" in told
    assert not (tmp_path / "d.jsonl").exists()


@pytest.mark.parametrize("command", ["train", "verbs"])
def test_training_and_verbs_tell_it_before_anything_starts(
    command: str, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = write_parts(tmp_path / "parts")
    (scenes / "images" / "train003.png").write_bytes(b"")
    (scenes / "images" / "train005.png").unlink()
    options = ["--data.root", str(scenes), "--model.detr", str(parts / "detr"), "--model.clip", str(parts / "clip")]
    assert main([command, "custom", *options, "--out", str(tmp_path / "out")]) == BAD_INPUT
    told = capsys.readouterr().err
    assert "train003.png: is empty" in told
    assert "2 of 8 images cannot be used" in told
    assert not list(tmp_path.glob("out*/checkpoint-*"))


def test_an_image_that_only_decoding_shows_costs_no_other(
    world: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "check_images", lambda *args, **kwargs: None)
    broken = scenes / "images" / "test002.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-400])
    assert evaluate(world, scenes, tmp_path, "--out", str(tmp_path / "m.json")) == BAD_INPUT
    assert "1 of 4 images cannot be read, so there are no metrics" in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()
    lines = (tmp_path / "d.jsonl").read_text().splitlines()
    assert [json.loads(line)["file_name"] for line in lines] == ["test000.png", "test001.png", "test003.png"]

    broken.write_bytes(whole)
    again = detected(monkeypatch)
    assert evaluate(world, scenes, tmp_path) == 0
    assert again == ["test002.png"]


def test_a_cut_off_evaluation_goes_on_to_the_same_numbers(
    world: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    assert evaluate(world, scenes, tmp_path / "whole", "--out", str(tmp_path / "whole" / "m.json")) == 0
    with monkeypatch.context() as patch:
        detected(patch, stop_after=2)
        assert evaluate(world, scenes, tmp_path / "cut") not in (0, BAD_INPUT)
    with (tmp_path / "cut" / "d.jsonl").open("a") as file:
        file.write('{"file_name": "test0')  # a line that the crash cut
    rest = detected(monkeypatch)
    assert evaluate(world, scenes, tmp_path / "cut", "--out", str(tmp_path / "cut" / "m.json")) == 0
    assert "going on after 2 images" in capsys.readouterr().err
    assert rest == ["test002.png", "test003.png"]
    for name in ("d.jsonl", "m.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["d.jsonl", "m.json"]


@pytest.mark.parametrize("other", ["option", "model", "finished"])
def test_detections_of_another_model_or_option_are_never_taken_over(
    other: str, world: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(world / "model", tmp_path / "model").parent
    with monkeypatch.context() as patch:
        detected(patch, stop_after=None if other == "finished" else 2)
        evaluate(model, scenes, tmp_path)
    if other == "model":
        (model / "model" / "model.safetensors").touch()
    more = ["--model.zero_shot_top_k", "3"] if other == "option" else []
    names = detected(monkeypatch)
    assert evaluate(model, scenes, tmp_path, *more) == 0
    assert names == [f"test{i:03d}.png" for i in range(4)]
    assert len((tmp_path / "d.jsonl").read_text().splitlines()) == 4


def test_a_changed_part_of_training_free_is_another_model(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text("{}")
    options = ["custom", "--model", "training-free", "--clip", str(tmp_path / "clip"), "--detector", "playground"]
    args = command_parser("evaluate").parse_args([*options, "--save-detections", str(tmp_path / "d.jsonl")])
    experiment = load_experiment("custom", ["--data.root", str(scenes)])
    words = HoiVocabulary.from_yaml(scenes / "vocabulary.yaml")

    def begun() -> int:
        """How many images an evaluation begins with; then one more is found."""
        kept = _kept_detections(experiment, args, words)
        before = len(kept)
        kept[f"test{before:03d}.png"] = Detections.empty(words, (48, 48))
        return before

    assert [begun(), begun()] == [0, 1]
    (tmp_path / "clip" / "config.json").write_text('{"another": 1}')
    assert begun() == 0
    args.revision = "v2"
    assert begun() == 0


def test_the_quick_check_finds_what_decoding_would(tmp_path: Path) -> None:
    scenes = write_custom(tmp_path / "scenes")
    samples = open_dataset(scenes).samples("train")
    check_images(samples, progress=False)
    for annotation in samples.annotations:  # the same images as JPEG, under their names
        with Image.open(scenes / "images" / annotation.file_name) as image:
            image.convert("RGB").save(scenes / "images" / annotation.file_name, "JPEG", quality=95)
    sound = (scenes / "images" / "train000.png").read_bytes()
    (scenes / "images" / "train000.png").write_bytes(sound + b"\0" * 600)  # padded
    (scenes / "images" / "train001.png").write_bytes(sound + b"trailer" * 30)  # a phone's own data behind it
    check_images(samples, progress=False)
    (scenes / "images" / "train002.png").write_bytes(sound[: len(sound) // 2])
    (scenes / "images" / "train004.png").write_bytes(sound[: len(sound) // 2] + b"\0" * (len(sound) // 2))
    (scenes / "images" / "train005.png").write_bytes(b"<html>not found</html>")
    with pytest.raises(HoiError, match=r"train002.png: is damaged.*\(3 of 8 images"):
        check_images(samples, progress=False)
    with pytest.raises(HoiError, match=r"train004.png: is damaged: its last part holds zeros.*\(1 of 2 images"):
        check_images(Subset(samples, [4, 6]), progress=False)
