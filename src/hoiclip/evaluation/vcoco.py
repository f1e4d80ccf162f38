"""The official V-COCO evaluation (role AP in two scenarios, agent AP) in Python 3.

    truth = load_vcoco_ground_truth("vcoco_test.json", "instances_vcoco_all_2014.json", "vcoco_test.ids")
    result = evaluate_vcoco(detections, truth, scenario=1)
    print(result.mean, result.per_role["hit_instr"], result.agent)

``docs/protocols.md`` states the protocol.  A method's own records (``person_box``, ``hold_agent``,
``hold_obj`` ...) go to :func:`evaluate_vcoco_records`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hoiclip.boxes import box_iou
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.vcoco_ground_truth import ACTIONS, PERSON, ROLE_NAMES, VcocoImage, vcoco_images, verb_place
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.matching import MINIMUM_OVERLAP, all_point_ap, by_class, mean_over
from hoiclip.vocabulary import NOTHING, HoiVocabulary

Scenario = Literal[1, 2]
IMAGES_PER_FLUSH = 256
NOT_REPORTED = ("point_instr",)  # 21 test instances; papers leave it out of the mean


# A slot is one thing that can be predicted for a person: 26 agent scores, then 25 roles.
AGENT_SLOTS = len(ACTIONS)
SLOT_ACTION = np.array([*range(AGENT_SLOTS), *(i for i, a in enumerate(ACTIONS) for _ in a.roles)])
SLOT_ROLE = np.array([*[-1] * AGENT_SLOTS, *(r for a in ACTIONS for r in range(len(a.roles)))])
SLOTS = len(SLOT_ACTION)
ROLE_SLOT = {(int(SLOT_ACTION[s]), int(SLOT_ROLE[s])): s for s in range(AGENT_SLOTS, SLOTS)}


@dataclass(frozen=True, eq=False)
class VcocoResult:
    """AP of roles and agents, fractions 0..1; NaN where nobody performs the action.

    Attributes:
        mean: role AP as papers report it, over 24 roles (without ``point_instr``).
        mean_25: over all 25 roles, as the official program prints it.
        per_role: AP by ``"action_role"``, 25 of them.
        agent: mean AP of the 26 actions; per_agent: AP by action.
        num_gt, num_det, num_tp: by role or action name: people with the action, detections that
            were counted, true positives.
        scenario: 1 or 2; the agent figures do not depend on it.
        num_images, num_images_without_detections: as in HICO-DET.
    """

    mean: float
    mean_25: float
    per_role: dict[str, float]
    agent: float
    per_agent: dict[str, float]
    num_gt: dict[str, int]
    num_det: dict[str, int]
    num_tp: dict[str, int]
    scenario: Scenario
    num_images: int = 0
    num_images_without_detections: int = 0

    def means(self) -> dict[str, float]:
        """The numbers a table shows, by name."""
        return {"mean": self.mean, "mean_25": self.mean_25, "agent": self.agent}


def evaluate_vcoco(
    detections: Mapping[str, Detections] | Sequence[Mapping[str, Any]],
    annotations: Sequence[VcocoImage | AnnotatedImage],
    scenario: Scenario = 1,
) -> VcocoResult:
    """Evaluate triplets of a V-COCO vocabulary.

    The triplets of an image with the same human box make one person (see :func:`person_records`).

    Args:
        detections: Detections by file name, boxes in the frame of the annotation; or a sequence of
            records, see :func:`evaluate_vcoco_records`.
        annotations: official ground truth, or pairs of the "vcoco" vocabulary.
        scenario: how a role without visible object counts: 1 only right if no object is
            predicted, 2 always right.

    Raises:
        HoiError: no detections, or for an unknown file, NaN, a vocabulary with other verbs than V-COCO's.
    """
    if not isinstance(detections, Mapping):
        return evaluate_vcoco_records(detections, annotations, scenario)
    evaluator = VcocoEvaluator(annotations)
    if scenario in (1, 2):  # any other is told by result()
        refuse_nothing(detections)
    for file_name, found in detections.items():
        evaluator.add(file_name, found)
    return evaluator.result(scenario)


def evaluate_vcoco_records(
    records: Sequence[Mapping[str, Any]],
    annotations: Sequence[VcocoImage | AnnotatedImage],
    scenario: Scenario = 1,
) -> VcocoResult:
    """Evaluate records in the official form.

    Args:
        records: one per detected person: ``image_id`` (or ``file_name``), ``person_box`` [x1 y1 x2
            y2], for each action ``<action>_agent`` (score) and for each role ``<action>_<role>``
            [x1 y1 x2 y2 score].  A missing or NaN score means no prediction; a role box of zeros or
            NaN says that no object is visible.
        annotations, scenario: as in :func:`evaluate_vcoco`.

    Raises:
        HoiError: no record, one for an unknown image, or of another form.
    """
    evaluator = VcocoEvaluator(annotations)
    refuse_nothing(records)
    evaluator.add_records(records)
    return evaluator.result(scenario)


def refuse_nothing(detections: Sized) -> None:
    """Raise HoiError where there is nothing to evaluate, not even an image in which nothing was found."""
    if not len(detections):
        raise HoiError(
            "there are no detections to evaluate: hand in some, or Detections.empty(...) for an image without any"
        )


@dataclass(frozen=True, eq=False)
class _Predictions:
    """R detected people and the E things predicted for them, of some images.

    Attributes:
        image: (R,) position in the annotations.
        person_boxes: (R, 4) xyxy pixels.
        person: (E,) row of the person.
        slot: (E,) what is predicted.
        scores: (E,), no NaN.
        boxes: (E, 4) role box; NaN for agents and where no object is said to be visible.
    """

    image: np.ndarray
    person_boxes: np.ndarray
    person: np.ndarray
    slot: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


class VcocoEvaluator:
    """The streaming form: keeps a score and two marks per prediction.

    Args:
        annotations: official ground truth, or pairs of ``vocabulary``.
        vocabulary: what the ids of pairs mean; None is "vcoco".

    Raises:
        HoiError: no images, a file named twice, a verb that V-COCO does not have.
    """

    def __init__(
        self, annotations: Sequence[VcocoImage | AnnotatedImage], vocabulary: HoiVocabulary | None = None
    ) -> None:
        images = vcoco_images(annotations, vocabulary)
        self._position = {image.file_name: i for i, image in enumerate(images)}
        self._number: dict[Any, int] = {_image_id(image): i for i, image in enumerate(images)}
        self._seen_images = np.zeros(len(images), dtype=bool)
        self._waiting: list[tuple[int, Detections]] = []
        self._matched: list[tuple[np.ndarray, ...]] = []  # image, slot, score, hit in scenario 1, in scenario 2

        people = [_official_people(image) for image in images]
        self._first = np.cumsum([0, *(len(p[0]) for p in people)])  # first person of each image
        self._boxes = np.concatenate([p[0] for p in people])  # (P, 4)
        self._labelled = np.concatenate([p[1] for p in people])  # (P,) bool
        self._actions = np.concatenate([p[2] for p in people])  # (P, 26) bool
        self._role_boxes = np.concatenate([p[3] for p in people])  # (P, SLOTS, 4), NaN without object
        if not self._labelled.any():
            raise HoiError("no image has a labelled person: this is no V-COCO ground truth to evaluate on")
        self.num_gt = self._actions.sum(axis=0)[SLOT_ACTION]

    def add(self, file_name: str, detections: Detections) -> None:
        """Take the triplets of one image.  Raises HoiError as :func:`evaluate_vcoco`."""
        image = self._position.get(file_name)
        if image is None:
            raise HoiError(f"detections for {file_name!r}, which the annotations do not contain")
        if self._seen_images[image]:
            raise HoiError(f"detections for {file_name!r} were handed in twice")
        for what in ("human_boxes", "object_boxes", "scores"):
            if not np.isfinite(getattr(detections, what)).all():
                raise HoiError(f"detections for {file_name!r}: {what.replace('_', ' ')} hold NaN or infinity")
        self._seen_images[image] = True
        self._waiting.append((image, detections))
        if len(self._waiting) >= IMAGES_PER_FLUSH:
            self._match_waiting()

    def add_records(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take records in the official form.  Raises HoiError as :func:`evaluate_vcoco_records`."""
        if not records:
            return
        image = np.array([self._record_image(record) for record in records], dtype=np.int64)
        self._seen_images[image] = True
        try:
            person_boxes = np.array([record["person_box"] for record in records], dtype=np.float64).reshape(-1, 4)
            columns = [_slot_column(records, slot) for slot in range(SLOTS)]
        except (KeyError, TypeError, ValueError) as error:
            raise HoiError(f"a V-COCO record does not have the official form ({error})") from error
        if not np.isfinite(person_boxes).all():
            wrong = int(np.flatnonzero(~np.isfinite(person_boxes).all(axis=1))[0])
            raise HoiError(f"V-COCO record {wrong}: the person box holds NaN or infinity")
        table = np.stack(columns)  # (SLOTS, R, 5)
        slot, person = np.nonzero(~np.isnan(table[..., 4]))
        chosen = table[slot, person]
        self._match(_Predictions(image, person_boxes, person, slot, chosen[:, 4], chosen[:, :4]))

    def _record_image(self, record: Mapping[str, Any]) -> int:
        found = self._position.get(record.get("file_name", ""), self._number.get(record.get("image_id")))
        if found is None:
            name = record.get("image_id", record.get("file_name"))
            raise HoiError(f"a detection for image {name!r}, which the annotations do not contain")
        return found

    def _match_waiting(self) -> None:
        if self._waiting:
            self._match(_from_triplets(self._waiting))
            self._waiting.clear()

    def _match(self, found: _Predictions) -> None:
        """Match predictions: every one of an image must be in the same call."""
        tied, overlap = self._nearest_person(found)
        owner = tied[found.person]
        counted = (owner < 0) | self._labelled[owner]  # a prediction for an unlabelled person is not counted
        person, slot, owner = found.person[counted], found.slot[counted], owner[counted]
        scores, boxes = found.scores[counted], found.boxes[counted]

        possible = (owner >= 0) & (overlap[person] >= MINIMUM_OVERLAP) & self._actions[owner, SLOT_ACTION[slot]]
        rows = np.flatnonzero(possible)
        agent = slot[rows] < AGENT_SLOTS
        wanted, given = self._role_boxes[owner[rows], slot[rows]], boxes[rows]
        nothing_wanted = np.isnan(wanted).any(axis=1)
        nothing_given = np.isnan(given).all(axis=1) | (given == 0).all(axis=1)
        same_object = ~nothing_given & (box_iou(wanted, given) >= MINIMUM_OVERLAP)
        right = {
            1: np.where(nothing_wanted, nothing_given, same_object) | agent,
            2: nothing_wanted | same_object | agent,
        }
        key = owner[rows] * SLOTS + slot[rows]
        hits = []
        for scenario in (1, 2):
            candidates = rows[right[scenario]]
            keys = key[right[scenario]]
            order = np.lexsort((-scores[candidates], keys))  # the best-scored one takes the person
            _, first = np.unique(keys[order], return_index=True)
            hit = np.zeros(len(slot), dtype=bool)
            hit[candidates[order[first]]] = True
            hits.append(hit)
        image = found.image[person]
        self._matched.append((image.astype(np.int32), slot.astype(np.int8), scores, *hits))

    def _nearest_person(self, found: _Predictions) -> tuple[np.ndarray, np.ndarray]:
        """For each detected person the annotated one of greatest overlap (R,) and that overlap (R,).

        The first of equal ones, even if none overlaps at all; -1 where the image has nobody.
        """
        first, count = self._first[found.image], np.diff(self._first)[found.image]
        which = np.repeat(np.arange(len(count)), count)
        start = np.cumsum(count) - count
        candidate = np.arange(len(which)) - start[which] + first[which]
        iou = box_iou(found.person_boxes[which], self._boxes[candidate])
        order = np.lexsort((-iou, which))
        tied, overlap = np.full(len(count), -1), np.zeros(len(count))
        somebody = count > 0
        best = order[start[somebody]]
        tied[somebody], overlap[somebody] = candidate[best], iou[best]
        return tied, overlap

    def result(self, scenario: Scenario = 1) -> VcocoResult:
        """The evaluation of everything added so far, in one scenario."""
        if scenario not in (1, 2):
            raise HoiError(f"V-COCO has scenarios 1 and 2, not {scenario}")
        self._match_waiting()
        nothing = *(np.zeros(0, dtype=kind) for kind in (np.int32, np.int8, np.float64)), *[np.zeros(0, dtype=bool)] * 2
        image, slot, scores, *hits = (np.concatenate(c) for c in zip(nothing, *self._matched, strict=True))
        hit = hits[scenario - 1]
        rows = by_class(slot, scores, image, SLOTS)
        ap = np.array([all_point_ap(hit[r], int(n)) for r, n in zip(rows, self.num_gt, strict=True)])
        agents, roles = ap[:AGENT_SLOTS], ap[AGENT_SLOTS:]
        names = [*(a.name for a in ACTIONS), *ROLE_NAMES]
        keys = [n if s >= AGENT_SLOTS else f"{n}_agent" for s, n in enumerate(names)]
        return VcocoResult(
            mean=mean_over(roles, ~np.isin(ROLE_NAMES, NOT_REPORTED)),
            mean_25=mean_over(roles, np.ones(len(roles), dtype=bool)),
            per_role=dict(zip(ROLE_NAMES, roles.tolist(), strict=True)),
            agent=mean_over(agents, np.ones(len(agents), dtype=bool)),
            per_agent=dict(zip(names[:AGENT_SLOTS], agents.tolist(), strict=True)),
            num_gt=dict(zip(keys, self.num_gt.tolist(), strict=True)),
            num_det={k: len(r) for k, r in zip(keys, rows, strict=True)},
            num_tp={k: int(hit[r].sum()) for k, r in zip(keys, rows, strict=True)},
            scenario=scenario,
            num_images=len(self._seen_images),
            num_images_without_detections=int((~self._seen_images).sum()),
        )


def person_records(file_name: str, detections: Detections, image_id: int | None = None) -> list[dict[str, Any]]:
    """Our triplets of one image in the official form.

    Triplets with exactly the same human box make one person.  ``<action>_agent`` is the greatest
    score of the person's triplets of that action; ``<action>_<role>`` the object box and score of
    the best triplet of that verb, zeros for the box where its object is "nothing".  What has no
    triplet is left out by a NaN score.

    Args:
        file_name: goes into the records.
        detections: of a V-COCO vocabulary.
        image_id: COCO's number; None reads it from the digits of ``file_name``.

    Raises:
        HoiError: other verbs than V-COCO's.
    """
    found = _from_triplets([(0, detections)])
    image_id = number_in(file_name) if image_id is None else image_id
    blank: dict[str, Any] = {f"{a.name}_agent": float("nan") for a in ACTIONS}
    blank |= {name: [0.0, 0.0, 0.0, 0.0, float("nan")] for name in ROLE_NAMES}
    records = [{"image_id": image_id, "file_name": file_name, "person_box": b.tolist()} for b in found.person_boxes]
    records = [record | {k: v if isinstance(v, float) else list(v) for k, v in blank.items()} for record in records]
    for person, slot, score, box in zip(found.person, found.slot, found.scores.tolist(), found.boxes, strict=True):
        if slot < AGENT_SLOTS:
            records[person][f"{ACTIONS[slot].name}_agent"] = score
        else:
            records[person][ROLE_NAMES[slot - AGENT_SLOTS]] = [*np.nan_to_num(box).tolist(), score]
    return records


def number_in(file_name: str) -> int | None:
    """COCO's image id from ``"COCO_val2014_000000000042.jpg"``; None if the name has no digits."""
    digits = re.findall(r"\d+", file_name)
    return int(digits[-1]) if digits else None


# --- into flat arrays ------------------------------------------------------------------------------


def _from_triplets(images: Sequence[tuple[int, Detections]]) -> _Predictions:
    """Triplets of several images; :func:`person_records` says by which rule."""
    vocabulary = images[0][1].vocabulary
    for _, other in images:
        if other.vocabulary.interactions != vocabulary.interactions or other.vocabulary.verbs != vocabulary.verbs:
            raise HoiError(f"detections of two vocabularies, {vocabulary.name!r} and {other.vocabulary.name!r}")
    places = [verb_place(verb, vocabulary) for verb in vocabulary.verbs]
    image = np.repeat(np.array([i for i, _ in images], dtype=np.int64), [len(d) for _, d in images])
    verb = np.concatenate([d.verb_ids for _, d in images])
    scores = np.concatenate([d.scores for _, d in images]).astype(np.float64)
    human = np.concatenate([d.human_boxes for _, d in images]).astype(np.float64)
    boxes = np.concatenate([d.object_boxes for _, d in images]).astype(np.float64)
    if NOTHING in vocabulary.objects:
        nothing = np.concatenate([d.object_ids for _, d in images]) == vocabulary.objects.index(NOTHING)
        boxes[nothing] = np.nan

    people, person = np.unique(np.column_stack([image, human]), axis=0, return_inverse=True)
    person = person.reshape(-1)
    agent_slot = np.array([action for action, _ in places], dtype=np.int64)[verb]
    role_slot = np.array([ROLE_SLOT.get(place, -1) for place in places], dtype=np.int64)[verb]
    has_role = role_slot >= 0
    columns = [
        (person, person[has_role]),
        (agent_slot, role_slot[has_role]),
        (scores, scores[has_role]),
        (np.full_like(boxes, np.nan), boxes[has_role]),
    ]
    person, slot, scores, boxes = (np.concatenate(c) for c in columns)
    order = np.lexsort((-scores, person * SLOTS + slot))
    _, first = np.unique((person * SLOTS + slot)[order], return_index=True)
    best = order[first]
    return _Predictions(
        people[:, 0].astype(np.int64), people[:, 1:], person[best], slot[best], scores[best], boxes[best]
    )


def _slot_column(records: Sequence[Mapping[str, Any]], slot: int) -> np.ndarray:
    """(R, 5) box and score of one slot; NaN where a record has none."""
    nan = float("nan")
    action = ACTIONS[SLOT_ACTION[slot]]
    if slot < AGENT_SLOTS:
        column = np.full((len(records), 5), nan)
        values = [record.get(f"{action.name}_agent") for record in records]
        column[:, 4] = np.array([nan if v is None else v for v in values], dtype=np.float64)
        return column
    name, blank = ROLE_NAMES[slot - AGENT_SLOTS], [nan] * 5
    values = [record.get(name) for record in records]
    return np.array([blank if v is None else v for v in values], dtype=np.float64).reshape(len(records), 5)


def _official_people(image: VcocoImage) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """People of an image that the official program keeps.

    Returns:
        boxes (p, 4), labelled (p,) bool, actions (p, 26) bool, role boxes (p, SLOTS, 4) with NaN
        for agents and roles without object; in the order of the annotation.
    """
    boxes, kept = image.official_boxes()
    rows = np.flatnonzero(kept & (image.object_ids == PERSON))
    place = np.full(len(boxes), -1)
    place[image.people] = np.arange(len(image.people))
    label = place[rows]
    labelled = label >= 0
    actions = np.zeros((len(rows), len(ACTIONS)), dtype=bool)
    role_boxes = np.full((len(rows), SLOTS, 4), np.nan)
    if labelled.any():
        actions[labelled] = image.actions[label[labelled]]
        role = image.role_objects[label[labelled]][:, SLOT_ACTION[AGENT_SLOTS:], SLOT_ROLE[AGENT_SLOTS:]]  # (l, 25)
        visible = (role >= 0) & kept[role]
        role_boxes[labelled, AGENT_SLOTS:] = np.where(visible[..., None], boxes[role], np.nan)
    return boxes[rows], labelled, actions, role_boxes


def _image_id(image: VcocoImage) -> int | str:
    number = image.image_id if image.image_id is not None else number_in(image.file_name)
    return image.file_name if number is None else number
