import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.boxes import box_iou
from hoiclip.errors import HoiError
from hoiclip.postprocessing import rank_batch, rank_sweep, rank_triplets, training_free_enhancement, triplet_nms
from hoiclip.vocabulary import HoiVocabulary

GOLDEN = Path(__file__).parent / "golden" / "eval"
sys.path.insert(0, str(GOLDEN))
from predictions import Hico, predict  # noqa: E402

few = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def hico():
    return Hico(GOLDEN / "facts")


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "golden_hico.json").read_text())


@pytest.fixture(scope="module")
def vocabulary():
    return HoiVocabulary.from_name("hico")


@pytest.fixture(scope="module")
def small():
    return HoiVocabulary.from_words("ride horse, hold cup, feed horse")


def scene(vocabulary, seed, queries=12, batch=None):
    """Random boxes in small clusters, so that NMS has something to do."""
    random = np.random.default_rng(seed)
    shape = (queries,) if batch is None else (batch, queries)
    corner = random.integers(0, 2, (*shape, 1, 2)) * 100 + random.uniform(0, 12, (*shape, 2, 2))
    boxes = np.concatenate([corner, corner + random.uniform(60, 70, (*shape, 2, 2))], axis=-1)
    object_scores = random.random((*shape, len(vocabulary.objects) + 1))
    return boxes[..., 0, :], boxes[..., 1, :], object_scores, random.random((*shape, vocabulary.num_interactions))


def plain_ranking(human, object_, object_scores, interaction_scores, vocabulary, top_k, threshold):
    """The protocol, one pair at a time."""
    pairs = [
        (-(interaction_scores[q, k] + object_scores[q, vocabulary.object_ids[k]] ** 2), q, k)
        for q in range(len(human))
        for k in range(vocabulary.num_interactions)
    ]
    kept = []
    for score, q, k in sorted(pairs)[:top_k]:
        overlaps = [box_iou(human[q], human[p]) * box_iou(object_[q], object_[p]) ** 0.5 for _, p, c in kept if c == k]
        if threshold is None or all(o <= threshold for o in overlaps):
            kept.append((score, q, k))
    return kept


@pytest.mark.parametrize("index", ["0", "1", "7"])
@pytest.mark.parametrize("run", ["nms", "no_nms"])
def test_golden_triplets(hico, golden, vocabulary, index, run):
    p = predict(hico, int(index), 1)
    found = rank_triplets(
        p["boxes_h"],
        p["boxes_o"],
        p["obj_scores"],
        p["hoi_scores"],
        vocabulary,
        nms_threshold=0.7 if run == "nms" else None,
        image_size=(480, 640),
    )
    queries, hoi_ids, scores = zip(*golden["examples"][index][run], strict=True)
    np.testing.assert_array_equal(found.hoi_ids, hoi_ids)
    np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.human_boxes, p["boxes_h"][list(queries)])
    np.testing.assert_array_equal(found.object_boxes, p["boxes_o"][list(queries)])
    np.testing.assert_array_equal(found.verb_ids, vocabulary.verb_ids[list(hoi_ids)])
    np.testing.assert_array_equal(found.object_ids, vocabulary.object_ids[list(hoi_ids)])
    assert found.scores.dtype == np.float64
    assert found.image_size == (480, 640)


@pytest.mark.parametrize("index", ["0", "1"])
def test_golden_enhancement(hico, golden, index):
    expected = golden["tfe_example"][index]
    added = training_free_enhancement(predict(hico, int(index), 1)["clip_scores"], 10)
    for hoi_id, value in expected["added"].items():
        assert added[int(hoi_id)] == pytest.approx(value, abs=1e-12)
    others = np.setdiff1d(np.arange(600), expected["top10"])
    assert (added[others] == expected["added_to_all_others"]).all()


@pytest.mark.parametrize("threshold", [0.7, 0.3, None])
@pytest.mark.parametrize("top_k", [1, 5, 20, 1000])
def test_agrees_with_the_plain_loop(small, threshold, top_k):
    for seed in range(10):
        arrays = scene(small, seed)
        found = rank_triplets(*arrays, small, top_k=top_k, nms_threshold=threshold)
        expected = plain_ranking(*arrays, small, top_k, threshold)
        assert [(-s, k) for s, k in zip(found.scores, found.hoi_ids, strict=True)] == [(s, k) for s, _, k in expected]
        np.testing.assert_array_equal(found.human_boxes, arrays[0][[q for _, q, _ in expected]])


def test_batch_equals_single_images(small):
    arrays = scene(small, 3, batch=5)
    sizes = [(10, 20)] * 5
    for i, found in enumerate(rank_batch(*arrays, small, top_k=20, image_sizes=sizes)):
        alone = rank_triplets(*(a[i] for a in arrays), small, top_k=20)
        np.testing.assert_array_equal(found.scores, alone.scores)
        np.testing.assert_array_equal(found.hoi_ids, alone.hoi_ids)
        np.testing.assert_array_equal(found.object_boxes, alone.object_boxes)
        assert found.image_size == (10, 20)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_torch_input(small, dtype):
    arrays = [torch.from_numpy(a).to(dtype) for a in scene(small, 1)]
    found = rank_triplets(*arrays, small)
    expected = rank_triplets(*(a.to(torch.float64).numpy() for a in arrays), small)
    assert found.scores.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    if dtype != torch.bfloat16:  # coarse scores tie
        np.testing.assert_array_equal(found.hoi_ids, expected.hoi_ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def test_background_column_does_not_matter(small):
    human, object_, object_scores, scores = scene(small, 2)
    with_background = rank_triplets(human, object_, object_scores, scores, small)
    without = rank_triplets(human, object_, object_scores[:, :-1], scores, small)
    np.testing.assert_array_equal(with_background.scores, without.scores)


def test_equal_scores_keep_the_lower_index(small):
    n = 7
    boxes = np.zeros((n, 4)) + [0, 0, 9, 9] + np.arange(n)[:, None] * 100
    found = rank_triplets(boxes, boxes, np.full((n, 2), 0.5), np.full((n, 3), 0.5), small, top_k=8)
    assert found.hoi_ids.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert (found.human_boxes[:, 0] // 100).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_chain_of_suppressions_is_greedy():
    # each box suppresses the next one only: 0 stays, 1 goes, 2 stays (its suppressor went), 3 goes
    boxes = np.array([[10.0 * i, 0, 10.0 * i + 99, 99] for i in range(4)])
    group = np.zeros(4, dtype=int)
    assert triplet_nms(boxes, boxes, group).tolist() == [True, False, True, False]
    assert triplet_nms(boxes, boxes, np.arange(4)).all()


def test_sweep_starts_every_k_from_untouched_scores(small):
    arrays = scene(small, 4, batch=2)
    logits = np.random.default_rng(0).uniform(-1, 1, (2, 3))
    swept = rank_sweep(*arrays, logits, small, (2, 0, 1), top_k=10)
    assert list(swept) == [2, 0, 1]
    plain = rank_batch(*arrays, small, top_k=10)
    for i in range(2):
        np.testing.assert_array_equal(swept[0][i].hoi_ids, plain[i].hoi_ids)
        np.testing.assert_allclose(swept[0][i].scores, plain[i].scores + 0.5)
        enhanced = arrays[3][i] + training_free_enhancement(logits[i], 1)
        alone = rank_triplets(*(a[i] for a in arrays[:3]), enhanced, small, top_k=10)
        np.testing.assert_array_equal(swept[1][i].scores, alone.scores)


def test_enhancement_edges():
    logits = torch.tensor([[0.3, 0.3, -0.2, 0.3]])
    kept = training_free_enhancement(logits, 2, weight=2.0)
    assert isinstance(kept, torch.Tensor)
    torch.testing.assert_close(kept, 2 * torch.sigmoid(torch.tensor([[0.3, 0.3, 0.0, 0.0]])))
    torch.testing.assert_close(training_free_enhancement(logits, 99), torch.sigmoid(logits))
    assert (training_free_enhancement(logits, 0) == 0.5).all()
    assert logits[0, 2] == pytest.approx(-0.2)  # the input is left alone
    with pytest.raises(HoiError, match="0 or more"):
        training_free_enhancement(logits, -1)


def test_bad_input(small):
    human, object_, object_scores, scores = scene(small, 0)
    with pytest.raises(HoiError, match="interaction scores have shape"):
        rank_triplets(human, object_, object_scores, scores[:, :2], small)
    with pytest.raises(HoiError, match="object scores have shape"):
        rank_triplets(human, object_, object_scores[:, :1], scores, small)
    with pytest.raises(HoiError, match="object boxes have shape"):
        rank_triplets(human, object_[:3], object_scores, scores, small)
    with pytest.raises(HoiError, match="top_k"):
        rank_triplets(human, object_, object_scores, scores, small, top_k=0)
    scores[3, 1] = np.nan
    with pytest.raises(HoiError, match="NaN"):
        rank_triplets(human, object_, object_scores, scores, small)


def test_nothing_in_nothing_out(small):
    empty = rank_triplets(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros((0, 2)), np.zeros((0, 3)), small)
    assert len(empty) == 0
    assert rank_batch(np.zeros((0, 5, 4)), np.zeros((0, 5, 4)), np.zeros((0, 5, 2)), np.zeros((0, 5, 3)), small) == []


# --- properties ------------------------------------------------------------------------------------


@few
@given(seed=st.integers(0, 10**6), dx=st.integers(-5000, 5000), dy=st.integers(-5000, 5000))
def test_iou_properties(seed, dx, dy):
    corner, size = np.random.default_rng(seed).integers(0, 50, (2, 8, 2)).astype(float)
    boxes = np.concatenate([corner, corner + size], axis=1)
    table = box_iou(boxes[:, None], boxes[None])
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_array_equal(np.diag(table), 1)
    assert ((table >= 0) & (table <= 1)).all()
    moved = boxes + np.array([dx, dy, dx, dy])
    np.testing.assert_array_equal(box_iou(moved[:, None], moved[None]), table)


@few
@given(seed=st.integers(0, 10**6))
def test_order_of_queries_does_not_matter(seed):
    vocabulary = HoiVocabulary.from_words("ride horse, hold cup, feed horse")
    arrays = scene(vocabulary, seed)
    order = np.random.default_rng(seed + 1).permutation(len(arrays[0]))
    first = rank_triplets(*arrays, vocabulary, top_k=15)
    second = rank_triplets(*(a[order] for a in arrays), vocabulary, top_k=15)
    for name in ("human_boxes", "object_boxes", "hoi_ids", "scores"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@few
@given(seed=st.integers(0, 10**6))
def test_a_suppressed_duplicate_and_a_shift_change_nothing(seed):
    vocabulary = HoiVocabulary.from_words("ride horse, hold cup, feed horse")
    human, object_, object_scores, scores = scene(vocabulary, seed)
    first = rank_triplets(human, object_, object_scores, scores, vocabulary, top_k=1000)
    again = [
        np.concatenate([a, a[:1] * factor]) for a, factor in ((human, 1), (object_, 1), (object_scores, 0), (scores, 0))
    ]
    np.testing.assert_array_equal(rank_triplets(*again, vocabulary, top_k=1000).scores, first.scores)
    moved = rank_triplets(human + 64, object_ + 64, object_scores, scores, vocabulary, top_k=1000)
    np.testing.assert_array_equal(moved.scores, first.scores)
