"""What kind of error each detection is, and what mAP would be without the errors of a kind.

    errors = find_error_kinds(detections, annotations, vocabulary)
    print(errors.counts(), errors.gains())

After the manner of TIDE (Bolya et al., ECCV 2020), made for triplets.  Detections meet annotated pairs
as in the protocol "hoiclip" of :mod:`hoiclip.evaluation.hicodet`; a box is right where its IoU is at
least 0.5, and near where it is at least 0.1.  ``docs/report.md`` states the kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.matching import MINIMUM_OVERLAP, RECALL_GRID, first_of_each, overlap_of
from hoiclip.vocabulary import HoiVocabulary

#: in order of precedence: a detection is of the first kind that fits
KINDS = (
    "correct", "duplicate", "verb", "object class", "pairing", "human box", "object box", "both boxes", "background",
)  # fmt: skip
CORRECT, DUPLICATE, VERB, OBJECT_CLASS, PAIRING, HUMAN_BOX, OBJECT_BOX, BOTH_BOXES, BACKGROUND = range(len(KINDS))
MISSED = "missed"
#: what can be fixed
ERRORS = (*KINDS[1:], MISSED)
LEAST_OVERLAP = 0.1
IMAGES_AT_ONCE = 256  # bounds the memory of the table of detections and annotated pairs


@dataclass(frozen=True, eq=False)
class ErrorKinds:
    """The kind of each of D detections, G annotated pairs beside them.

    Attributes:
        image, hoi_ids, scores: (D,) place in the annotations, interaction and score of each detection, image
            by image; within an image in the order of its Detections.
        kind: (D,) int8, rows of :data:`KINDS`.
        target: (D,) int64, the annotated pair that a detection is, or nearly was; -1 for none.
        truth_image, truth_hoi_ids: (G,) of the annotated pairs, image by image in the order of annotation.
        vocabulary: what the ids mean.
    """

    image: np.ndarray
    hoi_ids: np.ndarray
    scores: np.ndarray
    kind: np.ndarray
    target: np.ndarray
    truth_image: np.ndarray
    truth_hoi_ids: np.ndarray
    vocabulary: HoiVocabulary

    @cached_property
    def found(self) -> np.ndarray:
        """(G,) bool: annotated pairs that a correct detection has found."""
        found = np.zeros(len(self.truth_hoi_ids), dtype=bool)
        found[self.target[self.kind == CORRECT]] = True
        return found

    @cached_property
    def missed(self) -> np.ndarray:
        """(G,) bool: annotated pairs that no detection found nor nearly was."""
        missed = ~self.found
        missed[self.target[self.target >= 0]] = False
        return missed

    def counts(self) -> dict[str, int]:
        """Detections of each kind, and under :data:`MISSED` annotated pairs that were missed."""
        numbers = np.bincount(self.kind, minlength=len(KINDS)).tolist()
        return {**dict(zip(KINDS, numbers, strict=True)), MISSED: int(self.missed.sum())}

    def mean_ap(self, fixed: Iterable[str] = ()) -> float:
        """mAP if the errors of these kinds were fixed; without any, ``full`` of the protocol "hoiclip".

        Of the erring detections that nearly were the same annotated pair, the one with the highest score becomes
        correct with the score it has, unless a correct one has found that pair; the others go.  Missed pairs are no
        longer looked for, as in TIDE; a class in which nothing else is annotated has AP 1.

        Args:
            fixed: of :data:`ERRORS`.

        Returns:
            0..1; NaN where nothing is annotated.

        Raises:
            ValueError: an unknown kind.
        """
        names = set(fixed)
        if names - set(ERRORS):
            raise ValueError(f"unknown kind of error {sorted(names - set(ERRORS))[0]!r}")
        classes = self.vocabulary.num_interactions
        wrong = np.isin(self.kind, [KINDS.index(name) for name in names - {MISSED}])
        mended = self._mended(wrong)
        hits = self.kind == CORRECT
        hits[mended] = True
        hoi_ids = self.hoi_ids.copy()
        hoi_ids[mended] = self.truth_hoi_ids[self.target[mended]]
        kept = hits | ~wrong
        annotated = np.bincount(self.truth_hoi_ids, minlength=classes)
        wanted = annotated.copy()
        if MISSED in names:
            wanted -= np.bincount(self.truth_hoi_ids[self.missed], minlength=classes)
        precision = average_precisions(hoi_ids[kept], self.scores[kept], hits[kept], wanted)
        precision[wanted == 0] = 1.0
        counted = precision[annotated > 0]
        return float(counted.mean()) if len(counted) else float("nan")

    def gains(self) -> dict[str, float]:
        """What fixing each kind alone would add to :meth:`mean_ap`, 0..1, never negative; by :data:`ERRORS`."""
        before = self.mean_ap()
        return {name: self.mean_ap([name]) - before for name in ERRORS}

    def _mended(self, wrong: np.ndarray) -> np.ndarray:
        """Rows of those ``wrong`` (D,) detections that become correct, one for each pair not found."""
        rows = np.flatnonzero(wrong & (self.target >= 0))
        rows = rows[~self.found[self.target[rows]]]
        rows = rows[np.lexsort((-self.scores[rows], self.target[rows]))]
        return rows[first_of_each(self.target[rows])]


def average_precisions(hoi_ids: np.ndarray, scores: np.ndarray, hits: np.ndarray, num_truth: np.ndarray) -> np.ndarray:
    """Eleven-point AP of every class, as :func:`~hoiclip.evaluation.matching.eleven_point_ap` up to rounding.

    Args:
        hoi_ids, scores, hits: (D,) class, score and whether it is a true positive.
        num_truth: (K,) annotated pairs.

    Returns:
        (K,) 0..1, exactly 1 where everything is found before the first error; NaN where nothing is annotated.
    """
    precision = precision_at_recall(hoi_ids, scores, hits, num_truth, RECALL_GRID)
    return np.asarray(precision.mean(axis=1))  # the sum of eleven ones through eleven is 1, that of elevenths is not


def precision_at_recall(
    hoi_ids: np.ndarray, scores: np.ndarray, hits: np.ndarray, num_truth: np.ndarray, grid: np.ndarray
) -> np.ndarray:
    """(K, R) highest precision at each recall of ``grid`` (R,) or above; NaN where nothing is annotated.

    Arguments otherwise as in :func:`average_precisions`.
    """
    order = np.lexsort((-scores, hoi_ids))
    bounds = np.searchsorted(hoi_ids[order], np.arange(len(num_truth) + 1))
    sorted_hits = hits[order]
    result = np.zeros((len(num_truth), len(grid)))
    result[num_truth == 0] = np.nan
    for k in np.flatnonzero((num_truth > 0) & (np.diff(bounds) > 0)):
        of_class = sorted_hits[bounds[k] : bounds[k + 1]]
        found = np.cumsum(of_class)
        highest = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
        rank = np.searchsorted(found / num_truth[k], grid, side="left")
        reached = rank < len(found)
        result[k, reached] = highest[rank[reached]]
    return result


def find_error_kinds(
    detections: Mapping[str, Detections], annotations: Sequence[AnnotatedImage], vocabulary: HoiVocabulary
) -> ErrorKinds:
    """Find the kind of every detection.

    Args:
        detections: final ones (after top-k and NMS) by file name; an image that is missing here has none.
        annotations: of all images.
        vocabulary: what the ids of both mean.

    Raises:
        HoiError: detections for an unknown file, or an interaction annotated that the vocabulary lacks.
    """
    names = {image.file_name for image in annotations}
    for name in detections:
        if name not in names:
            raise HoiError(f"detections for {name!r}, which the annotations do not contain")
    for image in annotations:
        if len(image.hoi_ids) and not 0 <= image.hoi_ids.min() <= image.hoi_ids.max() < vocabulary.num_interactions:
            raise HoiError(f"{image.file_name}: an annotated interaction is none of vocabulary {vocabulary.name!r}")
    parts, truths, before = [], [], 0
    for start in range(0, len(annotations), IMAGES_AT_ONCE):
        images = annotations[start : start + IMAGES_AT_ONCE]
        found = [detections.get(image.file_name) for image in images]
        table = _Table.of(images, found, vocabulary)
        kind, target = table.kinds()
        target[target >= 0] += before
        parts.append((table.image + start, table.hoi_ids, table.scores, kind, target))
        truths.append((table.truth_image + start, table.truth_hoi_ids))
        before += len(table.truth_hoi_ids)
    if not parts:
        raise HoiError("there are no annotated images to evaluate on")
    places, hoi_ids, scores, kind, target = (np.concatenate(column) for column in zip(*parts, strict=True))
    truth_image, truth_hoi_ids = (np.concatenate(column) for column in zip(*truths, strict=True))
    return ErrorKinds(places, hoi_ids, scores, kind, target, truth_image, truth_hoi_ids, vocabulary)


@dataclass(frozen=True, eq=False)
class _Table:
    """Detections, annotated pairs and annotated boxes of some images, each image by image."""

    image: np.ndarray
    hoi_ids: np.ndarray
    scores: np.ndarray
    human: np.ndarray
    object: np.ndarray
    truth_image: np.ndarray
    truth_hoi_ids: np.ndarray
    truth_human: np.ndarray
    truth_object: np.ndarray
    box_image: np.ndarray
    boxes: np.ndarray
    box_classes: np.ndarray
    people: np.ndarray
    vocabulary: HoiVocabulary

    @classmethod
    def of(
        cls, images: Sequence[AnnotatedImage], found: Sequence[Detections | None], vocabulary: HoiVocabulary
    ) -> _Table:
        """Everything as flat arrays; ``found`` is in the order of the images."""
        numbers = np.arange(len(images))
        some = [d for d in found if d is not None]
        person = vocabulary.objects.index("person") if "person" in vocabulary.objects else -1
        people = [a.object_ids == person for a in images]
        for mask, a in zip(people, images, strict=True):
            mask[a.pairs[:, 0]] = True
        empty, boxes = np.zeros(0), np.zeros((0, 4))
        return cls(
            np.repeat(numbers, [0 if d is None else len(d) for d in found]),
            np.concatenate([empty, *(d.hoi_ids for d in some)]).astype(np.int64),
            np.concatenate([empty, *(d.scores for d in some)]),
            np.concatenate([boxes, *(d.human_boxes for d in some)]),
            np.concatenate([boxes, *(d.object_boxes for d in some)]),
            np.repeat(numbers, [len(a.hoi_ids) for a in images]),
            np.concatenate([a.hoi_ids for a in images]),
            np.concatenate([a.human_boxes for a in images]),
            np.concatenate([a.object_boxes for a in images]),
            np.repeat(numbers, [len(a.boxes) for a in images]),
            np.concatenate([a.boxes for a in images]),
            np.concatenate([a.object_ids for a in images]),
            np.concatenate(people),
            vocabulary,
        )

    def kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """Kind and target (row of these annotated pairs) of each detection."""
        kind = np.full(len(self.image), BACKGROUND, dtype=np.int8)
        target = np.full(len(self.image), -1, dtype=np.int64)
        which, truth = _meetings(self.image, self.truth_image)
        human = overlap_of(self.human[which], self.truth_human[truth], touching=False)
        object_ = overlap_of(self.object[which], self.truth_object[truth], touching=False)
        same = self.hoi_ids[which] == self.truth_hoi_ids[truth]
        smaller = np.minimum(human, object_)

        # what the evaluator matches
        rows = np.flatnonzero(same & (smaller >= MINIMUM_OVERLAP))
        rows = rows[np.lexsort((-smaller[rows], which[rows]))]
        rows = rows[first_of_each(which[rows])]
        matched, pairs = which[rows], truth[rows]
        kind[matched], target[matched] = DUPLICATE, pairs
        order = np.lexsort((-self.scores[matched], pairs))
        first = matched[order][first_of_each(pairs[order])]
        kind[first] = CORRECT
        taken = np.zeros(len(self.truth_hoi_ids), dtype=bool)
        taken[target[first]] = True

        # what the others nearly were: the pair of the first kind, then the nearest, then one not yet found
        objects = self.vocabulary.object_ids
        same_object = objects[self.hoi_ids[which]] == objects[self.truth_hoi_ids[truth]]
        mispaired = self._mispaired(kind == BACKGROUND)
        nearly = _nearly(human, object_, same, same_object, mispaired[which])
        closeness = np.where(nearly == PAIRING, human + object_, smaller)
        rows = np.flatnonzero((nearly < BACKGROUND) & (kind[which] == BACKGROUND))
        rows = rows[np.lexsort((taken[truth[rows]], -closeness[rows], nearly[rows], which[rows]))]
        rows = rows[first_of_each(which[rows])]
        kind[which[rows]], target[which[rows]] = nearly[rows], truth[rows]
        kind[mispaired & (kind == BACKGROUND)] = PAIRING  # no pair of this interaction has either box
        return kind, target

    def _mispaired(self, asked: np.ndarray) -> np.ndarray:
        """(D,) bool: which of the ``asked`` have the box of an annotated person and one of an object of its class."""
        result = np.zeros(len(self.image), dtype=bool)
        rows = np.flatnonzero(asked)
        which, box = _meetings(self.image[rows], self.box_image)
        which = rows[which]
        persons = self.people[box]
        things = self.box_classes[box] == self.vocabulary.object_ids[self.hoi_ids[which]]
        right_person, right_object = np.zeros_like(result), np.zeros_like(result)
        for right, boxes, chosen in ((right_person, self.human, persons), (right_object, self.object, things)):
            near = overlap_of(boxes[which[chosen]], self.boxes[box[chosen]], touching=False) >= MINIMUM_OVERLAP
            right[which[chosen][near]] = True
        result[rows] = (right_person & right_object)[rows]
        return result


def _nearly(
    human: np.ndarray, object_: np.ndarray, same: np.ndarray, same_object: np.ndarray, mispaired: np.ndarray
) -> np.ndarray:
    """The kind of error each meeting of a detection and an annotated pair is, BACKGROUND for none.

    Args:
        human, object_: (M,) IoU of both boxes.
        same, same_object: (M,) bool, of one interaction, of one object class.
        mispaired: (M,) bool, the detection's boxes are right ones of a person and of an object.
    """
    right_human, right_object = human >= MINIMUM_OVERLAP, object_ >= MINIMUM_OVERLAP
    near = same & (human >= LEAST_OVERLAP) & (object_ >= LEAST_OVERLAP)
    both = right_human & right_object
    conditions = {  # in order of precedence
        VERB: both & ~same & same_object,
        OBJECT_CLASS: both & ~same_object,
        PAIRING: mispaired & same & (right_human | right_object | near),  # never both: that is a match
        HUMAN_BOX: near & right_object & ~right_human,
        OBJECT_BOX: near & right_human & ~right_object,
        BOTH_BOXES: near & ~right_human & ~right_object,
    }
    return np.select(list(conditions.values()), list(conditions), BACKGROUND).astype(np.int8)


def _meetings(image: np.ndarray, other_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of every two of the same image, for (D,) and ascending (G,) image numbers."""
    first = np.searchsorted(other_image, image, side="left")
    count = np.searchsorted(other_image, image, side="right") - first
    which = np.repeat(np.arange(len(image)), count)
    start = np.cumsum(count) - count
    return which, np.arange(len(which)) - start[which] + first[which]
