"""Detections whose values cannot be meant are told with line and triplet; what is only unusual is counted."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoiclip.errors import HoiError
from hoiclip.evaluation import load_detections
from hoiclip.vocabulary import HoiVocabulary

HICO = HoiVocabulary.from_name("hico")
GOOD = {"human_box": [320, 306, 359, 349], "object_box": [148, 345, 376, 414], "score": 0.9, "hoi_id": 245}


def written(folder: Path, *lines: dict[str, Any] | str, encoding: str = "utf-8", end: str = "\n") -> Path:
    path = folder / "found.jsonl"
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + end for line in lines)
    path.write_bytes(text.encode(encoding))
    return path


def image(name: str, *triplets: dict[str, Any], size: Any = (427, 640)) -> dict[str, Any]:
    return {"file_name": name, "image_size": size, "triplets": list(triplets)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"human_box": [0.5, 0.7166, 0.5609, 0.8173]}, "human_box of triplet 0.*pixels x1 y1 x2 y2.*fractions"),
        ({"object_box": [0.4, 0.9, 0.35, 0.16]}, "object_box of triplet 0.*fractions"),  # centre, width, height
        ({"object_box": [-0.02, 0.1, 1.01, 0.9]}, "object_box of triplet 0.*fractions"),
        ({"human_box": [320, 306, 39, 43]}, "human_box of triplet 0.*x2 < x1"),
        ({"object_box": [148, 345, 376, 69]}, "object_box of triplet 0.*y2 < y1"),
        ({"human_box": [1320, 306, 1359, 349]}, "human_box of triplet 0.*outside the image, 427 high and 640 wide"),
        ({"object_box": [-900, 5, 100, 60]}, "object_box of triplet 0.*outside the image"),
        ({"human_box": [0, 0, math.inf, 9]}, "human_box of triplet 0 holds NaN or infinity"),
        ({"score": -0.1}, "score of triplet 0 is -0.1, not in 0..10"),
        ({"score": 93}, "score of triplet 0 is 93"),
        ({"interaction_score": 1.5}, "interaction_score of triplet 0 is 1.5, not in 0..1"),
        ({"interaction_score": math.nan}, "interaction_score of triplet 0 holds NaN"),
        ({"human_box": [10**400, 0, 1, 1]}, "four numbers"),
        ({"hoi_id": "245"}, "hoi_id '245' is not one of"),
        ({"hoi_id": 10**30}, "hoi_id 1000"),
    ],
)
def test_values_that_cannot_be_meant(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = written(tmp_path, image("a.jpg", GOOD), image("b.jpg", GOOD | change))
    with pytest.raises(HoiError, match=words) as error:
        load_detections(path, HICO)
    assert str(error.value).startswith(f"{path}: line 2: ")
    assert "\n" not in str(error.value)


def test_one_bad_triplet_among_many_is_found_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, image("a.jpg", *[GOOD] * 7, GOOD | {"human_box": [9, 9, 3, 20]}))
    with pytest.raises(HoiError, match="line 1: the human_box of triplet 7 "):
        load_detections(path, HICO)


def test_the_annotated_size_is_used_where_the_line_has_none(tmp_path: Path) -> None:
    path = written(tmp_path, image("a.jpg", GOOD, size=None))
    assert len(load_detections(path, HICO)["a.jpg"]) == 1
    with pytest.raises(HoiError, match="outside the image, 48 high and 64 wide"):
        load_detections(path, HICO, sizes={"a.jpg": (48, 64)})


def test_what_models_really_write_is_accepted_and_what_is_unusual_is_counted(tmp_path: Path) -> None:
    over_the_edge = GOOD | {"human_box": [-12.5, -3, 700, 440], "score": 2.52}
    in_the_corner = GOOD | {"object_box": [0, 0, 0.3, 0.7]}
    no_object = GOOD | {"object_box": [0, 0, 0, 0]}
    flat = GOOD | {"object_box": [30, 30, 30, 60]}
    lines = [image(f"{i}.jpg", over_the_edge, in_the_corner, no_object, flat) for i in range(3)]
    with pytest.warns(UserWarning, match="found.jsonl: ") as told:
        found = load_detections(written(tmp_path, *lines), HICO, sizes={"1.jpg": (427, 640), "2.jpg": (400, 600)})
    assert [len(d) for d in found.values()] == [4, 4, 4]
    words = sorted(str(warning.message).partition(": ")[2] for warning in told)
    assert [line.split()[:3] for line in words] == [
        ["1", "images", "have"],
        ["3", "boxes", "are"],
        ["3", "boxes", "have"],
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_marks_of_editors_and_their_line_ends_are_read(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, image("größe.jpg", GOOD), image("b.jpg", GOOD), encoding=encoding, end="\r\n")
    assert list(load_detections(path, HICO)) == ["größe.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[", "one object per line"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ({"file_name": "a.jpg", "annotations": [], "hoi_annotation": []}, "looks like annotations"),
        ([image("a.jpg")], "give one object per line"),
        (image("a.jpg", size=[0, 640]), "image_size"),
        (image("a.jpg", size=["427", 640]), "image_size"),
    ],
)
def test_other_files_are_told(tmp_path: Path, line: Any, words: str) -> None:
    with pytest.raises(HoiError, match=words) as error:
        load_detections(written(tmp_path, line), HICO)
    assert "\n" not in str(error.value)


ANNOTATED = ["a.jpg", "x/b.jpg", "y/b.jpg", "b.jpg", "photos\\c.jpg", "gr\u00f6\u00dfe.jpg"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a.jpg", "a.jpg"),
        ("scenes/images/a.jpg", "a.jpg"),
        ("C:\\data\\scenes\\a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("x/b.jpg", "x/b.jpg"),  # exactly a name, though it ends in another
        ("z/b.jpg", "b.jpg"),
        ("data/photos/c.jpg", "photos\\c.jpg"),
        ("data/gro\u0308\u00dfe.jpg", "gr\u00f6\u00dfe.jpg"),
    ],
)
def test_a_path_means_the_image_whose_name_it_ends_in(tmp_path: Path, name: str, meant: str) -> None:
    assert list(load_detections(written(tmp_path, image(name)), HICO, ANNOTATED)) == [meant]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["data/x/b.jpg"], "ends in 2 annotated names, 'x/b.jpg' and 'b.jpg'"),
        (["data/ba.jpg"], "do not contain 'data/ba.jpg'"),
        (["c.jpg"], "do not contain 'c.jpg'"),
        (["p/a.jpg", "q/a.jpg"], "'a.jpg' occurs a second time"),
    ],
)
def test_a_path_that_ends_in_no_name_or_in_several_is_told(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(HoiError, match=words):
        load_detections(written(tmp_path, *map(image, names)), HICO, ANNOTATED)


def test_rows_are_sorted_by_score_and_nothing_is_said_about_good_files(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_detections(written(tmp_path, image("a.jpg", GOOD | {"score": 0.1}, GOOD)), HICO)["a.jpg"]
    np.testing.assert_array_equal(found.scores, [0.9, 0.1])


def test_words_agree_whatever_their_case_and_spaces(tmp_path: Path) -> None:
    words = {"verb": "Sit On", "object": "kite", "hoi_id": None}
    with pytest.raises(HoiError, match=r"no interaction \('Sit On', 'kite'\)"):
        load_detections(written(tmp_path, image("a.jpg", GOOD | words)), HICO)
    for verb, thing in (("Sit On", "Bench"), ("sit_on", "bench"), ("sit on", " bench ")):
        path = written(tmp_path, image("a.jpg", GOOD | {"verb": verb, "object": thing, "hoi_id": None}))
        assert [t.name for t in load_detections(path, HICO)["a.jpg"]] == ["sit on bench"]
