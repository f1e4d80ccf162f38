"""HICO-DET evaluation, and that of every vocabulary of verb-object pairs.

    result = evaluate_hicodet(detections, annotations)                                # the authors' own evaluator
    result = evaluate_hicodet(detections, annotations, protocol="official", setting="known_object")
    print(result.full, result.rare, result.non_rare)

``docs/protocols.md`` states the protocols.  :class:`HicoDetEvaluator` takes one image after the
other and keeps three numbers per detection, so memory does not grow with the model's score matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.matching import Pairs, by_class, eleven_point_ap, mean_over, true_positives
from hoiclip.postprocessing import rank_sweep
from hoiclip.published import RARE_BELOW
from hoiclip.vocabulary import HoiVocabulary

Setting = Literal["default", "known_object"]
Protocol = Literal["hoiclip", "official"]
IMAGES_PER_FLUSH = 256


@dataclass(frozen=True, eq=False)
class HicoDetResult:
    """Means and per-class numbers.  All AP and recalls are fractions 0..1.

    Attributes:
        full, rare, non_rare, seen, unseen: mean AP of all K classes and of each part; NaN where a
            part is empty.  Protocol "hoiclip": over the classes that have ground truth, an
            undetected one counting 0.  Protocol "official": over all classes of the part, one
            without ground truth counting 0 too.
        max_recall: mean of ``recall``, over the same classes as ``full``.
        full_with_gt, rare_with_gt, non_rare_with_gt: means over the classes that have ground truth,
            under either protocol.
        per_class: (K,) AP, NaN where the class has no ground truth.
        recall: (K,) greatest recall reached, NaN likewise.
        num_gt, num_det, num_tp: (K,) int64 annotated pairs, detections that were counted, true
            positives.  Protocol "hoiclip" counts no detection of a class without ground truth.
        vocabulary: what the K classes are.
        setting, protocol: how it was evaluated.
        training_instances: (K,) annotated pairs of each class in the training data, None where that
            is not known.
        rare_in_training, non_rare_in_training: as ``rare`` and ``non_rare``, but of the classes with
            fewer than 10 ``training_instances`` and of the others (paper Table 1); NaN where these
            are not known.
        num_images, num_images_without_detections: how many images were expected, and for how many
            of them nothing was handed in.
    """

    full: float
    rare: float
    non_rare: float
    seen: float
    unseen: float
    max_recall: float
    full_with_gt: float
    rare_with_gt: float
    non_rare_with_gt: float
    per_class: np.ndarray
    recall: np.ndarray
    num_gt: np.ndarray
    num_det: np.ndarray
    num_tp: np.ndarray
    vocabulary: HoiVocabulary
    setting: Setting = "default"
    protocol: Protocol = "hoiclip"
    num_images: int = 0
    num_images_without_detections: int = 0
    training_instances: np.ndarray | None = None
    rare_in_training: float = math.nan
    non_rare_in_training: float = math.nan

    def means(self) -> dict[str, float]:
        """The numbers a table shows, by name."""
        names = ["full", "rare", "non_rare"]
        names += ["rare_in_training", "non_rare_in_training"] if self.training_instances is not None else []
        names += ["seen", "unseen", "max_recall"]
        names += ["full_with_gt", "rare_with_gt", "non_rare_with_gt"] if self.protocol == "official" else []
        return {name: getattr(self, name) for name in names}


def evaluate_hicodet(
    detections: Mapping[str, Detections],
    annotations: Sequence[AnnotatedImage],
    *,
    setting: Setting = "default",
    protocol: Protocol = "hoiclip",
    unseen: Iterable[int] | None = None,
    plus1: bool = False,
    image_objects: Mapping[str, Iterable[int]] | None = None,
    training_instances: np.ndarray | None = None,
    vocabulary: HoiVocabulary | None = None,
) -> HicoDetResult:
    """Evaluate final detections (after top-k and NMS) against annotations.

    Args:
        detections: Detections by file name.  An annotated image that is missing here counts as one
            without detections.
        annotations: the images to evaluate on, those without interactions included.
        setting: "known_object" evaluates a class only on images that contain its object.
        protocol: "hoiclip" is the evaluator of the paper's authors, "official" that of the HICO-DET
            authors.  They match alike and differ in their means (see :class:`HicoDetResult`).
        unseen: interactions that count as unseen; None takes ``vocabulary.unseen``.
        plus1: add 1 to the detections' coordinates, as the official program does because it
            expects 0-based boxes against the 1-based annotation.
        image_objects: image-level labels, object ids by file name, that decide for "known_object"
            which images contain an object.  None: those of an image's annotated interactions.
        training_instances: (K,) annotated pairs of each class in the data that the model was trained
            on; adds the means over the classes that are rare there.
        vocabulary: needed only where ``detections`` is empty.

    Raises:
        HoiError: detections for an unknown file, NaN in boxes or scores, ids outside the vocabulary.
    """
    vocabulary = vocabulary or next((d.vocabulary for d in detections.values()), None)
    if vocabulary is None:
        raise HoiError("there are no detections to evaluate: hand in some, or name the vocabulary")
    evaluator = HicoDetEvaluator(
        annotations,
        vocabulary,
        setting=setting,
        protocol=protocol,
        unseen=unseen,
        plus1=plus1,
        image_objects=image_objects,
        training_instances=training_instances,
    )
    for file_name, found in detections.items():
        evaluator.add(file_name, found)
    return evaluator.result()


class HicoDetEvaluator:
    """The streaming form of :func:`evaluate_hicodet`; arguments as there.

        evaluator = HicoDetEvaluator(annotations, vocabulary)
        for file_name, detections in ...:
            evaluator.add(file_name, detections)
        evaluator.result().full

    Processes that each saw a part of the images :meth:`merge` theirs before one asks for the result.
    """

    def __init__(
        self,
        annotations: Sequence[AnnotatedImage],
        vocabulary: HoiVocabulary,
        *,
        setting: Setting = "default",
        protocol: Protocol = "hoiclip",
        unseen: Iterable[int] | None = None,
        plus1: bool = False,
        image_objects: Mapping[str, Iterable[int]] | None = None,
        training_instances: np.ndarray | None = None,
    ) -> None:
        if setting not in ("default", "known_object"):
            raise HoiError(f"unknown setting {setting!r}: choose 'default' or 'known_object'")
        if protocol not in ("hoiclip", "official"):
            raise HoiError(f"unknown protocol {protocol!r}: choose 'hoiclip' or 'official'")
        self.vocabulary, self.setting, self.protocol, self.plus1 = vocabulary, setting, protocol, plus1
        classes = vocabulary.num_interactions
        if training_instances is not None and np.shape(training_instances) != (classes,):
            raise HoiError(f"the vocabulary has {classes} interactions, not {len(training_instances)} training counts")
        self.training_instances = training_instances
        self.unseen = np.zeros(classes, dtype=bool)
        self.unseen[_valid_ids(vocabulary.unseen if unseen is None else unseen, classes, "unseen interaction")] = True

        self._position = {image.file_name: i for i, image in enumerate(annotations)}
        if len(self._position) != len(annotations):
            raise HoiError("the annotations name a file twice: every image must occur once")
        self._truth = _annotated_pairs(annotations, vocabulary)
        self.num_gt = np.bincount(self._truth.group % classes, minlength=classes)
        self._counted = None if setting == "default" else _images_with_object(annotations, vocabulary, image_objects)

        self._seen_images = np.zeros(len(annotations), dtype=bool)
        self._waiting: list[tuple[int, Detections]] = []
        self._matched: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, file_name: str, detections: Detections) -> None:
        """Take the final detections of one image.

        Raises:
            HoiError: unknown or repeated file, another vocabulary, NaN, ids out of range.
        """
        image = self._position.get(file_name)
        if image is None:
            raise HoiError(f"detections for {file_name!r}, which the annotations do not contain")
        if self._seen_images[image]:
            raise HoiError(f"detections for {file_name!r} were handed in twice")
        if detections.vocabulary.interactions != self.vocabulary.interactions:
            raise HoiError(
                f"detections for {file_name!r} use the vocabulary {detections.vocabulary.name!r}, "
                f"the evaluation {self.vocabulary.name!r}"
            )
        _valid_ids(detections.hoi_ids, self.vocabulary.num_interactions, f"{file_name}: interaction")
        for what in ("human_boxes", "object_boxes", "scores"):
            if not np.isfinite(getattr(detections, what)).all():
                raise HoiError(f"detections for {file_name!r}: {what.replace('_', ' ')} hold NaN or infinity")
        self._seen_images[image] = True
        self._waiting.append((image, detections))
        if len(self._waiting) >= IMAGES_PER_FLUSH:
            self._match_waiting()

    def merge(self, other: HicoDetEvaluator) -> None:
        """Take over what another evaluator with the same annotations and options has seen.

        Raises:
            HoiError: if the two do not fit, or saw the same image.
        """
        same = self._position == other._position and self.vocabulary.interactions == other.vocabulary.interactions
        if not same or (self.setting, self.protocol, self.plus1) != (other.setting, other.protocol, other.plus1):
            raise HoiError("only evaluators with the same annotations, vocabulary and options can be merged")
        if (self._seen_images & other._seen_images).any():
            raise HoiError("both evaluators saw the same image: give every image to one of them only")
        other._match_waiting()
        self._matched += other._matched
        self._seen_images |= other._seen_images

    def _match_waiting(self) -> None:
        """Reduce the detections held so far to (image, class, score, right or wrong)."""
        if not self._waiting:
            return
        numbers, waiting = zip(*self._waiting, strict=True)
        image = np.repeat(np.array(numbers, dtype=np.int64), [len(d) for d in waiting])
        hoi_ids = np.concatenate([d.hoi_ids for d in waiting])
        scores = np.concatenate([d.scores for d in waiting]).astype(np.float64)
        human = np.concatenate([d.human_boxes for d in waiting]).astype(np.float64)
        object_ = np.concatenate([d.object_boxes for d in waiting]).astype(np.float64)
        if self.plus1:
            human, object_ = human + 1, object_ + 1
        detected = Pairs(image * self.vocabulary.num_interactions + hoi_ids, human, object_)
        hits = true_positives(detected, scores, self._truth, touching=self.protocol == "official")

        counted = np.ones(len(hits), dtype=bool)
        if self._counted is not None:
            counted &= self._counted[image, self.vocabulary.object_ids[hoi_ids]]
        if self.protocol == "hoiclip":
            counted &= self.num_gt[hoi_ids] > 0
        self._matched.append(
            (image[counted].astype(np.int32), hoi_ids[counted].astype(np.int32), scores[counted], hits[counted])
        )
        self._waiting.clear()

    def result(self) -> HicoDetResult:
        """The evaluation of all images added so far; more may be added afterwards."""
        self._match_waiting()
        nothing = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32), np.zeros(0), np.zeros(0, dtype=bool)
        image, hoi_ids, scores, hits = (np.concatenate(c) for c in zip(nothing, *self._matched, strict=True))
        classes = self.vocabulary.num_interactions
        rows = by_class(hoi_ids, scores, image, classes)
        pairs = [eleven_point_ap(hits[rows[k]], int(self.num_gt[k])) for k in range(classes)]
        per_class, recall = np.array(pairs).T

        everything = np.ones(classes, dtype=bool)
        rare = np.isin(np.arange(classes), list(self.vocabulary.rare))
        counted, counted_recall = per_class, recall
        if self.protocol == "official":
            counted, counted_recall = np.nan_to_num(per_class), np.nan_to_num(recall)
        in_training = {}
        if self.training_instances is not None:
            in_training = means_by_training_instances(counted, self.training_instances)
        return HicoDetResult(
            full=mean_over(counted, everything),
            rare=mean_over(counted, rare),
            non_rare=mean_over(counted, ~rare),
            seen=mean_over(counted, ~self.unseen),
            unseen=mean_over(counted, self.unseen),
            max_recall=mean_over(counted_recall, everything),
            full_with_gt=mean_over(per_class, everything),
            rare_with_gt=mean_over(per_class, rare),
            non_rare_with_gt=mean_over(per_class, ~rare),
            per_class=per_class,
            recall=recall,
            num_gt=self.num_gt,
            num_det=np.array([len(r) for r in rows], dtype=np.int64),
            num_tp=np.array([int(hits[r].sum()) for r in rows], dtype=np.int64),
            vocabulary=self.vocabulary,
            setting=self.setting,
            protocol=self.protocol,
            num_images=len(self._seen_images),
            num_images_without_detections=int((~self._seen_images).sum()),
            training_instances=self.training_instances,
            **in_training,
        )


def means_by_training_instances(per_class: np.ndarray, instances: np.ndarray) -> dict[str, float]:
    """Mean AP of the classes with fewer than 10 training instances, none included, and of the others.

    Args:
        per_class: (K,) AP, NaN where a class does not count.
        instances: (K,) annotated pairs of each class in the training data.

    Returns:
        ``rare_in_training`` and ``non_rare_in_training``, NaN for an empty part.  In paper Table 1
        *Rare* is the first of these, counted in the annotation file of each share.
    """
    rare = np.asarray(instances) < RARE_BELOW
    return {"rare_in_training": mean_over(per_class, rare), "non_rare_in_training": mean_over(per_class, ~rare)}


def sweep_enhancement(
    outputs: Iterable[tuple[Sequence[str], Any, Any, Any, Any, Any]],
    annotations: Sequence[AnnotatedImage],
    vocabulary: HoiVocabulary,
    zero_shot_top_ks: Sequence[int] = (0, 5, 10, 15, 20),
    top_k: int = 100,
    nms_threshold: float | None = 0.7,
    training_instances: np.ndarray | None = None,
) -> dict[int, HicoDetResult]:
    """Paper Table 7: one pass over cached outputs for several K of the training-free enhancement.

    Args:
        outputs: batches of (file names, human boxes, object boxes, object scores, interaction
            scores, zero-shot logits), shapes as in :func:`hoiclip.postprocessing.rank_sweep`.
        annotations, vocabulary: as in :class:`HicoDetEvaluator`.
        zero_shot_top_ks: the values of K; 0 is the model without enhancement.
        top_k, nms_threshold: as in :func:`hoiclip.postprocessing.rank_batch`.
        training_instances: as in :func:`evaluate_hicodet`.

    Returns:
        One result (protocol "hoiclip") per K.
    """
    evaluators = {
        k: HicoDetEvaluator(annotations, vocabulary, training_instances=training_instances) for k in zero_shot_top_ks
    }
    for file_names, human, object_, object_scores, interaction_scores, logits in outputs:
        arrays = human, object_, object_scores, interaction_scores, logits
        ranked = rank_sweep(*arrays, vocabulary, zero_shot_top_ks, top_k=top_k, nms_threshold=nms_threshold)
        for k, evaluator in evaluators.items():
            for file_name, found in zip(file_names, ranked[k], strict=True):
                evaluator.add(file_name, found)
    return {k: evaluator.result() for k, evaluator in evaluators.items()}


# --- annotations as flat arrays --------------------------------------------------------------------


def _annotated_pairs(annotations: Sequence[AnnotatedImage], vocabulary: HoiVocabulary) -> Pairs:
    """All annotated pairs; group = image * K + interaction, sorted."""
    if not annotations:
        raise HoiError("there are no annotated images to evaluate on")
    for image in annotations:
        _valid_ids(image.hoi_ids, vocabulary.num_interactions, f"{image.file_name}: annotated interaction")
    position = np.repeat(np.arange(len(annotations)), [len(a.hoi_ids) for a in annotations])
    hoi_ids = np.concatenate([a.hoi_ids for a in annotations])
    human = np.concatenate([a.human_boxes for a in annotations])
    object_ = np.concatenate([a.object_boxes for a in annotations])
    return Pairs(position * vocabulary.num_interactions + hoi_ids, human, object_).in_order()


def _images_with_object(
    annotations: Sequence[AnnotatedImage],
    vocabulary: HoiVocabulary,
    image_objects: Mapping[str, Iterable[int]] | None,
) -> np.ndarray:
    """(images, C) bool: where the known-object setting evaluates an object's classes."""
    table = np.zeros((len(annotations), len(vocabulary.objects)), dtype=bool)
    for i, image in enumerate(annotations):
        if image_objects is None:
            table[i, vocabulary.object_ids[image.hoi_ids]] = True
        elif image.file_name in image_objects:
            objects = _valid_ids(image_objects[image.file_name], len(vocabulary.objects), f"{image.file_name}: object")
            table[i, objects] = True
        else:
            raise HoiError(f"the image-level labels do not contain {image.file_name!r}")
    return table


def _valid_ids(ids: Iterable[int] | np.ndarray, count: int, what: str) -> np.ndarray:
    """``ids`` as an array; raises HoiError if one is outside 0..count-1."""
    array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
    if len(array) and (array.min() < 0 or array.max() >= count):
        wrong = array[(array < 0) | (array >= count)][0]
        raise HoiError(f"{what} {wrong} does not exist: the vocabulary has {count} of them, counted from 0")
    return array
