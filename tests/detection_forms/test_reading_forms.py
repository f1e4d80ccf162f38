"""Detections of other programs are known by content and read as what they mean."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forms import EAT, HICO, HOLD, NAMES, RIDE, SIZES, TRIPLETS, detections, dump, predictions, same, written

from hoiclip.errors import HoiError
from hoiclip.evaluation import load_detections


@pytest.mark.parametrize("key", ["file_name", "filename"])
@pytest.mark.parametrize(
    ("objects", "first_verb", "said"),
    [
        ("coco", 1, "verbs counted from 1, objects by COCO's ids"),
        ("coco", 0, "verbs counted from 0, objects by COCO's ids"),
        ("position", 0, "verbs counted from 0, objects counted from 0 in COCO's order"),
        ("position", 1, "verbs counted from 1, objects counted from 0 in COCO's order"),
    ],
)
def test_predictions_in_ppdms_form_are_read_in_whatever_numbering(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], objects: str, first_verb: int, said: str, key: str
) -> None:
    entries = predictions(objects, first_verb, key)
    path = written(tmp_path / "any.name", entries)
    same(load_detections(path, HICO, NAMES), detections())
    assert said in capsys.readouterr().err
    lines = tmp_path / "lines.json"
    lines.write_text("\n".join(map(json.dumps, entries)))
    same(load_detections(lines, HICO, NAMES), detections())
    indented = tmp_path / "indented.json"
    indented.write_text(json.dumps(entries, indent=2))
    same(load_detections(indented, HICO, NAMES), detections())


def test_a_numbering_that_nothing_tells_is_refused(tmp_path: Path) -> None:
    entry = predictions("coco", 1)[0]
    entry["hoi_prediction"] = entry["hoi_prediction"][:1]
    verb = next(  # both it and the verb before it make an interaction with a bicycle
        v for v in range(1, 117) if (v, 1) in HICO.interactions and (v - 1, 1) in HICO.interactions
    )
    entry["hoi_prediction"][0]["category_id"] = verb
    with pytest.raises(HoiError, match="nothing in it tells which; write names instead") as error:
        load_detections(written(tmp_path / "a.json", [entry]), HICO)
    assert str(error.value).startswith(str(tmp_path))


def test_interactions_are_told_from_their_first_number_whatever_class_their_boxes_have(tmp_path: Path) -> None:
    entries = predictions("position", -1)
    triplet = dict(entries[0]["hoi_prediction"][0], category_id=0, score=0.4)  # board airplane, of a box of a bicycle
    entries[0]["hoi_prediction"].append(triplet)
    found = load_detections(written(tmp_path / "a.json", entries), HICO, NAMES)[NAMES[0]]
    assert found.hoi_ids.tolist() == [RIDE, HOLD, 0]


def test_hoi_category_id_and_names_say_what_is_meant(tmp_path: Path) -> None:
    entries = predictions("coco", 1)
    for entry, rows in zip(entries, TRIPLETS.values(), strict=True):
        for triplet, (_, _, hoi, _) in zip(entry["hoi_prediction"], rows, strict=True):
            triplet["hoi_category_id"] = hoi + 1
    same(load_detections(written(tmp_path / "a.json", entries), HICO, NAMES), detections())
    for entry in entries:
        for triplet in entry["hoi_prediction"]:
            triplet["category_id"] = HICO.verbs[triplet["category_id"] - 1].replace("_", " ")
            del triplet["hoi_category_id"]
        for box in entry["predictions"]:
            box["category_id"] = HICO.objects[HICO.category_ids.index(box["category_id"])]
    same(load_detections(written(tmp_path / "b.json", entries), HICO, NAMES), detections())


def test_pairs_that_are_no_interaction_are_left_out_and_counted(tmp_path: Path) -> None:
    entries = predictions("coco", 1)
    weak = dict(entries[0]["hoi_prediction"][0], category_id=HICO.verbs.index("eat") + 1, score=0.01)  # a bicycle
    entries[0]["hoi_prediction"].append(weak)
    with pytest.warns(UserWarning, match="1 predictions are of a verb and an object that make no interaction"):
        same(load_detections(written(tmp_path / "a.json", entries), HICO, NAMES), detections())


def save_npz(path: Path, entry: Any) -> None:
    np.savez(path.with_suffix(".npz"), **entry)


def tensors(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: torch.as_tensor(value) for key, value in entry.items()}


def save_pt(path: Path, entry: Any) -> None:
    torch.save(tensors(entry), path.with_suffix(".pt"))


def save_old_pth(path: Path, entry: Any) -> None:
    torch.save(tensors(entry), path.with_suffix(".pth"), _use_new_zipfile_serialization=False)


def save_pickle(protocol: int) -> Any:
    def save(path: Path, entry: Any) -> None:
        path.with_suffix(".pkl").write_bytes(pickle.dumps(entry, protocol=protocol))

    return save


@pytest.mark.parametrize("alphabetical", [False, True])
@pytest.mark.parametrize("save", [save_npz, save_pt, save_old_pth, *(save_pickle(p) for p in (0, 2, 4, 5))])
def test_a_folder_of_upts_images_is_read_and_brought_to_their_size(
    tmp_path: Path, save: Any, *, alphabetical: bool
) -> None:
    for name in NAMES:
        save(tmp_path / Path(name).stem, dump(name, scale=1.25, alphabetical=alphabetical))
    same(load_detections(tmp_path, HICO, NAMES, sizes=SIZES), detections(), 1e-9)


def test_one_file_of_upts_images_is_read(tmp_path: Path) -> None:
    by_name, listed = tmp_path / "by_name", tmp_path / "listed"
    torch.save({name: tensors(dump(name)) for name in NAMES}, by_name)
    listed.write_bytes(pickle.dumps([{"file_name": name, **dump(name)} for name in NAMES]))
    for path in (by_name, listed):
        same(load_detections(path, HICO, NAMES, sizes=SIZES), detections())


def test_resized_boxes_without_the_size_of_the_original_are_refused(tmp_path: Path) -> None:
    save_npz(tmp_path / Path(NAMES[0]).stem, dump(NAMES[0], scale=1.25))
    with pytest.raises(HoiError, match="the annotations do not tell the size"):
        load_detections(tmp_path, HICO, NAMES)


def test_verbs_without_their_objects_are_never_taken_for_interactions(tmp_path: Path) -> None:
    entry = dump(NAMES[0], with_size=False)
    del entry["objects"]
    entry["labels"] = np.array([0, 5])
    save_npz(tmp_path / Path(NAMES[0]).stem, entry)
    with pytest.raises(HoiError, match="in no numbering that is known"):
        load_detections(tmp_path, HICO, NAMES)
    entry["labels"] = np.array([0, EAT])
    save_npz(tmp_path / Path(NAMES[0]).stem, entry)
    (found,) = load_detections(tmp_path, HICO, NAMES).values()
    assert found.hoi_ids.tolist() == [0, EAT]


def test_the_alphabet_of_hicodets_objects() -> None:
    order = sorted(HICO.objects)
    assert (order.index("person"), order.index("bicycle"), order.index("airplane")) == (49, 9, 0)
    assert HICO.objects[HICO.object_ids[RIDE]] == "bicycle"
