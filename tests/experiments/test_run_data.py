"""What a run learns from: merged, without empty images and wrong ids; and that evaluation sees the file as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hico_release import empty, example, image_record, single, struct_array, write_images, write_release
from training_world import write_custom, write_hoia

from hoiclip import HoiVocabulary
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.data.samples import Subset, annotation_of
from hoiclip.errors import HoiError
from hoiclip.experiments.data import open_evaluation_data, open_run_data
from hoiclip.experiments.data_record import (
    annotated_instances,
    data_record,
    interaction_instances,
    record_sentences,
    recorded_instances,
    save_record,
)
from hoiclip.experiments.loading import load_experiment
from hoiclip.playground.dataset import PlaygroundDataset

HICO = HoiVocabulary.from_name("hico")
INSPECT, LIE, SIT = 243, 244, 245  # a bench


def near_copies(file_name: str) -> AnnotatedImage:
    """One person on one bench, drawn for each of two interactions."""
    boxes = [[1, 2, 20, 40], [5, 20, 60, 48], [2, 2, 21, 40], [6, 20, 60, 47.0]]
    return AnnotatedImage(file_name, boxes, [0, 13, 0, 13], [[0, 1], [2, 3]], [LIE, SIT], (48, 64))


def train_images(count: int = 3) -> list[AnnotatedImage]:
    names = [f"HICO_train2015_{i + 1:08d}.jpg" for i in range(count + 1)]
    return [empty(names[0]), *(near_copies(name) for name in names[1:])]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """anno_bbox.mat with images: three of four training images have pairs."""
    root = tmp_path / "hico"
    write_release(root, train_images(), [near_copies("HICO_test2015_00000001.jpg"), empty(), single()])
    return root


def experiment(root: Path, *options: str, config: str = "hicodet"):
    return load_experiment(config, [f"--data.root={root}", *options])


def names(samples) -> list[str]:
    return [image.file_name for image in samples.annotations]


def test_training_merges_near_copies_and_drops_images_without_pairs(release: Path) -> None:
    data = open_run_data(experiment(release))
    assert names(data.train) == [f"HICO_train2015_0000000{i}.jpg" for i in (2, 3, 4)]
    for image in data.train.annotations:
        assert image.pairs.tolist() == [[0, 1], [0, 1]]
        assert image.hoi_ids.tolist() == [LIE, SIT]
    file = data.file
    assert (file.images, file.without_pairs, file.out_of_range) == (4, 1, 0)
    assert (file.pairs, file.merged_pairs, file.several_labels, file.merge_near_copies) == (6, 3, 3, 0.5)
    assert Path(file.path).name == "anno_bbox.mat"


def test_evaluation_is_never_merged_and_keeps_images_without_pairs(release: Path) -> None:
    data = open_run_data(experiment(release))
    assert data.evaluation is not None
    alone = open_evaluation_data(experiment(release))
    for samples, truth in (data.evaluation, (alone.open_samples(), alone.annotations)):
        assert len(samples) == len(truth) == 3
        assert truth[0].pairs.tolist() == [[0, 1], [2, 3]]
        assert len(truth[1].pairs) == 0


def test_images_held_out_for_evaluation_are_not_merged_either(release: Path) -> None:
    held = experiment(release, "--data.hold_out=0.5", "--data.seed=1")
    data = open_run_data(held)
    assert data.evaluation is not None
    annotations = data.evaluation[1]
    assert [len(image.boxes) for image in annotations if len(image.pairs)] == [4] * sum(
        len(image.pairs) > 0 for image in annotations
    )
    assert set(names(data.train)).isdisjoint(image.file_name for image in annotations)
    assert len(annotations) == 2
    assert data.file.images == 2
    alone = open_evaluation_data(held)
    assert [image.file_name for image in alone.annotations] == [image.file_name for image in annotations]


def test_null_keeps_the_official_boxes_apart_and_a_bad_threshold_is_one_sentence(release: Path) -> None:
    data = open_run_data(experiment(release, "--data.merge_near_copies=null"))
    assert [len(image.boxes) for image in data.train.annotations] == [4, 4, 4]
    assert (data.file.merged_pairs, data.file.merge_near_copies) == (0, None)
    with pytest.raises(HoiError, match=r"data\.merge_near_copies must be above 0 and below 1"):
        open_run_data(experiment(release, "--data.merge_near_copies=70"))


def test_the_json_form_is_learned_from_as_it_is(release: Path) -> None:
    save_hoia(train_images(), release / "trainval_hico.json", HICO)
    data = open_run_data(experiment(release))
    assert [len(image.boxes) for image in data.train.annotations] == [4, 4, 4]
    assert (data.file.merged_pairs, data.file.merge_near_copies, data.file.several_labels) == (0, None, 0)


def test_unseen_labels_go_after_merging_with_all_labels_of_their_pair(release: Path) -> None:
    image = replace(near_copies("HICO_train2015_00000001.jpg"), hoi_ids=np.array([LIE, INSPECT]))
    root = release.parent / "zero"
    write_release(root, [image, near_copies("HICO_train2015_00000002.jpg")], [single()])
    data = open_run_data(experiment(root, config="hicodet_uv"))
    assert names(data.train) == ["HICO_train2015_00000002.jpg"]  # in the JSON form the pair has both labels too
    assert names(data.everything) == ["HICO_train2015_00000001.jpg", "HICO_train2015_00000002.jpg"]


@pytest.mark.parametrize(
    ("field", "value"), [("hoi_category_id", 601), ("category_id", 500)], ids=["interaction", "object"]
)
def test_images_with_an_id_out_of_range_are_left_out_of_training_and_refused_in_evaluation(
    release: Path, field: str, value: int
) -> None:
    save_hoia(train_images(), release / "trainval_hico.json", HICO)
    entries = json.loads((release / "trainval_hico.json").read_text())
    entries[2]["hoi_annotation" if field.startswith("hoi") else "annotations"][0][field] = value
    (release / "trainval_hico.json").write_text(json.dumps(entries))
    data = open_run_data(experiment(release))
    assert names(data.train) == ["HICO_train2015_00000002.jpg", "HICO_train2015_00000004.jpg"]
    assert (data.file.images, data.file.out_of_range, data.file.without_pairs) == (4, 1, 1)
    with pytest.raises(HoiError, match="id out of range"):
        open_evaluation_data(experiment(release, "--data.evaluation_split=train"))


def test_the_official_file_too_may_hold_an_id_out_of_range(release: Path) -> None:
    records = [image_record(image) for image in train_images()]
    records[1]["hoi"][0, 0]["id"] = 601.0
    array = struct_array(records, ("filename", "size", "hoi"))
    scipy.io.savemat(release / "anno_bbox.mat", {"bbox_train": array, "bbox_test": array})
    data = open_run_data(experiment(release, "--evaluation.every=0"))
    assert (len(data.train), data.file.out_of_range) == (2, 1)


def test_other_defects_of_a_training_file_still_stop_the_run(release: Path) -> None:
    save_hoia(train_images(), release / "trainval_hico.json", HICO)
    text = (release / "trainval_hico.json").read_text()
    (release / "trainval_hico.json").write_text(text.replace("[1,2,20,40]", "[1,2,20]", 1))
    with pytest.raises(HoiError, match=r"trainval_hico\.json: line 1: .*box is not four numbers"):
        open_run_data(experiment(release))


def test_own_images_without_pairs_stay(tmp_path: Path) -> None:
    data = open_run_data(experiment(write_custom(tmp_path / "mine"), config="custom"))
    assert [len(image.pairs) == 0 for image in data.train.annotations] == [i == 1 for i in range(8)]


# --- an annotation file of one's own choice --------------------------------------------------------


@pytest.mark.parametrize("name", ["trainval_hico_5%.json", "share.json.gz"])
def test_a_named_annotation_file_is_learned_from_with_the_splits_images(release: Path, tmp_path: Path, name: str):
    share = example("HICO_train2015_00000003.jpg")
    save_hoia([share], tmp_path / name, HICO)
    data = open_run_data(experiment(release, f"--data.annotations={tmp_path / name}"))
    assert names(data.train) == [share.file_name]
    assert data.train[0][0].size == (64, 48)  # the image is found in the data set's own folder
    assert data.train.annotations[0].hoi_ids.tolist() == share.hoi_ids.tolist()
    assert names(data.everything) == [f"HICO_train2015_0000000{i}.jpg" for i in (2, 3, 4)]  # for the verb vectors
    assert (data.file.path, data.file.images) == (str(tmp_path / name), 1)


def test_held_out_images_are_not_learned_from_by_way_of_a_named_file(release: Path, tmp_path: Path) -> None:
    save_hoia(train_images(), tmp_path / "share.json", HICO)
    options = ["--data.hold_out=0.5", "--data.seed=1", f"--data.annotations={tmp_path / 'share.json'}"]
    data = open_run_data(experiment(release, *options))
    assert data.evaluation is not None
    assert set(names(data.train)).isdisjoint(image.file_name for image in data.evaluation[1])
    assert len(data.train) >= 1


def test_own_images_may_name_an_annotation_file_too(tmp_path: Path) -> None:
    root = write_custom(tmp_path / "mine")
    few = json.loads((root / "train.json").read_text())[:3]
    (tmp_path / "few.json").write_text(json.dumps(few))
    data = open_run_data(experiment(root, f"--data.annotations={tmp_path / 'few.json'}", config="custom"))
    assert names(data.train) == ["train000.png", "train001.png", "train002.png"]


def test_a_named_file_excludes_a_fraction_and_the_playground(release: Path, tmp_path: Path) -> None:
    file = f"--data.annotations={tmp_path / 'share.json'}"
    with pytest.raises(HoiError, match=r"leave out data\.fraction \(give hicodet, not hicodet_5\)"):
        open_run_data(experiment(release, file, config="hicodet_5"))
    with pytest.raises(HoiError, match="the playground draws its scenes; leave it out"):
        open_run_data(load_experiment("playground", [file]))
    with pytest.raises(HoiError, match=r"share\.json: no such file"):
        open_run_data(experiment(release, file))


# --- the record ------------------------------------------------------------------------------------


def test_a_record_says_what_was_learned_from_and_is_read_back_by_name(release: Path, tmp_path: Path) -> None:
    record = data_record(open_run_data(experiment(release)))
    assert (record["images"], record["labels"], record["interactions_with_fewer_than_10"]) == (3, 6, 600)
    assert record["instances"][HICO.interaction_name(LIE)] == 3
    told = record_sentences(record)
    assert [sentence.partition(": ")[2] for sentence in told[:2]] == [
        "4 images, of which 3 are learned from; left out: 1 without pairs, 0 with an id out of range",
        "3 of 6 pairs are near-copies of another (IoU > 0.5) and were merged with it",
    ]
    assert told[2] == "600 of 600 interactions have fewer than 10 instances in the training data"
    save_record(tmp_path, record)
    expected = np.bincount([LIE, SIT] * 3, minlength=600).tolist()
    (tmp_path / "best").mkdir()
    for folder in (tmp_path, tmp_path / "best"):
        counts = recorded_instances(folder, HICO)
        assert counts is not None
        assert counts.tolist() == expected
    assert recorded_instances(tmp_path, HoiVocabulary.from_words("juggle torch")) is None
    assert recorded_instances(tmp_path / "best" / "deeper" / "still", HICO) is None
    (tmp_path / "data.json").write_text('{"instances": 3}')
    with pytest.raises(HoiError, match=r"data\.json: is no record of a run's data that can be read"):
        recorded_instances(tmp_path, HICO)


def test_a_large_json_file_without_pairs_of_several_interactions_is_pointed_out(tmp_path: Path) -> None:
    images = [near_copies(f"HICO_train2015_{i:08d}.jpg") for i in range(1, 502)]
    write_images(tmp_path / "train2015", images[:1])
    save_hoia(images, tmp_path / "hico_train_hoia.json", HICO)
    options = ["--evaluation.every=0"]
    unmerged = record_sentences(data_record(open_run_data(experiment(tmp_path, *options))))
    assert "no pair has two interactions, so near-copies of boxes were not merged in this file" in unmerged[1]
    two = replace(images[0], pairs=np.array([[0, 1], [0, 1]]))
    save_hoia([two, *images[1:]], tmp_path / "hico_train_hoia.json", HICO)
    assert len(record_sentences(data_record(open_run_data(experiment(tmp_path, *options))))) == 2


def test_instances_are_counted_without_opening_images_in_files_and_scenes(release: Path) -> None:
    save_hoia([example(), single()], release / "share.json.gz", HICO)
    counts = annotated_instances(release / "share.json.gz", HICO)
    assert {int(k): int(counts[k]) for k in np.flatnonzero(counts)} == {245: 3, 252: 1}
    assert annotated_instances(release / "anno_bbox.mat", HICO)[LIE] == 3  # the training part
    with pytest.raises(HoiError, match="give the annotation file that the model was trained on"):
        annotated_instances(release / "absent.json", HICO)
    scenes = PlaygroundDataset(0, 40)
    drawn: list[int] = []

    class Watched(PlaygroundDataset):
        def __getitem__(self, index):
            drawn.append(index)
            return super().__getitem__(index)

    part = Subset(Watched(0, 40), [3, 5, 39])
    assert annotation_of(part, 2).file_name == scenes.annotation(39).file_name
    expected = sum(len(scenes.annotation(i).hoi_ids) for i in (3, 5, 39))
    assert interaction_instances(part, scenes.vocabulary).sum() == expected
    assert drawn == []


def test_vcoco_keeps_images_without_pairs(tmp_path: Path) -> None:
    words, images = HoiVocabulary.from_name("vcoco"), "COCO_val2014_00000000"
    write_hoia(tmp_path, words, "trainval_vcoco.json", "test_vcoco.json", "val2014", images)
    data = open_run_data(load_experiment("vcoco", [f"--data.root={tmp_path}", "--evaluation.every=0"]))
    pairs = [len(data.train[i][1].pairs) for i in range(len(data.train))]
    assert len(pairs) == 6
    assert pairs[1] == 0
