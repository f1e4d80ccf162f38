"""Where the files of a dataset lie, whatever folder layout a user has."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

DEPTH = 4  # how far below the root files are looked for


@dataclass(frozen=True)
class DatasetLayout:
    """A dataset found on disk.

    Attributes:
        kind: ``"hicodet"``, ``"vcoco"`` or ``"custom"``.
        root: where it was looked for.
        vocabulary: its label space.
        annotations: annotation file by split; one file may serve several splits.
        images: image folders by split, those that were found; an image is in one of them.
        companions: further files that reading needs, by role (V-COCO: COCO instances, split ids).
    """

    kind: str
    root: Path
    vocabulary: HoiVocabulary
    annotations: dict[str, Path]
    images: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    companions: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def source(self, split: str) -> Path:
        """The annotation file of a split.

        Raises:
            HoiError: if the dataset has no such split; the message lists those it has.
        """
        if split not in self.annotations:
            raise HoiError(f"{self.root}: has no split {split!r}: choose one of {', '.join(self.annotations)}")
        return self.annotations[split]

    def image(self, split: str, file_name: str) -> Path | None:
        """The path of an image, None where it is missing or its name leads out of the folder."""
        if leaves_folder(file_name):
            return None
        for folder in self.images.get(split, ()):
            if os.path.isfile(folder / file_name):
                return folder / file_name
        return None


def leaves_folder(file_name: str) -> bool:
    """Whether a file name leads out of the folder it is relative to: absolute, a drive, or with ``..``."""
    path = PureWindowsPath(file_name)  # knows both kinds of slashes
    return bool(path.anchor) or ".." in path.parts or "\0" in file_name


def existing_folder(root: str | Path) -> Path:
    """``root`` as a path.

    Raises:
        HoiError: if it is not a folder.
    """
    root = Path(root)
    if not os.path.isdir(root):
        raise HoiError(f"{root}: no such folder; give the folder that holds the dataset")
    return root


def find_files(root: Path, names: Collection[str]) -> dict[str, Path]:
    """The shallowest file of each name at or below ``root``; ``name.gz`` answers for ``name``."""
    found: dict[str, Path] = {}
    for folder, _, files in _levels(root):
        for file in files:
            name = file.removesuffix(".gz")
            if name in names and name not in found:
                found[name] = Path(folder, file)
    return found


def find_folders(root: Path, names: Collection[str]) -> dict[str, Path]:
    """The shallowest folder of each name below ``root``."""
    found: dict[str, Path] = {}
    for folder, folders, _ in _levels(root):
        for name in folders:
            if name in names and name not in found:
                found[name] = Path(folder, name)
    return found


def _levels(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Breadth first, sorted, hidden folders left out."""
    level = [str(root)]
    for _ in range(DEPTH):
        deeper: list[str] = []
        for folder in level:
            try:
                entries = list(os.scandir(folder))
            except OSError:
                continue
            folders = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
            files = sorted(e.name for e in entries if e.is_file())
            yield folder, folders, files
            deeper += [os.path.join(folder, name) for name in folders]
        level = deeper
