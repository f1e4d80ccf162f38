"""What can be had by name: models and data, what is known of each, and where in the cache it lies.

    for entry in zoo().values():
        print(entry.name, entry.figures, entry.cached())

The cache is ``HOICLIP_HOME``, else the system's folder for caches.  Whatever has its place there is
complete: it appears by one renaming.  Nothing here asks the network.
"""

from __future__ import annotations

import csv
import difflib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from hoiclip.errors import HoiError
from hoiclip.files import ASSETS

TABLE = ASSETS / "model_zoo.tsv"
NOWHERE = "-"  # in the table: does not apply
DETECTING, START, DATA = ("hoiclip", "gen-vlkt"), "detr", "data"  # kinds of entries
LIKE = 0.7  # how alike a slip is to the name that is meant, 0..1


@dataclass(frozen=True)
class ZooEntry:
    """A line of the table.

    Attributes:
        name: what it is asked for by.
        kind: ``hoiclip``, ``gen-vlkt``, ``detr`` (a start for training), ``training-free`` or ``data``.
        vocabulary: what it was trained on.
        backbone, layers: of its detector, and how many decoder layers that has.
        figures: as published, mAP in percent.
        licence: of the repository that offers it; ``none stated`` where that says nothing.
        page: where it comes from.
        address: of its file.
    """

    name: str
    kind: str
    vocabulary: str
    backbone: str
    layers: str
    figures: str
    licence: str
    page: str
    address: str

    @property
    def place(self) -> Path:
        """The folder in the cache that holds it, once it is complete."""
        return cache_home() / "models" / self.name

    def cached(self) -> Path | None:
        """The model folder, or the file of a start for training; None where it is still to be fetched."""
        if self.name == "playground":
            return ASSETS / "playground" / "model"
        if not self.place.is_dir():
            return None
        return self.place / f"{self.name}.pth" if self.kind == START else self.place

    def cached_bytes(self) -> int | None:
        """How much room it takes in the cache."""
        found = self.cached()
        if found is None:
            return None
        return sum(file.stat().st_size for file in ([found] if found.is_file() else found.iterdir()))


def cache_home() -> Path:
    """``HOICLIP_HOME``, else the system's folder for caches."""
    return Path(os.environ.get("HOICLIP_HOME") or platformdirs.user_cache_dir("hoiclip")).expanduser()


def zoo() -> dict[str, ZooEntry]:
    """Every entry by its name, in the order of the table."""
    return _read(TABLE)


@cache
def _read(table: Path) -> dict[str, ZooEntry]:
    with table.open(encoding="utf-8", newline="") as file:
        return {row["name"]: ZooEntry(**row) for row in csv.DictReader(file, delimiter="\t")}


def find_entry(name: str) -> ZooEntry:
    """The entry of a name.

    Raises:
        HoiError: there is none; a slip is told.
    """
    entry = zoo().get(name)
    if entry is None:
        raise HoiError(f"{name}: no such name; 'hoiclip models' lists what can be had{did_you_mean(name)}")
    return entry


def entry_named(source: str | Path) -> ZooEntry | None:
    """The entry that ``source`` asks for; None where it is anything else.  What lies here under that name wins."""
    return None if os.path.exists(source) else zoo().get(str(source))


def did_you_mean(source: str | Path) -> str:
    """``; did you mean NAME?`` where ``source`` is nearly a name, else nothing."""
    if set(str(source)) & {"/", os.sep}:  # a path, or an id of the hub
        return ""
    near = difflib.get_close_matches(str(source).lower().replace("_", "-"), zoo(), n=1, cutoff=LIKE)
    return f"; did you mean {near[0]}?" if near else ""
