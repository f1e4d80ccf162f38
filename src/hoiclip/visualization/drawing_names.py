"""Where the drawings of many images go."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from hoiclip.errors import HoiError

LONGEST_STEM = 240  # bytes, of a drawing's name: file systems take 255, and a number may follow


def drawing_paths(images: Sequence[Path | str], out: Path, suffix: str = ".jpg") -> dict[Path | str, Path]:
    """Where each drawing goes: the image's own name, made distinct where folders share names.

    Raises:
        HoiError: if one of the images to read would be overwritten.
    """
    originals = {os.path.realpath(image): image for image in images}
    names: dict[Path | str, Path] = {}
    taken: set[str] = set()
    for image in images:
        stem = image.stem if isinstance(image, Path) else Path(urllib.parse.urlsplit(image).path).stem or "image"
        while len(os.fsencode(stem)) > LONGEST_STEM:
            stem = stem[:-1]
        name, number = f"{stem}{suffix}", 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}{suffix}", number + 1
        taken.add(name.lower())
        names[image] = out / name
        if os.path.realpath(out / name) in originals:
            raise HoiError(f"{out / name}: would be overwritten by its own drawing; use another --out")
    return names
