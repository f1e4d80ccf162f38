"""Open any dataset: a folder, or a single annotation file.

source = open_dataset("data/hicodet")            # or "data/vcoco", "my_data", "test_hico.json"
samples = source.samples("train")                # (image, annotation) by index
image, annotation = source.sample("test", "HICO_test2015_00000001.jpg")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.content import HoiaContent, accepted, without_out_of_range
from hoiclip.data.custom import VOCABULARY_FILES, find_custom
from hoiclip.data.hicodet import INSTANCES, MAT_FILE, find_hicodet, read_anno_bbox
from hoiclip.data.hoia import parse_hoia
from hoiclip.data.json_files import parse_json, read_json_text
from hoiclip.data.layout import DatasetLayout
from hoiclip.data.samples import ImageFolder
from hoiclip.data.vcoco import OFFICIAL_FILES, find_vcoco, official_parts, read_official
from hoiclip.data.vcoco_ground_truth import VcocoImage, load_vcoco_ground_truth
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

FINDERS = {"custom": find_custom, "hicodet": find_hicodet, "vcoco": find_vcoco}


@dataclass(frozen=True)
class Dataset:
    """An opened dataset: its files, read split by split."""

    files: DatasetLayout
    box_format: str | None = None

    @property
    def kind(self) -> str:
        """``"hicodet"``, ``"vcoco"`` or ``"custom"``."""
        return self.files.kind

    @property
    def vocabulary(self) -> HoiVocabulary:
        return self.files.vocabulary

    @property
    def splits(self) -> list[str]:
        return list(self.files.annotations)

    def load(self, split: str) -> list[AnnotatedImage]:
        """All annotated images of a split.

        Raises:
            HoiError: damaged file, or the first id or box that is wrong.
        """
        content, text = self._read(split)
        return accepted(content, self.files.source(split), text)

    def load_usable(self, split: str) -> tuple[list[AnnotatedImage], int]:
        """The images of a split that name nothing that does not exist, and how many were left out for it.

        Raises:
            HoiError: damaged file, or a box that is not four finite numbers.
        """
        content, text = self._read(split)
        usable, left_out = without_out_of_range(content)
        return accepted(usable, self.files.source(split), text), left_out

    def read(self, split: str) -> HoiaContent:
        """A split and everything wrong with it; raises HoiError only where nothing can be read."""
        return self._read(split)[0]

    def _read(self, split: str) -> tuple[HoiaContent, str]:
        """A split, and the text of its file where that is JSON."""
        path = self.files.source(split)
        if self._official(path):
            return (read_official(self.files, split) if self.kind == "vcoco" else read_anno_bbox(path, split)), ""
        text = read_json_text(path)
        return parse_hoia(parse_json(text, path), self.vocabulary, path, box_format=self.box_format), text

    def in_json_form(self, split: str) -> bool:
        """Whether a split is read from the JSON form, not from a release of the dataset's authors or its copy."""
        path = self.files.source(split)
        return not self._official(path) and path.name.removesuffix(".gz") not in INSTANCES.values()

    def _official(self, path: Path) -> bool:
        """Whether this is a release of the dataset's authors, not the JSON form."""
        names = {"hicodet": [MAT_FILE], "vcoco": list(OFFICIAL_FILES.values())}.get(self.kind, [])
        return path.name.removesuffix(".gz") in names and (self.kind != "vcoco" or bool(self.files.companions))

    def official_vcoco(self, split: str) -> tuple[list[Any], dict[str, list[dict[str, Any]]], list[int] | None] | None:
        """V-COCO's own lists, COCO boxes and ids of a split, or None where only the JSON form is there.

        Raises:
            HoiError: a damaged file.
        """
        if self.kind != "vcoco" or not self._official(self.files.source(split)):
            return None
        return official_parts(self.files, split)

    def samples(self, split: str, annotations: Sequence[AnnotatedImage] | None = None) -> ImageFolder:
        """Images and annotations of a split, or of a training view of it.

        Raises:
            HoiError: as :meth:`load`, or no image folder was found.
        """
        self.files.source(split)
        folders = self.files.images.get(split)
        if not folders:
            raise HoiError(f"{self.files.root}: the images of split {split!r} are not there; docs/data.md shows where")
        found = self.load(split) if annotations is None else annotations
        return ImageFolder(found, folders, stored=self.kind != "custom")  # published datasets know no EXIF

    def sample(self, split: str | None, which: int | str) -> tuple[Image.Image, AnnotatedImage]:
        """One image and its annotation, for ``hoiclip data show``.

        Args:
            split: None for the first the dataset has.
            which: position in the split or file name.

        Raises:
            HoiError: no such image.
        """
        split = split or self.splits[0]
        samples = self.samples(split)
        names = [annotation.file_name for annotation in samples.annotations]
        if isinstance(which, str) and which in names:
            which = names.index(which)
        if (isinstance(which, str) and not which.isdecimal()) or not 0 <= int(which) < len(names):
            raise HoiError(
                f"{self.files.root}: split {split!r} has no image {which!r}: give 0..{len(names) - 1} or a file name"
            )
        return samples[int(which)]


def open_dataset(
    source: str | Path,
    *,
    kind: str | None = None,
    vocabulary: HoiVocabulary | str | Path | None = None,
    images: str | Path | None = None,
    box_format: str | None = None,
) -> Dataset:
    """Open a dataset folder of any known layout, or a single annotation file.

    Args:
        source: folder, ``.json[.gz]`` in the JSON form, or ``anno_bbox.mat``.
        kind: ``"hicodet"``, ``"vcoco"`` or ``"custom"``; None finds out.
        vocabulary: instead of the dataset's own; a single file's own is a vocabulary.yaml beside it, else HICO-DET's.
        images: image folder, instead of the one found beside the annotations.
        box_format: ``"xyxy"`` or ``"xywh"`` for the JSON form; None takes what the file says.

    Raises:
        HoiError: nothing known there.
    """
    source = Path(source)
    files = _single_file(source, vocabulary) if os.path.isfile(source) else _folder(source, kind)
    own = files.vocabulary if vocabulary is None else HoiVocabulary.coerce(vocabulary)
    folders = files.images
    if images is not None:
        if not os.path.isdir(images):
            raise HoiError(f"{images}: no such image folder")
        folders = dict.fromkeys(files.annotations, (Path(images),))
    return Dataset(DatasetLayout(files.kind, files.root, own, files.annotations, folders, files.companions), box_format)


def _single_file(path: Path, vocabulary: HoiVocabulary | str | Path | None) -> DatasetLayout:
    beside = [path.with_name(name) for name in VOCABULARY_FILES if path.name != MAT_FILE]
    usual = next((file for file in beside if os.path.isfile(file)), "hico")
    own = HoiVocabulary.coerce(vocabulary if vocabulary is not None else usual)
    kind = {"hico": "hicodet", "vcoco": "vcoco"}.get(own.name.split("_")[0], "custom")
    if path.name == MAT_FILE:
        return DatasetLayout(kind, path, own, {"train": path, "test": path})
    name = path.name.removesuffix(".gz").removesuffix(".json")
    words = [word.rstrip("0123456789") for word in name.replace("-", "_").split("_")]
    split = next((s for s in ("trainval", "train", "val", "validation", "test") if s in words), name)
    split = "train" if (kind, split) == ("hicodet", "trainval") else split
    return DatasetLayout(kind, path, own, {split: path})


def _folder(root: Path, kind: str | None) -> DatasetLayout:
    if kind is not None:
        if kind not in FINDERS:
            raise HoiError(f"unknown kind of dataset {kind!r}: choose one of {', '.join(FINDERS)}")
        return FINDERS[kind](root)
    if not os.path.isdir(root):
        raise HoiError(f"{root}: no such file or folder; give a dataset folder or an annotation file")
    for find in FINDERS.values():
        try:
            return find(root)
        except HoiError as error:
            complaint = error
            if find is find_custom and any(
                os.path.exists(root / name) for name in ("vocabulary.yaml", "vocabulary.yml")
            ):
                raise
    raise HoiError(
        f"{root}: holds no HICO-DET, V-COCO or custom dataset; docs/data.md shows the layouts"
    ) from complaint


def people_of(dataset: Dataset, split: str, images: Sequence[AnnotatedImage]) -> Sequence[VcocoImage | AnnotatedImage]:
    """The V-COCO ground truth of these images: all people, also those who do nothing.

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
