"""Every figure of the published evaluators, to the last digit they are given with."""

import json

import numpy as np
import pytest
from golden_inputs import GOLDEN, SHARED, HicoInputs, annotated

from hoiclip.detections import Detections
from hoiclip.evaluation import evaluate_hicodet
from hoiclip.vocabulary import HoiVocabulary

RUNS = ("nms", "no_nms", "nms_tfe10")
SPLITS = {
    "default": None,
    "rare_first": "hico_rf_uc",
    "non_rare_first": "hico_nf_uc",
    "unseen_object": "hico_uo",
    "unseen_verb": "hico_uv",
}
close = dict(rel=0, abs=1e-9)


def check_pairwise(detections, annotations, expected):
    for name, split in SPLITS.items():
        unseen = () if split is None else HoiVocabulary.from_name(split).unseen
        result = evaluate_hicodet(detections, annotations, unseen=unseen)
        for key, value in expected[name].items():
            mine = {
                "mAP": result.full,
                "mAP rare": result.rare,
                "mAP non-rare": result.non_rare,
                "mAP unseen": result.unseen,
                "mAP seen": result.seen,
                "mAP unseen-obj": result.unseen,
                "mAP seen-obj": result.seen,
                "mean max recall": result.max_recall,
            }[key]
            assert mine == pytest.approx(value, **close), (name, key)
    np.testing.assert_allclose(result.per_class, np.array(expected["ap"], dtype=float), rtol=0, atol=1e-9)
    for key in ("num_gt", "num_det", "num_tp"):
        np.testing.assert_array_equal(getattr(result, key), expected[key])


def check_official(detections, annotations, expected):
    for setting in ("default", "known_object"):
        for plus1 in (False, True):
            figures = expected[f"official_{setting}{'_plus1' if plus1 else ''}"]
            result = evaluate_hicodet(detections, annotations, protocol="official", setting=setting, plus1=plus1)
            np.testing.assert_allclose(np.nan_to_num(result.per_class), figures["ap"], rtol=0, atol=1e-9)
            for key, mine in {
                "mAP": result.full,
                "mAP_rare": result.rare,
                "mAP_non_rare": result.non_rare,
                "mAP_classes_with_gt": result.full_with_gt,
                "mAP_rare_classes_with_gt": result.rare_with_gt,
                "mAP_non_rare_classes_with_gt": result.non_rare_with_gt,
                "mRec": result.max_recall,
            }.items():
                if figures[key] is not None:
                    assert mine == pytest.approx(figures[key], **close), (setting, plus1, key)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("subset", ["subset20", "subset300"])
def test_pairwise_subsets(subset_inputs, golden_hico, ranked_subset, subset, run):
    golden = golden_hico["sets"][subset]
    annotations = subset_inputs.annotations(golden["image_indices"])
    detections = {a.file_name: ranked_subset[run][a.file_name] for a in annotations}
    check_pairwise(detections, annotations, golden["runs"][run])


@pytest.mark.parametrize("run", ["nms", "no_nms"])
def test_official_subset(subset_inputs, golden_hico, golden_official, ranked_subset, run):
    annotations = subset_inputs.annotations(golden_hico["sets"]["subset300"]["image_indices"])
    check_official(ranked_subset[run], annotations, golden_official["sets"]["subset300"][run])


def test_float32_predictions(subset_inputs, golden_hico):
    golden = golden_hico["sets"]["subset20"]
    found = subset_inputs.rank(golden["image_indices"], "nms", np.float32)
    assert next(iter(found.values())).scores.dtype == np.float32
    result = evaluate_hicodet(found, subset_inputs.annotations(golden["image_indices"]))
    expected = golden["runs"]["nms"]
    assert result.full == pytest.approx(expected["default"]["mAP"], abs=1e-5)
    np.testing.assert_allclose(result.per_class, np.array(expected["ap"], dtype=float), rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_full_test_set(golden_hico, golden_official, run):
    if not (SHARED / "facts" / "hico_test_hoia.json.gz").exists():
        pytest.skip("the whole test annotation is not at hand")
    inputs = HicoInputs(SHARED / "facts")
    everything = range(len(inputs.source))
    annotations, detections = inputs.annotations(everything), inputs.rank(everything, run)
    check_pairwise(detections, annotations, golden_hico["sets"]["full"]["runs"][run])
    if run in golden_official["sets"]["full"]:
        check_official(detections, annotations, golden_official["sets"]["full"][run])


# --- hand-made cases, one rule each -----------------------------------------------------------------

EDGES = json.loads((GOLDEN / "golden_edge.json").read_text())
DIFFERENT_ON_PURPOSE = {  # the reference leaves undetected classes out of the part means, we count them as 0
    "class_without_detection": {"mAP non-rare": 0.5000000000000001},
    "rare_class_without_detection": {"mAP rare": 0.5000000000000001},
}


def edge_inputs(case):
    vocabulary = HoiVocabulary.from_name("hico")
    annotations, detections = [], {}
    for i, image in enumerate(case["images"]):
        annotations.append(
            annotated(
                {
                    "file_name": f"{i}.jpg",
                    "annotations": [{"bbox": box, "category_id": c} for box, c in image["boxes"]],
                    "hoi_annotation": [
                        {"subject_id": s, "object_id": o, "hoi_category_id": k + 1} for s, o, k in image["hois"]
                    ],
                },
                {c: c for c in range(80)},
            )
        )
        human, object_, hoi_ids, scores = zip(*image["dets"], strict=True) if image["dets"] else ([], [], [], [])
        ids = np.array(hoi_ids, dtype=np.int64)
        detections[f"{i}.jpg"] = Detections(
            np.array(human).reshape(-1, 4),
            np.array(object_).reshape(-1, 4),
            vocabulary.object_ids[ids],
            vocabulary.verb_ids[ids],
            ids,
            np.array(scores, dtype=float),
            vocabulary,
        )
    return detections, annotations


@pytest.mark.parametrize("name", EDGES)
def test_edge_cases(name):
    detections, annotations = edge_inputs(EDGES[name])
    expected = EDGES[name]["result"]
    result = evaluate_hicodet(detections, annotations)
    pairwise = expected["pairwise"]
    assert {str(k): n for k, n in enumerate(result.num_gt) if n} == pairwise["num_gt"]
    for k, value in pairwise["ap"].items():
        assert result.per_class[int(k)] == pytest.approx(value, **close)
        assert result.num_tp[int(k)] == sum(pairwise["tp"][k])
        assert result.num_det[int(k)] == len(pairwise["tp"][k])
    means = {"mAP": "full", "mAP rare": "rare", "mAP non-rare": "non_rare", "mean max recall": "max_recall"}
    for key, attribute in means.items():
        value = DIFFERENT_ON_PURPOSE.get(name, {}).get(key, pairwise[key])
        assert getattr(result, attribute) == pytest.approx(np.nan if value is None else value, nan_ok=True, **close)
    for setting in ("default", "known_object"):
        result = evaluate_hicodet(detections, annotations, protocol="official", setting=setting)
        for k, value in expected[f"official_{setting}"].items():
            assert result.per_class[int(k)] == pytest.approx(value, **close)
