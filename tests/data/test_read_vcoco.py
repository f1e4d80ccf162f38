"""V-COCO: official lists and COCO boxes say the same as the JSON form."""

import copy
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hoiclip.data import check, load_hoia, load_vcoco, open_dataset, save_hoia
from hoiclip.data.vcoco import find_vcoco, join_vcoco
from hoiclip.data.vcoco_ground_truth import read_ids
from hoiclip.errors import HoiError
from hoiclip.evaluation import VcocoImage, people_of
from hoiclip.vocabulary import HoiVocabulary

SYNTHETIC = Path(__file__).parents[1] / "golden" / "eval" / "vcoco_synth"


def synthetic(name):
    return json.loads(gzip.decompress((SYNTHETIC / f"{name}.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def coco():
    return synthetic("coco")


@pytest.fixture(scope="module")
def actions():
    return synthetic("vcoco")


@pytest.fixture(scope="module")
def expected():
    with pytest.warns(UserWarning, match="107 pairs"):
        return load_hoia(SYNTHETIC / "hoia.json.gz", "vcoco")


@pytest.fixture
def root(tmp_path, coco):
    """The layout of the official repository beside COCO, images split over two instance files."""
    (tmp_path / "v-coco" / "data" / "vcoco").mkdir(parents=True)
    (tmp_path / "v-coco" / "data" / "splits").mkdir()
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    shutil.copy(SYNTHETIC / "vcoco.json.gz", tmp_path / "v-coco" / "data" / "vcoco" / "vcoco_test.json.gz")
    shutil.copy(SYNTHETIC / "ids.txt", tmp_path / "v-coco" / "data" / "splits" / "vcoco_test.ids")
    for name, keep in (("train2014", lambda i: i % 2), ("val2014", lambda i: not i % 2)):
        part = {
            **coco,
            "images": [image for image in coco["images"] if keep(image["id"])],
            "annotations": [box for box in coco["annotations"] if keep(box["image_id"])],
        }
        (tmp_path / "coco" / "annotations" / f"instances_{name}.json").write_text(json.dumps(part))
    return tmp_path


def assert_same(found, expected):
    vocabulary = HoiVocabulary.from_name("vcoco")
    assert [i.file_name for i in found] == [i.file_name for i in expected]
    for mine, theirs in zip(found, expected, strict=True):
        for field in ("boxes", "object_ids", "pairs", "hoi_ids"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field), err_msg=mine.file_name)
        np.testing.assert_array_equal(mine.verbs(vocabulary), theirs.verbs(vocabulary))


def test_official_files_give_what_the_json_form_says(root, expected, coco):
    with pytest.warns(UserWarning, match="107 pairs"):
        found = load_vcoco(root, "test")
    assert_same(found, expected)
    assert found[0].size == (coco["images"][0]["height"], coco["images"][0]["width"])


def test_people_without_labels_are_boxes_without_pairs(expected):
    vocabulary = HoiVocabulary.from_name("vcoco")
    people = sum(int((image.object_ids == vocabulary.person_id).sum()) for image in expected)
    labelled = sum(len(set(image.pairs[:, 0].tolist())) for image in expected)
    assert labelled < people


def test_nested_role_ids_are_understood(coco, actions, expected):
    nested = copy.deepcopy(actions)
    for action in nested:
        roles = np.array(action["role_object_id"]).reshape(len(action["role_name"]), -1)
        action["role_object_id"] = roles.T.tolist()
    assert_same(join_vcoco(nested, coco).images, expected)


def test_ids_choose_images_and_their_order(coco, actions, expected):
    ids = [coco["images"][7]["id"], coco["images"][2]["id"]]
    assert_same(join_vcoco(actions, coco, ids).images, [expected[7], expected[2]])
    with pytest.raises(HoiError, match="image 1 is not in the COCO instances"):
        join_vcoco(actions, coco, [1])


def test_pairs_outside_the_263_are_counted_and_listed_by_check(root):
    (report,) = check(root).splits
    assert report.counts["interactions outside the vocabulary"] == 107
    assert sum(defect.kind == "not an interaction" for defect in report.defects) == 107


def test_annotation_ids_that_coco_does_not_know_are_named(root, coco, actions):
    row = next(i for i, label in enumerate(actions[0]["label"]) if label)
    changed = copy.deepcopy(actions)
    changed[0]["ann_id"][row] = 999_999
    content = join_vcoco(changed, coco)
    assert [(d.kind, d.where, d.index) for d in content.defects] == [("id out of range", "pair", row)]
    assert "999999" in content.defects[0].detail
    (root / "v-coco" / "data" / "vcoco" / "vcoco_test.json.gz").write_bytes(gzip.compress(json.dumps(changed).encode()))
    with pytest.raises(HoiError, match="999999"):
        load_vcoco(root, "test")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda action: action.pop("label"), "label"),
        (lambda action: action["label"].pop(), "different lengths"),
        (lambda action: action["role_object_id"].pop(), "different lengths"),
        (lambda action: action.update(action_name="juggle"), "juggle"),
        (lambda action: action.update(image_id=3), "not a list of whole numbers"),
        (lambda action: action.update(image_id=[[]] * len(action["label"])), "not a whole number"),
    ],
)
def test_lists_that_do_not_fit_are_refused(coco, actions, change, words):
    changed = copy.deepcopy(actions)
    change(changed[0])
    with pytest.raises(HoiError, match=words):
        join_vcoco(changed, coco)


def test_nan_boxes_of_coco_are_named(coco, actions):
    changed = copy.deepcopy(coco)
    changed["annotations"][0]["bbox"][2] = float("nan")
    (defect,) = join_vcoco(actions, changed).defects
    assert (defect.kind, defect.where, defect.index) == ("box is not four numbers", "box", 0)


def test_json_form_is_found_where_the_official_files_are_not(tmp_path, expected):
    save_hoia(expected, tmp_path / "test_vcoco.json", "vcoco")
    assert find_vcoco(tmp_path).annotations.keys() == {"test"}
    with pytest.warns(UserWarning, match="107 pairs"):
        assert_same(load_vcoco(tmp_path, "test"), expected)


def test_missing_coco_files_and_wrong_files_are_named(root, tmp_path):
    with pytest.raises(HoiError, match="no split 'trainval'"):
        load_vcoco(root, "trainval")
    (root / "coco" / "annotations" / "instances_val2014.json").write_text("[]")
    with pytest.raises(HoiError, match=r"instances_val2014\.json: is not COCO instances"):
        load_vcoco(root, "test")
    for name in ("train2014", "val2014"):
        (root / "coco" / "annotations" / f"instances_{name}.json").unlink()
    with pytest.raises(HoiError, match=r"instances_train2014\.json and instances_val2014\.json not found"):
        find_vcoco(root)
    with pytest.raises(HoiError, match=r"vcoco_trainval\.json not found"):
        find_vcoco(root / "coco")


def test_bad_line_of_an_id_file_is_named(tmp_path):
    path = tmp_path / "x.ids"
    path.write_text("12\n\nabc\n")
    with pytest.raises(HoiError, match="line 3"):
        read_ids(path)


@pytest.mark.slow
def test_real_validation_annotations_join(shared, monkeypatch):
    import sys

    monkeypatch.syspath_prepend(str(shared / "golden" / "eval"))
    monkeypatch.delitem(sys.modules, "synth_vcoco", raising=False)
    from partial_vcoco import build

    from hoiclip.data.hoia import parse_hoia

    coco, actions, hoia = build(str(shared / "facts"))
    content = join_vcoco(actions, coco)
    assert (len(content.images), content.unlisted, content.defects) == (2633, 0, [])
    assert sum(len(image.boxes) for image in content.images) == 7659
    assert_same(content.images, parse_hoia(hoia, HoiVocabulary.from_name("vcoco"), "hoia").images)


def test_evaluation_gets_all_people_from_the_official_files(root, tmp_path_factory):
    dataset = open_dataset(root)
    images = dataset.load("test")
    people = people_of(dataset, "test", images[:50])
    assert [image.file_name for image in people] == [image.file_name for image in images[:50]]
    assert all(isinstance(image, VcocoImage) for image in people)
    alone = tmp_path_factory.mktemp("json-form")
    shutil.copy(SYNTHETIC / "hoia.json.gz", alone / "test_vcoco.json.gz")
    with pytest.warns(UserWarning, match="107 pairs"):
        pairs = open_dataset(alone, kind="vcoco").load("test")
    assert people_of(open_dataset(alone, kind="vcoco"), "test", pairs) is pairs
