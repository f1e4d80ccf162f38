"""Scenes, renderer and dataset of the playground."""

import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from hoiclip.errors import HoiError
from hoiclip.playground.dataset import PlaygroundDataset, crop_square, drawable_pairs, union
from hoiclip.playground.objects import KINDS
from hoiclip.playground.poses import ARRANGE
from hoiclip.playground.random_stream import RandomStream
from hoiclip.playground.renderer import render, silhouette
from hoiclip.playground.scenes import sample_scene, sample_still_life
from hoiclip.vocabulary import HoiVocabulary

SPLITS = ("rf_uc", "nf_uc", "uo", "uv")


@pytest.fixture(scope="module")
def vocabulary():
    return HoiVocabulary.from_name("playground")


def fingerprint(data, indices):
    """A number that changes with any pixel or label."""
    total = 0
    for i in indices:
        image, annotation = data[i]
        total = hash((total, image.tobytes(), annotation.boxes.tobytes(), annotation.hoi_ids.tobytes()))
    return total


def test_vocabulary_is_big_enough_and_drawable(vocabulary):
    assert len(vocabulary.objects) >= 13
    assert vocabulary.objects[0] == "person"
    assert len(vocabulary.verbs) >= 12
    assert vocabulary.num_interactions >= 60
    assert set(vocabulary.verbs) == set(ARRANGE)
    assert set(vocabulary.objects) == {"person", *KINDS}
    assert len(drawable_pairs(vocabulary)) == vocabulary.num_interactions


def test_frequent_rare_and_unseen_like_a_long_tail(vocabulary):
    assert len(vocabulary.rare) == 20
    assert len(vocabulary.unseen) == 8
    assert vocabulary.unseen.isdisjoint(vocabulary.rare)
    seen = [vocabulary.interactions[k] for k in vocabulary.seen]
    for k in vocabulary.unseen:  # new combinations of verbs and objects that are known from others
        verb, thing = vocabulary.interactions[k]
        assert sum(v == verb for v, _ in seen) >= 3
        assert sum(o == thing for _, o in seen) >= 3


@pytest.mark.parametrize("split", SPLITS)
def test_zero_shot_splits(vocabulary, split):
    held_out = HoiVocabulary.from_name(f"playground_{split}")
    unseen, seen = held_out.unseen, set(held_out.seen.tolist())
    assert unseen
    assert len(unseen) < 0.25 * vocabulary.num_interactions
    verbs_left = {vocabulary.interactions[k][0] for k in seen}
    objects_left = {vocabulary.interactions[k][1] for k in seen}
    verbs_gone = {vocabulary.interactions[k][0] for k in unseen}
    objects_gone = {vocabulary.interactions[k][1] for k in unseen}
    if split == "rf_uc":
        assert unseen <= vocabulary.rare
    if split == "nf_uc":
        assert not unseen & vocabulary.rare
    assert verbs_gone.isdisjoint(verbs_left) == (split == "uv")
    assert objects_gone.isdisjoint(objects_left) == (split == "uo")


@pytest.mark.parametrize("k", range(90))
def test_every_interaction_is_drawn_and_labelled(vocabulary, k):
    pair = drawable_pairs(vocabulary)[k]
    for weights in ({}, dict.fromkeys(drawable_pairs(vocabulary), 1.0)):
        for attempt in range(6):
            scene = sample_scene(RandomStream(np.random.default_rng([k, attempt])), [pair], weights)
            drawn = {(verb, scene.names[o]) for _, o, verbs in scene.pairs for verb in verbs}
            assert pair in drawn
            if not weights:
                assert drawn == {pair}
            assert all(scene.names[h] == "person" for h, _, _ in scene.pairs)


def test_boxes_are_what_is_drawn():
    worst = 0.0
    for i in range(25):
        make = sample_still_life if i % 2 else lambda d: sample_scene(d, [("ride", "horse"), ("kick", "chair")], {})
        scene = make(RandomStream(np.random.default_rng(i)))
        for row, box in enumerate(scene.boxes):
            ys, xs = np.nonzero(silhouette(scene, row))
            drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            worst = max(worst, np.abs(drawn - np.array(box)).max())
            assert box[0] >= 0
            assert box[1] >= 0
            assert max(box[2:]) <= scene.size
    assert worst <= 1.5


def test_same_scene_in_another_process():
    program = (
        "import zlib\nfrom hoiclip.playground.dataset import PlaygroundDataset\n"
        "data = PlaygroundDataset(5, 400)\ntotal = 0\n"
        "for i in (3, 77, 399):\n"
        "    image, note = data[i]\n"
        "    total = zlib.crc32(image.tobytes() + note.boxes.tobytes() + note.hoi_ids.tobytes(), total)\n"
        "print(total)"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout


def test_order_of_access_does_not_matter():
    data = PlaygroundDataset(1, 50, split="test")
    forwards = [fingerprint(data, [i]) for i in range(8)]
    backwards = [fingerprint(data, [i]) for i in reversed(range(8))][::-1]
    assert forwards == backwards


def test_splits_and_seeds_are_apart():
    scenes = [
        fingerprint(PlaygroundDataset(seed, 100, split=split), range(2))
        for seed in (0, 1)
        for split in ("train", "validation", "test")
    ]
    assert len(set(scenes)) == len(scenes)


def test_annotation_without_painting_is_the_same():
    data = PlaygroundDataset(2, 20)
    image, annotation = data[4]
    alone = data.annotation(4)
    assert image.size == (128, 128)
    assert annotation.file_name == alone.file_name
    np.testing.assert_array_equal(annotation.boxes, alone.boxes)
    np.testing.assert_array_equal(annotation.hoi_ids, alone.hoi_ids)


def count(data):
    counts = np.zeros(data.vocabulary.num_interactions, dtype=int)
    for i in range(len(data)):
        np.add.at(counts, data.annotation(i).hoi_ids, 1)
    return counts


def test_training_has_a_long_tail(vocabulary):
    counts = count(PlaygroundDataset(0, 2000))
    rare = sorted(vocabulary.rare)
    assert counts[rare].min() >= 1
    assert counts[rare].max() < 10
    frequent = np.delete(counts, [*rare, *vocabulary.unseen])
    assert not counts[sorted(vocabulary.unseen)].any()
    assert frequent.min() >= 10
    assert frequent.max() > 5 * frequent.min()


@pytest.mark.parametrize("split", SPLITS)
def test_unseen_interactions_never_appear_in_training(split):
    data = PlaygroundDataset(3, 600, vocabulary=f"playground_{split}")
    assert not count(data)[sorted(data.vocabulary.unseen)].any()


def test_test_scenes_are_uniform(vocabulary):
    counts = count(PlaygroundDataset(0, 1000, split="test"))
    assert counts.min() >= 5
    assert np.median(counts) * 6 > counts.max()


def test_scenes_are_rich():
    data = PlaygroundDataset(0, 400, split="test")
    several_verbs = several_objects = several_persons = 0
    for i in range(len(data)):
        annotation = data.annotation(i)
        pairs = [tuple(pair) for pair in annotation.pairs.tolist()]
        several_verbs += len(set(pairs)) < len(pairs)
        humans, things = zip(*set(pairs), strict=True)
        several_objects += len(set(humans)) < len(humans)
        several_persons += len(set(things)) < len(things)
    assert min(several_verbs, several_objects, several_persons) > 10


def test_still_lifes_have_no_interactions():
    data = PlaygroundDataset(0, 200, interactions=False)
    names = set()
    for i in range(200):
        annotation = data.annotation(i)
        assert len(annotation.pairs) == 0
        assert len(annotation.hoi_ids) == 0
        names |= set(annotation.object_ids.tolist())
    assert len(names) == len(data.vocabulary.objects)


def test_idle_persons_are_nearest_to_their_own_thing():
    data = PlaygroundDataset(8, 300, split="test")
    idle = data.vocabulary.verbs.index("no_interaction")
    seen = 0
    for i in range(300):
        annotation = data.annotation(i)
        centres = (annotation.boxes[:, :2] + annotation.boxes[:, 2:]) / 2
        for (human, thing), hoi in zip(annotation.pairs, annotation.hoi_ids, strict=True):
            if data.vocabulary.verb_ids[hoi] == idle:
                away = np.linalg.norm(centres - centres[human], axis=1)
                others = (annotation.object_ids != data.vocabulary.person_id) & (np.arange(len(away)) != thing)
                assert away[thing] <= away[others].min(initial=np.inf)
                seen += 1
    assert seen > 20


def test_fast_enough():
    data = PlaygroundDataset(0, 120)
    data[0]
    times = [time.process_time()]
    for i in range(120):
        data[i]
        times.append(time.process_time())
    assert np.median([b - a for a, b in pairwise(times)]) < 1 / 100  # 300 a second on a quiet core


def test_larger_pictures_show_the_same_scene():
    small, large = PlaygroundDataset(0, 5), PlaygroundDataset(0, 5, size=256)
    assert large[1][0].size == (256, 256)
    np.testing.assert_array_equal(small.annotation(1).object_ids[:1], large.annotation(1).object_ids[:1])


def test_crops_are_square_and_inside():
    image, annotation = PlaygroundDataset(0, 3)[1]
    box = union(annotation.human_boxes[0], annotation.object_boxes[0])
    crop, region = crop_square(image, box, margin=0.1)
    assert crop.size == image.size
    assert region[2] - region[0] == pytest.approx(region[3] - region[1])
    assert min(region) >= 0
    assert max(region) <= 128
    assert region[0] <= box[0] + 1e-6 or region[2] - region[0] == 128


@pytest.mark.parametrize(
    "arguments",
    [{"split": "trian"}, {"seed": -1}, {"vocabulary": HoiVocabulary.from_words("ride unicycle")}],
)
def test_bad_requests_are_told(arguments):
    with pytest.raises(HoiError):
        PlaygroundDataset(**{"seed": 0, "length": 10, **arguments})


def test_painting_is_repeatable():
    scene = sample_still_life(RandomStream(np.random.default_rng(0)))
    assert render(scene).tobytes() == render(scene).tobytes()
