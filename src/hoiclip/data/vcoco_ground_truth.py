"""V-COCO ground truth: people, their actions, and the objects of each role.

The official annotation is a list of people, not of pairs: every person carries the actions they
perform, and every action up to two roles (``hit``: the instrument and the object hit), each filled
by an annotated object or by none.  :class:`VcocoImage` holds that for one image.

    images = load_vcoco_ground_truth("vcoco_test.json", "instances_vcoco_all_2014.json", "vcoco_test.ids")
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.content import Defect, is_int
from hoiclip.data.json_files import listed_keys, parse_json, read_json_text
from hoiclip.errors import HoiError
from hoiclip.files import ASSETS, read_text
from hoiclip.vocabulary import HoiVocabulary

PERSON = 0  # object id of people in COCO's 80 classes
MOST_ROLES = 2


@dataclass(frozen=True)
class VcocoAction:
    """One of the 26 official actions.

    Attributes:
        name: ``"hit"``.
        roles: its roles without the agent, ``("instr", "obj")``; at most two.
        objects: for each role the object names it may have; empty means any.
    """

    name: str
    roles: tuple[str, ...]
    objects: tuple[tuple[str, ...], ...]

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs of the pair form, ``("hit_instr", "hit_obj")``; the bare name without roles."""
        return tuple(f"{self.name}_{role}" for role in self.roles) or (self.name,)


def _actions() -> tuple[VcocoAction, ...]:
    rows: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    table = (ASSETS / "vcoco_actions.tsv").read_text(encoding="utf-8")
    for row in csv.DictReader(table.splitlines(), delimiter="\t"):
        names = tuple(row["objects"].split(", ")) if row["objects"] else ()
        rows[row["action"]].append((row["role"], names))
    return tuple(
        VcocoAction(name, tuple(r for r, _ in roles[1:]), tuple(o for _, o in roles[1:]))  # the first is the agent
        for name, roles in rows.items()
    )


ACTIONS = _actions()
ACTION_INDEX = {action.name: i for i, action in enumerate(ACTIONS)}


#: verb of the pair form -> (action, role); role -1 where the verb has no object
VERB_PLACE = {
    verb: (i, r if action.roles else -1) for i, action in enumerate(ACTIONS) for r, verb in enumerate(action.verbs)
}
ROLE_NAMES = tuple(verb for action in ACTIONS if action.roles for verb in action.verbs)  # 25, official order


@dataclass(frozen=True, eq=False)
class VcocoImage:
    """The V-COCO annotation of one image.

    Attributes:
        file_name: key of the detections.
        boxes: (n, 4) float64 xyxy in pixels as COCO has them, x2 = x + width.
        object_ids: (n,) int64 classes of COCO-80; 0 is a person.
        people: (p,) int64 rows of ``boxes``: the people V-COCO labels.  People in ``boxes`` that are
            not among them are "ignored" by the official protocol.
        actions: (p, 26) bool, in the order of ``ACTIONS``.
        role_objects: (p, 26, 2) int64 rows of ``boxes``; -1 where the role has no visible object.
        size: (height, width) in pixels, or None.
        areas: (n,) COCO's segment areas; None takes width times height.
        image_id: COCO's number of the image, or None.
    """

    file_name: str
    boxes: np.ndarray
    object_ids: np.ndarray
    people: np.ndarray
    actions: np.ndarray
    role_objects: np.ndarray
    size: tuple[int, int] | None = None
    areas: np.ndarray | None = field(default=None)
    image_id: int | None = None

    def official_boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes as the official program reads them, and which of them it keeps.

        Returns:
            (n, 4) xyxy whose last pixel belongs to the box, clipped to the image, and (n,) bool:
            area above 0 and more than one pixel wide and high.
        """
        low, high = self.boxes[:, :2], self.boxes[:, 2:]
        boxes = np.concatenate([low, np.maximum(low, high - 1)], axis=1)
        if self.size is not None:
            height, width = self.size
            boxes = np.clip(boxes, 0, [width - 1, height - 1, width - 1, height - 1])
        areas = np.prod(high - low, axis=1) if self.areas is None else self.areas
        return boxes, (areas > 0) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The pair form: (m, 2) int64 rows (person, object or -1) and (m,) int64 places in ``PAIR_VERBS``.

        Action by action, as the official lists and the JSON form have them.
        """
        rows, verbs = [], []
        for action, person in np.argwhere(self.actions.T):
            for role, verb in enumerate(ACTIONS[action].verbs):
                rows.append((self.people[person], self.role_objects[person, action, role]))
                verbs.append(PAIR_VERBS.index(verb))
        return np.array(rows, dtype=np.int64).reshape(-1, 2), np.array(verbs, dtype=np.int64)

    @classmethod
    def from_pairs(cls, image: AnnotatedImage, vocabulary: HoiVocabulary) -> VcocoImage:
        """Read pairs of a V-COCO vocabulary, object -1 meaning that the role has none.

        People without a pair become "ignored".  (The official form also knows people who are
        labelled as doing nothing, 36 of 4,499 in val, and counts detections of them.)  Of several
        objects of one person in the same role the first counts: the official form has room for one.

        Raises:
            HoiError: if the vocabulary has a verb that V-COCO does not.
        """
        people, inverse = np.unique(image.pairs[:, 0], return_inverse=True)
        actions, role_objects = _nothing_done(len(people))
        for person, object_row, verb in zip(inverse, image.pairs[:, 1], image.verbs(vocabulary), strict=True):
            action, role = verb_place(vocabulary.verbs[verb], vocabulary)
            actions[person, action] = True
            if role >= 0 and role_objects[person, action, role] < 0:
                role_objects[person, action, role] = object_row
        return cls(image.file_name, image.boxes, image.object_ids, people, actions, role_objects, image.size)


PAIR_VERBS = HoiVocabulary.from_name("vcoco").verbs  # 29, order of the pair form


def verb_place(verb: str, vocabulary: HoiVocabulary) -> tuple[int, int]:
    """(action, role) of a verb such as ``"hit_obj"``; role -1 where the action has none."""
    if verb not in VERB_PLACE:
        raise HoiError(f"vocabulary {vocabulary.name!r} has the verb {verb!r}, which V-COCO does not: use 'vcoco'")
    return VERB_PLACE[verb]


def vcoco_images(
    annotations: Sequence[VcocoImage | AnnotatedImage], vocabulary: HoiVocabulary | None = None
) -> list[VcocoImage]:
    """Either form of annotation as :class:`VcocoImage`; pairs are read with ``vocabulary`` ("vcoco" if None)."""
    vocabulary = vocabulary or HoiVocabulary.from_name("vcoco")
    images = [a if isinstance(a, VcocoImage) else VcocoImage.from_pairs(a, vocabulary) for a in annotations]
    if not images:
        raise HoiError("there are no annotated images to evaluate on")
    if len({image.file_name for image in images}) != len(images):
        raise HoiError("the annotations name a file twice: every image must occur once")
    return images


def load_vcoco_ground_truth(
    vcoco: str | Path | list[dict[str, Any]],
    instances: str | Path | dict[str, Any],
    ids: str | Path | Iterable[int] | None = None,
) -> list[VcocoImage]:
    """Build the ground truth from the official files.

    Args:
        vcoco: ``vcoco_test.json`` (plain or gzipped) or its parsed content: 26 actions.
        instances: COCO instances that hold the images, likewise.
        ids: a file with one COCO image id per line, or the ids; None takes the images that
            ``vcoco`` labels.

    Returns:
        One entry per image, in the order of ``ids``.

    Raises:
        HoiError: unreadable file, unknown action, or an id that the instances do not have.
    """
    where = f"{vcoco}" if isinstance(vcoco, (str, Path)) else "V-COCO annotation"
    actions: Any = parse_json(read_json_text(vcoco), vcoco) if isinstance(vcoco, (str, Path)) else vcoco
    coco: Any = parse_json(read_json_text(instances), instances) if isinstance(instances, (str, Path)) else instances
    wanted = read_ids(ids) if isinstance(ids, (str, Path)) else ids
    if wanted is None:
        wanted = labelled_images(actions, where)
    images, defects = parse_vcoco(actions, coco, wanted, path=where)
    if defects:
        raise HoiError(f"{where}: {defects[0]}")
    return images


def labelled_images(actions: Sequence[Any], path: str | Path) -> list[int]:
    """COCO's numbers of the images that the official lists speak of, ascending.

    Raises:
        HoiError: if these are no such lists.
    """
    try:
        return sorted({n for action in actions for n in whole_numbers(action["image_id"], "image_id")})
    except HoiError as error:
        raise HoiError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise HoiError(f"{path}: is not the official V-COCO lists ({error!r}); download it again") from error


def whole_numbers(values: Any, what: str) -> list[int]:
    """A list of whole numbers as integers.

    Raises:
        HoiError: no list, or one of its values is text, a fraction or something else.
    """
    if not isinstance(values, list | tuple | np.ndarray):
        raise HoiError(f"{what} is {str(values)[:40]!r}, not a list of whole numbers")
    for i, value in enumerate(values):
        if not isinstance(value, int | np.integer | float) or isinstance(value, bool) or value != value // 1:
            raise HoiError(f"{what}: entry {i} is {str(value)[:40]!r}, not a whole number")
    return [int(value) for value in values]


def read_ids(path: str | Path) -> list[int]:
    """COCO image ids, one per line.

    Raises:
        HoiError: unreadable, a line that is no number, or a number that comes again.
    """
    numbers: dict[int, int] = {}
    for row, line in enumerate(read_text(path, "a list of COCO image ids").splitlines(), 1):
        word = line.strip()
        if not word:
            continue
        if not (word.isascii() and word.isdecimal() and len(word) < 20):
            raise HoiError(f"{path}: line {row} is no image id: {word[:40]!r}; one number per line")
        if int(word) in numbers:
            raise HoiError(f"{path}: line {row} has image id {word} again, as line {numbers[int(word)]}; remove one")
        numbers[int(word)] = row
    return list(numbers)


# --- official lists + COCO boxes -> images ---------------------------------------------------------


@dataclass
class _Open:
    """An image while its annotation is being collected."""

    file_name: str
    size: tuple[int, int]
    image_id: int
    at: int
    boxes: list[list[float]] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    object_ids: list[int] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)  # COCO annotation id -> row of boxes
    # row of a labelled person -> action -> rows of the role objects
    people: dict[int, dict[int, list[int]]] = field(default_factory=dict)

    def close(self) -> VcocoImage:
        actions, role_objects = _nothing_done(len(self.people))
        for person, done in enumerate(self.people.values()):
            for action, objects in done.items():
                actions[person, action] = True
                role_objects[person, action, : len(objects)] = objects
        return VcocoImage(
            self.file_name,
            np.array(self.boxes, dtype=np.float64).reshape(-1, 4),
            np.array(self.object_ids, dtype=np.int64),
            np.array(list(self.people), dtype=np.int64),
            actions,
            role_objects,
            self.size,
            np.array(self.areas, dtype=np.float64),
            self.image_id,
        )


def parse_vcoco(
    actions: Sequence[dict[str, Any]],
    coco: dict[str, Any],
    ids: Iterable[int] | None = None,
    *,
    path: str | Path = "V-COCO",
) -> tuple[list[VcocoImage], list[Defect]]:
    """Join the official V-COCO lists and COCO instances, both parsed.

    Every COCO annotation of an image becomes a box x, y, x + w, y + h, so people without any label
    are there too.

    Args:
        actions: 26 entries with ``action_name``, ``role_name``, ``image_id``, ``ann_id``, ``label`` and
            the role-major ``role_object_id``.
        coco: ``images`` and ``annotations``.
        ids: images wanted, in this order; None for all of ``coco``.
        path: how error messages call the input.

    Returns:
        The images, and the defects: annotation ids that ``coco`` does not know, crossings between
        images, boxes that are not four numbers.  A box of unknown class has the object id -1.

    Raises:
        HoiError: if the lists do not fit together.
    """
    defects: list[Defect] = []
    try:
        images = _open_images(coco, ids, defects)
        for action in actions:
            _add_action(action, images, defects)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, HoiError):
            raise HoiError(f"{path}: {error}") from error
        raise HoiError(
            f"{path}: does not have the structure of V-COCO with COCO instances ({error!r}); see docs/data.md"
        ) from error
    return [image.close() for image in images.values()], defects


def _open_images(coco: dict[str, Any], ids: Iterable[int] | None, defects: list[Defect]) -> dict[int, _Open]:
    if not isinstance(coco, dict) or not all(isinstance(coco.get(key), list) for key in ("images", "annotations")):
        raise HoiError(f"the COCO instances need the lists 'images' and 'annotations'; there is {listed_keys(coco)}")
    known = dict(zip(whole_numbers([i["id"] for i in coco["images"]], "COCO's image ids"), coco["images"], strict=True))
    images: dict[int, _Open] = {}
    for number in known if ids is None else ids:
        if number not in known:
            raise HoiError(f"image {number} is not in the COCO instances; give those of both train2014 and val2014")
        image = known[number]
        if not isinstance(image["file_name"], str):
            raise HoiError(f"image {number} of the COCO instances has the file_name {image['file_name']!r}")
        size = int(image["height"]), int(image["width"])
        images[number] = _Open(image["file_name"], size, number, len(images))
    objects = {category: i for i, category in enumerate(HoiVocabulary.from_name("vcoco").category_ids)}
    for annotation in coco["annotations"]:
        if not is_int(annotation["image_id"]) or not is_int(annotation["id"]):
            ids_of = {key: annotation[key] for key in ("id", "image_id")}
            raise HoiError(f"an annotation of the COCO instances has {ids_of}, not whole numbers")
        opened = images.get(annotation["image_id"])
        if opened is None:
            continue
        if annotation["id"] in opened.rows:
            raise HoiError(f"annotation {annotation['id']} comes twice in the COCO instances; is one file there twice?")
        x, y, w, h = (float(v) for v in annotation["bbox"])
        row = len(opened.boxes)
        opened.rows[annotation["id"]] = row
        opened.boxes.append([x, y, x + w, y + h])
        opened.areas.append(float(annotation.get("area", w * h)))
        if not np.isfinite(opened.boxes[-1]).all():
            detail = f"bbox is {annotation['bbox']}"
            defects.append(Defect("box is not four numbers", opened.file_name, opened.at, "box", row, detail))
        opened.object_ids.append(objects.get(annotation["category_id"], -1))
        if opened.object_ids[-1] < 0:
            detail = f"category_id {annotation['category_id']!r} is no COCO class"
            defects.append(Defect("id out of range", opened.file_name, opened.at, "box", row, detail))
    return images


def _add_action(entry: dict[str, Any], images: dict[int, _Open], defects: list[Defect]) -> None:
    name, roles = entry["action_name"], tuple(entry["role_name"][1:])  # the first role is the agent
    if name not in ACTION_INDEX or roles != ACTIONS[ACTION_INDEX[name]].roles:
        raise HoiError(f"{name!r} with the roles {entry['role_name']} is no action of V-COCO")
    numbers, people, labels = (whole_numbers(entry[k], f"{name}: {k}") for k in ("image_id", "ann_id", "label"))
    count, flat = len(people), whole_numbers(_flat(entry["role_object_id"]), f"{name}: role_object_id")
    if not len(numbers) == len(labels) == count or len(flat) != count * (len(roles) + 1):
        raise HoiError(f"the lists of action {name!r} have different lengths")
    if not set(labels) <= {0, 1}:
        raise HoiError(f"{name}: label {max(labels, key=lambda n: n not in (0, 1))} is neither 0 nor 1")
    for i in range(count):
        image = images.get(numbers[i])
        if image is None:
            continue
        human = image.rows.get(people[i])
        if human is None:
            detail = f"{name}: COCO has no annotation {people[i]} of a person here"
            defects.append(Defect("id out of range", image.file_name, image.at, "pair", i, detail))
            continue
        done = image.people.setdefault(human, {})
        if not labels[i]:
            continue
        objects = [flat[role * count + i] for role in range(1, len(roles) + 1)]
        for number in objects:
            if number and number not in image.rows:
                detail = f"{name}: COCO has no annotation {number} of an object here"
                defects.append(Defect("id out of range", image.file_name, image.at, "pair", i, detail))
        done[ACTION_INDEX[name]] = [image.rows.get(number, -1) if number else -1 for number in objects]


def _flat(values: Any) -> Any:
    """Role-major ids; the official reader's (N, roles) nesting is undone where a file has it."""
    if isinstance(values, list) and values and isinstance(values[0], list):
        return [row[role] for role in range(len(values[0])) for row in values]
    return values


def _nothing_done(people: int) -> tuple[np.ndarray, np.ndarray]:
    """Empty ``actions`` and ``role_objects`` of :class:`VcocoImage`."""
    return np.zeros((people, len(ACTIONS)), dtype=bool), np.full((people, len(ACTIONS), MOST_ROLES), -1, dtype=np.int64)
