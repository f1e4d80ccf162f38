"""V-COCO: the official figures, our own triplets, and what goes wrong."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from golden_inputs import GOLDEN, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

import partial_vcoco  # isort: skip
import synth_vcoco  # isort: skip

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation import (
    VcocoEvaluator,
    evaluate_vcoco,
    evaluate_vcoco_pairwise,
    evaluate_vcoco_records,
    load_vcoco_ground_truth,
    rank_verbs,
)
from hoiclip.evaluation.vcoco import person_records
from hoiclip.vocabulary import HoiVocabulary

EXPECTED = json.loads((GOLDEN / "golden_vcoco.json").read_text())


@pytest.fixture(scope="module")
def synthetic():
    coco, vcoco, hoia = synth_vcoco.load(GOLDEN / "vcoco_synth")
    folder = GOLDEN / "vcoco_synth"
    truth = load_vcoco_ground_truth(folder / "vcoco.json.gz", folder / "coco.json.gz", folder / "ids.txt")
    return coco, vcoco, hoia, truth


@pytest.fixture(scope="module")
def vocabulary():
    return HoiVocabulary.from_name("vcoco")


def check_official(records, truth, expected):
    assert expected["detections"] == len(records)
    evaluator = VcocoEvaluator(truth)
    evaluator.add_records(records)
    for scenario in (1, 2):
        result = evaluator.result(scenario)
        figures = expected["official"][f"scenario_{scenario}"]
        for name, role in figures["roles"].items():
            assert result.per_role[name] == pytest.approx(role["ap"], abs=1e-6, rel=0), (scenario, name)
            counts = result.num_gt[name], result.num_tp[name], result.num_det[name]
            assert counts == (role["npos"], role["tp"], role["ndet"]), (scenario, name)
        assert result.mean_25 == pytest.approx(figures["mean_25"], abs=1e-6)
        assert result.mean == pytest.approx(figures["mean_24_without_point"], abs=1e-6)
        for name, action in expected["official"]["agent"]["actions"].items():
            assert result.per_agent[name] == pytest.approx(action["ap"], abs=1e-6, rel=0), name
            key = f"{name}_agent"
            counts = result.num_gt[key], result.num_tp[key], result.num_det[key]
            assert counts == (action["npos"], action["tp"], action["ndet"]), name
        assert result.agent == pytest.approx(expected["official"]["agent"]["mean_26"], abs=1e-6)


def check_pairwise(hoia, truth, expected, vocabulary):
    pairs = [list(pair) for pair in vocabulary.interactions]
    detections = {}
    for i, entry in enumerate(hoia):
        p = synth_vcoco.hoia_predictions(hoia, i, 1, pairs)
        arrays = (p[k] for k in ("boxes_h", "boxes_o", "labels_o", "obj_scores", "hoi_scores"))
        detections[entry["file_name"]] = rank_verbs(*arrays, vocabulary)
    result = evaluate_vcoco_pairwise(detections, truth)
    for name, ap in expected["ap"].items():
        assert result.per_verb[name] == pytest.approx(math.nan if ap is None else ap, abs=1e-9, rel=0, nan_ok=True)
        for key in ("num_gt", "num_tp", "num_det"):
            assert getattr(result, key)[name] == expected[key][name], (key, name)
    assert result.mean_all == pytest.approx(expected["mAP_all"], abs=1e-9)
    assert result.mean == pytest.approx(expected["mAP_thesis"], abs=1e-9)


def test_official_synthetic(synthetic):
    coco, vcoco, _, truth = synthetic
    check_official(synth_vcoco.official_detections(coco, vcoco, 1), truth, EXPECTED["synthetic"])


def test_pairwise_synthetic(synthetic, vocabulary):
    check_pairwise(synthetic[2], synthetic[3], EXPECTED["synthetic"]["pairwise"], vocabulary)


@pytest.mark.slow
def test_partial_val(vocabulary):
    if not (SHARED / "facts" / "vcoco_val.json.gz").exists():
        pytest.skip("the official V-COCO annotation is not at hand")
    coco, vcoco, hoia = partial_vcoco.build(SHARED / "facts")
    truth = load_vcoco_ground_truth(vcoco, coco)
    expected = EXPECTED["partial_val"]
    assert (len(truth), sum(len(t.boxes) for t in truth)) == (expected["images"], expected["boxes"])
    assert sum(len(t.people) for t in truth) == expected["labelled_people"]
    check_official(synth_vcoco.official_detections(coco, vcoco, 1), truth, expected)
    check_pairwise(hoia, truth, expected["pairwise"], vocabulary)


# --- our own triplets -------------------------------------------------------------------------------


def triplets(vocabulary, rows):
    """rows: (human box, object box, verb, object, score)."""
    human, object_, verbs, objects, scores = zip(*rows, strict=True)
    verb_ids = np.array([vocabulary.verbs.index(v) for v in verbs])
    object_ids = np.array([vocabulary.objects.index(o) for o in objects])
    hoi_ids = np.array([vocabulary.interactions.index(p) for p in zip(verb_ids, object_ids, strict=True)])
    boxes = np.array(human, dtype=float), np.array(object_, dtype=float)
    return Detections(*boxes, object_ids, verb_ids, hoi_ids, np.array(scores), vocabulary)


def one_image(vocabulary):
    """A person who holds a cup and stands; another who cuts with nothing visible; a third unlabelled."""
    boxes = [[10, 10, 110, 210], [50, 60, 70, 90], [300, 10, 400, 210], [500, 10, 600, 210]]
    pairs = [("hold_obj", 0, 1), ("stand", 0, -1), ("cut_instr", 2, -1)]
    hoi_ids = []
    for verb, _, obj in pairs:
        name = "cup" if obj >= 0 else "nothing"
        hoi_ids.append(vocabulary.interactions.index((vocabulary.verbs.index(verb), vocabulary.objects.index(name))))
    return AnnotatedImage("a.jpg", boxes, [0, 41, 0, 0], [[h, o] for _, h, o in pairs], hoi_ids)


def test_triplets_become_people(vocabulary):
    person, cup, far = [12, 10, 110, 208], [50, 60, 70, 90], [0, 0, 5, 5]
    found = triplets(
        vocabulary,
        [
            (person, cup, "hold_obj", "cup", 0.9),
            (person, far, "hold_obj", "cup", 0.4),
            (person, far, "stand", "nothing", 0.5),
            ([302, 10, 400, 208], far, "cut_instr", "nothing", 0.8),
            ([500, 10, 600, 210], cup, "hold_obj", "cup", 1.5),
        ],
    )
    records = person_records("COCO_val2014_000000000042.jpg", found)
    assert len(records) == 3
    assert {r["image_id"] for r in records} == {42}
    first = records[0]
    assert first["hold_obj"] == [*cup, 0.9]
    assert (first["hold_agent"], first["stand_agent"]) == (0.9, 0.5)
    assert math.isnan(first["cut_agent"])
    assert math.isnan(first["cut_instr"][4])
    assert records[1]["cut_instr"] == [0, 0, 0, 0, 0.8]

    truth = [one_image(vocabulary)]
    for scenario in (1, 2):
        result = evaluate_vcoco({"a.jpg": found}, truth, scenario)
        again = evaluate_vcoco_records([r | {"file_name": "a.jpg"} for r in records], truth, scenario)
        assert result.per_role == pytest.approx(again.per_role, nan_ok=True)
        assert result.per_agent == pytest.approx(again.per_agent, nan_ok=True)
        assert result.per_role["hold_obj"] == result.per_role["cut_instr"] == 1  # the unlabelled person is ignored
        assert result.per_agent["stand"] == 1
        assert math.isnan(result.per_role["ride_instr"])
        assert result.mean == 2 / 3  # cut_obj has a person and no prediction
        assert result.num_det["hold_obj"] == 1


def test_role_without_object_decides_between_scenarios(vocabulary):
    found = triplets(vocabulary, [([302, 10, 400, 208], [310, 20, 330, 40], "cut_instr", "knife", 0.8)])
    truth = [one_image(vocabulary)]
    assert evaluate_vcoco({"a.jpg": found}, truth, 1).per_role["cut_instr"] == 0
    assert evaluate_vcoco({"a.jpg": found}, truth, 2).per_role["cut_instr"] == 1


def test_both_forms_of_truth_agree(synthetic, vocabulary):
    """Pairs built from the official ground truth give the official figures, where areas say nothing else."""
    coco, vcoco, _, truth = synthetic
    index = {pair: k for k, pair in enumerate(vocabulary.interactions)}
    pairs, official = [], []
    for image in truth:
        rows, verbs = image.pairs()
        objects = np.where(rows[:, 1] >= 0, image.object_ids[rows[:, 1]], 80)
        if image.areas.all():
            official.append(image)
            ids = [index.get(place, -1) for place in zip(verbs.tolist(), objects.tolist(), strict=True)]
            pairs.append(AnnotatedImage(image.file_name, image.boxes, image.object_ids, rows, ids, image.size, verbs))
    assert len(pairs) > 100
    names = {p.file_name for p in pairs}
    numbers = {i["id"] for i in coco["images"] if i["file_name"] in names}
    records = [r for r in synth_vcoco.official_detections(coco, vcoco, 1) if r["image_id"] in numbers]
    for scenario in (1, 2):
        first = evaluate_vcoco_records(records, official, scenario)
        second = evaluate_vcoco_records(records, pairs, scenario)
        assert first.per_role == pytest.approx(second.per_role, nan_ok=True)
        assert first.num_det == second.num_det


def test_streaming_equals_one_call(synthetic):
    coco, vcoco, _, truth = synthetic
    records = synth_vcoco.official_detections(coco, vcoco, 2)
    whole = evaluate_vcoco_records(records, truth)
    evaluator = VcocoEvaluator(truth)
    for image in truth:
        evaluator.add_records([r for r in records if r["image_id"] == image.image_id])
    assert evaluator.result(1).per_role == whole.per_role


@pytest.fixture(scope="module")
def forty(synthetic):
    """Records and ground truth of forty images, without sizes so that nothing is clipped."""
    coco, vcoco, _, truth = synthetic
    truth = [replace(image, size=None, areas=None) for image in truth[:40]]
    numbers = {image.image_id for image in truth}
    return [r for r in synth_vcoco.official_detections(coco, vcoco, 3) if r["image_id"] in numbers], truth


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), shift=st.integers(1, 500))
def test_what_must_not_change_the_figures(forty, seed, shift):
    records, truth = forty
    expected = evaluate_vcoco(records, truth)
    random = np.random.default_rng(seed)

    shuffled = [records[i] for i in random.permutation(len(records))]
    images = [truth[i] for i in random.permutation(len(truth))]
    assert evaluate_vcoco(shuffled, images).num_tp == expected.num_tp
    assert evaluate_vcoco(shuffled, images).per_role == pytest.approx(expected.per_role, nan_ok=True)

    def moved(value):
        if not isinstance(value, list) or not any(value[:4]):
            return value  # a score, or the box that says "no object"
        return [x + shift for x in value[:4]] + value[4:]

    records = [{key: moved(value) for key, value in record.items()} for record in records]
    images = [replace(image, boxes=image.boxes + shift) for image in truth]
    again = evaluate_vcoco(records, images)
    assert again.per_role == pytest.approx(expected.per_role, nan_ok=True)
    assert again.agent == pytest.approx(expected.agent)


# --- what goes wrong --------------------------------------------------------------------------------


def test_bad_input(synthetic, vocabulary, tmp_path):
    coco, vcoco, _, truth = synthetic
    nothing = Detections.empty(vocabulary)
    with pytest.raises(HoiError, match=r"'b\.jpg', which the annotations do not contain"):
        evaluate_vcoco({"b.jpg": nothing}, truth)
    with pytest.raises(HoiError, match="scenarios 1 and 2"):
        evaluate_vcoco({}, truth, 3)
    with pytest.raises(HoiError, match="no annotated images"):
        evaluate_vcoco({}, [])
    with pytest.raises(HoiError, match="image 5, which"):
        evaluate_vcoco_records([{"image_id": 5, "person_box": [0, 0, 1, 1]}], truth)
    with pytest.raises(HoiError, match="official form"):
        evaluate_vcoco_records([{"image_id": truth[0].image_id, "person_box": [0, 0, 1]}], truth)
    with pytest.raises(HoiError, match="NaN"):
        evaluate_vcoco_records([{"image_id": truth[0].image_id, "person_box": [0, 0, 1, math.nan]}], truth)
    hico = HoiVocabulary.from_name("hico")
    other = Detections(np.ones((1, 4)), np.ones((1, 4)), *(np.zeros(1, dtype=int),) * 3, np.ones(1), hico)
    with pytest.raises(HoiError, match="which V-COCO does not"):
        evaluate_vcoco({truth[0].file_name: other}, truth)
    with pytest.raises(HoiError, match="other verbs"):
        evaluate_vcoco_pairwise({truth[0].file_name: other}, truth)
    with pytest.raises(HoiError, match="image 1 is not in the COCO instances"):
        load_vcoco_ground_truth(vcoco, coco, [1])
    with pytest.raises(HoiError, match="no action of V-COCO"):
        load_vcoco_ground_truth([{**vcoco[0], "action_name": "fly"}], coco)
    with pytest.raises(HoiError, match="is not the official V-COCO lists"):
        load_vcoco_ground_truth([{"action_name": "hold"}], coco)
    broken = tmp_path / "vcoco.json"
    broken.write_text('[\n{"action_name": "hold",\n]')
    with pytest.raises(HoiError, match="line 3 is not valid JSON"):
        load_vcoco_ground_truth(broken, coco)
    ids = tmp_path / "ids"
    ids.write_text("1\nx\n")
    with pytest.raises(HoiError, match="no image id"):
        load_vcoco_ground_truth(vcoco, coco, ids)
    with pytest.raises(HoiError, match="no such file"):
        load_vcoco_ground_truth(tmp_path / "none.json", coco)


def test_nothing_detected(synthetic, vocabulary):
    truth = synthetic[3]
    nothing = {truth[0].file_name: Detections.empty(vocabulary)}
    result = evaluate_vcoco(nothing, truth)
    assert result.mean == result.agent == 0
    assert result.num_images_without_detections == len(truth) - 1
    assert evaluate_vcoco_pairwise(nothing, truth).mean == 0
    assert VcocoEvaluator(truth).result().mean == 0
    for evaluate in (evaluate_vcoco, evaluate_vcoco_pairwise, evaluate_vcoco_records):
        with pytest.raises(HoiError, match="no detections to evaluate"):
            evaluate({}, truth)
    with pytest.raises(HoiError, match="no detections to evaluate"):
        evaluate_vcoco([], truth)
