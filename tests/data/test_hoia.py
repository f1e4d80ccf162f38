"""The JSON form: what it reads, what it keeps, and how it complains."""

import gzip
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.data import AnnotatedImage, check, load_hoia, save_hoia
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

RIDE_HORSE = {"subject_id": 0, "object_id": 1, "category_id": 77, "hoi_category_id": 140}


def entry(**changes):
    boxes = [{"bbox": [226, 18, 340, 210], "category_id": 1}, {"bbox": [174, 65, 393, 440], "category_id": 19}]
    return {"file_name": "a.jpg", "annotations": boxes, "hoi_annotation": [RIDE_HORSE]} | changes


def written(tmp_path, entries, name="annotations.json", **kwargs):
    path = tmp_path / name
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries, **kwargs), encoding="utf-8")
    return path


def complaint(path, *args, **kwargs):
    with pytest.raises(HoiError) as error:
        load_hoia(path, *args, **kwargs)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_reads_ids_as_zero_based_and_coordinates_as_they_stand(tmp_path):
    (image,) = load_hoia(written(tmp_path, [entry()]))
    assert image.file_name == "a.jpg"
    assert image.boxes.tolist() == [[226, 18, 340, 210], [174, 65, 393, 440]]
    assert image.object_ids.tolist() == [0, 17]  # COCO-91 id 19 is horse
    assert image.pairs.tolist() == [[0, 1]]
    assert image.hoi_ids.tolist() == [139]
    assert image.size is None


def test_reads_gzip_and_ids_written_as_text(tmp_path):
    path = tmp_path / "annotations.json.gz"
    boxes = [{"bbox": [1, 2, 3, 4], "category_id": "1"}, {"bbox": [1, 2, 3, 4], "category_id": "19\n"}]
    path.write_bytes(gzip.compress(json.dumps([entry(annotations=boxes)]).encode()))
    assert load_hoia(path)[0].object_ids.tolist() == [0, 17]


def test_image_without_interaction_has_empty_arrays(tmp_path):
    (image,) = load_hoia(written(tmp_path, [entry(annotations=[], hoi_annotation=[])]))
    assert (image.boxes.shape, image.pairs.shape, image.hoi_ids.shape) == ((0, 4), (0, 2), (0,))


def test_interaction_is_looked_up_from_verb_and_object_where_the_file_does_not_say(tmp_path):
    pair = {k: v for k, v in RIDE_HORSE.items() if k != "hoi_category_id"}
    assert load_hoia(written(tmp_path, [entry(hoi_annotation=[pair])]))[0].hoi_ids.tolist() == [139]


def test_vcoco_form_counts_verbs_from_zero_and_knows_missing_objects(tmp_path):
    vocabulary = HoiVocabulary.from_name("vcoco")
    pairs = [{"subject_id": 0, "object_id": 1, "category_id": 3}, {"subject_id": 0, "object_id": -1, "category_id": 4}]
    (image,) = load_hoia(written(tmp_path, [entry(hoi_annotation=pairs)]), "vcoco")
    assert image.pairs.tolist() == [[0, 1], [0, -1]]
    assert [vocabulary.interactions[k] for k in image.hoi_ids] == [(3, 17), (4, 80)]
    assert image.object_boxes[1].tolist() == [0, 0, 0, 0]


def test_vcoco_pair_outside_the_263_keeps_its_verb_and_is_reported(tmp_path):
    vocabulary = HoiVocabulary.from_name("vcoco")
    verb = vocabulary.verbs.index("read_obj")
    pairs = [{"subject_id": 0, "object_id": 1, "category_id": verb}]
    with pytest.warns(UserWarning, match="1 pairs"):
        (image,) = load_hoia(written(tmp_path, [entry(hoi_annotation=pairs)]), "vcoco")
    assert image.hoi_ids.tolist() == [-1]
    assert image.verbs(vocabulary).tolist() == [verb]


def test_names_and_coco_boxes_of_your_own(tmp_path):
    (tmp_path / "farm.yaml").write_text("verbs: [sit_on, hold]\nobjects: [person, horse, hot_dog]\npairs: all")
    vocabulary = HoiVocabulary.from_yaml(tmp_path / "farm.yaml")
    boxes = [{"bbox": [10, 20, 30, 40], "category_id": "person"}, {"bbox": [1, 2, 3, 4], "category_id": "hot dog"}]
    pairs = [{"subject_id": 0, "object_id": 1, "category_id": "hold"}]
    content = {"box_format": "xywh", "images": [entry(annotations=boxes, hoi_annotation=pairs, width=64, height=48)]}
    (image,) = load_hoia(written(tmp_path, content), vocabulary)
    assert image.boxes.tolist() == [[10, 20, 40, 60], [1, 2, 4, 6]]
    assert image.size == (48, 64)
    assert vocabulary.interaction_name(int(image.hoi_ids[0])) == "hold hot dog"
    assert load_hoia(written(tmp_path, content["images"]), vocabulary, box_format="xywh")[0].boxes[0, 2] == 40


def test_malformed_json_names_file_and_line(tmp_path):
    text = json.dumps([entry()], indent=1)
    lines = text.split("\n")
    lines[5] = lines[5].replace(":", "")
    assert "line 6 is not valid JSON" in complaint(written(tmp_path, "\n".join(lines)))


def test_cut_off_file_names_its_last_line(tmp_path):
    text = json.dumps([entry()] * 3, indent=1)
    assert "not valid JSON" in complaint(written(tmp_path, text[: len(text) // 2]))


def test_cut_off_gzip_is_told_from_bad_json(tmp_path):
    path = tmp_path / "annotations.json.gz"
    path.write_bytes(gzip.compress(json.dumps([entry()] * 50).encode())[:-20])
    assert "gzip" in complaint(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [{"bbox": [1, 2, 3, 4], "category_id": 12}]}, ("box 0", "category_id 12")),
        ({"annotations": [{"bbox": [1, 2, 3, float("nan")], "category_id": 1}]}, ("box 0", "NaN")),
        ({"annotations": [{"bbox": [1, 2, 3, float("inf")], "category_id": 1}]}, ("box 0", "infinity")),
        ({"annotations": [{"bbox": [1, 2, 3], "category_id": 1}]}, ("box 0", "four numbers")),
        ({"annotations": [{"bbox": [1, 2, "3", 4], "category_id": 1}]}, ("box 0", "four numbers")),
        ({"annotations": ["person"]}, ("box 0",)),
        ({"annotations": 7}, ("'annotations' is not a list",)),
        ({"hoi_annotation": [RIDE_HORSE, RIDE_HORSE | {"subject_id": 2}]}, ("pair 1", "subject_id 2 of 2 boxes")),
        ({"hoi_annotation": [RIDE_HORSE | {"object_id": -1}]}, ("pair 0", "object_id -1")),
        ({"hoi_annotation": [RIDE_HORSE | {"subject_id": None}]}, ("pair 0", "subject_id None")),
        ({"hoi_annotation": [RIDE_HORSE | {"hoi_category_id": 0}]}, ("pair 0", "not in 1..600")),
        ({"hoi_annotation": [RIDE_HORSE | {"hoi_category_id": 601}]}, ("pair 0", "not in 1..600")),
        ({"hoi_annotation": [RIDE_HORSE | {"hoi_category_id": None, "category_id": 118}]}, ("pair 0", "no verb")),
        ({"hoi_annotation": [RIDE_HORSE | {"hoi_category_id": None, "category_id": 1}]}, ("no interaction",)),
        ({"file_name": None}, ("file_name",)),
    ],
)
def test_wrong_ids_and_boxes_are_named_by_line_image_and_position(tmp_path, changes, words):
    good = entry(file_name="good.jpg")
    path = written(tmp_path, "[" + json.dumps(good) + ",\n" + json.dumps(entry(**changes)) + "]")
    message = complaint(path)
    assert "image 1" in message
    assert changes.get("file_name", "") is None or "line 2: image 1 (a.jpg)" in message
    for word in words:
        assert word in message


def test_several_defects_are_counted(tmp_path):
    bad = entry(hoi_annotation=[RIDE_HORSE | {"subject_id": 9}] * 3)
    assert "2 more" in complaint(written(tmp_path, [bad]))


@pytest.mark.parametrize("content", ["{}", "3", '{"images": 3}', '{"annotations": [], "images": []}'])
def test_other_json_is_refused(tmp_path, content):
    assert "no list of images" in complaint(written(tmp_path, content))


def test_missing_file_folder_and_binary_are_refused(tmp_path):
    assert "no such file" in complaint(tmp_path / "nowhere.json")
    assert "cannot be read" in complaint(tmp_path)
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in complaint(tmp_path / "x.json")
    assert "box format" in complaint(written(tmp_path, []), box_format="cxcywh")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 20) | st.just(10**400) | st.floats() | st.sampled_from(["1", "a", "९"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["bbox", "category_id", "subject_id", "object_id", "hoi_category_id"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None)
@given(
    entries=st.lists(
        st.fixed_dictionaries(
            {}, optional={k: JSON for k in ("file_name", "annotations", "hoi_annotation", "width", "height")}
        )
        | JSON,
        max_size=3,
    )
)
def test_whatever_the_json_holds_it_is_read_or_refused_in_one_sentence(tmp_path_factory, entries):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(entries))
    try:
        defects = check(path).defects
    except HoiError:  # not one image has the lists of the JSON form
        defects = 1
    if defects:
        complaint(path)
    else:
        images = load_hoia(path)
        assert len(images) == len(entries)
        assert all(np.isfinite(image.boxes).all() for image in images)


def test_numbers_of_thousands_of_digits_are_refused(tmp_path):
    assert "no annotation file" in complaint(written(tmp_path, "[" + "9" * 5000 + "]"))
    assert "no annotation file" in complaint(written(tmp_path, "[" * 100_000))


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = written(tmp_path, [entry()])
    before = path.read_bytes()
    images = load_hoia(path)
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(HoiError, match="No space left"):
        save_hoia(images, path, "hico")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["annotations.json"]


@st.composite
def annotated(draw, vocabulary):
    n = draw(st.integers(1, 4))
    corners = st.tuples(st.floats(2, 1e4), st.floats(-900, 1e4))
    boxes = draw(st.lists(st.tuples(corners, corners), min_size=n, max_size=n))
    boxes = [np.sort(box, axis=0).ravel() for box in boxes]
    row = st.integers(0, n - 1)
    hois = draw(st.lists(st.tuples(row, row, st.integers(0, vocabulary.num_interactions - 1)), max_size=5))
    object_ids = [0] * n
    for _, obj, hoi in hois:
        object_ids[obj] = int(vocabulary.object_ids[hoi])
    last = {obj: hoi for _, obj, hoi in hois}
    hois = [(h, o, k) for h, o, k in hois if vocabulary.object_ids[k] == vocabulary.object_ids[last[o]]]
    size = draw(st.none() | st.tuples(st.integers(10_000, 10_999), st.integers(10_000, 10_999)))
    pairs, hoi_ids = [(h, o) for h, o, _ in hois], [k for _, _, k in hois]
    return AnnotatedImage("a/ü.jpg", np.array(boxes), np.array(object_ids), np.array(pairs), np.array(hoi_ids), size)


@pytest.mark.parametrize("name", ["hico", "playground", "vcoco"])
@settings(derandomize=True, deadline=None)
@given(data=st.data())
def test_saving_and_loading_gives_the_same(tmp_path_factory, name, data):
    vocabulary = HoiVocabulary.from_name(name)
    if name == "vcoco":  # "nothing" has no box
        keep = [k for k in range(263) if vocabulary.interactions[k][1] != 80]
        image = data.draw(annotated(HoiVocabulary.from_name("hico")))
        hoi = data.draw(st.sampled_from(keep))
        ids = np.full(len(image.boxes), vocabulary.interactions[hoi][1])
        image = AnnotatedImage("b.jpg", image.boxes, ids, [[0, 0]], [hoi])
    else:
        image = data.draw(annotated(vocabulary))
    path = tmp_path_factory.getbasetemp() / f"{name}.json.gz"
    save_hoia([image], path, vocabulary)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (back,) = load_hoia(path, vocabulary)
    for field in ("boxes", "object_ids", "pairs", "hoi_ids"):
        np.testing.assert_array_equal(getattr(back, field), getattr(image, field))
    assert (back.file_name, back.size) == (image.file_name, image.size)


def test_pairs_outside_the_vocabulary_survive_saving(tmp_path):
    image = AnnotatedImage("a.jpg", np.ones((2, 4)), [0, 17], [[0, 1]], [-1], verb_ids=[27])
    save_hoia([image], tmp_path / "a.json", "vcoco")
    with pytest.warns(UserWarning, match="1 pairs"):
        (back,) = load_hoia(tmp_path / "a.json", "vcoco")
    assert back.verb_ids.tolist() == [27]


@pytest.mark.slow
def test_real_test_annotations_have_the_published_counts(shared):
    images = load_hoia(shared / "facts" / "hico_test_hoia.json.gz")
    assert len(images) == 9658
    assert sum(len(image.boxes) for image in images) == 56786
    assert sum(len(image.pairs) for image in images) == 33405
    assert sum(not len(image.pairs) for image in images) == 112
