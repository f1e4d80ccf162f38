"""The one in-memory form of an annotated image.

Every dataset reader returns it; the evaluators, the drawing code, the training views and the
playground take it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from hoiclip.visualization.pairs import DrawnPair, draw_pairs
from hoiclip.vocabulary import HoiVocabulary


def _boxes(n: int = 0) -> np.ndarray:
    return np.zeros((n, 4), dtype=np.float64)


def _ids(n: int = 0) -> np.ndarray:
    return np.zeros(n, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """The boxes and interactions annotated in one image.  All ids are 0-based.

    Attributes:
        file_name: name relative to the image folder of its dataset; the key of detections.
        boxes: (n, 4) float64, xyxy in pixels, in the frame of the annotation file.
        object_ids: (n,) int64, object class of each box (rows of ``vocabulary.objects``).
        pairs: (m, 2) int64, rows of ``boxes``: human, object.  The object is -1 where the
            interaction has none (V-COCO).
        hoi_ids: (m,) int64, interaction of each pair (rows of ``vocabulary.interactions``).  A
            pair with several interactions occurs once for each of them.  -1 where a V-COCO file
            labels a (verb, object) that is not among the 263 interactions: its verb still counts
            in the V-COCO protocols, training leaves it out.
        size: (height, width) in pixels, or None where the annotation file does not say.
        verb_ids: (m,) int64, verb of each pair (rows of ``vocabulary.verbs``), or None where
            ``hoi_ids`` says it all; see :meth:`verbs`.
    """

    file_name: str
    boxes: np.ndarray = field(default_factory=_boxes)
    object_ids: np.ndarray = field(default_factory=_ids)
    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    hoi_ids: np.ndarray = field(default_factory=_ids)
    size: tuple[int, int] | None = None
    verb_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4))
        object.__setattr__(self, "object_ids", np.asarray(self.object_ids, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "pairs", np.asarray(self.pairs, dtype=np.int64).reshape(-1, 2))
        object.__setattr__(self, "hoi_ids", np.asarray(self.hoi_ids, dtype=np.int64).reshape(-1))
        if len(self.boxes) != len(self.object_ids):
            raise ValueError(f"{self.file_name}: {len(self.boxes)} boxes but {len(self.object_ids)} object ids")
        if len(self.pairs) != len(self.hoi_ids):
            raise ValueError(f"{self.file_name}: {len(self.pairs)} pairs but {len(self.hoi_ids)} hoi ids")
        if self.verb_ids is not None:
            object.__setattr__(self, "verb_ids", np.asarray(self.verb_ids, dtype=np.int64).reshape(-1))
            if len(self.verb_ids) != len(self.pairs):
                raise ValueError(f"{self.file_name}: {len(self.pairs)} pairs but {len(self.verb_ids)} verb ids")

    @property
    def human_boxes(self) -> np.ndarray:
        """(m, 4) float64, the human box of each pair, xyxy pixels."""
        return self.boxes[self.pairs[:, 0]]

    @property
    def object_boxes(self) -> np.ndarray:
        """(m, 4) float64, the object box of each pair, xyxy pixels; all zero where there is no object."""
        index = self.pairs[:, 1]
        if not len(self.boxes):
            return _boxes(len(index))
        return np.where(index[:, None] >= 0, self.boxes[np.maximum(index, 0)], 0.0)

    def verbs(self, vocabulary: HoiVocabulary) -> np.ndarray:
        """(m,) int64, the verb of each pair (rows of ``vocabulary.verbs``)."""
        return vocabulary.verb_ids[self.hoi_ids] if self.verb_ids is None else self.verb_ids


def draw_annotations(image: Image.Image, annotated: AnnotatedImage, vocabulary: HoiVocabulary) -> Image.Image:
    """Draw the annotations on a copy, as :func:`draw_triplets` draws predictions."""
    pairs: dict[tuple[int, int], DrawnPair] = {}
    verbs = annotated.verbs(vocabulary)
    for (human, obj), hoi, verb in zip(annotated.pairs.tolist(), annotated.hoi_ids, verbs, strict=True):
        object_box = tuple(annotated.boxes[obj]) if obj >= 0 else None
        pair = pairs.setdefault((human, obj), DrawnPair(tuple(annotated.boxes[human]), object_box, []))
        known = hoi >= 0  # V-COCO files label pairs that are no interaction of the vocabulary
        pair.labels.append(vocabulary.interaction_name(hoi) if known else vocabulary.verbs[verb].replace("_", " "))
    return draw_pairs(image, list(pairs.values()))
