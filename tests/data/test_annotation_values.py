"""Annotations whose values or keys cannot be meant: told in loading, listed by the check, other forms by name."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from hoiclip.data import check, load_custom, load_hoia, open_dataset
from hoiclip.errors import HoiError

PERSON, HORSE = [30, 20, 50, 80], [15, 60, 90, 112]


def entry(name: str = "a.jpg", person: Any = PERSON, horse: Any = HORSE, **more: Any) -> dict[str, Any]:
    boxes = [{"bbox": person, "category_id": "person"}, {"bbox": horse, "category_id": "horse"}]
    ride = [{"subject_id": 0, "object_id": 1, "category_id": "ride"}]
    return {"file_name": name, "annotations": boxes, "hoi_annotation": ride, **more}


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    (tmp_path / "vocabulary.yaml").write_text("verbs: [ride, hold]\nobjects: [person, horse]\npairs: all\n")
    return tmp_path


def written(root: Path, content: Any) -> Path:
    (root / "train.json").write_text(json.dumps(content, indent=1))
    return root


def kinds(root: Path) -> list[tuple[str, str, int]]:
    return [
        (d.kind, d.where, d.index) for split in check(root).splits for d in split.defects if d.kind != "missing image"
    ]


def told(root: Path) -> str:
    with pytest.raises(HoiError) as error:
        load_custom(root)
    message = str(error.value)
    assert message.startswith(f"{root / 'train.json'}: ")
    assert "\n" not in message
    return message


FRACTIONS = [0.1875, 0.1667, 0.3125, 0.6667], [0.0938, 0.5, 0.5625, 0.9333]


@pytest.mark.parametrize("box_format", ["xyxy", "xywh"])
def test_fractions_are_a_defect_of_their_own_kind(scenes: Path, box_format: str) -> None:
    written(scenes, {"box_format": box_format, "images": [entry(person=FRACTIONS[0], horse=FRACTIONS[1])]})
    assert kinds(scenes) == [("box in fractions of the image", "box", 0), ("box in fractions of the image", "box", 1)]
    message = told(scenes)
    assert "line 5: image 0 (a.jpg), box 0: box in fractions of the image: [0.1875, 0.1667" in message
    assert "multiply them by the width and height" in message


def test_corners_in_the_wrong_order_are_told_with_the_box_format(scenes: Path) -> None:
    written(scenes, [entry(), entry("b.jpg", person=[230, 120, 50, 80])])
    assert kinds(scenes) == [("corners in the wrong order", "box", 0)]
    assert '"box_format": "xywh"' in told(scenes)
    written(scenes, {"box_format": "xywh", "images": [entry(person=[30, 20, -5, 80])]})
    assert kinds(scenes) == [("corners in the wrong order", "box", 0)]
    assert "[30, 20, -5, 80] as x, y, width, height" in told(scenes)


def test_boxes_of_another_size_of_the_image_are_told(scenes: Path) -> None:
    written(scenes, [entry(person=[1030, 20, 1050, 80], width=160, height=120)])
    assert ("box outside the image", "box", 0) in kinds(scenes)
    assert "box far outside the image: [1030.0, 20.0, 1050.0, 80.0] in 160 x 120 pixels" in told(scenes)


@pytest.mark.parametrize(
    ("wrong", "size", "kind"),
    [
        ([50, 20, 30, 80], {}, "corners in the wrong order"),
        ([0.2, 0.1, 0.9, 0.8], {}, "box in fractions"),
        ([900, 20, 950, 80], {"width": 160, "height": 120}, "box far outside"),
    ],
)
def test_a_few_in_a_large_file_are_counted_in_a_warning(
    scenes: Path, wrong: list[float], size: dict[str, int], kind: str
) -> None:
    written(scenes, [entry(f"{i}.jpg", **size) for i in range(150)] + [entry("x.jpg", person=wrong, **size)])
    with pytest.warns(UserWarning, match=f"1 of 302 boxes: {kind}.*image 150 \\(x.jpg\\)"):
        images = load_custom(scenes)
    low, high = images[-1].boxes[0].reshape(2, 2)
    assert (low < high).all()


def test_what_real_annotations_have_is_read_without_a_word(scenes: Path) -> None:
    over_the_edge, zeros = [-3, 0, 161.5, 120], [0, 0, 0, 0]
    written(
        scenes, [entry(person=over_the_edge, horse=zeros, width=160, height=120), entry("b.jpg", person=[5, 5, 5, 9])]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_custom(scenes)) == 2


def test_an_image_listed_twice_is_counted(scenes: Path) -> None:
    with pytest.warns(UserWarning, match=r"1 images are listed more than once, such as 'a\.jpg'"):
        load_custom(written(scenes, [entry(), entry()]))


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", "a\0.jpg"])
def test_a_file_name_may_not_leave_the_image_folder(scenes: Path, name: str) -> None:
    (scenes.parent / "a.jpg").write_bytes(b"secret")
    written(scenes, [entry(name)])
    assert kinds(scenes) == [("file name leaves the image folder", "image", -1)]
    assert "file name leaves the image folder" in told(scenes)
    assert open_dataset(scenes).files.image("train", name) is None


# --- keys ------------------------------------------------------------------------------------------

PAIR = {"subject_id": 0, "object_id": 1, "action_id": 0}
BOX = {"bbox": PERSON, "category_id": 0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            [{"file_name": "a.jpg", "img_id": 1, "box_annotations": [BOX], "hoi_annotations": [PAIR]}],
            ["lacks 'annotations' and 'hoi_annotation'", "'img_id'", "'box_annotations'", "SWIG-HOI"],
        ),
        ([{"file_name": "a.jpg", "annotations": [BOX]}], ["lacks 'hoi_annotation'", "empty list"]),
        ([{"file_name": "a.jpg", "annotations": [], "hoi_annotations": []}], ["'hoi_annotations'"]),
        ({"images": [{"id": 1}], "annotations": [], "categories": []}, ["COCO instances"]),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "x"}]}, ["COCO's form"]),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1, "score": 0.3}], ["COCO results"]),
        ([{"action_name": "hold", "role_name": [], "image_id": [], "role_object_id": []}], ["V-COCO's official list"]),
        ({"annotations": [{"boxes_h": [], "boxes_o": [], "actions": [], "objects": []}]}, ["UPT and PViC"]),
        ([{"boxes_h": [], "boxes_o": [], "hoi": []}], ["hicodet's instances_*.json"]),
        ([{"global_id": "x", "hois": [], "image_path_postfix": "a.jpg"}], ["anno_list.json"]),
        ({"ID": "a", "gtboxes": []}, ["holds no list of images but 'ID', 'gtboxes'", ".odgt"]),
        ([{"file_name": "a.jpg", "triplets": []}], ["detections, not annotations"]),
        ([{"file_name": "a.jpg", "predictions": [], "hoi_prediction": []}], ["PPDM's form"]),
        ({"images": [{"file_name": "a.jpg", "boxes": []}]}, ["it has 'file_name', 'boxes'"]),
    ],
)  # fmt: skip
def test_other_forms_are_told_by_what_they_lack_and_what_they_have(
    scenes: Path, content: Any, words: list[str]
) -> None:
    message = told(written(scenes, content))
    for word in words:
        assert word in message
    with pytest.raises(HoiError):
        check(scenes)


def test_a_misspelt_box_format_is_told(scenes: Path) -> None:
    for key in ("bbox_format", "boxformat", "Box_Format"):
        assert f"has the key {key!r}" in told(written(scenes, {key: "xywh", "images": [entry()]}))
    assert len(load_custom(written(scenes, {"info": {}, "year": 2026, "images": [entry()]}))) == 1


def test_one_entry_without_its_lists_is_a_defect(scenes: Path) -> None:
    written(scenes, [entry(), {"file_name": "b.jpg", "objects": []}])
    assert kinds(scenes) == [("missing list", "image", -1)]
    assert "image 1 (b.jpg): missing list: lacks 'annotations' and 'hoi_annotation'; it has 'file_name', 'objects'" in (
        told(scenes)
    )


def test_empty_lists_are_meant(scenes: Path) -> None:
    (image,) = load_custom(written(scenes, [{"file_name": "a.jpg", "annotations": [], "hoi_annotation": []}]))
    assert len(image.boxes) == len(image.pairs) == 0


def test_boxes_and_pairs_name_the_key_they_lack(scenes: Path) -> None:
    boxes = [{"box": PERSON, "category_id": "person"}, {"bbox": HORSE, "category": "horse"}]
    written(scenes, [entry() | {"annotations": boxes}])
    assert "lacks 'bbox'; it has 'box', 'category_id'" in told(scenes)
    written(scenes, [entry() | {"annotations": boxes[1:]}])
    assert "lacks 'category_id'; it has 'bbox', 'category'" in told(scenes)
    written(scenes, [entry() | {"hoi_annotation": [PAIR]}])
    assert "lacks 'category_id'; it has 'subject_id', 'object_id', 'action_id'" in told(scenes)


def test_lines_of_json_are_told(scenes: Path) -> None:
    line = json.dumps({"ID": "a", "gtboxes": []})
    (scenes / "train.json").write_text(f"{line}\n{line}\n")
    assert "one JSON object per line, with 'ID', 'gtboxes'" in told(scenes)
    assert ".odgt" in told(scenes)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_marks_of_editors_are_read_in_every_file_of_a_folder(scenes: Path, encoding: str) -> None:
    text = (scenes / "vocabulary.yaml").read_text().replace("\n", "\r\n")
    (scenes / "vocabulary.yaml").write_bytes(text.encode(encoding))
    data = json.dumps([entry("größe.jpg")], ensure_ascii=False, indent=1).replace("\n", "\r\n").encode(encoding)
    (scenes / "train.json").write_bytes(data)
    (scenes / "test.json.gz").write_bytes(gzip.compress(data))
    for split in ("train", "test"):
        assert [image.file_name for image in load_custom(scenes, split)] == ["größe.jpg"]


def test_ids_as_text_or_out_of_place(scenes: Path) -> None:
    text = entry() | {"hoi_annotation": [{"subject_id": "0", "object_id": 1, "category_id": "ride"}]}
    assert "subject_id '0' of 2 boxes" in told(written(scenes, [text]))
    with pytest.raises(HoiError, match="subject_id '0'"):
        load_hoia(scenes / "train.json", scenes / "vocabulary.yaml")


def test_names_agree_whatever_their_case_and_spaces(scenes: Path) -> None:
    (scenes / "vocabulary.yaml").write_text("verbs: [sit on]\nobjects: [person, hot dog]\npairs: all\n")
    boxes = [{"bbox": PERSON, "category_id": "Person"}, {"bbox": HORSE, "category_id": "Hot_Dog"}]
    pair = {"subject_id": 0, "object_id": 1, "category_id": "Sit  on"}
    (image,) = load_custom(written(scenes, [{"file_name": "a.jpg", "annotations": boxes, "hoi_annotation": [pair]}]))
    assert (image.object_ids.tolist(), len(image.hoi_ids)) == ([0, 1], 1)
