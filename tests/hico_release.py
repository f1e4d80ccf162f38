"""Writes a small HICO-DET release with the official structure: anno_bbox.mat and images."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from hoiclip.data import AnnotatedImage
from hoiclip.vocabulary import HoiVocabulary


def struct_array(records, fields):
    """A 1 x n Matlab struct array."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in fields])
    for i, record in enumerate(records):
        for name in fields:
            array[0, i][name] = record[name]
    return array


def box_structs(boxes):
    """Corners in the order the official file stores them: x1, x2, y1, y2."""
    records = [dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True)) for box in boxes]
    return struct_array(records, ("x1", "x2", "y1", "y2"))


def image_record(image: AnnotatedImage, invisible=()):
    hois = []
    for hoi_id in sorted({*image.hoi_ids.tolist(), *invisible}):
        pairs = image.pairs[image.hoi_ids == hoi_id]
        hois.append(
            {
                "id": float(hoi_id + 1),
                "bboxhuman": box_structs(image.boxes[pairs[:, 0]]),
                "bboxobject": box_structs(image.boxes[pairs[:, 1]]),
                "connection": np.array([[i + 1, i + 1] for i in range(len(pairs))], dtype=float).reshape(-1, 2),
                "invis": float(hoi_id in invisible),
            }
        )
    height, width = image.size
    size = struct_array([{"width": float(width), "height": float(height), "depth": 3.0}], ("width", "height", "depth"))
    return {
        "filename": image.file_name,
        "size": size,
        "hoi": struct_array(hois, ("id", "bboxhuman", "bboxobject", "connection", "invis")),
    }


def write_anno_bbox(path: Path, train, test, invisible=()):
    fields = ("filename", "size", "hoi")
    vocabulary = HoiVocabulary.from_name("hico")
    actions = [
        {"nname": vocabulary.objects[o], "vname": vocabulary.verbs[v], "vname_ing": vocabulary.gerunds[v]}
        for v, o in vocabulary.interactions
    ]
    scipy.io.savemat(
        path,
        {
            "bbox_train": struct_array([image_record(i, invisible) for i in train], fields),
            "bbox_test": struct_array([image_record(i) for i in test], fields),
            "list_action": struct_array(actions, ("nname", "vname", "vname_ing")).T,
        },
        do_compression=True,
    )


def example(file_name="HICO_test2015_00000001.jpg", size=(48, 64)):
    """Two people on one bench, which is one box, and a third with a bowl."""
    return AnnotatedImage(
        file_name=file_name,
        boxes=np.array([[1, 2, 20, 40], [5, 20, 60, 48], [30, 3, 50, 41], [2, 2, 21, 39], [40, 10, 64, 30.0]]),
        object_ids=np.array([0, 13, 0, 0, 45]),
        pairs=np.array([[0, 1], [2, 1], [3, 4]]),
        hoi_ids=np.array([245, 245, 252]),
        size=size,
    )


def single(file_name="HICO_test2015_00000002.jpg", size=(48, 64)):
    """One person, one object, one interaction: every struct array and connection has one element."""
    return AnnotatedImage(
        file_name=file_name,
        boxes=np.array([[1, 2, 20, 40], [5, 20, 60, 48.0]]),
        object_ids=np.array([0, 13]),
        pairs=np.array([[0, 1]]),
        hoi_ids=np.array([245]),
        size=size,
    )


def empty(file_name="HICO_test2015_00000003.jpg", size=(48, 64)):
    """Nobody does anything visible."""
    return AnnotatedImage(file_name=file_name, size=size)


def write_images(folder: Path, images):
    folder.mkdir(parents=True)
    for image in images:
        height, width = image.size
        Image.new("RGB", (width, height), "grey").save(folder / image.file_name)


def write_release(root: Path, train, test):
    """The layout of hico_20160224_det."""
    write_images(root / "images" / "train2015", train)
    write_images(root / "images" / "test2015", test)
    write_anno_bbox(root / "anno_bbox.mat", train, test)


def assert_same(found, expected):
    assert [i.file_name for i in found] == [i.file_name for i in expected]
    for mine, theirs in zip(found, expected, strict=True):
        for name in ("boxes", "object_ids", "pairs", "hoi_ids"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=mine.file_name)
