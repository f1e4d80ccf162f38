"""A result that people can use: tables, COCO, crops, drawings, notebooks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hoiclip.detections
from hoiclip import Detections, HoiVocabulary
from hoiclip.errors import HoiError

WORDS = HoiVocabulary.from_words("ride horse, feed horse, hold umbrella")
IMAGE = Image.new("RGB", (100, 80), "white")


def found(source: object = IMAGE) -> Detections:
    """One person rides and feeds a horse, boxes nearly equal; another holds an umbrella."""
    human = np.array([[10, 10, 40, 70], [10, 10.4, 40.2, 70], [60, 20, 90, 78.5]])
    thing = np.array([[5, 40, 50, 79], [5, 40, 50, 78.6], [70, 2, 99, 30.25]])
    hoi_ids = np.array([1, 0, 2])
    return Detections(human, thing, WORDS.object_ids[hoi_ids], WORDS.verb_ids[hoi_ids], hoi_ids,
                      np.array([1.5, 1.4, 1.1]), WORDS, (80, 100), np.array([0.8, 0.9, 0.5]), source)  # fmt: skip


def test_a_table_has_a_row_a_triplet() -> None:
    table = found().to_pandas()
    assert table["interaction"].tolist() == ["feed horse", "ride horse", "hold umbrella"]
    assert table["score"].tolist() == [1.5, 1.4, 1.1]
    assert table["interaction_score"].tolist() == [0.8, 0.9, 0.5]
    assert table.loc[2, ["human_x1", "human_y1", "human_x2", "human_y2"]].tolist() == [60, 20, 90, 78.5]
    assert list(Detections.empty(WORDS).to_pandas().columns) == list(table.columns)


def test_supervision_gets_two_boxes_a_triplet() -> None:
    boxes = found().to_supervision()
    assert len(boxes) == 6
    assert boxes.data["class_name"].tolist() == ["person", "horse", "person", "horse", "person", "umbrella"]
    assert boxes.data["triplet"].tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(boxes.xyxy[5], [70, 2, 99, 30.25])
    np.testing.assert_allclose(boxes.confidence, [0.8, 0.8, 0.9, 0.9, 0.5, 0.5])


def test_a_triplet_without_an_object_has_one_box() -> None:
    vcoco = HoiVocabulary.from_name("vcoco")
    nothing = vcoco.objects.index("nothing")
    hoi = np.array([int(np.flatnonzero(vcoco.object_ids == nothing)[0])])
    box = np.array([[1.0, 2, 30, 40]])
    alone = Detections(box, np.zeros((1, 4)), vcoco.object_ids[hoi], vcoco.verb_ids[hoi], hoi, np.array([0.5]), vcoco,
                       (80, 100), None, IMAGE)  # fmt: skip
    assert alone.to_supervision().xyxy.tolist() == [[1, 2, 30, 40]]
    assert alone.crop()[0].size == (29, 38)
    coco = alone.to_coco()
    assert coco["relations"][0]["object_id"] is None
    assert len(coco["annotations"]) == 1
    assert alone.draw().size == (500, 400)


def test_coco_has_each_box_once_and_relations_between_them() -> None:
    coco = found()[[0, 0, 2]].to_coco(image_id=7, first_id=100)
    assert [a["bbox"] for a in coco["annotations"]] == [[10, 10, 30, 60], [5, 40, 45, 39], [60, 20, 30, 58.5],
                                                        [70, 2, 29, 28.25]]  # fmt: skip
    assert {a["image_id"] for a in coco["annotations"]} == {7}
    assert [(r["subject_id"], r["object_id"], r["interaction"]) for r in coco["relations"]] == [
        (100, 101, "feed horse"), (100, 101, "feed horse"), (102, 103, "hold umbrella"),
    ]  # fmt: skip
    json.dumps(coco)


def test_crops_hold_both_boxes() -> None:
    assert [crop.size for crop in found().crop()] == [(45, 69), (45, 69), (39, 77)]
    assert found().crop(margin=0.5)[2].size == (60, 80)  # cut at the border


def test_near_copies_are_drawn_once_and_people_keep_one_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list = []
    monkeypatch.setattr(hoiclip.detections, "draw_pairs", lambda image, pairs, *rest: drawn.extend([pairs, *rest]))
    found().draw(max_labels=3, line_width=5)
    pairs, colours, width = drawn
    assert [(pair.labels, pair.name) for pair in pairs] == [
        (["ride horse 0.90", "feed horse 0.80"], "horse"), (["hold umbrella 0.50"], "umbrella"),
    ]  # fmt: skip
    assert len(set(colours)) == 2
    assert width == 5


def test_drawings_and_triplets_are_written(tmp_path: Path) -> None:
    found().save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == found().draw().size
    found().save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == found().to_dict()


def test_a_notebook_shows_the_drawing_and_the_table() -> None:
    page = found()._repr_html_()
    assert page.count("<tr>") == 3
    assert "ride horse</td><td>0.90" in page
    assert 'src="data:image/jpeg;base64,' in page
    assert "<img" not in found(None)._repr_html_()
    assert "<img" not in found("gone.jpg")._repr_html_()


def test_words_of_a_vocabulary_are_no_html() -> None:
    words = HoiVocabulary(name="x", verbs=("<b>",), gerunds=("x",), objects=("horse",), articles=("a",),
                          interactions=((0, 0),))  # fmt: skip
    one, zero = np.ones(1), np.zeros(1, dtype=np.int64)
    shown = Detections(np.ones((1, 4)), np.ones((1, 4)), zero, zero, zero, one, words)._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;" in shown


def test_without_its_image_a_drawing_is_refused_in_one_sentence() -> None:
    with pytest.raises(HoiError, match="do not know their image"):
        found(None).draw()
    assert found(None).draw(IMAGE).size == (500, 400)


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(HoiError, match=r"needs pandas: pip install 'hoiclip\[results\]'"):
        found().to_pandas()


def test_rows_keep_their_image() -> None:
    assert found()[1:].source is IMAGE
    assert found().most_probable(1).source is IMAGE
