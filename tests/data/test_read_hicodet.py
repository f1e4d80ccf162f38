"""HICO-DET from the official Matlab file and from the JSON form, wherever they lie under a folder."""

import json

import numpy as np
import pytest
import scipy.io
from hico_release import (
    assert_same,
    box_structs,
    empty,
    example,
    image_record,
    single,
    struct_array,
    write_anno_bbox,
    write_release,
)

from hoiclip.data import AnnotatedImage, check, load_hicodet, open_dataset, save_hoia
from hoiclip.data.hicodet import find_hicodet, read_anno_bbox
from hoiclip.errors import HoiError

TRAIN = [example(f"HICO_train2015_{i:08d}.jpg") for i in (1, 2)]
TEST = [example(), single(), empty()]


def complaint(path, split="test"):
    with pytest.raises(HoiError) as error:
        read_anno_bbox(path, split)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def written(path, record):
    fields = ("filename", "size", "hoi")
    scipy.io.savemat(path, {"bbox_test": struct_array([record], fields), "bbox_train": struct_array([record], fields)})
    return path


def test_official_file_round_trips_with_squeezed_elements_and_empty_images(tmp_path):
    write_anno_bbox(tmp_path / "anno_bbox.mat", TRAIN, TEST)
    found = read_anno_bbox(tmp_path / "anno_bbox.mat", "test")
    assert_same(found.images, TEST)
    assert found.defects == []
    assert [image.size for image in found.images] == [(48, 64)] * 3
    assert_same(read_anno_bbox(tmp_path / "anno_bbox.mat", "train").images, TRAIN)


def test_a_release_of_one_image_is_squeezed_to_a_single_record(tmp_path):
    write_anno_bbox(tmp_path / "anno_bbox.mat", [empty()], [single()])
    assert_same(read_anno_bbox(tmp_path / "anno_bbox.mat", "test").images, [single()])
    assert_same(read_anno_bbox(tmp_path / "anno_bbox.mat", "train").images, [empty()])


def test_invisible_interactions_are_skipped(tmp_path):
    write_anno_bbox(tmp_path / "anno_bbox.mat", [example()], TEST, invisible={3, 599})
    assert_same(read_anno_bbox(tmp_path / "anno_bbox.mat", "train").images, [example()])


def test_one_person_with_two_objects_shares_its_box(tmp_path):
    record = image_record(single())
    hoi = record["hoi"][0, 0]
    hoi["bboxobject"] = box_structs([[5, 20, 60, 48], [6, 20, 60, 48]])
    hoi["connection"] = np.array([[1.0, 2.0], [1.0, 1.0]])
    (image,) = read_anno_bbox(written(tmp_path / "anno_bbox.mat", record), "test").images
    assert image.boxes.tolist() == [[1, 2, 20, 40], [6, 20, 60, 48], [5, 20, 60, 48]]
    assert image.pairs.tolist() == [[0, 1], [0, 2]]


def test_corners_in_the_wrong_order_are_turned_and_noted_boxes_outside_are_kept(tmp_path):
    record = image_record(single())
    record["hoi"][0, 0]["bboxhuman"] = box_structs([[20, 2, 1, 400]])
    found = read_anno_bbox(written(tmp_path / "anno_bbox.mat", record), "test")
    assert found.images[0].boxes[0].tolist() == [1, 2, 20, 400]
    assert [(d.kind, d.where, d.index) for d in found.defects] == [("corners swapped", "box", 0)]


def test_cut_off_file_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "anno_bbox.mat"
    write_anno_bbox(path, TRAIN * 30, TEST)
    data = path.read_bytes()
    for size in (0, 5, 100, 130, 1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert "cut off" in complaint(path, "train")
        assert "download HICO-DET again" in complaint(path)


def test_damaged_file_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "anno_bbox.mat"
    write_anno_bbox(path, TRAIN * 30, TEST)
    data = path.read_bytes()
    path.write_bytes(data[:400] + b"\0" * 300 + data[700:])
    assert "download HICO-DET again" in complaint(path, "train")


def test_other_files_are_refused(tmp_path):
    assert "no such file" in complaint(tmp_path / "anno_bbox.mat")
    scipy.io.savemat(tmp_path / "anno.mat", {"anno_test": np.ones(3)})
    assert "holds no variable 'bbox_test'" in complaint(tmp_path / "anno.mat")
    assert "has no split 'val'" in complaint(tmp_path / "anno.mat", "val")
    scipy.io.savemat(tmp_path / "other.mat", {"bbox_test": np.ones(3)})
    assert "image 0" in complaint(tmp_path / "other.mat")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("id", 601.0, "interaction id 601 is not in 1..600"),
        ("connection", np.array([[1.0, 2.0]]), "person 1 of 1 with object 2 of 1"),
        ("bboxhuman", box_structs([[np.nan, 1, 2, 3]]), "nan"),
    ],
)
def test_wrong_ids_and_nan_boxes_name_the_image(tmp_path, field, value, words):
    record = image_record(single())
    record["hoi"][0, 0][field] = value
    path = written(tmp_path / "anno_bbox.mat", record)
    for load in (lambda: load_hicodet(tmp_path, "test"), lambda: open_dataset(path).load("test")):
        with pytest.raises(HoiError) as error:
            load()
    message = str(error.value)
    assert str(path) in message
    assert check(path, split="test").defects == 1
    assert "image 0 (HICO_test2015_00000002.jpg)" in message
    assert words in message


def test_release_is_found_below_the_folder_given(tmp_path):
    write_release(tmp_path / "data" / "hico_20160224_det", TRAIN, TEST)
    folder = find_hicodet(tmp_path)
    assert folder.annotations["train"].name == folder.annotations["test"].name == "anno_bbox.mat"
    assert folder.images["test"][0].name == "test2015"
    assert folder.image("test", TEST[0].file_name).is_file()
    assert folder.image("test", "nope.jpg") is None
    assert_same(load_hicodet(tmp_path, "test"), TEST)


def test_json_form_is_preferred_and_may_be_gzip_or_there_for_one_split_only(tmp_path):
    write_anno_bbox(tmp_path / "anno_bbox.mat", TRAIN, [])
    (tmp_path / "annotations").mkdir()
    save_hoia(TEST, tmp_path / "annotations" / "test_hico.json.gz", "hico")
    folder = find_hicodet(tmp_path)
    assert [path.name for path in folder.annotations.values()] == ["anno_bbox.mat", "test_hico.json.gz"]
    assert_same(load_hicodet(tmp_path, "test"), TEST)
    assert_same(load_hicodet(tmp_path, "train"), TRAIN)


def test_missing_folder_dataset_and_split_are_told_apart(tmp_path):
    with pytest.raises(HoiError, match="no such folder"):
        find_hicodet(tmp_path / "nowhere")
    with pytest.raises(HoiError, match="holds no HICO-DET annotations"):
        find_hicodet(tmp_path)
    save_hoia(TEST, tmp_path / "test_hico.json", "hico")
    with pytest.raises(HoiError, match="no split 'train': choose one of test"):
        load_hicodet(tmp_path, "train")


@pytest.mark.slow
def test_real_annotations_round_trip_through_the_official_structure(shared, tmp_path):
    from dataclasses import replace
    from gzip import decompress

    from hoiclip.data import load_hoia

    images = load_hoia(shared / "facts" / "hico_test_hoia.json.gz")[:2000]
    sizes = json.loads(decompress((shared / "facts" / "hico_test_sizes.json.gz").read_bytes()))["wh"]
    images = [replace(image, size=(h, w)) for image, (w, h) in zip(images, sizes, strict=False)]
    write_anno_bbox(tmp_path / "anno_bbox.mat", [AnnotatedImage("x", size=(1, 1))], images)
    found = read_anno_bbox(tmp_path / "anno_bbox.mat", "test").images
    assert_same(found, images)
    assert [image.size for image in found] == [image.size for image in images]
