"""``hoiclip evaluate``, ``train --help`` and ``data`` through the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
import typing
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_clip, tiny_detector, tiny_model

from hoiclip import Detections, HoiVocabulary
from hoiclip.checkpoints.folders import save_model
from hoiclip.cli import COMMANDS, main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.evaluation import load_detections, save_detections
from hoiclip.experiments.options import Experiment, option_sentences
from hoiclip.parquet_rows import row, write_rows

HICO = HoiVocabulary.from_name("hico")


@pytest.fixture(scope="module")
def playground_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = tiny_model(vocabulary="playground", detector=tiny_detector(), clip=tiny_clip())
    model.text_embedder = None
    save_model(model, folder)
    return folder


@pytest.fixture
def annotated(tmp_path: Path) -> tuple[Path, list[AnnotatedImage]]:
    """Two images of HICO-DET: a person on a bicycle in each."""
    hoi = HICO.interactions.index((HICO.verbs.index("ride"), HICO.objects.index("bicycle")))
    boxes = np.array([[10, 10, 60, 110], [20, 60, 90, 140]])
    images = [
        AnnotatedImage(f"{i}.jpg", boxes + i, np.array([0, 1]), np.array([[0, 1]]), np.array([hoi]), (200, 200))
        for i in range(2)
    ]
    save_hoia(images, tmp_path / "test_hico.json", HICO)
    return tmp_path / "test_hico.json", images


def found(image: AnnotatedImage, score: float) -> Detections:
    hoi = image.hoi_ids
    columns = image.human_boxes, image.object_boxes, HICO.object_ids[hoi], HICO.verb_ids[hoi], hoi
    return Detections(*columns, np.array([score]), HICO, image.size)


def test_detections_of_any_method_are_judged(
    annotated: tuple[Path, list[AnnotatedImage]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, images = annotated
    save_detections(tmp_path / "mine.jsonl", {images[0].file_name: found(images[0], 0.9)})
    arguments = [
        "--detections",
        str(tmp_path / "mine.jsonl"),
        "--annotations",
        str(file),
        "--out",
        str(tmp_path / "m.json"),
    ]
    assert main(["evaluate", "hicodet", *arguments]) == 0
    figures = json.loads((tmp_path / "m.json").read_text())
    assert figures["full"] == pytest.approx(6 / 11)  # one of two found, nothing wrong
    assert figures["non_rare"] == pytest.approx(6 / 11)
    shown = capsys.readouterr().out
    assert "official, known object" in shown
    assert "54.55" in shown
    every = figures["results"]  # all that was printed, the first one at the top as well
    assert list(every) == ["hoiclip", "official, default", "official, known object"]
    assert {k: v for k, v in figures.items() if k != "results"} == every["hoiclip"]
    assert [r["setting"] for r in every.values()] == ["default", "default", "known_object"]
    assert every["official, default"]["full"] == pytest.approx(6 / 11 / 600)  # classes without annotation count 0
    assert len(every["official, known object"]["classes"]) == 600


def test_parquet_of_many_workers_is_judged_as_lines_are(
    annotated: tuple[Path, list[AnnotatedImage]], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'hoiclip[results]'")
    file, images = annotated
    detections = {image.file_name: found(image, 0.9 - i / 10) for i, image in enumerate(images)}
    save_detections(tmp_path / "mine.jsonl", detections)
    for name, one in detections.items():
        write_rows(str(tmp_path / "mine"), [row(f"photos/{name}", one.to_dict())], "{}")
    for source, out in (("mine.jsonl", "lines.json"), ("mine", "parquet.json")):
        command = ["evaluate", "hicodet", "--detections", str(tmp_path / source), "--annotations", str(file)]
        assert main([*command, "--out", str(tmp_path / out)]) == 0
    results = json.loads((tmp_path / "parquet.json").read_text())
    assert results == json.loads((tmp_path / "lines.json").read_text())
    assert results["full"] == pytest.approx(1)


def test_rare_is_reported_by_the_fixed_list_and_by_the_training_data(
    annotated: tuple[Path, list[AnnotatedImage]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, images = annotated
    save_detections(tmp_path / "mine.jsonl", {images[0].file_name: found(images[0], 0.9)})
    command = ["evaluate", "hicodet", "--detections", str(tmp_path / "mine.jsonl"), "--annotations", str(file)]
    command += ["--out", str(tmp_path / "m.json")]
    for copies, rare, non_rare in ((9, 6 / 11, None), (10, None, 6 / 11)):
        share = tmp_path / f"trainval_hico_{copies}.json"
        save_hoia([images[0]] * copies, share, HICO)
        assert main([*command, "--train-annotations", str(share)]) == 0
        figures = json.loads((tmp_path / "m.json").read_text())
        assert figures["rare"] is None  # ride bicycle is on no list
        assert figures["rare_in_training"] == (None if rare is None else pytest.approx(rare))
        assert figures["non_rare_in_training"] == (None if non_rare is None else pytest.approx(non_rare))
        assert figures["classes"][images[0].hoi_ids[0]]["training_instances"] == copies
    official = figures["results"]["official, default"]
    assert official["rare_in_training"] == 0  # classes without annotation count 0 there
    shown = capsys.readouterr().out
    assert "rare (< 10 in training)" in shown
    assert "non-rare (fixed 462)" in shown
    assert main([*command, "--train-annotations", str(tmp_path / "absent.json")]) == BAD_INPUT
    assert "give the annotation file that the model was trained on" in capsys.readouterr().err


def test_a_runs_own_record_tells_which_classes_are_rare_in_its_training(
    playground_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = HoiVocabulary.from_name("playground")
    run = tmp_path / "run"
    shutil.copytree(playground_model, run)
    instances = {words.interaction_name(k): 10 * (k % 2) for k in range(words.num_interactions)}
    (run / "data.json").write_text(json.dumps({"instances": instances}))
    command = ["evaluate", "playground", "--model", str(run), "--images", "2", "--device", "cpu"]
    for more in ([], ["--sweep", "0,5"]):
        assert main([*command, *more, "--out", str(tmp_path / "m.json")]) == 0
        figures = json.loads((tmp_path / "m.json").read_text())
        assert [entry["training_instances"] for entry in figures["classes"]] == [0, 10] * 45
        aps = [entry["ap"] for entry in figures["classes"][::2] if entry["ap"] is not None]
        assert figures["rare_in_training"] == pytest.approx(np.mean(aps))
        assert "rare (fixed 20)" in capsys.readouterr().out
    (run / "data.json").unlink()
    assert main([*command, "--out", str(tmp_path / "m.json")]) == 0
    assert "rare_in_training" not in json.loads((tmp_path / "m.json").read_text())


def test_a_model_is_evaluated_where_no_training_annotations_are(
    annotated: tuple[Path, list[AnnotatedImage]], tmp_path: Path
) -> None:
    _, images = annotated  # test_hico.json alone
    save_detections(tmp_path / "mine.jsonl", {image.file_name: found(image, 0.9) for image in images})
    command = ["evaluate", "hicodet", "--detections", str(tmp_path / "mine.jsonl"), "--data.root", str(tmp_path)]
    assert main([*command, "--out", str(tmp_path / "m.json")]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["full"] == pytest.approx(1)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two images of your own: a person rides a horse in each; no training split, no image files."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "vocabulary.yaml").write_text("verbs: [ride, hold]\nobjects: [person, horse]\npairs: all\n")
    boxes = [{"bbox": HUMAN, "category_id": "person"}, {"bbox": OBJECT, "category_id": "horse"}]
    ride = [{"subject_id": 0, "object_id": 1, "category_id": "ride"}]
    entries = [{"file_name": f"{n}.jpg", "annotations": boxes, "hoi_annotation": ride} for n in ("a", "b")]
    (folder / "test.json").write_text(json.dumps(entries))
    return folder


HUMAN, OBJECT = [30, 20, 50, 80], [15, 60, 90, 112]


def lines_of(path: Path, *names: str, **change: object) -> str:
    ride = {"human_box": HUMAN, "object_box": OBJECT, "verb": "ride", "object": "horse", "score": 0.9} | change
    path.write_text("".join(json.dumps({"file_name": n, "triplets": [ride]}) + "\n" for n in names))
    return str(path)


@pytest.mark.parametrize("source", ["--annotations", "--data.root", "file"])
@pytest.mark.parametrize("names", [["a.jpg", "b.jpg"], ["scenes/images/a.jpg", "scenes\\images\\b.jpg"]])
def test_the_words_of_the_data_and_the_paths_of_detect_are_understood(
    scenes: Path, tmp_path: Path, source: str, names: list[str]
) -> None:
    where = ["--annotations", str(scenes / "test.json")] if source == "file" else [source, str(scenes)]
    mine = lines_of(tmp_path / "mine.jsonl", *names)
    assert main(["evaluate", "custom", "--detections", mine, *where, "--out", str(tmp_path / "m.json")]) == 0
    figures = json.loads((tmp_path / "m.json").read_text())
    assert figures["full"] == pytest.approx(1)
    assert figures["results"]["official, default"]["full"] == pytest.approx(0.25)  # one of four classes
    assert len(figures["classes"]) == 4


@pytest.mark.parametrize("option", [[], ["--data.hold_out", "0.5"]])
def test_a_folder_with_one_file_for_everything_and_held_out_images(
    scenes: Path, tmp_path: Path, option: list[str]
) -> None:
    command = ["evaluate", "custom", "--data.root", str(scenes), "--out", str(tmp_path / "m.json"), *option]
    mine = lines_of(tmp_path / "mine.jsonl", "a.jpg", "b.jpg")
    assert main([*command, "--detections", mine]) == 0  # the test split, since there is no training split
    (scenes / "test.json").rename(scenes / "annotations.json")
    if option:
        annotated = json.loads((scenes / "annotations.json").read_text())
        (scenes / "train.json").write_text(json.dumps(annotated))
        (scenes / "test.json").write_text(json.dumps(annotated))
        command += ["--data.evaluation_split", "test"]  # named, so it is not the held-out half
    assert main([*command, "--detections", mine]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["images"] == 2


def test_data_check_tells_other_forms_and_lists_boxes_that_are_no_pixels(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (entry, _) = json.loads((scenes / "test.json").read_text())
    entry["annotations"][0]["bbox"] = [0.2, 0.1, 0.4, 0.6]
    (scenes / "test.json").write_text(json.dumps([entry]))
    assert main(["data", "check", str(scenes)]) == 0
    assert "box in fractions of the image: 1\n" in capsys.readouterr().out
    lists = {"box_annotations": entry.pop("annotations"), "hoi_annotations": entry.pop("hoi_annotation")}
    (scenes / "test.json").write_text(json.dumps([entry | lists]))
    assert main(["data", "check", str(scenes)]) == BAD_INPUT
    told = capsys.readouterr().err
    assert told.startswith(f"hoiclip: {scenes / 'test.json'}: every image lacks 'annotations' and 'hoi_annotation'")
    assert told.count("\n") == 1


def test_what_cannot_be_evaluated_is_one_sentence(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, command = tmp_path / "mine.jsonl", ["evaluate", "custom", "--data.root", str(scenes), "--detections"]
    complaints = []
    for change in ({"human_box": [0.2, 0.1, 0.4, 0.6]}, {"verb": "fly"}):
        lines_of(mine, "a.jpg", **change)
        assert main([*command, str(mine)]) == BAD_INPUT
        complaints.append(capsys.readouterr().err.strip())
    mine.write_text("\n")
    assert main([*command, str(mine)]) == BAD_INPUT
    complaints.append(capsys.readouterr().err.strip())
    lines_of(mine, "a.jpg")
    (scenes / "test.json").rename(scenes / "train.json")
    assert main([*command, str(mine)]) == BAD_INPUT
    complaints.append(capsys.readouterr().err.strip())
    for told, words in zip(complaints, ["line 1: the human_box of triplet 0", "no interaction ('fly', 'horse')",
                                        "holds no detections", "it has train; name one"], strict=True):  # fmt: skip
        assert words in told
        assert "\n" not in told


def test_both_scenarios_of_vcoco_are_written(tmp_path: Path) -> None:
    vocabulary = HoiVocabulary.from_name("vcoco")
    hoi = vocabulary.interactions.index((vocabulary.verbs.index("ride_instr"), vocabulary.objects.index("bicycle")))
    boxes = np.array([[10, 10, 60, 110], [20, 60, 90, 140]], dtype=float)
    objects = np.array([vocabulary.person_id, vocabulary.object_ids[hoi]])
    image = AnnotatedImage("COCO_val2014_000000000001.jpg", boxes, objects, [[0, 1]], [hoi], (200, 200))
    save_hoia([image], tmp_path / "test_vcoco.json", vocabulary)
    right = {"human_box": [10, 10, 60, 110], "object_box": [20, 60, 90, 140], "score": 0.9, "hoi_id": hoi}
    line = {"file_name": image.file_name, "image_size": None, "triplets": [right]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    arguments = ["--detections", "mine.jsonl", "--annotations", "test_vcoco.json", "--out", "m.json"]
    assert main(["evaluate", "vcoco", *(a if a.startswith("--") else str(tmp_path / a) for a in arguments)]) == 0
    figures = json.loads((tmp_path / "m.json").read_text())
    assert list(figures["results"]) == ["scenario 1", "scenario 2"]
    assert [r["scenario"] for r in figures["results"].values()] == [1, 2]
    ride = [next(c for c in r["classes"] if c["name"] == "ride_instr") for r in figures["results"].values()]
    assert [c["ap"] for c in ride] == [pytest.approx(1.0)] * 2


def test_a_model_is_judged_on_playground_scenes(
    playground_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for name in ("a", "b"):
        out, kept = tmp_path / f"{name}.json", tmp_path / f"{name}.jsonl"
        arguments = ["--model", str(playground_model), "--seed", "7", "--images", "4", "--device", "cpu"]
        assert main(["evaluate", "playground", *arguments, "--out", str(out), "--save-detections", str(kept)]) == 0
        runs.append((json.loads(out.read_text()), kept.read_text()))
    assert runs[0] == runs[1]  # bit for bit: same machine, same number of threads
    assert runs[0][0]["images"] == 4
    assert 0 <= runs[0][0]["full"] <= 1
    saved = load_detections(tmp_path / "a.jsonl", HoiVocabulary.from_name("playground"))
    assert len(saved) == 4
    swept = ["--images", "2", "--sweep", "0,5", "--out", str(tmp_path / "k.json")]
    assert main(["evaluate", "playground", "--model", str(playground_model), *swept]) == 0
    assert "K = 5" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "k.json").read_text())["results"]) == ["K = 0", "K = 5"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["evaluate", "hicodett"], "hicodet"),
        (["evaluate", "hicodet", "--seed", "3"], "--seed"),
        (["evaluate", "hicodet", "--detections", "absent.jsonl", "--annotations", "absent.json"], "absent.json"),
        (["train", "hicodet", "--train.batch_size", "many"], "train.batch_size"),
        (["train", "hicodet"], "data/hicodet"),
        (["verbs", "hicodet_verbs_sentence"], "verbs.method"),
        (["data", "check", "absent"], "absent"),
    ],
)
def test_bad_requests_are_one_sentence(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == BAD_INPUT
    told = capsys.readouterr().err.strip()
    assert told.startswith("hoiclip: ")
    assert complaint in told
    assert "\n" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_command_is_told_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["detec", "photo.jpg"])
    assert stop.value.code == BAD_INPUT
    assert "unknown command 'detec'; did you mean detect?" in capsys.readouterr().err


def test_a_misspelt_option_shows_this_commands_usage_and_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "train", "verbs"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--train.batchsize", "3", "playground"])
        assert stop.value.code == BAD_INPUT
        told = capsys.readouterr().err
        assert told.startswith(f"usage: hoiclip {command}")
        assert f"hoiclip {command}: error: unrecognized arguments: --train.batchsize" in told
        assert told.endswith("did you mean --train.batch_size\n")
        assert len(told.splitlines()) < 15


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_command_without_arguments_runs_or_says_what_is_missing(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(f"hoiclip.cli.{command}.run", lambda args: 0)
    if command in ("demo", "bench", "models", "serve", "detect"):  # detect: a camera needs no file
        assert main([command]) == 0
        return
    with pytest.raises(SystemExit) as stop:
        main([command])
    assert stop.value.code == BAD_INPUT
    assert "the following arguments are required" in capsys.readouterr().err


def test_train_lists_every_option_with_type_default_and_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    count = 0
    for group in dataclasses.fields(Experiment):
        kind = typing.get_type_hints(Experiment)[group.name]
        owner, prefix = (kind, f"{group.name}.") if dataclasses.is_dataclass(kind) else (Experiment, "")
        sentences = option_sentences(owner)
        for option in dataclasses.fields(owner) if prefix else (group,):
            assert sentences[option.name].endswith("."), option.name
            assert f"--{prefix}{option.name} " in shown
            assert " ".join(sentences[option.name].rstrip(".").split()) in shown
            count += 1
    assert count > 70
    assert "--train.batch_size INT Images per optimizer step" in shown
    assert "--model.interaction_memory {detector,clip,both}" in shown
    assert "(default: [400, 500, 600])" in shown


def test_options_stand_in_any_order_and_switches_need_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr("hoiclip.cli.train.run", lambda args: seen.append([args.config, *args.options]) or 0)
    assert main(["train", "--train.resume", "playground", "--train.max-steps", "3"]) == 0
    assert main(["train", "--data.scales", "[64, 96]", "playground", "--train.cpu=false", "--seed=2"]) == 0
    assert seen == [
        ["playground", "--train.resume=true", "--train.max_steps=3"],
        ["playground", "--data.scales=[64, 96]", "--train.cpu=false", "--seed=2"],
    ]


def test_options_of_no_experiment_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--colour", "red"])
    assert stop.value.code == BAD_INPUT
    assert "--colour" in capsys.readouterr().err


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: hoiclip {command}")
