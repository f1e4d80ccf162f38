"""A folder of drawings as one web page that needs no server: filter, sort, enlarge."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from hoiclip.errors import HoiError
from hoiclip.files import ASSETS, atomic_path, write_text_atomic

PAGE = "index.html"
THUMBNAILS = "thumbnails"
LARGEST = 320  # pixels of a thumbnail's longer side
AT_ONCE = 4  # thumbnails


@dataclass(frozen=True)
class GalleryImage:
    """An image of the page.

    Attributes:
        name: as it is shown.
        drawing: in the folder of the page.
        triplets: (verb, object, interaction, score) in words, best first.
    """

    name: str
    drawing: Path
    triplets: Sequence[tuple[str, str, str, float]]


def write_gallery(folder: Path, images: Iterable[GalleryImage], *, progress: bool = True) -> Path:
    """Write ``index.html`` and thumbnails beside the drawings.

    Args:
        folder: of the drawings.
        images: in the order of the page.
        progress: show a bar.

    Returns:
        The page.

    Raises:
        HoiError: if a drawing cannot be read, or the folder not written to.
    """
    listed = list(images)
    numbers: dict[str, dict[str, int]] = {"verbs": {}, "objects": {}, "names": {}}

    def number(kind: str, word: str) -> int:
        return numbers[kind].setdefault(word, len(numbers[kind]))

    rows = []
    for image, small in zip(listed, _thumbnails(folder, listed, progress), strict=True):
        found = [
            [number("verbs", verb), number("objects", thing), number("names", name), round(score, 4)]
            for verb, thing, name, score in image.triplets
        ]
        rows.append([image.name, _address(image.drawing.relative_to(folder)), _address(small), found])
    data = json.dumps({**{kind: list(words) for kind, words in numbers.items()}, "images": rows})
    page = (ASSETS / "gallery.html").read_text(encoding="utf-8")
    # no word of a file can end the script
    write_text_atomic(folder / PAGE, page.replace("/*DATA*/", data.replace("<", "\\u003c")))
    return folder / PAGE


def _thumbnails(folder: Path, images: Sequence[GalleryImage], progress: bool) -> Iterator[Path]:
    """The thumbnail of each image, relative to the folder; made where it is missing or older than the drawing."""
    (folder / THUMBNAILS).mkdir(parents=True, exist_ok=True)

    def made(image: GalleryImage) -> Path:
        small = Path(THUMBNAILS) / image.drawing.name
        target = folder / small
        try:
            if not (target.is_file() and target.stat().st_mtime >= image.drawing.stat().st_mtime):
                with Image.open(image.drawing) as drawing, atomic_path(target) as unfinished:
                    drawing.thumbnail((LARGEST, LARGEST))
                    drawing.convert("RGB").save(unfinished, "JPEG", quality=80)
        except OSError as error:
            raise HoiError(f"{image.drawing}: cannot be shown in the gallery ({error}); detect it again") from error
        return small

    with ThreadPoolExecutor(AT_ONCE) as pool:
        bar = tqdm(pool.map(made, images), desc="gallery", total=len(images), unit="img", leave=False,
                   disable=None if progress else True)  # fmt: skip
        yield from bar


def _address(path: Path) -> str:
    return urllib.parse.quote(path.as_posix())
