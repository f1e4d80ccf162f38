"""What a person is shown of detections: one number, in its order, and no vocabulary."""

from __future__ import annotations

import numpy as np

from hoiclip import Detections, HoiVocabulary

WORDS = HoiVocabulary.from_words("ride horse, feed horse, hold umbrella")


def four() -> Detections:
    """By fused score; the probabilities of the interactions are in another order."""
    boxes = np.zeros((4, 4), dtype=np.float32)
    hoi_ids = np.array([0, 1, 2, 0])
    probabilities = np.array([0.4, 0.9, 0.2, 0.7])
    return Detections(boxes, boxes, WORDS.object_ids[hoi_ids], WORDS.verb_ids[hoi_ids], hoi_ids,
                      np.array([1.4, 1.2, 1.1, 0.9]), WORDS, (48, 64), probabilities)  # fmt: skip


def test_what_is_shown_is_in_the_order_of_the_number_shown() -> None:
    best = four().most_probable(3)
    assert best.confidence.tolist() == [0.9, 0.7, 0.4]
    assert [triplet.name for triplet in best] == ["feed horse", "ride horse", "ride horse"]
    assert four().scores.tolist() == [1.4, 1.2, 1.1, 0.9]  # the ranking that is evaluated stays


def test_the_representation_is_one_short_line() -> None:
    assert repr(four()) == (
        "Detections(4 triplets in 64 x 48 pixels: feed horse 0.90, ride horse 0.70, ride horse 0.40, ...)"
    )
    assert repr(Detections.empty(WORDS)) == "Detections(0 triplets)"
