"""hicodet's instances_*.json: read as HICO-DET, told where its numbers contradict each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hoiclip.data import check, load_custom, load_hicodet, load_hoia, open_dataset
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

HICO = HoiVocabulary.from_name("hico")
RIDE, SIT = (HICO.interactions.index((HICO.verbs.index(v), HICO.objects.index("horse"))) for v in ("ride", "straddle"))
MAN, HORSE, COPY = [226, 18, 340, 210], [174, 65, 393, 440], [225, 17, 341, 210]
OBJECTS, VERBS = sorted(HICO.objects), list(HICO.verbs)  # the file's own order of objects is another


def instances(**changes: Any) -> dict[str, Any]:
    horse = OBJECTS.index("horse")
    pairs = {
        "boxes_h": [MAN, COPY, MAN],
        "boxes_o": [HORSE, HORSE, HORSE],
        "hoi": [RIDE, SIT, SIT],
        "object": [horse] * 3,
        "verb": [VERBS.index(v) for v in ("ride", "straddle", "straddle")],
    }
    empty: dict[str, list[Any]] = {key: [] for key in pairs}
    return {
        "annotation": [pairs, empty],
        "filenames": ["HICO_train2015_00000001.jpg", "HICO_train2015_00000002.jpg"],
        "size": [[640, 480], [640, 427]],
        "empty": [1],
        "objects": OBJECTS,
        "verbs": VERBS,
        **changes,
    }


def written(folder: Path, data: Any, name: str = "instances_train2015.json") -> Path:
    (folder / name).write_text(json.dumps(data))
    return folder / name


@pytest.mark.parametrize("missing", [(), ("objects", "verbs", "size")], ids=["names", "numbers alone"])
def test_pairs_boxes_and_sizes_are_those_of_the_official_file(tmp_path: Path, missing: tuple[str, ...]) -> None:
    data = {key: value for key, value in instances().items() if key not in missing}
    image, empty = load_hoia(written(tmp_path, data))
    assert image.boxes.tolist() == [MAN, HORSE, COPY]  # a box that comes again is stored once
    assert image.object_ids.tolist() == [HICO.person_id, HICO.objects.index("horse"), HICO.person_id]
    assert image.pairs.tolist() == [[0, 1], [2, 1], [0, 1]]
    assert image.hoi_ids.tolist() == [RIDE, SIT, SIT]
    assert image.size == (None if missing else (480, 640))
    assert (empty.file_name, len(empty.boxes), len(empty.pairs)) == ("HICO_train2015_00000002.jpg", 0, 0)


def test_a_folder_of_it_is_hicodet_whose_near_copies_are_apart(tmp_path: Path) -> None:
    written(tmp_path, instances())
    dataset = open_dataset(tmp_path)
    assert (dataset.kind, dataset.splits) == ("hicodet", ["train"])
    assert not dataset.in_json_form("train")
    assert len(load_hicodet(tmp_path, "train")) == 2
    assert check(tmp_path).defects == 0
    assert open_dataset(tmp_path / "instances_train2015.json").splits == ["train"]


def test_own_words_are_read_by_the_files_names(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.yaml").write_text("verbs: [straddle, ride]\nobjects: [horse, person]\npairs: all\n")
    written(tmp_path, instances(), "train.json")
    vocabulary = open_dataset(tmp_path).vocabulary
    (image, _) = load_custom(tmp_path)
    assert [vocabulary.interaction_name(k) for k in image.hoi_ids] == ["ride horse", "straddle horse", "straddle horse"]


def changed(**lists: Any) -> dict[str, Any]:
    data = instances()
    data["annotation"][0] |= lists
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(hoi=[RIDE + 1, SIT, SIT]), "numbers count from 0"),
        (changed(hoi=[600, SIT, SIT]), "hoi 600 is not in 0..599"),
        (changed(hoi=["140", SIT, SIT]), "hoi '140'"),
        (changed(verb=[1, 2]), "not lists of one length"),
        (changed(boxes_h=None), "not lists of one length"),
        (changed(boxes_h=[[1, 2, 3], MAN, MAN]), "four numbers"),
        (changed(boxes_o=[[0.1, 0.2, 0.5, 0.9]] * 3), "box in fractions"),
        (changed(object=[80, 0, 0]), "object 80 is not in 0..79"),
        (instances(filenames=["a.jpg"]), "2 images in 'annotation' but 1 names in 'filenames'"),
        (instances(filenames=None), "but no names"),
        (instances(filenames=["../a.jpg", "b.jpg"]), "leaves the image folder"),
        (instances(filenames=[3, "b.jpg"]), "its file name is 3"),
        (instances(annotation=[{"boxes_o": []}, 3]), "lacks 'boxes_h'"),
        (changed(verb=[1, 2, 3]) | {"objects": None, "verbs": None}, "which verb 1 contradicts"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(tmp_path: Path, data: Any, words: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(HoiError) as error:
        load_hoia(path)
    assert words in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
