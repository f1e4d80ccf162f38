"""Detections to disk and back, submission forms, result tables."""

import json
import math
import pickle

import numpy as np
import pytest
from golden_inputs import GOLDEN
from scipy.io import loadmat

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation import (
    evaluate_hicodet,
    evaluate_vcoco,
    evaluate_vcoco_records,
    load_detections,
    load_vcoco_ground_truth,
    render_table,
    save_detections,
    write_hicodet_matlab,
    write_results,
    write_vcoco_pickle,
)
from hoiclip.postprocessing import rank_triplets
from hoiclip.vocabulary import HoiVocabulary

COLUMNS = ("human_boxes", "object_boxes", "object_ids", "verb_ids", "hoi_ids", "scores", "interaction_scores")


@pytest.fixture(scope="module")
def twenty(subset_inputs, golden_hico, ranked_subset):
    annotations = subset_inputs.annotations(golden_hico["sets"]["subset20"]["image_indices"])
    return annotations, {a.file_name: ranked_subset["nms"][a.file_name] for a in annotations}


def test_saved_detections_give_the_same_figures(twenty, tmp_path):
    annotations, detections = twenty
    detections = detections | {annotations[3].file_name: Detections.empty(HoiVocabulary.from_name("hico"), (3, 4))}
    save_detections(tmp_path / "found.jsonl", detections)
    again = load_detections(
        tmp_path / "found.jsonl", HoiVocabulary.from_name("hico"), [a.file_name for a in annotations]
    )
    assert list(again) == list(detections)
    for name, found in detections.items():
        assert again[name].image_size == found.image_size
        for column in COLUMNS:
            if len(found) or column != "interaction_scores":
                np.testing.assert_array_equal(getattr(again[name], column), getattr(found, column))
    assert evaluate_hicodet(again, annotations).full == evaluate_hicodet(detections, annotations).full


def test_rounded_lines_and_bare_names_load_too(tmp_path, twenty):
    annotations, detections = twenty
    name = annotations[0].file_name
    path = tmp_path / "found.jsonl"
    path.write_text(json.dumps({"file_name": name, **detections[name].to_dict()}) + "\n\n")
    found = load_detections(path, HoiVocabulary.from_name("hico"))[name]
    np.testing.assert_array_equal(found.hoi_ids, detections[name].hoi_ids)
    box = [0, 0, 1, 1]
    rows = [
        {"human_box": box, "object_box": box, "score": score, "verb": "ride", "object": obj}
        for score, obj in ((0.5, "horse"), (0.7, "bicycle"))
    ]
    path.write_text(json.dumps({"file_name": name, "triplets": rows}))
    found = load_detections(path, HoiVocabulary.from_name("hico"))[name]
    assert [t.name for t in found] == ["ride bicycle", "ride horse"]
    assert found.image_size is None


TRIPLET = {"human_box": [0, 0, 9, 9], "object_box": [0, 0, 9, 9], "score": 0.5, "hoi_id": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "a.jpg", "triplets": [', "not valid JSON"),
        ("[1, 2]", "'file_name' and 'triplets'"),
        ({"file_name": "a.jpg", "triplets": None}, "must be a list"),
        ({"file_name": "a.jpg", "triplets": [], "image_size": 3}, "image_size"),
        ({"file_name": "a.jpg", "triplets": [{**TRIPLET, "hoi_id": 600}]}, "hoi_id 600 is not one of the 600"),
        ({"file_name": "a.jpg", "triplets": [{**TRIPLET, "hoi_id": -1}]}, "hoi_id -1"),
        ({"file_name": "a.jpg", "triplets": [{**TRIPLET, "hoi_id": "x"}]}, "hoi_id 'x'"),
        ({"file_name": "a.jpg", "triplets": [{**TRIPLET, "verb": "fly", "object": "kite"}]}, "another vocabulary"),
        ({"file_name": "a.jpg", "triplets": [{**TRIPLET, "hoi_id": None}]}, "no interaction"),
        ({"file_name": "a.jpg", "triplets": [{**TRIPLET, "human_box": [0, math.nan, 1, 1]}]}, "human_box of triplet 0"),
        ({"file_name": "a.jpg", "triplets": [TRIPLET, {**TRIPLET, "score": math.nan}]}, "score of triplet 1"),
        ({"file_name": "a.jpg", "triplets": [{**TRIPLET, "object_box": [0, 1, 2]}]}, "four numbers"),
        ({"file_name": "a.jpg", "triplets": [{"score": 1}]}, "lacks 'human_box'"),
        ({"file_name": "b.jpg", "triplets": []}, "do not contain 'b.jpg'"),
        ({"file_name": "first.jpg", "triplets": []}, "second time"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "found.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_text('{"file_name": "first.jpg", "triplets": []}\n' + text + "\n")
    with pytest.raises(HoiError, match=message) as error:
        load_detections(path, HoiVocabulary.from_name("hico"), ["first.jpg", "a.jpg"])
    assert str(error.value).startswith(f"{path}: line 2: ")


def test_unreadable_files(tmp_path):
    with pytest.raises(HoiError, match="no such file"):
        load_detections(tmp_path / "none.jsonl", HoiVocabulary.from_name("hico"))
    (tmp_path / "cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08 broken")
    with pytest.raises(HoiError, match="cannot be read"):
        load_detections(tmp_path / "cut.jsonl.gz", HoiVocabulary.from_name("hico"))


def test_matlab_files(tmp_path, twenty):
    annotations, detections = twenty
    vocabulary = HoiVocabulary.from_name("hico")
    names = [a.file_name for a in annotations]
    write_hicodet_matlab(detections, tmp_path, names)
    assert len(list(tmp_path.iterdir())) == 80
    total = 0
    for object_id in range(80):
        cells = loadmat(tmp_path / f"detections_{object_id + 1:02d}.mat")["all_boxes"]
        own = np.flatnonzero(vocabulary.object_ids == object_id)
        assert cells.shape == (len(own), len(names))
        for (k, i), rows in np.ndenumerate(cells):
            found = detections[names[i]]
            found = found[found.hoi_ids == own[k]]
            np.testing.assert_array_equal(rows[:, :4] + 1, found.human_boxes)
            np.testing.assert_array_equal(rows[:, 4:8] + 1, found.object_boxes)
            np.testing.assert_array_equal(rows[:, 8], found.scores)
            total += len(rows)
    assert total == sum(len(d) for d in detections.values())
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_hicodet_matlab(detections, tmp_path / "again", names)  # no time of day in it
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == first
    with pytest.raises(HoiError, match="not among the images"):
        write_hicodet_matlab(detections, tmp_path, names[1:])
    with pytest.raises(HoiError, match="no detections"):
        write_hicodet_matlab({}, tmp_path)


def test_vcoco_pickle(tmp_path):
    folder = GOLDEN / "vcoco_synth"
    truth = load_vcoco_ground_truth(folder / "vcoco.json.gz", folder / "coco.json.gz", folder / "ids.txt")[:20]
    vocabulary = HoiVocabulary.from_name("vcoco")
    random = np.random.default_rng(0)
    detections = {}
    for image in truth:
        boxes = image.boxes[random.integers(0, len(image.boxes), (2, 30))]
        people = image.boxes[image.people[random.integers(0, len(image.people), 30)]]
        scores = random.random((30, 81)), random.random((30, 263))
        detections[image.file_name] = rank_triplets(people, boxes[1], *scores, vocabulary)
    write_vcoco_pickle(detections, tmp_path / "found.pkl")
    records = pickle.loads((tmp_path / "found.pkl").read_bytes())
    assert set(records[0]) > {"image_id", "person_box", "hold_agent", "hold_obj", "stand_agent", "cut_instr"}
    for scenario in (1, 2):
        direct = evaluate_vcoco(detections, truth, scenario)
        assert direct.mean > 0
        assert evaluate_vcoco_records(records, truth, scenario).per_role == pytest.approx(direct.per_role, nan_ok=True)
    with pytest.raises(HoiError, match="no COCO image id"):
        write_vcoco_pickle({"photo.jpg": Detections.empty(vocabulary)}, tmp_path / "other.pkl")
    assert not (tmp_path / "other.pkl").exists()


def test_tables(twenty, tmp_path):
    annotations, detections = twenty
    result = evaluate_hicodet(detections, annotations)
    table = render_table(
        {"all of it": result, "half of it": evaluate_hicodet(dict(list(detections.items())[:10]), annotations)}
    )
    head, first, _, note = table.splitlines()
    assert head.split() == ["full", "rare", "(fixed", "138)", "non-rare", "(fixed", "462)", "seen", "max", "recall"]
    assert first.split()[3:] == [
        f"{100 * x:.2f}" for x in (result.full, result.rare, result.non_rare, result.seen, result.max_recall)
    ]
    assert note == "half of it: nothing was handed in for 10 of 20 images"
    assert "seen" in render_table(result)
    write_results(tmp_path / "metrics.json", result)
    data = json.loads((tmp_path / "metrics.json").read_text())
    assert data["full"] == result.full
    assert data["unseen"] is None
    assert len(data["classes"]) == 600
    folder = GOLDEN / "vcoco_synth"
    truth = load_vcoco_ground_truth(folder / "vcoco.json.gz", folder / "coco.json.gz")
    nothing = evaluate_vcoco({truth[0].file_name: Detections.empty(HoiVocabulary.from_name("vcoco"))}, truth, 2)
    assert render_table(nothing).splitlines()[1].split() == ["0.00"] * 3
    write_results(tmp_path / "vcoco.json", nothing)
    assert json.loads((tmp_path / "vcoco.json").read_text())["scenario"] == 2
    with pytest.raises(HoiError, match="cannot be written"):
        write_results(tmp_path / "metrics.json" / "below.json", result)
