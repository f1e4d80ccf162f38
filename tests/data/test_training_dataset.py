"""Targets, batches, and results that do not depend on workers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hoiclip.data import (
    AnnotatedImage,
    HoiTrainingDataset,
    ImageFolder,
    TrainingAugmentation,
    collate,
    make_targets,
)
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary


def detector_view(image, shortest_edge=800, longest_edge=1333):
    assert {shortest_edge, longest_edge} == set(image.size)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255 + 1


def clip_view(image):
    return torch.from_numpy(np.asarray(image.resize((224, 224))).copy()).permute(2, 0, 1).float()


class Pictures:
    """Any sequence of (picture, annotation) will do."""

    def __init__(self, n=6):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        image = Image.fromarray(rng.integers(0, 256, (40 + index, 64, 3), dtype=np.uint8))
        annotation = AnnotatedImage(f"{index}.png", [[2, 3, 30, 35], [10, 10, 60, 39.0]], [0, 13], [[0, 1]], [245])
        return image, annotation if index else AnnotatedImage("0.png")


AUGMENTATION = TrainingAugmentation(scales=(32, 48), longest=90, crop_scales=(36,), crop_range=(24, 36))


def training_dataset(vocabulary="hico", samples=None, **kwargs):
    samples = Pictures() if samples is None else samples
    views = {"detector_view": detector_view, "clip_view": clip_view}
    return HoiTrainingDataset(samples, vocabulary, **views, **kwargs)


def test_targets_have_one_row_per_distinct_pair():
    vocabulary = HoiVocabulary.from_name("hico")
    boxes = np.array([[10, 20, 30, 60], [0, 0, 100, 50], [50, 50, 100, 100.0]])
    image = AnnotatedImage("a", boxes, [0, 4, 4], [[0, 2], [0, 1], [0, 1]], [3, 5, 7])
    row = make_targets(image, vocabulary, (100, 200))
    assert row["human_boxes"].dtype == row["object_boxes"].dtype == row["interaction_labels"].dtype == torch.float32
    assert row["object_labels"].dtype == torch.int64
    torch.testing.assert_close(row["human_boxes"], torch.tensor([[0.1, 0.4, 0.1, 0.4]] * 2))
    torch.testing.assert_close(row["object_boxes"], torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.375, 0.75, 0.25, 0.5]]))
    assert row["object_labels"].tolist() == [4, 4]
    assert [labels.nonzero().flatten().tolist() for labels in row["interaction_labels"]] == [[5, 7], [3]]


def test_zero_shot_targets_have_columns_of_seen_interactions_only():
    vocabulary = HoiVocabulary.from_name("hico_rf_uc")
    hidden, seen = min(vocabulary.unseen), int(vocabulary.seen[100])
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3.0]])
    image = AnnotatedImage("a", boxes, [0, 1, 1], [[0, 1], [0, 2], [0, 2]], [seen, seen, hidden])
    row = make_targets(image, vocabulary, (4, 4))
    assert row["interaction_labels"].shape == (1, 480)
    assert row["interaction_labels"].nonzero().tolist() == [[0, 100]]


def test_vcoco_pair_without_object_has_the_label_nothing_and_a_zero_box():
    vocabulary = HoiVocabulary.from_name("vcoco")
    walk = vocabulary.interactions.index((vocabulary.verbs.index("walk"), 80))
    image = AnnotatedImage("a", [[0, 0, 2, 4]], [0], [[0, -1], [0, -1]], [walk, -1], verb_ids=[4, 27])
    row = make_targets(image, vocabulary, (4, 4))
    assert row["object_labels"].tolist() == [80]
    assert row["object_boxes"].tolist() == [[0, 0, 0, 0]]
    assert row["human_boxes"].tolist() == [[0.25, 0.5, 0.5, 1.0]]
    assert row["interaction_labels"].nonzero().tolist() == [[0, walk]]
    with pytest.raises(HoiError, match="no object"):
        make_targets(replace(image, hoi_ids=[1, 1]), HoiVocabulary.from_name("hico"), (4, 4))


@pytest.mark.parametrize(("name", "columns"), [("hico", 600), ("hico_uo", 500), ("vcoco", 263)])
@pytest.mark.parametrize("boxes", [0, 2])
def test_image_without_pairs_has_empty_targets(name, columns, boxes):
    image = AnnotatedImage("a", np.ones((boxes, 4)), np.zeros(boxes))
    row = make_targets(image, HoiVocabulary.from_name(name), (4, 4))
    assert {k: tuple(v.shape) for k, v in row.items()} == {
        "human_boxes": (0, 4),
        "object_boxes": (0, 4),
        "object_labels": (0,),
        "interaction_labels": (0, columns),
    }


def test_items_of_the_published_recipe_flow_into_a_padded_batch():
    dataset = training_dataset(augmentation=AUGMENTATION)
    items = [dataset[i] for i in range(4)]
    batch = collate(items)
    height = max(item["pixel_values"].shape[1] for item in items)
    width = max(item["pixel_values"].shape[2] for item in items)
    assert batch["pixel_values"].shape == (4, 3, height, width)
    assert batch["pixel_mask"].shape == (4, height, width)
    assert batch["clip_pixel_values"].shape == (4, 3, 224, 224)
    assert batch["file_names"] == ["0.png", "1.png", "2.png", "3.png"]
    for i, item in enumerate(items):
        h, w = item["pixel_values"].shape[1:]
        assert batch["pixel_mask"][i].sum() == batch["pixel_mask"][i, :h, :w].sum() == h * w
        assert torch.equal(batch["pixel_values"][i, :, :h, :w], item["pixel_values"])
        assert not batch["pixel_values"][i, :, batch["pixel_mask"][i] == 0].any()
    assert batch["labels"][0]["human_boxes"].shape == (0, 4)


def test_the_processors_views_do_not_resize_an_augmented_picture_again():
    from hoiclip.processing import clip_view, detector_view

    for width in (37, 61, 90):
        samples = [(Image.new("RGB", (width, 53)), AnnotatedImage("a"))]
        item = HoiTrainingDataset(samples, "hico", detector_view=detector_view, clip_view=clip_view)[0]
        assert item["pixel_values"].shape == (3, 53, width)
        assert item["clip_pixel_values"].shape == (3, 224, 224)


def test_clip_view_and_detector_view_see_the_same_augmented_picture():
    seen = []

    def recording(image, **_):
        seen.append(image.tobytes())
        return detector_view(image, *image.size)

    views = {"detector_view": recording, "clip_view": recording}
    HoiTrainingDataset(Pictures(), "hico", augmentation=AUGMENTATION, **views)[3]
    assert seen[0] == seen[1] != Pictures()[3][0].tobytes()


def test_item_depends_on_seed_epoch_and_index_alone():
    def pixels(dataset, index=2):
        return dataset[index]["pixel_values"]

    dataset = training_dataset(augmentation=AUGMENTATION, seed=5)
    first = pixels(dataset)
    pixels(dataset, 1)
    assert torch.equal(pixels(dataset), first)
    dataset.set_epoch(1)
    assert not torch.equal(pixels(dataset)[:, :20, :20], first[:, :20, :20])
    dataset.set_epoch(0)
    assert torch.equal(pixels(dataset), first)
    other = training_dataset(augmentation=AUGMENTATION, seed=6)
    assert not torch.equal(pixels(other)[:, :20, :20], first[:, :20, :20])


def test_number_of_workers_changes_nothing_even_when_they_live_on():
    dataset = training_dataset(augmentation=AUGMENTATION)

    def epochs(workers):
        loader = DataLoader(
            dataset, batch_size=2, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
        )
        result = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            result.append([batch["pixel_values"] for batch in loader])
        return result

    alone, together = epochs(0), epochs(2)
    for mine, theirs in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert not torch.equal(alone[0][0][..., :20, :20], alone[1][0][..., :20, :20])


def test_boxes_outside_the_picture_are_cut_and_those_of_nan_or_no_area_left_out():
    boxes = [[-5, -5, 30, 30], [10, 10, 99, 99], [20, 20, 20, 30], [np.nan, 0, 1, 1]]
    annotation = AnnotatedImage("a", boxes, [0, 13, 13, 13], [[0, 1], [0, 2], [0, 3]], [245, 245, 245])
    item = training_dataset(samples=[(Image.new("RGB", (64, 40)), annotation)])[0]
    assert len(item["labels"]["human_boxes"]) == 1
    for name in ("human_boxes", "object_boxes"):
        cx, cy, w, h = item["labels"][name][0].tolist()
        assert 0 <= cx - w / 2 <= cx + w / 2 <= 1
        assert 0 <= cy - h / 2 <= cy + h / 2 <= 1


def test_at_most_64_boxes_reach_the_targets():
    n = 80
    boxes = np.tile([[5, 5, 25, 25.0]], (n, 1))
    annotation = AnnotatedImage("a", boxes, [0] * n, [[0, i] for i in range(n)], [245] * n)
    item = training_dataset(samples=[(Image.new("RGB", (64, 40)), annotation)])[0]
    assert len(item["labels"]["human_boxes"]) == 64


def test_image_folder_reads_pictures_and_names_a_missing_or_damaged_one(tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    folder = ImageFolder([AnnotatedImage("a.png"), AnnotatedImage("b.png"), AnnotatedImage("c.png")], tmp_path)
    assert len(folder) == 3
    assert (folder[0][0].mode, folder[0][0].size, folder[0][1].file_name) == ("RGB", (5, 4), "a.png")
    with pytest.raises(HoiError, match=r"b\.png: is no image that can be read"):
        folder[1]
    with pytest.raises(HoiError, match=r"c\.png: no such image"):
        folder[2]
    assert ImageFolder(folder.annotations, [tmp_path / "other", tmp_path])[0][0].size == (5, 4)


def test_playground_scenes_plug_in():
    from hoiclip.playground.dataset import PlaygroundDataset

    samples = PlaygroundDataset(seed=0, length=4, vocabulary="playground_rf_uc")
    batch = collate([training_dataset("playground_rf_uc", samples)[i] for i in range(3)])
    assert batch["pixel_values"].shape == (3, 3, 128, 128)
    columns = len(HoiVocabulary.from_name("playground_rf_uc").seen)
    assert all(labels["interaction_labels"].shape[1] == columns for labels in batch["labels"])
    assert sum(len(labels["human_boxes"]) for labels in batch["labels"]) > 0
