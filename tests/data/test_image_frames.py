"""Boxes belong to the frame that the annotation gives: photos that an EXIF tag turns, and files that do not decode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from hoiclip.cli import main
from hoiclip.data import AnnotatedImage, ImageFolder, check, open_dataset, save_hoia
from hoiclip.errors import HoiError
from hoiclip.images import load_image
from hoiclip.vocabulary import HoiVocabulary

WORDS = HoiVocabulary.from_words("ride horse")
STORED, UPRIGHT = (30, 40), (40, 30)  # (height, width)


def photo(path: Path, orientation: int = 6) -> Path:
    """A photo that lies on its side in the file; its first stored row is red."""
    pixels = np.zeros((*STORED, 3), dtype=np.uint8)
    pixels[:4] = 255, 0, 0
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
    return path


def annotation(size: tuple[int, int] | None) -> AnnotatedImage:
    return AnnotatedImage("a.jpg", [[1, 1, 9, 9], [5, 5, 20, 20]], [0, 1], [[0, 1]], [0], size)


def world(folder: Path, size: tuple[int, int] | None, orientation: int = 6) -> Path:
    (folder / "images").mkdir()
    WORDS.save(folder)
    (folder / "vocabulary.yaml").write_text("verbs: [ride]\nobjects: [person, horse]\npairs: [ride horse]\n")
    save_hoia([annotation(size)], folder / "test.json", HoiVocabulary.from_yaml(folder / "vocabulary.yaml"))
    photo(folder / "images" / "a.jpg", orientation)
    return folder


@pytest.mark.parametrize(("size", "red"), [(UPRIGHT, "right"), (STORED, "top")])
def test_the_frame_of_a_turned_photo_follows_the_annotated_size(
    size: tuple[int, int], red: str, tmp_path: Path
) -> None:
    image, _ = open_dataset(world(tmp_path, size)).sample("test", 0)
    assert (image.height, image.width) == size
    assert image.getpixel((size[1] - 2, 20) if red == "right" else (20, 1))[0] > 200
    if size == UPRIGHT:  # as detect sees it
        assert image.tobytes() == load_image(tmp_path / "images" / "a.jpg").tobytes()


@pytest.mark.parametrize(("size", "orientation"), [(None, 6), (UPRIGHT, 3), ((99, 98), 8)])
def test_a_frame_that_nothing_tells_is_refused_for_own_data(
    size: tuple[int, int] | None, orientation: int, tmp_path: Path
) -> None:
    if orientation == 3:
        size = STORED  # upside down has the same size
    with pytest.raises(HoiError, match=r"a\.jpg: has an EXIF tag that turns it.*drop the tag, or annotate its size"):
        open_dataset(world(tmp_path, size, orientation)).sample("test", 0)


def test_published_datasets_mean_the_pixels_as_stored(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    image, _ = ImageFolder([annotation(None)], tmp_path)[0]
    assert (image.height, image.width) == STORED
    assert image.getpixel((20, 1))[0] > 200


@pytest.mark.parametrize(
    ("size", "detail"), [(None, "does not tell whether"), (UPRIGHT, "boxes are taken upright, by the annotated size")]
)
def test_data_check_names_turned_photos(size: tuple[int, int] | None, detail: str, tmp_path: Path) -> None:
    (defect,) = [d for s in check(world(tmp_path, size)).splits for d in s.defects]
    assert (defect.kind, defect.file_name) == ("turned by EXIF", "a.jpg")
    assert detail in defect.detail


def damaged() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[:-400]


def bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"), [(damaged(), "is damaged"), (bomb(), "too many pixels"), (b"", "empty")]
)
def test_data_check_and_show_decode_what_they_check(
    content: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = world(tmp_path, UPRIGHT)
    (root / "images" / "a.jpg").write_bytes(content)
    (defect,) = [d for s in check(root).splits for d in s.defects]
    assert defect.kind == "unreadable image"
    assert reason in defect.detail
    assert main(["data", "show", str(root), "0", "--out", str(tmp_path / "out.png")]) == 2
    assert reason in capsys.readouterr().err
