"""COCO with relations is an annotation file like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoiclip import HoiVocabulary
from hoiclip.data import AnnotatedImage, export_labels, open_dataset, save_hoia
from hoiclip.errors import HoiError

HICO = HoiVocabulary.from_name("hico")


def images() -> list[AnnotatedImage]:
    hoi = [k for k, (_, thing) in enumerate(HICO.interactions) if thing == 1][:2]
    boxes = np.array([[10, 10, 60, 110], [20, 60, 90, 140], [5, 5, 50, 50]])
    return [
        AnnotatedImage("a.jpg", boxes, [0, 1, 0], [[0, 1], [2, 1]], hoi, (200, 300)),
        AnnotatedImage("b.jpg", boxes[:2], [0, 1], [[0, 1]], hoi[:1], (200, 300)),
    ]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    from PIL import Image

    for image in images():
        Image.new("RGB", (300, 200)).save(tmp_path / "images" / image.file_name)
    save_hoia(images(), tmp_path / "test_hico.json", HICO)
    export_labels(tmp_path / "test_hico.json", "coco", tmp_path / "coco.json", images=tmp_path / "images")
    return tmp_path / "coco.json"


def test_what_was_exported_is_read_as_annotations(exported: Path) -> None:
    dataset = open_dataset(exported)
    read = dataset.load(dataset.splits[0])
    for one, other in zip(images(), read, strict=True):
        assert (one.file_name, one.size) == (other.file_name, other.size)
        for column in ("boxes", "object_ids", "pairs", "hoi_ids"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["relations"][0].update(subject_id=99), "subject_id"),
        (lambda d: d["relations"][0].update(object_id=4), "object_id"),  # a box of the other image
        (lambda d: d["relations"][0].update(verb="juggle"), "juggle"),
        (lambda d: d["relations"][0].update(image_id=9), "no image of the file"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2]), "box"),
        (lambda d: d["annotations"][0].update(category_id=900), "category_id"),
        (lambda d: d["images"][0].update(id="x"), "no number"),
        (lambda d: d["images"].append(3), "no list of objects"),
    ],
)
def test_what_is_wrong_in_it_is_told(exported: Path, change: Any, words: str) -> None:
    data = json.loads(exported.read_text())
    change(data)
    exported.write_text(json.dumps(data))
    dataset = open_dataset(exported)
    with pytest.raises(HoiError, match=words) as error:
        dataset.load(dataset.splits[0])
    assert str(exported) in str(error.value)
