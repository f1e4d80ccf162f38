"""V-COCO's files with fields of another type, COCO of another year, Matlab of another version: one sentence each."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hoiclip.data import load_hicodet, load_vcoco, load_vcoco_ground_truth
from hoiclip.data.vcoco_ground_truth import ACTIONS, read_ids
from hoiclip.errors import HoiError

COCO = {
    "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "height": 120, "width": 160}],
    "annotations": [
        {"id": 7, "image_id": 42, "bbox": [30, 20, 20, 60], "category_id": 1},
        {"id": 8, "image_id": 42, "bbox": [15, 60, 75, 52], "category_id": 19},
    ],
}


def lists() -> list[dict[str, Any]]:
    entries = []
    for action in ACTIONS:
        ids = [7] + [8 if action.name == "ride" else 0] * len(action.roles)
        parts = {"image_id": [42], "ann_id": [7], "label": [int(action.name == "ride")], "role_object_id": ids}
        entries.append({"action_name": action.name, "role_name": ["agent", *action.roles], **parts})
    return entries


def test_the_good_form() -> None:
    (image,) = load_vcoco_ground_truth(lists(), COCO)
    assert image.actions.sum() == 1
    floats = [entry | {"image_id": [42.0], "label": [float(entry["label"][0])]} for entry in lists()]
    (again,) = load_vcoco_ground_truth(floats, COCO)
    assert (again.actions == image.actions).all()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("image_id", ["42"], "image_id: entry 0 is '42', not a whole number"),
        ("image_id", [42.5], "entry 0 is '42.5'"),
        ("image_id", "42", "not a list of whole numbers"),
        ("ann_id", ["7"], "ann_id: entry 0 is '7'"),
        ("ann_id", None, "ann_id is 'None', not a list"),
        ("label", ["0"], "label: entry 0 is '0'"),
        ("label", [True], "label: entry 0 is 'True'"),
        ("label", [2], "label 2 is neither 0 nor 1"),
        ("role_object_id", ["7"], "role_object_id: entry 0 is '7'"),
        ("role_object_id", {"7": 1}, "role_object_id is"),
        ("role_name", "agent", "no action of V-COCO"),
        ("action_name", ["ride"], "V-COCO"),
    ],
)
def test_fields_of_the_lists(tmp_path: Path, field: str, value: Any, words: str) -> None:
    wrong = lists()
    wrong[3][field] = value
    (tmp_path / "vcoco.json").write_text(json.dumps(wrong))
    with pytest.raises(HoiError) as error:
        load_vcoco_ground_truth(tmp_path / "vcoco.json", COCO, [42])
    assert words in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'vcoco.json'}: ")
    assert "\n" not in str(error.value)
    with pytest.raises(HoiError):
        load_vcoco_ground_truth(wrong, COCO)


@pytest.mark.parametrize(
    ("place", "field", "value", "words"),
    [
        ("images", "id", "42", "COCO's image ids: entry 0 is '42'"),
        ("images", "file_name", 42, "has the file_name 42"),
        ("images", "height", [1], "structure of V-COCO"),
        ("annotations", "image_id", "42", "not whole numbers"),
        ("annotations", "id", "7", "not whole numbers"),
        ("annotations", "id", 8, "annotation 8 comes twice"),
        ("annotations", "bbox", [1, 2, 3], "structure of V-COCO"),
        ("annotations", "bbox", None, "structure of V-COCO"),
    ],
)
def test_fields_of_the_instances(place: str, field: str, value: Any, words: str) -> None:
    wrong: dict[str, Any] = copy.deepcopy(COCO)
    wrong[place][0][field] = value
    with pytest.raises(HoiError) as error:
        load_vcoco_ground_truth(lists(), wrong, [42])
    assert words in str(error.value)


@pytest.mark.parametrize("instances", [[], {}, {"images": [], "annotations": {}}, {"images": 3, "annotations": []}])
def test_other_instances(instances: Any) -> None:
    with pytest.raises(HoiError, match="the COCO instances need the lists"):
        load_vcoco_ground_truth(lists(), instances, [42])


def test_instances_of_2017_are_told(tmp_path: Path) -> None:
    (tmp_path / "vcoco_test.json").write_text(json.dumps(lists()))
    (tmp_path / "instances_val2017.json").write_text(json.dumps(COCO))
    with pytest.raises(HoiError, match=r"only instances_val2017\.json: V-COCO names the images of COCO 2014"):
        load_vcoco(tmp_path, "test")


def test_ids_that_come_again_and_marks_of_editors(tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes("42\r\n7\r\n".encode("utf-16"))
    assert read_ids(tmp_path / "ids") == [42, 7]
    for text, words in (("42\n7\n42\n", "line 3 has image id 42 again, as line 1"), ("4²\n", "line 1 is no image id")):
        (tmp_path / "ids").write_text(text, encoding="utf-8")
        with pytest.raises(HoiError, match=words):
            read_ids(tmp_path / "ids")


@pytest.mark.parametrize("head", [b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(512), b"\x89HDF\r\n\x1a\n"])
def test_matlab_73_is_told(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "anno_bbox.mat").write_bytes(head + bytes(2000))
    with pytest.raises(HoiError, match=r"is a Matlab 7\.3 file \(HDF5\).*'-v7'"):
        load_hicodet(tmp_path, "test")
