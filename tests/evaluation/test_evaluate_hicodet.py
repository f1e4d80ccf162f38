"""Streaming, merging, parts and bad input; and what must not change the figures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.boxes import box_iou
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation import HicoDetEvaluator, evaluate_hicodet, sweep_enhancement
from hoiclip.evaluation.matching import Pairs, all_point_ap, eleven_point_ap, true_positives
from hoiclip.postprocessing import rank_triplets, training_free_enhancement
from hoiclip.vocabulary import HoiVocabulary

few = settings(max_examples=20, deadline=None, derandomize=True)
SMALL = replace(HoiVocabulary.from_words("ride horse, hold cup, feed horse, wash cup"), rare=frozenset({2}))
ARRAYS = ("per_class", "recall", "num_gt", "num_det", "num_tp")


def detections(human, object_, hoi_ids, scores, vocabulary=SMALL):
    hoi_ids = np.asarray(hoi_ids, dtype=np.int64)
    order = np.argsort(-np.asarray(scores), kind="stable")
    hoi_ids = hoi_ids[order]
    boxes = np.asarray(human, dtype=float).reshape(-1, 4)[order], np.asarray(object_, dtype=float).reshape(-1, 4)[order]
    ids = vocabulary.object_ids[hoi_ids], vocabulary.verb_ids[hoi_ids], hoi_ids
    return Detections(*boxes, *ids, np.asarray(scores, dtype=float)[order], vocabulary)


def world(seed, images=6):
    """Annotations, and detections that are jittered copies of them or noise; every score is different."""
    random = np.random.default_rng(seed)
    annotations, found = [], {}
    scores = iter(random.permutation(images * 40) + 1.0)
    for i in range(images):
        n, m = int(random.integers(2, 6)), int(random.integers(0, 6))
        corner = random.integers(0, 60, (n, 2))
        boxes = np.concatenate([corner, corner + random.integers(30, 80, (n, 2))], axis=1).astype(float)
        pairs, hoi_ids = random.integers(0, n, (m, 2)), random.integers(0, 4, m)
        annotations.append(AnnotatedImage(f"{i}.jpg", boxes, random.integers(0, 2, n), pairs, hoi_ids))
        d = int(random.integers(0, 20))
        rows = random.integers(0, n, (d, 2))
        jitter = random.integers(-12, 13, (2, d, 4)) + 0.25
        found[f"{i}.jpg"] = detections(
            boxes[rows[:, 0]] + jitter[0],
            boxes[rows[:, 1]] + jitter[1],
            random.integers(0, 4, d),
            [next(scores) for _ in range(d)],
        )
    return annotations, found


def plain_evaluation(annotations, found):
    """AP per class, one detection at a time (docs/protocols.md)."""
    figures = []
    for k in range(SMALL.num_interactions):
        hits, total = [], 0
        for image in annotations:
            own = [
                (h, o) for h, o, c in zip(image.human_boxes, image.object_boxes, image.hoi_ids, strict=True) if c == k
            ]
            total += len(own)
            taken = set()
            d = found[image.file_name]
            for row in np.flatnonzero(d.hoi_ids == k):
                best, choice = 0.0, None
                for g, (h, o) in enumerate(own):
                    overlap = min(box_iou(d.human_boxes[row], h), box_iou(d.object_boxes[row], o))
                    if overlap >= 0.5 and overlap > best:
                        best, choice = overlap, g
                hits.append((-d.scores[row], choice is not None and choice not in taken))
                taken.add(choice)
        if not total:
            figures.append(np.nan)
            continue
        flags = np.array([hit for _, hit in sorted(hits)], dtype=bool)
        found_so_far = np.cumsum(flags)
        precision = found_so_far / np.arange(1, len(flags) + 1)
        figures.append(sum(max(precision[found_so_far / total >= t * 0.1], default=0) for t in range(11)) / 11)
    return np.array(figures)


def same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.means() == pytest.approx(b.means(), nan_ok=True)


@few
@given(seed=st.integers(0, 10**6))
def test_agrees_with_the_plain_loop(seed):
    annotations, found = world(seed)
    result = evaluate_hicodet(found, annotations)
    np.testing.assert_allclose(result.per_class, plain_evaluation(annotations, found), rtol=0, atol=1e-12)
    official = evaluate_hicodet(found, annotations, protocol="official")
    np.testing.assert_array_equal(official.per_class, result.per_class)


@few
@given(seed=st.integers(0, 10**6), shift=st.integers(-999, 999))
def test_what_must_not_change_the_figures(seed, shift):
    annotations, found = world(seed)
    result = evaluate_hicodet(found, annotations)
    random = np.random.default_rng(seed)

    shuffled = [annotations[i] for i in random.permutation(len(annotations))]
    same(evaluate_hicodet(dict(reversed(found.items())), shuffled), result)

    moved = [replace(a, boxes=a.boxes + shift) for a in annotations]
    moved_found = {
        n: replace(d, human_boxes=d.human_boxes + shift, object_boxes=d.object_boxes + shift) for n, d in found.items()
    }
    same(evaluate_hicodet(moved_found, moved), result)

    def reordered(image):
        order = random.permutation(len(image.hoi_ids))
        return replace(image, pairs=image.pairs[order], hoi_ids=image.hoi_ids[order])

    np.testing.assert_array_equal(
        evaluate_hicodet(found, [reordered(a) for a in annotations]).per_class, result.per_class
    )

    doubled = {  # copies at the end of the ranking: more false positives where they hurt nobody
        n: Detections(
            *(np.concatenate([getattr(d, c), getattr(d, c)]) for c in ("human_boxes", "object_boxes")),
            *(np.concatenate([getattr(d, c), getattr(d, c)]) for c in ("object_ids", "verb_ids", "hoi_ids")),
            np.concatenate([d.scores, np.zeros(len(d))]),
            SMALL,
        )
        for n, d in found.items()
    }
    again = evaluate_hicodet(doubled, annotations)
    np.testing.assert_array_equal(again.per_class, result.per_class)
    np.testing.assert_array_equal(again.num_tp, result.num_tp)


@few
@given(seed=st.integers(0, 10**6))
def test_matching_properties(seed):
    annotations, found = world(seed, images=1)
    image, d = annotations[0], found["0.jpg"]
    truth = Pairs(image.hoi_ids, image.human_boxes, image.object_boxes).in_order()
    detected = Pairs(d.hoi_ids, d.human_boxes, d.object_boxes)
    hits = true_positives(detected, d.scores, truth)
    for k in range(4):
        assert hits[d.hoi_ids == k].sum() <= (image.hoi_ids == k).sum()
    order = np.random.default_rng(seed).permutation(len(d))
    np.testing.assert_array_equal(true_positives(detected[order], d.scores[order], truth), hits[order])
    exact = true_positives(truth, np.arange(len(truth), 0, -1), truth)  # the truth finds itself
    assert exact.sum() == len(np.unique(np.column_stack([truth.group, truth.human_boxes, truth.object_boxes]), axis=0))


@few
@given(hits=st.lists(st.booleans(), max_size=30), extra=st.integers(0, 5))
def test_average_precision_properties(hits, extra):
    hits = np.array(hits, dtype=bool)
    num_truth = int(hits.sum()) + extra
    if num_truth == 0:
        assert np.isnan(all_point_ap(hits, 0))
        assert np.isnan(eleven_point_ap(hits, 0)).all()
        return
    ap, recall = eleven_point_ap(hits, num_truth)
    for value in (ap, all_point_ap(hits, num_truth)):
        assert 0 <= value <= 1 + 1e-12
    assert recall == hits.sum() / num_truth
    best = np.sort(hits)[::-1]
    assert eleven_point_ap(best, num_truth)[0] >= ap
    assert all_point_ap(best, num_truth) == pytest.approx(hits.sum() / num_truth)
    late = np.concatenate([hits, np.zeros(3, dtype=bool)])
    assert eleven_point_ap(late, num_truth)[0] == ap
    assert all_point_ap(late, num_truth) == pytest.approx(all_point_ap(hits, num_truth))


def test_streaming_and_merging_equal_one_call(monkeypatch):
    monkeypatch.setattr("hoiclip.evaluation.hicodet.IMAGES_PER_FLUSH", 3)
    annotations, found = world(5, images=11)
    for options in ({}, {"protocol": "official", "setting": "known_object", "plus1": True}):
        whole = evaluate_hicodet(found, annotations, **options)
        parts = [HicoDetEvaluator(annotations, SMALL, **options) for _ in range(2)]
        for i, (name, d) in enumerate(found.items()):
            parts[i % 2].add(name, d)
        parts[0].merge(parts[1])
        same(parts[0].result(), whole)
        same(parts[0].result(), whole)  # asking twice is allowed
    with pytest.raises(HoiError, match="same image"):
        parts[0].merge(parts[1])
    with pytest.raises(HoiError, match="same annotations"):
        parts[0].merge(HicoDetEvaluator(annotations, SMALL))


def test_parts():
    box = [[0, 0, 50, 50], [100, 0, 150, 50]]
    annotations = [AnnotatedImage("a.jpg", box, [0, 1], [[0, 1]] * 3, [0, 1, 2])]
    found = {"a.jpg": detections([box[0]] * 2, [box[1]] * 2, [0, 1], [2, 1])}
    result = evaluate_hicodet(found, annotations, unseen=[1, 2])
    assert result.full == pytest.approx(2 / 3)
    assert (result.rare, result.non_rare) == pytest.approx((0, 1))  # an undetected class counts 0 in its part
    assert (result.seen, result.unseen) == pytest.approx((1, 0.5))
    assert np.isnan(result.per_class[3])
    assert np.isnan(evaluate_hicodet(found, annotations).unseen)
    zero_shot = replace(SMALL, unseen=frozenset({1}))
    found = {"a.jpg": replace(found["a.jpg"], vocabulary=zero_shot)}
    assert evaluate_hicodet(found, annotations).unseen == pytest.approx(1)
    official = evaluate_hicodet(found, annotations, protocol="official")
    assert official.full == pytest.approx(2 / 4)  # over all classes
    assert official.full_with_gt == pytest.approx(2 / 3)


def test_known_object_skips_images_without_the_object():
    box = [[0, 0, 50, 50], [100, 0, 150, 50]]
    annotations = [
        AnnotatedImage("a.jpg", box, [0, 0], [[0, 1]], [0]),
        AnnotatedImage("b.jpg", box, [0, 1], [[0, 1]], [1]),
    ]
    right, wrong = detections([box[0]], [box[1]], [0], [1]), detections([box[0]], [box[1]], [0], [2])
    found = {"a.jpg": right, "b.jpg": wrong}
    assert evaluate_hicodet(found, annotations).per_class[0] == pytest.approx(0.5)
    assert evaluate_hicodet(found, annotations, setting="known_object").per_class[0] == pytest.approx(1)
    labels = {"a.jpg": [0], "b.jpg": [0, 1]}
    result = evaluate_hicodet(found, annotations, setting="known_object", image_objects=labels)
    assert result.per_class[0] == pytest.approx(0.5)
    with pytest.raises(HoiError, match=r"do not contain 'b\.jpg'"):
        evaluate_hicodet(found, annotations, setting="known_object", image_objects={"a.jpg": [0]})


def test_sweep_over_top_k():
    annotations, _ = world(3, images=4)
    random = np.random.default_rng(0)
    batches, direct = [], {0: {}, 2: {}}
    for start in (0, 2):
        names = [a.file_name for a in annotations[start : start + 2]]
        boxes = np.stack([a.boxes[random.integers(0, len(a.boxes), (2, 5))] for a in annotations[start : start + 2]])
        arrays = boxes[:, 0], boxes[:, 1], random.random((2, 5, 2)), random.random((2, 5, 4))
        logits = random.uniform(-1, 1, (2, 4))
        batches.append((names, *arrays, logits))
        for k, i in ((0, 0), (0, 1), (2, 0), (2, 1)):
            scores = arrays[3][i] + training_free_enhancement(logits[i], k)
            direct[k][names[i]] = rank_triplets(*(a[i] for a in arrays[:3]), scores, SMALL, top_k=15)
    swept = sweep_enhancement(batches, annotations, SMALL, (0, 2), top_k=15)
    for k, found in direct.items():
        same(swept[k], evaluate_hicodet(found, annotations))


def test_bad_input():
    annotations, found = world(1)
    d = detections([[0, 0, 9, 9]], [[0, 0, 9, 9]], [0], [1])
    for message, call in {
        "no detections to evaluate": lambda: evaluate_hicodet({}, annotations),
        "no annotated images": lambda: evaluate_hicodet(found, []),
        "'x.jpg', which the annotations do not contain": lambda: evaluate_hicodet({"x.jpg": d}, annotations),
        "human boxes hold NaN": lambda: evaluate_hicodet(
            {"0.jpg": replace(d, human_boxes=d.human_boxes * np.nan)}, annotations
        ),
        "scores hold NaN": lambda: evaluate_hicodet({"0.jpg": replace(d, scores=d.scores * np.inf)}, annotations),
        "interaction 4 does not exist": lambda: evaluate_hicodet(
            {"0.jpg": replace(d, hoi_ids=d.hoi_ids + 4)}, annotations
        ),
        "unseen interaction 9": lambda: evaluate_hicodet(found, annotations, unseen=[9]),
        "unknown setting": lambda: evaluate_hicodet(found, annotations, setting="other"),
        "unknown protocol": lambda: evaluate_hicodet(found, annotations, protocol="other"),
        "name a file twice": lambda: evaluate_hicodet(found, [*annotations, annotations[0]]),
        "annotated interaction 7": lambda: evaluate_hicodet(
            found, [*annotations, AnnotatedImage("z.jpg", [[0, 0, 1, 1]], [0], [[0, 0]], [7])]
        ),
        "use the vocabulary": lambda: HicoDetEvaluator(
            annotations, HoiVocabulary.from_words("eat pie, eat cake, eat egg, eat nut")
        ).add("0.jpg", d),
    }.items():
        with pytest.raises(HoiError, match=message):
            call()
    evaluator = HicoDetEvaluator(annotations, SMALL)
    evaluator.add("0.jpg", d)
    with pytest.raises(HoiError, match="twice"):
        evaluator.add("0.jpg", d)


def test_nothing_detected_is_zero_everywhere():
    annotations, _ = world(2)
    result = evaluate_hicodet({}, annotations, vocabulary=SMALL)
    assert result.full == result.max_recall == 0
    assert result.num_images_without_detections == len(annotations)
    empty = evaluate_hicodet({"0.jpg": Detections.empty(SMALL)}, annotations)
    assert empty.full == 0
    assert empty.num_det.sum() == 0
