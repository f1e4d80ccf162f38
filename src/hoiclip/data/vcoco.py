"""V-COCO from the official annotation, COCO 2014 and the split ids, or from its JSON form.

    test = load_vcoco("data/vcoco", "test")

Gupta and Malik, *Visual Semantic Role Labeling* (arXiv:1505.04474).  No cache file has to be made
beforehand.  ``root`` holds, at any depth,

* ``vcoco_trainval.json`` and ``vcoco_test.json`` (or ``_train``, ``_val``) of the official repository,
  with ``instances_train2014.json`` and ``instances_val2014.json`` of COCO (or the official
  repository's extract ``instances_vcoco_all_2014.json``); or
* ``trainval_vcoco.json`` and ``test_vcoco.json``, the JSON form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.hoia import Defect, HoiaContent, accepted, load_hoia, parse_json, read_json_text
from hoiclip.data.layout import DatasetLayout, existing_folder, find_files, find_folders
from hoiclip.errors import HoiError
from hoiclip.vocabulary import NOTHING, HoiVocabulary

SPLITS = ("trainval", "train", "val", "test")
OFFICIAL_FILES = {split: f"vcoco_{split}.json" for split in SPLITS}
JSON_FILES = {split: f"{split}_vcoco.json" for split in SPLITS}
ID_FILES = {split: f"vcoco_{split}.ids" for split in SPLITS}
INSTANCES = ("instances_vcoco_all_2014.json", "instances_train2014.json", "instances_val2014.json")
IMAGE_FOLDERS = ("train2014", "val2014")


def find_vcoco(root: str | Path) -> DatasetLayout:
    """Look for V-COCO at or below ``root``; the official annotation is preferred to the JSON form.

    Raises:
        HoiError: no such folder, or the files named above are not all there.
    """
    root = existing_folder(root)
    wanted = {*OFFICIAL_FILES.values(), *JSON_FILES.values(), *ID_FILES.values(), *INSTANCES}
    files = find_files(root, wanted)
    official = {split: files[name] for split, name in OFFICIAL_FILES.items() if name in files}
    hoia = {split: files[name] for split, name in JSON_FILES.items() if name in files}
    extract, *whole = INSTANCES
    instances = [files[extract]] if extract in files else [files[name] for name in whole if name in files]
    if not hoia and not (official and instances):
        missing = "COCO's instances_train2014.json and instances_val2014.json" if official else "vcoco_trainval.json"
        raise HoiError(f"{root}: no V-COCO here, {missing} not found; docs/data.md lists the files and their sources")
    folders = find_folders(root, set(IMAGE_FOLDERS))
    images = tuple(folders[name] for name in IMAGE_FOLDERS if name in folders)
    annotations = {**hoia, **(official if instances else {})}
    return DatasetLayout(
        kind="vcoco",
        root=root,
        vocabulary=HoiVocabulary.from_name("vcoco"),
        annotations=annotations,
        images={split: images for split in annotations} if images else {},
        companions={
            "instances": tuple(instances),
            **{f"ids_{split}": (files[name],) for split, name in ID_FILES.items() if name in files},
        },
    )


def load_vcoco(root: str | Path, split: str) -> list[AnnotatedImage]:
    """The annotated images of ``"trainval"``, ``"train"``, ``"val"`` or ``"test"`` below ``root``.

    Raises:
        HoiError: files missing or damaged, or an id that the COCO files do not know.
    """
    folder = find_vcoco(root)
    path = folder.source(split)
    if path.name.removesuffix(".gz") == JSON_FILES[split]:
        return load_hoia(path, folder.vocabulary)
    return accepted(read_official(folder, split), path)


def read_official(folder: DatasetLayout, split: str) -> HoiaContent:
    """Join the official lists of a split with COCO's boxes.

    Raises:
        HoiError: a file that is damaged or something else.
    """
    actions, coco, ids = official_parts(folder, split)
    return join_vcoco(actions, coco, ids, path=folder.source(split))


def official_parts(
    folder: DatasetLayout, split: str
) -> tuple[list[Any], dict[str, list[dict[str, Any]]], list[int] | None]:
    """A split's official lists, the COCO images and boxes they speak of, and its image ids.

    Raises:
        HoiError: a file that is damaged or something else.
    """
    path = folder.source(split)
    actions = _json(path, list, "the official V-COCO lists")
    ids_file = folder.companions.get(f"ids_{split}", (None,))[0]
    ids = read_ids(ids_file) if ids_file else None
    wanted = set(ids if ids is not None else _numbers(actions, "image_id", path))
    coco: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for file in folder.companions["instances"]:  # half a gigabyte between them: keep only what is needed
        whole = _json(file, dict, "COCO instances")
        try:
            coco["images"] += [image for image in whole["images"] if image["id"] in wanted]
            coco["annotations"] += [box for box in whole["annotations"] if box["image_id"] in wanted]
        except (KeyError, TypeError) as error:
            raise HoiError(f"{file}: is not COCO instances ({error!r} is missing); download it again") from error
    return actions, coco, ids


def read_ids(path: str | Path) -> list[int]:
    """COCO image ids, one per line.

    Raises:
        HoiError: unreadable, or a line that is no number.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HoiError(f"{path}: cannot be read ({error}); give a list of COCO image ids") from error
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.strip().isdecimal():
            raise HoiError(f"{path}: line {number} is no image id: {line!r}; one number per line")
    return [int(line) for line in lines if line.strip()]


# --- official lists + COCO boxes -> annotated images -----------------------------------------------


@dataclass
class _Open:
    """An image while its annotation is being collected."""

    file_name: str
    size: tuple[int, int]
    at: int
    boxes: list[list[float]] = field(default_factory=list)
    object_ids: list[int] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)  # COCO annotation id -> row of boxes
    pairs: list[tuple[int, int]] = field(default_factory=list)
    verb_ids: list[int] = field(default_factory=list)


def join_vcoco(
    actions: Sequence[dict[str, Any]],
    coco: dict[str, Any],
    ids: Iterable[int] | None = None,
    *,
    path: str | Path = "V-COCO",
) -> HoiaContent:
    """Official V-COCO lists and COCO instances, both parsed, to annotated images.

    Every COCO annotation of an image becomes a box x, y, x + w, y + h, so people without any label
    are there too.  Each label of a person becomes one pair per role of its action; a role nobody
    sees, and an action without roles, has the object -1 and the class "nothing".

    Args:
        actions: 26 entries with ``action_name``, ``role_name``, ``image_id``, ``ann_id``, ``label`` and
            the role-major ``role_object_id``.
        coco: ``images`` and ``annotations``.
        ids: images wanted, in this order; None for all of ``coco``.
        path: how error messages call the input.

    Returns:
        The images; defects are annotation ids that ``coco`` does not know and crossings between
        images.  ``unlisted`` counts the pairs whose (verb, object) is not among the 263.

    Raises:
        HoiError: if the lists do not fit together.
    """
    vocabulary = HoiVocabulary.from_name("vcoco")
    content = HoiaContent()
    try:
        images = _open_images(coco, ids, vocabulary, content)
        for action in actions:
            _add_action(action, images, vocabulary, content)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, HoiError):
            raise HoiError(f"{path}: {error}") from error
        raise HoiError(
            f"{path}: does not have the structure of V-COCO with COCO instances ({error!r}); see docs/data.md"
        ) from error
    nothing = vocabulary.objects.index(NOTHING)
    hois = {pair: k for k, pair in enumerate(vocabulary.interactions)}
    for image in images.values():
        kinds = [nothing if obj < 0 else image.object_ids[obj] for _, obj in image.pairs]
        hoi_ids = [hois.get(label, -1) for label in zip(image.verb_ids, kinds, strict=True)]
        unlisted = hoi_ids.count(-1)
        content.unlisted += unlisted
        content.images.append(
            AnnotatedImage(
                file_name=image.file_name,
                boxes=np.array(image.boxes, dtype=np.float64),
                object_ids=np.array(image.object_ids, dtype=np.int64),
                pairs=np.array(image.pairs, dtype=np.int64),
                hoi_ids=np.array(hoi_ids, dtype=np.int64),
                size=image.size,
                verb_ids=np.array(image.verb_ids, dtype=np.int64) if unlisted else None,
            )
        )
    return content


def _open_images(
    coco: dict[str, Any], ids: Iterable[int] | None, vocabulary: HoiVocabulary, content: HoiaContent
) -> dict[int, _Open]:
    known = {image["id"]: image for image in coco["images"]}
    images: dict[int, _Open] = {}
    for number in known if ids is None else ids:
        if number not in known:
            raise HoiError(f"COCO knows no image {number}; give the instances of both train2014 and val2014")
        image = known[number]
        images[number] = _Open(image["file_name"], (int(image["height"]), int(image["width"])), len(images))
    objects = {category: i for i, category in enumerate(vocabulary.category_ids)}
    for annotation in coco["annotations"]:
        opened = images.get(annotation["image_id"])
        if opened is None:
            continue
        x, y, w, h = (float(v) for v in annotation["bbox"])
        row = len(opened.boxes)
        opened.rows[annotation["id"]] = row
        opened.boxes.append([x, y, x + w, y + h])
        if not np.isfinite(opened.boxes[-1]).all():
            detail = f"bbox is {annotation['bbox']}"
            content.defects.append(Defect("box is not four numbers", opened.file_name, opened.at, "box", row, detail))
        opened.object_ids.append(objects.get(annotation["category_id"], -1))
        if opened.object_ids[-1] < 0:
            detail = f"category_id {annotation['category_id']!r} is no COCO class"
            content.defects.append(Defect("id out of range", opened.file_name, opened.at, "box", row, detail))
    return images


def _add_action(
    action: dict[str, Any], images: dict[int, _Open], vocabulary: HoiVocabulary, content: HoiaContent
) -> None:
    name, roles = action["action_name"], action["role_name"][1:]
    verbs = [f"{name}_{role}" for role in roles] or [name]
    unknown = [verb for verb in verbs if verb not in vocabulary.verbs]
    if unknown:
        raise HoiError(f"{unknown[0]!r} is no action and role of V-COCO")
    verb_ids = [vocabulary.verbs.index(verb) for verb in verbs]
    count, flat = len(action["ann_id"]), _flat(action["role_object_id"])
    if not len(action["image_id"]) == len(action["label"]) == count or len(flat) != count * (len(roles) + 1):
        raise HoiError(f"the lists of action {name!r} have different lengths")
    for i in range(count):
        image = images.get(action["image_id"][i])
        if image is None or not action["label"][i]:
            continue
        human = image.rows.get(action["ann_id"][i])
        if human is None:
            detail = f"{name}: COCO has no annotation {action['ann_id'][i]} of a person here"
            content.defects.append(Defect("id out of range", image.file_name, image.at, "pair", i, detail))
            continue
        if not roles:
            image.pairs.append((human, -1))
            image.verb_ids.append(verb_ids[0])
        for role, verb_id in enumerate(verb_ids if roles else [], 1):
            annotation_id = flat[role * count + i]
            if annotation_id and annotation_id not in image.rows:
                detail = f"{name}: COCO has no annotation {annotation_id} of an object here"
                content.defects.append(Defect("id out of range", image.file_name, image.at, "pair", i, detail))
                continue
            image.pairs.append((human, image.rows[annotation_id] if annotation_id else -1))
            image.verb_ids.append(verb_id)


def _flat(values: Sequence[Any]) -> list[int]:
    """Role-major ids; the official reader's (N, roles) nesting is undone where a file has it."""
    if values and isinstance(values[0], list):
        return [int(row[role]) for role in range(len(values[0])) for row in values]
    return [int(v) for v in values]


def _numbers(actions: Sequence[Any], key: str, path: Path) -> list[int]:
    try:
        return sorted({int(number) for action in actions for number in action[key]})
    except (KeyError, TypeError, ValueError) as error:
        raise HoiError(f"{path}: is not the official V-COCO lists ({error!r}); download it again") from error


def _json(path: Path, kind: type, what: str) -> Any:
    data = parse_json(read_json_text(path), path)
    if not isinstance(data, kind):
        raise HoiError(f"{path}: is not {what}; give the file of the official release")
    return data
