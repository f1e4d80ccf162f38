"""Labels of Label Studio, CVAT and COCO: what they become, what cannot be meant, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labels import BOXES, coco, cvat, cvat_box, rectangle, relation, task, write, write_images
from PIL import Image

from hoiclip import Detections
from hoiclip.cli import main
from hoiclip.data import check, export_labels, import_labels, load_custom
from hoiclip.data.importing import ImportReport
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

CONTENT = {"label-studio": lambda: [task()], "cvat": cvat, "coco": coco}
FILES = {"label-studio": "export.json", "cvat": "annotations.xml", "coco": "labels.json"}


def imported(tmp_path: Path, form: str, content: Any, **options: Any) -> ImportReport:
    write_images(tmp_path / "images")
    file = write(tmp_path / FILES[form], content)
    return import_labels(file, form, tmp_path / "mine", **{"test_share": 0, **options})


def complaint(tmp_path: Path, form: str, content: Any, **options: Any) -> str:
    with pytest.raises(HoiError) as error:
        imported(tmp_path, form, content, **options)
    message = str(error.value)
    assert "\n" not in message
    assert not (tmp_path / "mine").exists()
    assert not list(tmp_path.glob(".unfinished*"))
    return message


@pytest.mark.parametrize("form", CONTENT)
def test_every_tool_gives_the_same_folder(tmp_path: Path, form: str) -> None:
    report = imported(tmp_path, form, CONTENT[form]())
    (image,) = load_custom(tmp_path / "mine")
    assert image.file_name == "a.png"
    assert image.size == (100, 200)
    words = report.vocabulary
    assert words.objects == ("person", "bicycle", "dog", "umbrella")
    assert [words.objects[k] for k in image.object_ids] == [label for label, _ in BOXES.values()]
    np.testing.assert_allclose(image.boxes, [box for _, box in BOXES.values()], atol=1e-3)
    pairs = {(*pair, words.interaction_name(k)) for pair, k in zip(image.pairs.tolist(), image.hoi_ids, strict=True)}
    assert pairs == {(0, 1, "ride bicycle"), (0, 2, "hold umbrella")}
    assert HoiVocabulary.from_yaml(tmp_path / "mine" / "vocabulary.yaml") == words
    assert check(tmp_path / "mine").defects == 0
    assert (report.train, report.test, report.boxes, report.pairs) == (1, 0, 4, 2)


# --- what cannot be meant ------------------------------------------------------------------------------


def broken_coco(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    data = coco()
    change(data)
    return data


W, B, D = map(rectangle, "wbd")
RIDE = relation("w", "b", "ride")


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([W, B, relation("w", "z", "ride")], "names a box 'z' that is not there"),
        ([W, B, relation("w", "b")], "the relation from 'w' to 'b' has no verb"),
        ([W, B, D, relation("b", "d", "chase")], "the relation 'chase' of bicycle and dog has no person"),
        ([W, B, relation("w", "w", "hug")], "has one box as both ends"),
        ([W, rectangle("b", x=60, width=41), RIDE], "box 'b' reaches 101.00 percent"),
        ([W, rectangle("b", y=-1), RIDE], "box 'b' reaches"),
        ([W, rectangle("b", width=0), RIDE], "it has no area"),
        ([W, rectangle("b", x=None), RIDE], "box 'b' has no numbers"),
        ([W, rectangle("b", rectanglelabels=["cart", "bicycle"]), RIDE], "has 2 labels"),
        ([W, rectangle("b", rectanglelabels=[]), RIDE], "has no label"),
        ([W, {**B, "image_rotation": 90}, RIDE], "turned by 90 degrees"),
        ([W, {**B, "original_width": None}, RIDE], "gives no original_width"),
        ([W, B, B, RIDE], "two boxes are called 'b'"),
        ([W, B, relation("w", "b", "ride", direction="up")], "has the direction 'up'"),
    ],
)
def test_label_studio_what_cannot_be_meant_is_told_by_task(tmp_path: Path, results: list[Any], words: str) -> None:
    message = complaint(tmp_path, "label-studio", [task(results=results)])
    assert message.startswith(f"{tmp_path / 'export.json'}: task 7 (data/upload/1/0a1b2c3d-a.png): ")
    assert words in message


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (cvat_box("w") + cvat_box("b", person="2"), "names a box '2' that is not there"),
        (cvat_box("w") + cvat_box("b", verb="__undefined__"), "box 'number 2' has no attribute 'verb'"),
        (cvat_box("w") + cvat_box("b", person=""), "box 'number 2' has no attribute 'person'"),
        (cvat_box("w") + cvat_box("w") + cvat_box("b"), "two boxes are called '1'"),
        (cvat_box("w") + cvat_box("b", (16, 50, 203, 96)), "leaves the image of 200 x 100 pixels"),
        (cvat_box("w") + cvat_box("b", (16, 50, 16, 96)), "it has no area"),
        (cvat_box("w").replace("ytl='10.0'", ""), "has no numbers"),
        (cvat_box("w", (float("nan"), 1, 2, 3)), "it has no area"),
        (cvat_box("d", id="1") + cvat_box("b"), "the relation 'ride' of dog and bicycle has no person"),
    ],
)
def test_cvat_what_cannot_be_meant_is_told_by_image(tmp_path: Path, boxes: str, words: str) -> None:
    message = complaint(tmp_path, "cvat", cvat(boxes))
    assert message.startswith(f"{tmp_path / 'annotations.xml'}: image 3 (a.png): ")
    assert words in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["relations"][0].update(object_id=9), "relation 'ride' names a box '9' that is not there"),
        (lambda d: d["relations"][0].update(subject_id="1"), "relation 0 has subject_id '1'"),
        (lambda d: d["relations"][0].pop("object_id"), "relation 0 has subject_id 1 and object_id None"),
        (lambda d: d["relations"][0].pop("verb"), "has no verb"),
        (lambda d: d["relations"][0].update(image_id=6), "relation 0: image_id 6 is no image"),
        (lambda d: d["relations"][0].update(subject_id=4), "of dog and bicycle has no person"),
        (lambda d: d["annotations"][0].update(category_id=9), "category_id 9 is no category"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "bbox is [1, 2, 3]"),
        (lambda d: d["annotations"][0].update(bbox=[180, 10, 40, 50]), "leaves the image of 200 x 100 pixels"),
        (lambda d: d["annotations"][1].update(id=1), "two boxes are called '1'"),
        (lambda d: d["images"][0].update(width="wide"), "width 'wide'"),
        (lambda d: d["images"][0].update(width=300), "was labelled as 300 x 100 pixels, the file has 200 x 100"),
        (lambda d: d["images"][0].update(file_name="../a.png"), "leads out of the image folder"),
        (lambda d: d["images"][0].update(file_name="b.png"), "no such image in"),
        (lambda d: d["images"].append({"id": 6, "file_name": "a.png"}), "both have the image 'a.png'"),
        (lambda d: d["images"].append({"id": 5, "file_name": "b.png"}), "its id is that of another image"),
        (lambda d: d.pop("relations"), "lacks 'relations'"),
        (lambda d: d.update(relations={}), "'relations' is no list"),
        (lambda d: d.update(relations=[]), "there is no relation in the file"),
    ],
)
def test_coco_what_cannot_be_meant_is_told_by_image(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    assert words in complaint(tmp_path, "coco", broken_coco(change))


def test_several_faults_are_told_together(tmp_path: Path) -> None:
    data = broken_coco(lambda d: [r.update(object_id=9) for r in d["relations"]])
    data["annotations"] += [{"id": 10 + i, "image_id": 77, "category_id": 1, "bbox": [0, 0, 1, 1]} for i in range(4)]
    message = complaint(tmp_path, "coco", data)
    assert message.count("image_id 77") == 3
    assert message.endswith("; and 3 more")


@pytest.mark.parametrize(
    ("form", "content", "words"),
    [
        ("label-studio", [{"image": "a.png", "label": []}], "JSON-MIN has no relations"),
        ("label-studio", {"images": []}, "holds no list of tasks"),
        ("label-studio", "[{", "line 1 is not valid JSON"),
        ("label-studio", [], "holds no annotated image"),
        ("label-studio", [{"id": 4, "data": {}, "annotations": [{"result": []}]}], "task 4 (no image)"),
        ("cvat", "<annotations><image", "is not valid XML"),
        ("cvat", "<annotations><track/></annotations>", "tracks of a video"),
        ("cvat", "<a><image/></a>", "holds <a>, not <annotations>"),
        ("cvat", '<!DOCTYPE a [<!ENTITY b "bb">]><annotations>&b;</annotations>', "declares a document type"),
        ("coco", [], "holds a list"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, form: str, content: Any, words: str) -> None:
    assert words in complaint(tmp_path, form, content)


# --- what is unusual -----------------------------------------------------------------------------------


def test_label_studio_takes_the_annotation_changed_last_and_counts_the_others(tmp_path: Path) -> None:
    old, new, skipped = ({"result": task()["annotations"][0]["result"], "updated_at": f"2026-0{m}"} for m in (1, 2, 3))
    old["result"] = [W, B, relation("w", "b", "push")]
    both = task()
    both["annotations"] = [new, old, {**skipped, "result": [], "was_cancelled": True}]
    empty = {"id": 8, "data": {"image": "b.png"}, "annotations": []}
    report = imported(tmp_path, "label-studio", [both, empty])
    assert report.vocabulary.verbs == ("hold", "ride")
    assert report.notes[:3] == [
        "1 skipped (cancelled) annotations were left out",
        "1 tasks have several annotations: the one changed last was taken",
        "1 tasks without an annotation were left out",
    ]


def test_relations_are_read_by_their_direction_and_turned_to_begin_at_the_person(tmp_path: Path) -> None:
    second = {**rectangle("d", rectanglelabels=["Man"]), "id": "m"}
    results = [W, B, rectangle("u"), second]
    results += [relation("b", "w", "ride", direction="left"), relation("u", "w", "hold", direction="bi")]
    results += [relation("b", "w", "push"), relation("w", "b", "push"), relation("w", "m", "hug", direction="bi")]
    results += [{"id": "k", "type": "keypointlabels", "value": {}}]
    report = imported(tmp_path, "label-studio", [task(results=results)], people=["man"])
    (image,) = load_custom(tmp_path / "mine")
    names = [report.vocabulary.interaction_name(k) for k in image.hoi_ids]
    assert list(zip(image.pairs.tolist(), names, strict=True)) == [
        ([0, 1], "ride bicycle"),
        ([0, 2], "hold umbrella"),
        ([0, 1], "push bicycle"),
        ([0, 3], "hug person"),
        ([3, 0], "hug person"),
    ]
    assert set(report.notes[:3]) == {
        "1 results of the kind keypointlabels were left out",
        "1 relations lead to the person: they were turned round",
        "1 relations are given twice: once was taken",
    }


def test_a_turned_box_becomes_the_upright_one_around_it(tmp_path: Path) -> None:
    turned = rectangle("b", x=40, y=20, width=20, height=10, rotation=90)  # about its corner (80, 20)
    report = imported(tmp_path, "label-studio", [task(results=[W, turned, RIDE])])
    (image,) = load_custom(tmp_path / "mine")
    np.testing.assert_allclose(image.boxes[1], [70, 20, 80, 60], atol=1e-3)
    assert "1 boxes are turned" in report.to_text()


def test_a_turned_box_of_cvat_turns_about_its_middle(tmp_path: Path) -> None:
    boxes = cvat_box("w") + cvat_box("b", (80, 40, 120, 60), 'rotation="90"')
    imported(tmp_path, "cvat", cvat(boxes))
    (image,) = load_custom(tmp_path / "mine")
    np.testing.assert_allclose(image.boxes[1], [90, 30, 110, 70], atol=1e-3)


def test_cvat_says_several_verbs_and_several_people(tmp_path: Path) -> None:
    other = cvat_box("w", (100, 10, 140, 90)).replace(">1<", ">2<")
    bicycle = cvat_box("b", verb="ride, hold", person_2="2", verb_2="push")
    report = imported(tmp_path, "cvat", cvat(cvat_box("w") + other + bicycle))
    (image,) = load_custom(tmp_path / "mine")
    names = [report.vocabulary.interaction_name(k) for k in image.hoi_ids]
    found = sorted(zip(image.pairs.tolist(), names, strict=True))
    assert found == [([0, 2], "hold bicycle"), ([0, 2], "ride bicycle"), ([1, 2], "push bicycle")]


def test_cvat_says_what_two_people_do_with_each_other(tmp_path: Path) -> None:
    other = cvat_box("w", (100, 10, 140, 90), person="1", verb="hug").replace('"id">1<', '"id">2<')
    imported(tmp_path, "cvat", cvat(cvat_box("w") + other))
    (image,) = load_custom(tmp_path / "mine")
    assert image.pairs.tolist() == [[0, 1]]


@pytest.mark.parametrize("address", ["/data/local-files/?d=set%2Fa.png", "https://host/x/a.png?token=1", "a.png"])
def test_images_are_found_by_the_address_that_label_studio_gives(tmp_path: Path, address: str) -> None:
    one = task()
    one["data"] = {"image": address}
    imported(tmp_path, "label-studio", [one])
    assert (tmp_path / "mine" / "images" / "a.png").is_file()


def test_a_verb_without_an_object_is_an_interaction_with_nothing(tmp_path: Path) -> None:
    imported(tmp_path, "coco", broken_coco(lambda d: d["relations"][0].update(object_id=None, verb="Run away")))
    (image,) = load_custom(tmp_path / "mine")
    assert image.pairs.tolist() == [[0, -1], [0, 2]]
    assert "- [run_away, nothing]" in (tmp_path / "mine" / "vocabulary.yaml").read_text()


def test_words_may_be_kept_to_those_of_a_vocabulary(tmp_path: Path) -> None:
    words = write(tmp_path / "words.yaml", "verbs: [ride]\nobjects: [person, bicycle, umbrella, dog]\n")
    assert "the vocabulary has no interaction 'hold umbrella'" in complaint(tmp_path, "coco", coco(), vocabulary=words)
    write(words, "verbs: [ride, hold, eat]\nobjects: [dog, person, bicycle, umbrella]\n")
    report = imported(tmp_path, "coco", coco(), vocabulary=words)
    assert report.vocabulary.verbs == ("ride", "hold", "eat")
    assert load_custom(tmp_path / "mine")[0].object_ids.tolist() == [1, 2, 3, 0]


# --- files ---------------------------------------------------------------------------------------------


def many(tmp_path: Path, count: int = 10) -> Path:
    names = [f"{i}.png" for i in range(count)]
    write_images(tmp_path / "images", *names)
    return write(tmp_path / "export.json", [task(name, i) for i, name in enumerate(names)])


def test_the_split_follows_from_the_seed_and_no_image_is_in_both(tmp_path: Path) -> None:
    file = many(tmp_path)
    tests = []
    for number, seed in enumerate((0, 0, 1)):
        import_labels(file, "label-studio", tmp_path / f"{number}", seed=seed, test_share=0.3)
        train, test = ([i.file_name for i in load_custom(tmp_path / f"{number}", s)] for s in ("train", "test"))
        assert (len(train), len(test)) == (7, 3)
        assert set(train).isdisjoint(test)
        tests.append(test)
    assert tests[0] == tests[1] != tests[2]


def test_the_command_links_and_never_writes_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "import", str(many(tmp_path)), "--from", "label-studio", "--out", str(tmp_path / "mine")]
    assert main([*command, "--link"]) == 0
    assert "8 images to learn from, 2 to test on; 40 boxes, 20 pairs of 2 interactions" in capsys.readouterr().out
    linked = tmp_path / "mine" / "images" / "3.png"
    assert linked.is_symlink()
    assert Image.open(linked).size == (200, 100)
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert linked.is_symlink()
    assert main([*command[:-1], str(tmp_path / "other"), "--test-share", "1"]) == 2


@pytest.mark.parametrize("form", ["coco", "label-studio"])
def test_what_is_exported_comes_back_as_it_was(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    imported(tmp_path, "coco", coco())
    mine, file = tmp_path / "mine", tmp_path / "out.json"
    assert main(["data", "export", str(mine), "--to", form, "--out", str(file)]) == 0
    assert "1 images" in capsys.readouterr().out
    import_labels(file, form, tmp_path / "again", images=mine / "images", test_share=0)
    for name in ("train.json", "vocabulary.yaml"):
        assert (tmp_path / "again" / name).read_text() == (mine / name).read_text()


def test_export_takes_sizes_from_the_images_where_annotations_have_none(tmp_path: Path) -> None:
    imported(tmp_path, "coco", coco())
    train = tmp_path / "mine" / "train.json"
    entries = json.loads(train.read_text())
    del entries[0]["width"], entries[0]["height"]
    write(train, entries)
    export_labels(tmp_path / "mine", "coco", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["images"][0]["width"] == 200
    (tmp_path / "mine" / "images" / "a.png").unlink()
    with pytest.raises(HoiError, match=r"a\.png: its size is not in the annotations"):
        export_labels(tmp_path / "mine", "coco", tmp_path / "out.json")


def test_detections_in_cocos_form_come_in_as_labels(tmp_path: Path) -> None:
    words = HoiVocabulary.from_words("ride bicycle, hold umbrella")
    words = HoiVocabulary.from_dict({**words.to_dict(), "objects": ["bicycle", "umbrella", "person"],
                                     "articles": ["a", "an", "a"]})  # fmt: skip
    boxes = [np.array([BOXES[key][1] for key in keys]) for keys in (("w", "w"), ("b", "u"))]
    ids, scores = np.arange(2), np.array([0.9, 0.8])
    found = Detections(*boxes, ids, words.verb_ids, ids, scores, words, image_size=(100, 200))
    image = {"id": 5, "file_name": "a.png", "height": 100, "width": 200}
    categories = [{"id": i, "name": name} for i, name in enumerate(words.objects, 1)]
    report = imported(tmp_path, "coco", {"images": [image], "categories": categories, **found.to_coco(5)})
    (got,) = load_custom(tmp_path / "mine")
    assert [report.vocabulary.interaction_name(k) for k in got.hoi_ids] == ["ride bicycle", "hold umbrella"]
    np.testing.assert_allclose(got.human_boxes, boxes[0], atol=0.01)
    np.testing.assert_allclose(got.object_boxes, boxes[1], atol=0.01)
    assert len(got.boxes) == 3  # one woman
