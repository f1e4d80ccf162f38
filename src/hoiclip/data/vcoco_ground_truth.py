"""V-COCO ground truth: who does what, with which object.

The official annotation is a list of people, not of pairs: every person carries the actions they
perform, and every action up to two roles (``hit``: the instrument and the object hit), each filled
by an annotated object or by none.  :class:`VcocoImage` holds that for one image.

    images = load_vcoco_ground_truth("vcoco_test.json", "instances_vcoco_all_2014.json", "vcoco_test.ids")
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.dataset import Dataset
from hoiclip.errors import HoiError
from hoiclip.files import ASSETS
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
    """Everything V-COCO says about one image.

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
        """The pair form: (m, 2) int64 rows (person, object or -1) and (m,) int64 places in ``PAIR_VERBS``."""
        rows, verbs = [], []
        for person, action in np.argwhere(self.actions):
            for role, verb in enumerate(ACTIONS[action].verbs):
                rows.append((self.people[person], self.role_objects[person, action, role]))
                verbs.append(PAIR_VERBS.index(verb))
        return np.array(rows, dtype=np.int64).reshape(-1, 2), np.array(verbs, dtype=np.int64)

    @classmethod
    def from_pairs(cls, image: AnnotatedImage, vocabulary: HoiVocabulary) -> VcocoImage:
        """Read pairs of a V-COCO vocabulary, object -1 meaning that the role has none.

        People without a pair become "ignored".  (The official form also knows people who are
        labelled as doing nothing, 36 of 4,499 in val, and judges detections of them.)  Of several
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
    actions, coco = _read_json(vcoco), _read_json(instances)
    where = f"{vcoco}" if isinstance(vcoco, (str, Path)) else "V-COCO annotation"
    try:
        wanted = _read_ids(ids) if ids is not None else sorted({int(i) for a in actions for i in a["image_id"]})
        places = set(wanted)
        infos = {info["id"]: info for info in coco["images"] if info["id"] in places}
        by_image: dict[int, list[dict[str, Any]]] = {i: [] for i in wanted}
        for annotation in coco["annotations"]:
            if annotation["image_id"] in places:
                by_image[annotation["image_id"]].append(annotation)
        doing = _people_doing(actions, places, where)
        classes = {c: i for i, c in enumerate(HoiVocabulary.from_name("vcoco").category_ids)}
        missing = next((i for i in wanted if i not in infos), None)
        if missing is not None:
            raise HoiError(
                f"{where}: image {missing} is not in the COCO instances: give the file for COCO train+val 2014"
            )
        return [_image(infos[i], by_image[i], doing[i], classes, where) for i in wanted]
    except (KeyError, TypeError, IndexError) as error:
        raise HoiError(f"{where}: not an official V-COCO annotation with COCO instances ({error!r})") from error


def people_of(dataset: Dataset, split: str, images: Sequence[AnnotatedImage]) -> Sequence[VcocoImage | AnnotatedImage]:
    """What V-COCO's evaluation needs to know of these images: all people, also those who do nothing.

    Args:
        dataset: an opened V-COCO.
        split: of the images.
        images: the pair form.

    Returns:
        The official ground truth of the same images; the pair form again where the official files
        are not there (it lacks the people that are labelled as doing nothing, 36 of 4,499 in val).

    Raises:
        HoiError: a damaged file.
    """
    parts = dataset.official_vcoco(split)
    if parts is None:
        return images
    names = {image.file_name for image in images}
    return [image for image in load_vcoco_ground_truth(*parts) if image.file_name in names]


def _people_doing(
    actions: list[dict[str, Any]], places: set[int], where: str
) -> dict[int, dict[int, dict[int, tuple[int, ...]]]]:
    """image id -> annotation id of a labelled person -> action -> annotation ids of the role objects."""
    doing: dict[int, dict[int, dict[int, tuple[int, ...]]]] = defaultdict(lambda: defaultdict(dict))
    for entry in actions:
        name = entry["action_name"]
        if name not in ACTION_INDEX or tuple(entry["role_name"][1:]) != ACTIONS[ACTION_INDEX[name]].roles:
            raise HoiError(f"{where}: {name!r} with the roles {entry['role_name']} is no action of V-COCO")
        count = len(entry["ann_id"])
        roles = np.asarray(entry["role_object_id"], dtype=np.int64).reshape(-1, count)[1:]  # role-major, agent first
        for n in range(count):
            if entry["image_id"][n] in places:
                person = doing[entry["image_id"][n]][entry["ann_id"][n]]
                if entry["label"][n]:
                    person[ACTION_INDEX[name]] = tuple(int(o) for o in roles[:, n])
    return doing


def _image(
    info: dict[str, Any],
    annotations: list[dict[str, Any]],
    doing: dict[int, dict[int, tuple[int, ...]]],
    classes: dict[int, int],
    where: str,
) -> VcocoImage:
    row = {annotation["id"]: i for i, annotation in enumerate(annotations)}
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    actions, role_objects = _nothing_done(len(doing))
    for p, (person, done) in enumerate(doing.items()):
        for action, objects in done.items():
            actions[p, action] = True
            for role, annotation_id in enumerate(objects):
                if annotation_id and annotation_id not in row:
                    raise HoiError(
                        f"{where}: object {annotation_id} of image {info['id']} is not in the COCO instances"
                    )
                role_objects[p, action, role] = row[annotation_id] if annotation_id else -1
        if person not in row:
            raise HoiError(f"{where}: person {person} of image {info['id']} is not in the COCO instances")
    return VcocoImage(
        info["file_name"],
        boxes,
        np.array([classes[a["category_id"]] for a in annotations], dtype=np.int64),
        np.array([row[person] for person in doing], dtype=np.int64),
        actions,
        role_objects,
        (info["height"], info["width"]),
        np.array([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in annotations], dtype=np.float64),
        info["id"],
    )


def _nothing_done(people: int) -> tuple[np.ndarray, np.ndarray]:
    """Empty ``actions`` and ``role_objects`` of :class:`VcocoImage`."""
    return np.zeros((people, len(ACTIONS)), dtype=bool), np.full((people, len(ACTIONS), MOST_ROLES), -1, dtype=np.int64)


def _read_json(source: Any) -> Any:
    if not isinstance(source, (str, Path)):
        return source
    path = Path(source)
    try:
        content = path.read_bytes()
        return json.loads((gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8"))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise HoiError(f"{path}: cannot be read ({error}); give an existing JSON file") from error
    except json.JSONDecodeError as error:
        raise HoiError(f"{path}: line {error.lineno} is not valid JSON ({error.msg})") from error


def _read_ids(source: str | Path | Iterable[int]) -> list[int]:
    if not isinstance(source, (str, Path)):
        return [int(i) for i in source]
    try:
        lines = Path(source).read_text("utf-8").split()
        return [int(line) for line in lines]
    except OSError as error:
        raise HoiError(f"{source}: cannot be read ({error}); give a file with one image id per line") from error
    except ValueError as error:
        raise HoiError(f"{source}: holds something that is no image id ({error})") from error
