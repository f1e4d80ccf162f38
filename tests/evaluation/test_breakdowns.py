"""An evaluation taken apart, by figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_error_kinds import FEED_HORSE, FOUR, HUMAN, OBJECT, RIDE_BICYCLE, RIDE_HORSE, Made
from test_evaluate_hicodet import SMALL, detections, world

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.evaluation import evaluate_hicodet
from hoiclip.evaluation.breakdowns import (
    Part,
    by_crowd,
    by_size,
    by_training_instances,
    detections_in_order,
    precision_by_recall,
    reliability,
    smaller_areas,
    verb_confusions,
    worst_images,
)
from hoiclip.evaluation.error_kinds import find_error_kinds


def annotated(name: str, pairs: int, hoi: int = RIDE_HORSE, scale: float = 1.0) -> AnnotatedImage:
    """So many people below one another, each riding."""
    boxes = np.concatenate([np.stack([HUMAN, OBJECT]) * scale + [0, 500 * i, 0, 500 * i] for i in range(pairs)])
    objects = np.full(len(boxes), FOUR.objects.index("horse"))
    return AnnotatedImage(name, boxes, objects, np.arange(len(boxes)).reshape(-1, 2), np.full(pairs, hoi))


def everything_of(image: AnnotatedImage, scores: list[float]):
    return detections(image.human_boxes, image.object_boxes, image.hoi_ids, scores, FOUR)


def test_training_instances_part_the_classes_and_the_parts_mean_what_the_evaluator_does() -> None:
    annotations, found = world(3, images=30)
    counts = np.array([5, 0, 2000, 12])
    result = evaluate_hicodet(found, annotations, training_instances=counts)
    errors = find_error_kinds(found, annotations, SMALL)
    parts = {part.name: part for part in by_training_instances(errors, counts)}
    assert list(parts) == ["0", "1 to 9", "10 to 99", "1,000 and more"]
    assert parts["1 to 9"].mean_ap == pytest.approx(result.per_class[0])
    assert parts["1 to 9"].annotated == result.num_gt[0]
    assert parts["1 to 9"].found == result.num_tp[0]
    rare, other = by_training_instances(errors, None)
    assert (rare.name, other.name) == ("rare", "non-rare")
    assert (rare.mean_ap, other.mean_ap) == (pytest.approx(result.rare), pytest.approx(result.non_rare))
    assert by_training_instances(replace(errors, vocabulary=replace(SMALL, rare=frozenset())), None) == []


def test_sizes_part_the_pairs_and_a_match_counts_where_the_annotation_belongs() -> None:
    small, large = annotated("0.jpg", 1, scale=0.2), annotated("1.jpg", 1)  # 21 x 21 and 101 x 101 pixels
    found = {"0.jpg": everything_of(small, [0.9])}
    errors = find_error_kinds(found, [small, large], FOUR)
    areas = smaller_areas(detections_in_order(found, [small, large])), smaller_areas([small, large])
    assert areas[1].tolist() == [441, 10201]
    assert by_size(errors, *areas) == [Part("small", 1, 1, 1, 1.0), Part("large", 1, 1, 0, 0.0)]
    assert by_size(errors, np.array([5000.0]), areas[1])[0].mean_ap == 1.0  # the detection's own size says nothing


def test_crowds_part_the_images() -> None:
    images = [annotated("0.jpg", 1), annotated("1.jpg", 4), AnnotatedImage("2.jpg")]
    found = {"0.jpg": everything_of(images[0], [0.5]), "1.jpg": everything_of(images[1], [0.9] * 4)[:2]}
    parts = by_crowd(find_error_kinds(found, images, FOUR), 3)
    assert parts == [Part("1", 1, 1, 1, 1.0), Part("3 to 5", 1, 4, 2, pytest.approx(6 / 11))]


def test_precision_by_recall_ends_where_recall_does() -> None:
    image = annotated("0.jpg", 2)
    errors = find_error_kinds({"0.jpg": everything_of(image, [0.9, 0.8])[:1]}, [image], FOUR)
    curve = precision_by_recall(errors)
    assert curve[:51].tolist() == [1.0] * 51
    assert curve[51:].tolist() == [0.0] * 50


def test_reliability_compares_scores_with_the_share_of_correct_ones() -> None:
    image = annotated("0.jpg", 1)
    found = detections([HUMAN, HUMAN], [OBJECT, OBJECT], [RIDE_HORSE, FEED_HORSE], [0.85, 0.25], FOUR)
    errors = find_error_kinds({"0.jpg": found}, [image], FOUR)
    result = reliability(errors, [found])
    assert [b.detections for b in result.bins] == [0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    assert (result.bins[8].mean_score, result.bins[8].precision) == (0.85, 1.0)
    assert result.calibration_error == pytest.approx((0.15 + 0.25) / 2)
    assert not result.interaction
    surer = replace(found, scores=found.scores * 2)
    wide = reliability(find_error_kinds({"0.jpg": surer}, [image], FOUR), [surer])
    assert wide.bins[-1].most == pytest.approx(1.7)
    assert math.isnan(wide.calibration_error)
    known = replace(surer, interaction_scores=np.array([1.0, 0.0]))
    assert reliability(errors, [known, None]).calibration_error == 0.0
    assert reliability(errors, [known, None]).interaction


def test_a_verb_is_confused_where_a_wrong_one_outranks_the_right_one() -> None:
    images = [annotated(f"{i}.jpg", 1) for i in range(3)]
    rows = [HUMAN] * 3, [OBJECT] * 3, [RIDE_HORSE, FEED_HORSE, FEED_HORSE]
    found = {
        "0.jpg": detections(*rows, [0.9, 0.8, 0.7], FOUR),  # the right verb leads
        "1.jpg": detections(*rows, [0.5, 0.8, 0.7], FOUR),  # it follows two wrong ones, which are one
        "2.jpg": detections([HUMAN], [OBJECT], [FEED_HORSE], [0.1], FOUR),  # it is not there
    }
    ride, feed = FOUR.verbs.index("ride"), FOUR.verbs.index("feed")
    assert verb_confusions(find_error_kinds(found, images, FOUR)) == [(ride, feed, 2)]
    other = detections([HUMAN], [OBJECT], [RIDE_BICYCLE], [0.9], FOUR)
    assert verb_confusions(find_error_kinds({"0.jpg": other}, images, FOUR)) == []


def test_the_worst_images_come_first_and_those_without_pairs_never() -> None:
    images = [Made(f"{i}.jpg", kinds, i) for i, kinds in enumerate([["correct"], ["background"], ["verb", "missed"]])]
    annotations = [*(image.annotation for image in images), AnnotatedImage("3.jpg"), annotated("4.jpg", 3)]
    errors = find_error_kinds({i.annotation.file_name: i.found for i in images}, annotations, FOUR)
    worst = worst_images(errors, 10)
    assert [figures.image for figures in worst] == [4, 2, 1, 0]
    assert [(f.ap, f.annotated, f.found) for f in worst] == [(0, 3, 0), (0, 2, 0), (0, 1, 0), (1, 1, 1)]
    assert len(worst_images(errors, 2)) == 2


def test_an_evaluation_without_a_single_detection_can_be_taken_apart() -> None:
    image = annotated("0.jpg", 2)
    errors = find_error_kinds({}, [image], FOUR)
    assert by_size(errors, smaller_areas([None]), smaller_areas([image])) == [Part("large", 1, 2, 0, 0.0)]
    assert not precision_by_recall(errors).any()
    assert math.isnan(reliability(errors, [None]).calibration_error)
    assert verb_confusions(errors) == []
    assert worst_images(errors, 3)[0].annotated == 2
