"""Your own images: a folder with a vocabulary, annotations in the JSON form, and images.

    my_data/
        vocabulary.yaml          # see HoiVocabulary.from_yaml
        train.json  test.json    # any of train, validation, test; or one annotations.json
        images/                  # or images/train, images/test

In the JSON form (``hoia.py``) names may stand where the published files have numbers::

    {"file_name": "a.jpg",
     "annotations": [{"bbox": [10, 20, 110, 220], "category_id": "person"},
                     {"bbox": [15, 120, 90, 240], "category_id": "unicycle"}],
     "hoi_annotation": [{"subject_id": 0, "object_id": 1, "category_id": "ride"}]}

Numbers count from 1 in the order of the vocabulary.  Boxes are ``[x1, y1, x2, y2]`` pixels; for COCO's
``[x, y, width, height]`` wrap the list: ``{"box_format": "xywh", "images": [...]}``.
"""

from __future__ import annotations

import os
from pathlib import Path

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.hoia import load_hoia
from hoiclip.data.layout import DatasetLayout, existing_folder
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

SPLITS = ("train", "validation", "test", "annotations")
VOCABULARY_FILES = ("vocabulary.yaml", "vocabulary.yml")


def find_custom(root: str | Path) -> DatasetLayout:
    """Read the layout of a folder of your own.

    Raises:
        HoiError: no such folder, or no vocabulary or annotation file in it.
    """
    root = existing_folder(root)
    vocabulary = next((root / name for name in VOCABULARY_FILES if os.path.isfile(root / name)), None)
    if vocabulary is None:
        raise HoiError(f"{root}: holds no vocabulary.yaml; docs/data.md shows one")
    annotations: dict[str, Path] = {}
    for split in SPLITS:
        for path in (root / f"{split}.json", root / f"{split}.json.gz"):
            if os.path.isfile(path):
                annotations.setdefault(split, path)
    if not annotations:
        raise HoiError(f"{root}: holds no {', '.join(f'{s}.json' for s in SPLITS)}; docs/data.md shows one")
    images = {}
    for split in annotations:
        folders = (root / "images" / split, root / "images", root)
        images[split] = tuple(folder for folder in folders if os.path.isdir(folder))
    return DatasetLayout("custom", root, HoiVocabulary.from_yaml(vocabulary), annotations, images)


def load_custom(root: str | Path, split: str = "train", *, box_format: str | None = None) -> list[AnnotatedImage]:
    """The annotated images of one split of a folder of your own.

    Args:
        root: laid out as above.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"annotations"``.
        box_format: ``"xyxy"`` or ``"xywh"``; None takes what the file says, else xyxy.

    Raises:
        HoiError: see :func:`find_custom` and :func:`load_hoia`.
    """
    folder = find_custom(root)
    return load_hoia(folder.source(split), folder.vocabulary, box_format=box_format)
