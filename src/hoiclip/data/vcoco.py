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
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.content import HoiaContent, accepted
from hoiclip.data.hoia import load_hoia
from hoiclip.data.json_files import looks_like, parse_json, read_json_text
from hoiclip.data.layout import DatasetLayout, existing_folder, find_files, find_folders
from hoiclip.data.vcoco_ground_truth import labelled_images, parse_vcoco, read_ids
from hoiclip.errors import HoiError
from hoiclip.vocabulary import NOTHING, HoiVocabulary

SPLITS = ("trainval", "train", "val", "test")
OFFICIAL_FILES = {split: f"vcoco_{split}.json" for split in SPLITS}
JSON_FILES = {split: f"{split}_vcoco.json" for split in SPLITS}
ID_FILES = {split: f"vcoco_{split}.ids" for split in SPLITS}
COCO_2017 = ("instances_train2017.json", "instances_val2017.json")  # other splits and file names: told apart
INSTANCES = ("instances_vcoco_all_2014.json", "instances_train2014.json", "instances_val2014.json")
IMAGE_FOLDERS = ("train2014", "val2014")


def find_vcoco(root: str | Path) -> DatasetLayout:
    """Look for V-COCO at or below ``root``; the official annotation is preferred to the JSON form.

    Raises:
        HoiError: no such folder, or the files named above are not all there.
    """
    root = existing_folder(root)
    wanted = {*OFFICIAL_FILES.values(), *JSON_FILES.values(), *ID_FILES.values(), *INSTANCES, *COCO_2017}
    files = find_files(root, wanted)
    official = {split: files[name] for split, name in OFFICIAL_FILES.items() if name in files}
    hoia = {split: files[name] for split, name in JSON_FILES.items() if name in files}
    extract, *whole = INSTANCES
    instances = [files[extract]] if extract in files else [files[name] for name in whole if name in files]
    if not hoia and not (official and instances):
        missing = "COCO's instances_train2014.json and instances_val2014.json" if official else "vcoco_trainval.json"
        other = next((files[name] for name in COCO_2017 if name in files), None) if official else None
        instead = f", only {other.name}: V-COCO names the images of COCO 2014" if other is not None else ""
        raise HoiError(
            f"{root}: no V-COCO here, {missing} not found{instead}; docs/data.md lists the files and their sources"
        )
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
    wanted = set(ids if ids is not None else labelled_images(actions, path))
    coco: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for file in folder.companions["instances"]:  # half a gigabyte between them: keep only what is needed
        whole = _json(file, dict, "COCO instances")
        try:
            coco["images"] += [image for image in whole["images"] if image["id"] in wanted]
            coco["annotations"] += [box for box in whole["annotations"] if box["image_id"] in wanted]
        except (KeyError, TypeError) as error:
            raise HoiError(f"{file}: is not COCO instances ({error!r} is missing); download it again") from error
    return actions, coco, ids


def join_vcoco(
    actions: Sequence[dict[str, Any]],
    coco: dict[str, Any],
    ids: Iterable[int] | None = None,
    *,
    path: str | Path = "V-COCO",
) -> HoiaContent:
    """The pair form of :func:`hoiclip.data.vcoco_ground_truth.parse_vcoco`, with the same arguments.

    Each label of a person becomes one pair per role of its action; a role without a visible object, and an action
    without roles, has the object -1 and the class "nothing".

    Returns:
        The images; ``unlisted`` counts the pairs whose (verb, object) is not among the 263.

    Raises:
        HoiError: if the lists do not fit together.
    """
    vocabulary = HoiVocabulary.from_name("vcoco")
    nothing = vocabulary.objects.index(NOTHING)
    hois = {pair: k for k, pair in enumerate(vocabulary.interactions)}
    images, defects = parse_vcoco(actions, coco, ids, path=path)
    content = HoiaContent(defects=defects)
    for image in images:
        pairs, verb_ids = image.pairs()
        kinds = [nothing if row < 0 else int(image.object_ids[row]) for row in pairs[:, 1]]
        hoi_ids = [hois.get(label, -1) for label in zip(verb_ids.tolist(), kinds, strict=True)]
        unlisted = hoi_ids.count(-1)
        content.unlisted += unlisted
        content.images.append(
            AnnotatedImage(
                file_name=image.file_name,
                boxes=image.boxes,
                object_ids=image.object_ids,
                pairs=pairs,
                hoi_ids=np.array(hoi_ids, dtype=np.int64),
                size=image.size,
                verb_ids=verb_ids if unlisted else None,
            )
        )
    return content


def _json(path: Path, kind: type, what: str) -> Any:
    data = parse_json(read_json_text(path), path)
    if not isinstance(data, kind):
        raise HoiError(f"{path}: is not {what}{looks_like(data)}; give the file of the official release")
    return data
