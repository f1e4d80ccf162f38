"""Find image files and read them, upright RGB whatever their mode."""

from __future__ import annotations

import glob
import io
import os
import stat
import struct
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from hoiclip.errors import HoiError, first_line
from hoiclip.published import LONGEST_EDGE, SHORTEST_EDGE

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")  # no EPS: it starts programs
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm",
     ".jp2", ".j2k", ".avif", ".heic", ".heif", ".hif", ".jxl", ".psd",
     ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"]
)  # fmt: skip
JPEG_FORMATS = ("JPEG", "MPO")
LONGEST_JPEG = 65_500  # pixels
HEIF_SUFFIXES = frozenset([".heic", ".heif", ".hif"])
PASSED_OVER = frozenset(
    [".txt", ".json", ".jsonl", ".odgt", ".xml", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".log", ".ini",
     ".py", ".ipynb", ".sh", ".mat", ".npz", ".npy", ".pkl", ".pth", ".pt", ".safetensors", ".zip", ".tar", ".gz",
     ".pdf", ".db", ".aae", ".xmp", ".lnk"]
)  # fmt: skip  # beside images, and plainly none
_BROKEN_EXIF = (SyntaxError, ValueError, TypeError, KeyError, struct.error)  # in a sound image


def find_images(sources: Iterable[str | Path], also: Callable[[Path], bool] = lambda path: False) -> list[Path]:
    """Find image files named directly, by folder, or by a pattern with ``*``, in order, each once.

    ``**`` in a pattern stands for folders of any depth; links are followed, but each real folder is looked into once.
    A name that does not exist stays in the list, so that it is reported where it is read; so does a file of a
    folder that is an image by name, whether it can be read or not.  Files of other names are images if they
    begin like one; what is neither, nor plainly something else (:data:`PASSED_OVER`), is counted on stderr.

    Args:
        sources: names.
        also: says which other files of a folder are wanted too, such as videos.

    Raises:
        HoiError: if a folder cannot be read or holds no images, or a pattern matches nothing.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if os.path.isdir(source):
            found += _images_of(source, also)
        elif glob.has_magic(str(source)) and not os.path.exists(source):
            matches = sorted(Path(p) for p in _matching(str(source)) if os.path.isfile(p))
            if not matches:
                raise HoiError(f"{source}: nothing matches this pattern; check the path")
            found += matches
        else:
            found.append(source)
    return list(dict.fromkeys(found))


def _matching(pattern: str) -> list[str]:
    """Files that a pattern names; a folder that exists by its name, brackets and all, is meant literally."""
    parent, name = os.path.split(pattern)
    if glob.has_magic(parent) and os.path.isdir(parent):
        parent = glob.escape(parent)
    parts = Path(parent, name).parts
    if "**" not in parts:
        return glob.glob(os.path.join(parent, name))
    first = parts.index("**")
    below = parts[first + 1 :] or ("*",)
    folders = [f for start in sorted(glob.glob(str(Path(*parts[:first])))) for f in _folders_below(start)]
    return [path for folder in folders for path in _matching(os.path.join(glob.escape(folder), *below))]


def _folders_below(start: str) -> Iterator[str]:
    """A folder and those below it, links followed, each real one once, however links lead back to it; none hidden."""
    seen = {os.path.realpath(start)}
    line = deque([start])
    while line:
        folder = line.popleft()
        yield folder
        try:
            inside = sorted(entry.path for entry in os.scandir(folder) if entry.name[0] != "." and entry.is_dir())
        except OSError:  # as glob does
            continue
        for path in sorted(inside, key=os.path.islink):  # by its own name rather than a link's
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                line.append(path)


def _images_of(folder: Path, also: Callable[[Path], bool]) -> list[Path]:
    """The images of a folder; hidden files are what other programs left there."""
    try:
        inside = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and not p.is_dir())
    except OSError as error:
        raise HoiError(f"{folder}: the folder cannot be read ({error.strerror}); check permissions") from error
    images = [p for p in inside if p.suffix.lower() in SUFFIXES or also(p) or _begins_like_an_image(p)]
    others = [p.name for p in inside if p not in set(images) and p.suffix.lower() not in PASSED_OVER]
    if others:
        named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        files = "1 file was" if len(others) == 1 else f"{len(others)} files were"
        print(f"hoiclip: {folder}: {files} not looked at, being no images: {named}", file=sys.stderr)
    if not images:
        raise HoiError(f"{folder}: no images in this folder; give one with JPEG, PNG or the like")
    return images


def _begins_like_an_image(path: Path) -> bool:
    if path.suffix.lower() in PASSED_OVER or not path.is_file():
        return False
    try:
        with Image.open(path, formats=_formats()):
            return True
    except Exception:  # Pillow's readers raise many kinds
        return False


def load_image(path: str | Path) -> Image.Image:
    """Load an image as upright RGB, whatever its mode; the first frame of an animation.

    Raises:
        HoiError: if the file is missing, empty, truncated, no image, or too large to be decoded.
    """
    with _opened(path) as image:
        upright = to_rgb(image)
        return upright.copy() if upright is image else upright  # free of the file


def decode_image(content: bytes, name: str) -> Image.Image:
    """An encoded image as :func:`load_image` gives one from a file.

    Args:
        content: of an image file.
        name: for what is told.

    Raises:
        HoiError: as :func:`load_image`.
    """
    with _opened(name, content) as image:
        return to_rgb(image).copy()


def declared_pixels(path: str | Path, content: bytes | None = None) -> int:
    """How many pixels an image says it has, from its first bytes alone; 0 where :func:`load_image` would complain."""
    try:
        with _opened(path, content) as image:
            return image.width * image.height
    except HoiError:
        return 0


def load_reduced(path: str | Path, shortest_edge: int, longest_edge: int) -> tuple[Image.Image, tuple[int, int]]:
    """Load an image as :func:`load_image`, but decode a large JPEG at 1/2, 1/4 or 1/8, never below the detector's size.

    Faster, and close to the whole image resized, not equal to it.

    Returns:
        The image, and (height, width) of the whole one, upright.

    Raises:
        HoiError: as :func:`load_image`.
    """
    with _opened(path) as image:
        width, height = image.size
        wanted = resized_size((height, width), shortest_edge, longest_edge)
        image.draft(None, wanted[::-1])  # type: ignore[arg-type]
        upright = to_rgb(image)
        if _orientation(image) >= 5:  # lies on its side
            width, height = height, width
        return upright.copy() if upright is image else upright, (height, width)


@contextmanager
def _opened(path: str | Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a file, or its content, with Pillow; whatever goes wrong in the block becomes a HoiError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on size and broken EXIF: neither stops us
            with _open_known_format(Path(path)) if content is None else _open_content(content) as image:
                if image.format in JPEG_FORMATS:
                    _refuse_zeros(path, content)
                yield image
    except HoiError:
        raise
    except FileNotFoundError:
        raise HoiError(f"{path}: no such image; check the path") from None
    except IsADirectoryError:
        raise HoiError(f"{path}: is a folder, not an image; give a file inside it") from None
    except PermissionError:
        raise HoiError(f"{path}: may not be read; check its permissions") from None
    except UnidentifiedImageError:
        if Path(path).suffix.lower() in HEIF_SUFFIXES:
            way = "pillow-heif cannot read it:" if _heif_can_be_read() else "pip install 'hoiclip[heic]', or"
            raise HoiError(f"{path}: is a HEIC image: {way} convert it to JPEG") from None
        size = len(content) if content is not None else Path(path).stat().st_size
        what = "is empty" if size == 0 else "is no image that can be read"
        raise HoiError(f"{path}: {what}; give a JPEG, PNG, WebP or the like") from None
    except Image.DecompressionBombError:
        raise HoiError(f"{path}: has too many pixels to be decoded safely; make it smaller first") from None
    except MemoryError:
        raise HoiError(f"{path}: does not fit into memory; make it smaller first") from None
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise HoiError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        reason = first_line(error)
        raise HoiError(f"{path}: is damaged and cannot be decoded ({reason}); copy it again") from error


def _open_known_format(path: Path) -> Image.Image:
    """Open a file with those of Pillow's readers that only read; HEIC with pillow-heif, where it is installed."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
        if os.path.isdir(path):
            raise IsADirectoryError
        raise HoiError(f"{path}: is no file but a pipe or a device; save the image first")
    if path.suffix.lower() in HEIF_SUFFIXES and _heif_can_be_read():
        return Image.open(path, formats=(*_formats(), "HEIF"))
    return Image.open(path, formats=_formats())


def _open_content(content: bytes) -> Image.Image:
    formats = (*_formats(), "HEIF") if _heif_can_be_read() else _formats()
    return Image.open(io.BytesIO(content), formats=formats)


@cache
def _formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def _heif_can_be_read() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def to_rgb(image: Image.Image, *, turn: bool = True) -> Image.Image:
    """Convert any Pillow image to upright 8-bit RGB; one that is so already comes back itself.

    EXIF rotation applied (unless ``turn`` is False), transparency on white, 16-bit and floating point
    scaled to 8 bits, CMYK, Lab, grey and palettes converted.
    """
    if turn:
        image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = 255.0 if pixels.max(initial=0) <= 255 else 65535.0
        if image.mode == "F" and pixels.max(initial=0) <= 1:
            top = 1.0
        image = Image.fromarray(np.clip(pixels / top * 255, 0, 255).round().astype(np.uint8))
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def as_image(image: Image.Image | np.ndarray) -> Image.Image:
    """Make a Pillow image from itself or from an (h, w), (h, w, 3) or (h, w, 4) uint8 array.

    Raises:
        HoiError: if it is anything else, or holds no pixels.
    """
    if isinstance(image, Image.Image):
        return image
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise HoiError(f"an array of shape {pixels.shape} and type {pixels.dtype} is no image: give (h, w, 3) uint8")
    if not pixels.size:
        raise HoiError(f"an array of shape {pixels.shape} holds no pixels: give (h, w, 3) uint8")
    return Image.fromarray(pixels)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    except _BROKEN_EXIF:
        return image


def _orientation(image: Image.Image) -> int:
    """EXIF's 1 to 8; 1 is upright, from 5 on the image lies on its side."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN_EXIF:
        return 1


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image, smaller where a side is longer than a JPEG's may be.  Raises HoiError if it cannot be written."""
    from hoiclip.files import atomic_path

    if max(image.size) > LONGEST_JPEG:
        image = image.copy()
        image.thumbnail((LONGEST_JPEG, LONGEST_JPEG))
    with atomic_path(path) as temporary:
        image.save(temporary, quality=92)


def load_annotated_image(path: str | Path, size: tuple[int, int] | None, *, stored: bool = True) -> Image.Image:
    """Load an image as RGB in the frame that its boxes were drawn in.

    A camera stores a photo as its sensor lies and says in an EXIF tag how to turn it.  Boxes were drawn in the frame
    whose size the annotation gives.

    Args:
        path: the image file.
        size: annotated (height, width), or None.
        stored: where the size does not tell, boxes belong to the pixels as they are stored, as in the published
            datasets; otherwise such an image is refused.

    Raises:
        HoiError: missing or damaged image, or a frame that nothing tells.
    """
    with _opened(path) as image:
        found = to_rgb(image, turn=_turn_to_boxes(path, image, size, stored))
        return found.copy() if found is image else found


def check_annotated_image(path: str | Path, size: tuple[int, int] | None, *, stored: bool = True) -> None:
    """Tell quickly what :func:`load_annotated_image` would not load; same arguments.

    A JPEG is not decoded where it ends as it should: what a download or a copy cut off has another end.

    Raises:
        HoiError: as :func:`load_annotated_image`.
    """
    with _opened(path) as image:
        _turn_to_boxes(path, image, size, stored)
        if not (image.format in JPEG_FORMATS and _ends_as_jpeg(Path(path))):
            image.load()


def _refuse_zeros(path: str | Path, content: bytes | None = None) -> None:
    """Tell a JPEG whose rest was never copied: space was reserved for it, and decoders show grey for the zeros."""
    if content is None:
        with Path(path).open("rb") as file:
            file.seek(-min(512, Path(path).stat().st_size), os.SEEK_END)
            if file.read().strip(b"\0"):
                return
            file.seek(0)
            content = file.read()
    # no end of the image after the last start of a scan
    if not content[-512:].strip(b"\0") and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        raise HoiError(f"{path}: is damaged: its last part holds zeros instead of the image; copy it again")


def _ends_as_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        return file.read().rstrip(b"\0\r\n ").endswith(b"\xff\xd9")  # end of image; some programs pad it


def _turn_to_boxes(path: str | Path, image: Image.Image, size: tuple[int, int] | None, stored: bool) -> bool:
    """Whether an image must be turned upright to lie as its boxes do.  Raises HoiError where nothing tells."""
    as_stored, upright = _frames(image)
    turned = _orientation(image) != 1
    if turned and not stored and (as_stored == upright or size not in (as_stored, upright)):
        given = "no width and height" if size is None else "a width and height that do not tell"
        raise HoiError(
            f"{path}: has an EXIF tag that turns it, and its annotation gives {given}, so it is unknown whether "
            "its boxes were drawn before or after; turn the image and drop the tag, or annotate its size"
        )
    return turned and as_stored != upright and size == upright


def decoded_frames(path: str | Path) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """(height, width) of an image that can be decoded whole, as stored; and upright, None where no tag turns it.

    Raises:
        HoiError: as :func:`load_image`.
    """
    with _opened(path) as image:
        image.load()
        as_stored, upright = _frames(image)
        return as_stored, upright if _orientation(image) != 1 else None


def declared_frames(path: str | Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of an image as stored and upright, by its header alone.

    Raises:
        HoiError: as :func:`load_image`.
    """
    with _opened(path) as image:
        return _frames(image)


def _frames(image: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) as stored, and upright."""
    size = image.height, image.width
    return size, size[::-1] if _orientation(image) >= 5 else size


def resized_size(
    size: tuple[int, int], shorter: int = SHORTEST_EDGE, longest: int | None = LONGEST_EDGE
) -> tuple[int, int]:
    """The size an image is resized to, by DETR's rule.

    Args:
        size: (height, width) in pixels.
        shorter: wanted length of the shorter side.
        longest: the longer side stays within this many pixels; None for no limit.

    Returns:
        (height, width).  The shorter side is rounded (half to even) where the limit shortens it,
        the longer side truncated.
    """
    short, long = min(size), max(size)
    if longest is not None and long / short * shorter > longest:
        shorter = round(longest * short / long)
        if not shorter:  # a sliver that rounding would make vanish
            return (1, longest) if size[0] == short else (longest, 1)
    if short == shorter:
        return size
    height, width = size
    if width < height:
        return int(shorter * height / width), shorter
    return shorter, int(shorter * width / height)
