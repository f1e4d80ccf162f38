"""The triplets detected in one image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from hoiclip.visualization.pairs import DrawnPair, draw_pairs
from hoiclip.vocabulary import NOTHING, HoiVocabulary


@dataclass(frozen=True)
class Triplet:
    """One human - verb - object triplet; boxes xyxy in pixels, score 0..2 (see Detections)."""

    human_box: tuple[float, float, float, float]
    verb: str
    object: str
    object_box: tuple[float, float, float, float]
    score: float
    name: str


@dataclass(frozen=True, eq=False)
class Detections:
    """M ranked triplets of one image, best first.

    Attributes:
        human_boxes, object_boxes: (M, 4) xyxy in pixels of the original image.
        object_ids, verb_ids, hoi_ids: (M,) int64, rows of the vocabulary's lists.
        scores: (M,) fused score of Eq. 20-21: interaction probability plus the squared object
            probability, hence between 0 and 2 (up to 3 with the training-free enhancement).
        vocabulary: what the ids mean.
        image_size: (height, width) in pixels, or None.
        interaction_scores: (M,) probability of the interaction alone, 0..1, or None.
    """

    human_boxes: np.ndarray
    object_boxes: np.ndarray
    object_ids: np.ndarray
    verb_ids: np.ndarray
    hoi_ids: np.ndarray
    scores: np.ndarray
    vocabulary: HoiVocabulary
    image_size: tuple[int, int] | None = None
    interaction_scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Any) -> Detections:
        """The triplets that a slice, index array or boolean mask picks, in that order."""
        rows = np.atleast_1d(np.arange(len(self))[rows])
        return Detections(
            self.human_boxes[rows],
            self.object_boxes[rows],
            self.object_ids[rows],
            self.verb_ids[rows],
            self.hoi_ids[rows],
            self.scores[rows],
            self.vocabulary,
            self.image_size,
            None if self.interaction_scores is None else self.interaction_scores[rows],
        )

    def most_probable(self, count: int) -> Detections:
        """The triplets of the highest :attr:`confidence`, the number that is shown, in its order."""
        return self[np.argsort(-self.confidence, kind="stable")[:count]]

    def __repr__(self) -> str:
        best = self.most_probable(3)
        named = ", ".join(f"{t.name} {s:.2f}" for t, s in zip(best, best.confidence, strict=True))
        more = ", ..." if len(self) > 3 else ""
        size = "" if self.image_size is None else f" in {self.image_size[1]} x {self.image_size[0]} pixels"
        return f"Detections({len(self)} triplets{size}{': ' if named else ''}{named}{more})"

    def clipped(self) -> Detections:
        """The same with boxes cut to the image; needs ``image_size``."""
        if self.image_size is None:
            raise ValueError("the size of the image is not known")
        height, width = self.image_size
        limit = np.array([width, height, width, height], dtype=self.human_boxes.dtype)
        boxes = {name: np.clip(getattr(self, name), 0, limit) for name in ("human_boxes", "object_boxes")}
        return replace(self, **boxes)

    @property
    def confidence(self) -> np.ndarray:
        """(M,) the number that is shown: the interaction's probability, else the fused score."""
        return self.scores if self.interaction_scores is None else self.interaction_scores

    def above(self, threshold: float) -> Detections:
        """The triplets whose score reaches ``threshold``."""
        return self[self.scores >= threshold]

    def __iter__(self) -> Iterator[Triplet]:
        for i in range(len(self)):
            yield Triplet(
                tuple(float(x) for x in self.human_boxes[i]),  # type: ignore[arg-type]
                self.vocabulary.verbs[self.verb_ids[i]],
                self.vocabulary.objects[self.object_ids[i]],
                tuple(float(x) for x in self.object_boxes[i]),  # type: ignore[arg-type]
                float(self.scores[i]),
                self.vocabulary.interaction_name(int(self.hoi_ids[i])),
            )

    @classmethod
    def empty(cls, vocabulary: HoiVocabulary, image_size: tuple[int, int] | None = None) -> Detections:
        """Nothing found."""
        boxes, ids = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
        return cls(boxes, boxes, ids, ids, ids, np.zeros(0, dtype=np.float32), vocabulary, image_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: ``image_size`` and one entry per triplet, names and ids both."""
        return {
            "image_size": list(self.image_size) if self.image_size else None,
            "triplets": [
                {
                    "human_box": [round(x, 2) for x in t.human_box],
                    "object_box": [round(x, 2) for x in t.object_box],
                    "verb": t.verb,
                    "object": t.object,
                    "interaction": t.name,
                    "score": round(t.score, 5),
                    **self._interaction_score(i),
                    "hoi_id": int(self.hoi_ids[i]),
                }
                for i, t in enumerate(self)
            ],
        }

    def _interaction_score(self, i: int) -> dict[str, float]:
        return (
            {}
            if self.interaction_scores is None
            else {"interaction_score": round(float(self.interaction_scores[i]), 5)}
        )

    def to_json(self) -> str:
        """:meth:`to_dict` on one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def draw(self, image: Image.Image, *, max_labels: int = 3) -> Image.Image:
        """Draw boxes, links and labels on a copy of ``image``, see :func:`draw_triplets`."""
        return draw_triplets(image, self, max_labels=max_labels)


def draw_triplets(image: Image.Image, detections: Detections, *, max_labels: int = 3) -> Image.Image:
    """Draw on a copy, one colour per pair: both boxes, a link, and its best interactions by name.

    Small images come back enlarged by a whole number, so that the labels can be read.

    Args:
        image: the image the detections belong to.
        detections: boxes xyxy in pixels of ``image``.
        max_labels: interactions named per pair.
    """
    pairs: dict[tuple[float, ...], DrawnPair] = {}
    for triplet, score in zip(detections, detections.confidence, strict=True):
        object_box = None if triplet.object == NOTHING else triplet.object_box
        key = tuple(round(x) for x in (*triplet.human_box, *(object_box or ())))
        pair = pairs.setdefault(key, DrawnPair(triplet.human_box, object_box, []))
        if len(pair.labels) < max_labels:
            pair.labels.append(f"{triplet.name} {score:.2f}")
    return draw_pairs(image, list(pairs.values()))
