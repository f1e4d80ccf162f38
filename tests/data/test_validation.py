"""data check: counts beside the published ones, and every defect by its place."""

import json

import numpy as np
import pytest
from hico_release import empty, example, single, write_release
from PIL import Image

from hoiclip.data import AnnotatedImage, check, open_dataset, save_hoia
from hoiclip.errors import HoiError


def found(report):
    return [(d.kind, d.image, d.where, d.index) for split in report.splits for d in split.defects]


@pytest.fixture
def release(tmp_path):
    write_release(tmp_path / "hico", [example("HICO_train2015_00000001.jpg")], [example(), single(), empty()])
    return tmp_path / "hico"


def test_counts_of_a_clean_release(release):
    report = check(release)
    assert found(report) == []
    assert report.total_images == 4
    test = report.splits[1]
    assert test.split == "test"
    assert test.counts == {
        "images": 3,
        "images without interactions": 1,
        "boxes": 7,
        "pairs": 4,
        "interactions": 4,
        "classes with instances": 2,
        "classes with fewer than 10 instances": 600,
    }
    assert (test.per_class[245], test.per_class[252], sum(test.per_class)) == (3, 1, 4)
    assert test.published["interactions"] == 33405
    assert not report.complete
    assert check(release, split="test").splits == [test]


def test_sets_of_interactions_have_the_published_sizes(release):
    sets = check(release, split="test").splits[0].sets
    assert {name: row["classes"] for name, row in sets.items()} == {
        "rare": 138,
        "non_rare": 462,
        "rf_uc": 120,
        "nf_uc": 120,
        "uo": 100,
        "uv": 84,
        **{f"uc{i}": 120 for i in range(5)},
    }
    assert all(row["published_classes"] in (None, row["classes"]) for row in sets.values())


def test_every_kind_of_defect_is_named_by_image_and_position():
    good = example()
    boxes = np.array([[1, 2, 20, 40], [5, 5, 5, 30], [-1, 0, 70, 10], [np.nan, 0, 1, 1], [0, 0, 1, 1]])
    bad = AnnotatedImage(
        "bad.jpg",
        boxes,
        [0, 13, 13, 13, 99],
        [[0, 1], [1, 0], [0, 1], [0, 7], [0, 2], [0, 1]],
        [245, 245, 245, 245, 600, 252],
        size=(48, 64),
    )
    assert found(check([good, bad, good])) == [
        ("image listed twice", 0, "image", -1),
        ("zero-area box", 1, "box", 1),
        ("box outside the image", 1, "box", 2),
        ("box is not four numbers", 1, "box", 3),
        ("id out of range", 1, "box", 4),
        ("subject is not a person", 1, "pair", 1),
        ("object does not fit", 1, "pair", 1),
        ("duplicate pair", 1, "pair", 2),
        ("id out of range", 1, "pair", 3),
        ("id out of range", 1, "pair", 4),
        ("object does not fit", 1, "pair", 5),
        ("image listed twice", 2, "image", -1),
    ]


def test_defects_of_a_file_keep_their_positions_behind_unreadable_entries(tmp_path):
    pair = {"subject_id": 0, "object_id": 1, "category_id": 88, "hoi_category_id": 246}
    person, bench = {"bbox": [1, 2, 3, 4], "category_id": 1}, {"bbox": [1, 2, 9, 9], "category_id": 15}
    entries = [
        7,
        {
            "file_name": "a.jpg",
            "annotations": [person, bench, {"bbox": [1, 2, float("nan"), 4], "category_id": 12}],
            "hoi_annotation": [pair | {"subject_id": 5}, pair, "x", pair],
        },
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    report = check(tmp_path / "a.json")
    assert found(report) == [
        ("unreadable entry", 0, "image", -1),
        ("box is not four numbers", 1, "box", 2),
        ("id out of range", 1, "box", 2),
        ("id out of range", 1, "pair", 0),
        ("id out of range", 1, "pair", 2),
        ("duplicate pair", 1, "pair", 3),
    ]
    assert report.splits[0].defects[-1].detail == "says the same as pair 1"


def test_missing_unreadable_and_resized_pictures_are_found(release):
    folder = release / "images" / "test2015"
    (folder / "HICO_test2015_00000001.jpg").unlink()
    (folder / "HICO_test2015_00000002.jpg").write_bytes(b"no picture")
    Image.new("RGB", (30, 20)).save(folder / "HICO_test2015_00000003.jpg")
    kinds = [("missing image", 0), ("unreadable image", 1), ("size differs", 2)]
    assert found(check(release, split="test")) == [(kind, i, "image", -1) for kind, i in kinds]


def test_picture_tells_the_size_where_the_file_does_not(tmp_path, release):
    save_hoia([AnnotatedImage("HICO_test2015_00000001.jpg", [[0, 0, 65, 10]], [0])], tmp_path / "a.json", "hico")
    assert found(check(tmp_path / "a.json")) == []
    report = check(tmp_path / "a.json", images=release / "images" / "test2015")
    assert found(report) == [("box outside the image", 0, "box", 0)]


def test_text_shows_published_counts_and_a_few_of_many_defects(release):
    text = check(release).to_text()
    assert "HICO_" not in text
    assert "no defects" in text
    assert "9,658" in text
    assert "DIFFERS" in text
    for picture in (release / "images" / "test2015").iterdir():
        picture.unlink()
    text = check(release).to_text(max_defects=2)
    assert "missing image: 3" in text
    assert "image 1 (HICO_test2015_00000002.jpg): missing image" in text
    assert "and 1 more" in text


def test_report_is_written_whole_or_not_at_all(release, tmp_path, monkeypatch):
    report = check(release)
    report.save(tmp_path / "out" / "report.json")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report.to_dict()))
    monkeypatch.setattr("pathlib.Path.write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(HoiError, match="full"):
        report.save(tmp_path / "out" / "other.json")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(HoiError, match="no such file or folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(HoiError, match="holds no HICO-DET, V-COCO or custom dataset"):
        check(tmp_path)
    (tmp_path / "a.json").write_text("[\n{]")
    with pytest.raises(HoiError, match="line 2"):
        check(tmp_path / "a.json")
    with pytest.raises(HoiError, match="unknown kind"):
        open_dataset(tmp_path, kind="coco")
    with pytest.raises(HoiError, match="no such image folder"):
        check(tmp_path / "a.json", images=tmp_path / "nowhere")


def test_one_image_is_found_by_position_or_name_for_showing(release):
    dataset = open_dataset(release)
    assert dataset.kind == "hicodet"
    for which in (1, "1", "HICO_test2015_00000002.jpg"):
        picture, annotation = dataset.sample("test", which)
        assert annotation.file_name == "HICO_test2015_00000002.jpg"
        assert (picture.size, picture.mode) == ((64, 48), "RGB")
    assert dataset.sample(None, 0)[1].file_name == "HICO_train2015_00000001.jpg"
    for which in (3, -1, "nope.jpg"):
        with pytest.raises(HoiError, match="has no image"):
            dataset.sample("test", which)
    with pytest.raises(HoiError, match="has no split"):
        dataset.sample("val", 0)


def test_empty_annotations_are_no_error():
    report = check([])
    assert report.splits[0].counts["images"] == 0
    assert "no defects" in report.to_text()


@pytest.mark.slow
def test_real_test_annotations_print_the_published_counts(shared, tmp_path):
    import gzip

    packed = shared / "facts" / "hico_test_hoia.json.gz"
    for name in ("hico_test_hoia.json", "test_hico.json"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / name
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        for source in (path, path.parent):
            report = check(source)
            assert report.complete
            assert found(report) == []
            text = report.to_text()
            for count in ("9,658", "33,405", "56,786", "112", "138"):
                assert count in text
            assert text.count("  ok\n") == 5
            assert "DIFFERS" not in text


@pytest.mark.slow
def test_real_vcoco_split_sizes_are_the_published_ones(shared):
    from hoiclip.data.validation import PUBLISHED
    from hoiclip.data.vcoco import read_ids

    for split, counts in PUBLISHED["vcoco"].items():
        assert len(read_ids(shared / "facts" / f"vcoco_{split}.ids")) == counts["images"]
