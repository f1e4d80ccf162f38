"""Training views: zero-shot, fractions, held-out images, at most so many boxes."""

from dataclasses import replace

import numpy as np
import pytest

from hoiclip.data import AnnotatedImage, fraction, hold_out, listed, without_unseen
from hoiclip.data.subsets import first_boxes
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary


@pytest.fixture
def images():
    return [AnnotatedImage(f"{i:03d}.jpg") for i in range(100)]


def names(images):
    return [image.file_name for image in images]


def test_a_pair_with_one_unseen_label_goes_with_all_its_labels():
    vocabulary = replace(HoiVocabulary.from_name("hico"), unseen=frozenset({5}))
    boxes = np.array([[0, 0, 1, 1.0]] * 3)
    mixed = AnnotatedImage("mixed", boxes, [0, 4, 4], [[0, 1], [0, 1], [0, 2]], [5, 6, 6])
    seen = AnnotatedImage("seen", boxes, [0, 4, 4], [[0, 1]], [6])
    lost = AnnotatedImage("lost", boxes, [0, 4, 4], [[0, 1], [0, 1]], [6, 5])
    kept = without_unseen([mixed, seen, lost, AnnotatedImage("empty")], vocabulary)
    assert names(kept) == ["mixed", "seen"]
    assert (kept[0].pairs.tolist(), kept[0].hoi_ids.tolist()) == ([[0, 2]], [6])
    assert len(kept[0].boxes) == 3
    assert len(mixed.pairs) == 3


def test_without_unseen_interactions_nothing_changes(images):
    assert names(without_unseen(images, HoiVocabulary.from_name("hico"))) == names(images)


@pytest.mark.parametrize("split", ["rf_uc", "nf_uc", "uo", "uv", "uc0", "uc1", "uc2", "uc3", "uc4"])
def test_every_zero_shot_setting_leaves_only_seen_labels(split):
    vocabulary = HoiVocabulary.from_name(f"hico_{split}")
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2.0]])
    all_classes = [AnnotatedImage(str(k), boxes, [0, o], [[0, 1]], [k]) for k, o in enumerate(vocabulary.object_ids)]
    kept = without_unseen(all_classes, vocabulary)
    assert [int(image.hoi_ids[0]) for image in kept] == vocabulary.seen.tolist()


def test_fraction_depends_on_names_and_seed_alone_and_smaller_is_a_subset(images):
    half, tenth = fraction(images, 0.5, seed=1), fraction(images, 0.1, seed=1)
    assert (len(half), len(tenth)) == (50, 10)
    assert set(names(tenth)) < set(names(half))
    assert names(half) == sorted(names(half))
    assert set(names(fraction(images[::-1], 0.5, seed=1))) == set(names(half))
    assert names(fraction(images, 0.5, seed=2)) != names(half)
    assert len(fraction(images, 1e-9)) == 1
    assert names(fraction(images, 1.0)) == names(images)


def test_held_out_images_are_disjoint_and_deterministic(images):
    training, validation = hold_out(images, 0.05, seed=3)
    assert (len(training), len(validation)) == (95, 5)
    assert sorted(names(training) + names(validation)) == names(images)
    assert names(hold_out(images, 0.05, seed=3)[1]) == names(validation)
    assert names(fraction(images, 0.05, seed=3)) != names(validation)


def test_list_file_chooses_images_and_names_the_line_of_an_unknown_one(images, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("# mine\n042.jpg\n\n007.jpg  # lucky\n042.jpg\n")
    assert names(listed(images, path)) == ["007.jpg", "042.jpg"]
    path.write_text("042.jpg\nnope.jpg\n")
    with pytest.raises(HoiError, match=r"line 2: .*nope\.jpg"):
        listed(images, path)
    with pytest.raises(HoiError, match="no such file"):
        listed(images, tmp_path / "nowhere.txt")


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(images, share):
    with pytest.raises(HoiError, match="fraction"):
        fraction(images, share)
    with pytest.raises(HoiError, match="held-out"):
        hold_out(images, share)


def test_first_boxes_are_kept_with_the_pairs_among_them():
    n = 70
    pairs = [[0, 63], [63, 64], [65, 1], [2, -1]]
    image = AnnotatedImage("a", np.arange(n * 4.0).reshape(n, 4), np.arange(n), pairs, [1, 2, 3, 4])
    cut = first_boxes(image)
    assert len(cut.boxes) == 64
    assert (cut.pairs.tolist(), cut.hoi_ids.tolist()) == ([[0, 63], [2, -1]], [1, 4])
    np.testing.assert_array_equal(cut.boxes, image.boxes[:64])


@pytest.mark.slow
@pytest.mark.parametrize("split", ["rf_uc", "uo", "uv", "uc2"])
def test_zero_shot_view_of_the_real_annotations_keeps_all_seen_labels(shared, split):
    from hoiclip.data import load_hoia

    vocabulary = HoiVocabulary.from_name(f"hico_{split}")
    images = load_hoia(shared / "facts" / "hico_test_hoia.json.gz")
    labels = np.concatenate([image.hoi_ids for image in images])
    kept = without_unseen(images, vocabulary)
    # no real pair carries two labels, so exactly the unseen ones go
    assert sum(len(image.pairs) for image in kept) == (~np.isin(labels, list(vocabulary.unseen))).sum()
    assert all(len(image.pairs) for image in kept)
