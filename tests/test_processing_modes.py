"""Every kind of picture Pillow can open becomes upright 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from hoiclip import HoiClipProcessor, HoiError
from hoiclip.images import as_image, load_image, to_rgb

ORIENTATION = 0x0112
WIDTH, HEIGHT = 24, 16
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 40), (30, 40, 210), (255, 255, 255)


def quarters() -> Image.Image:
    """Red and green above, blue and white below: every turn and mirror can be told."""
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    for i, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        picture.paste(colour, (i % 2 * 12, i // 2 * 8, i % 2 * 12 + 12, i // 2 * 8 + 8))
    return picture


def corners(picture: Image.Image) -> list[tuple[int, int, int]]:
    """The colours of the four quarters, row by row."""
    w, h = picture.size
    return [picture.getpixel((x, y)) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]  # type: ignore[misc]


def assert_quarters(picture: Image.Image, tolerance: int = 0) -> None:
    assert (picture.mode, picture.size) == ("RGB", (WIDTH, HEIGHT))
    np.testing.assert_allclose(corners(picture), [RED, GREEN, BLUE, WHITE], atol=tolerance)


# how a camera has to store the upright picture, by EXIF orientation
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    how = STORED[orientation]
    stored = quarters() if how is None else quarters().transpose(how)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / f"photo.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    assert_quarters(load_image(tmp_path / f"photo.{suffix}"))


@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03", b"Exif\0\0II*\0\xff\xff"])
def test_broken_exif_does_not_lose_a_sound_picture(
    tmp_path: Path, exif: bytes, recwarn: pytest.WarningsRecorder
) -> None:
    quarters().save(tmp_path / "photo.jpg", exif=exif, quality=95, subsampling=0)
    assert_quarters(load_image(tmp_path / "photo.jpg"), tolerance=12)
    assert not recwarn.list


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_colours_survive_every_colour_mode(mode: str) -> None:
    picture = quarters()
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
        assert converted is not None
    elif mode in ("PA", "RGBa"):
        converted = picture.convert("RGBA").convert(mode)
    elif mode == "P":
        converted = picture.quantize(4)
    else:
        converted = picture.convert(mode)
    assert converted.mode == mode
    assert_quarters(to_rgb(converted), tolerance=12)  # LAB loses 4 grey levels; the colours differ by 170 and more


@pytest.mark.parametrize("mode", ["L", "LA", "La", "1", "I", "F", "I;16", "I;16B", "I;16L"])
def test_grey_modes_keep_their_brightness(mode: str) -> None:
    ramp = np.linspace(0, 255, WIDTH).round().astype(np.uint8)[None].repeat(HEIGHT, 0)
    grey = Image.fromarray(ramp)
    expected = ramp
    if mode == "La":
        picture = grey.convert("LA").convert("La")
    elif mode == "1":
        picture = grey.point(lambda v: 255 * (v > 127)).convert("1")
        expected = np.where(ramp > 127, 255, 0)
    elif mode.startswith("I;16"):
        picture = Image.frombytes(
            mode, (WIDTH, HEIGHT), (ramp.astype(">u2" if mode[-1] == "B" else "<u2") * 257).tobytes()
        )
    elif mode == "I":
        picture = Image.fromarray(ramp.astype(np.int32) * 257)
    elif mode == "F":
        picture = Image.fromarray(ramp.astype(np.float32) / 255)
    else:
        picture = grey.convert(mode)
    assert picture.mode == mode
    found = to_rgb(picture)
    assert (found.mode, found.size) == ("RGB", (WIDTH, HEIGHT))
    np.testing.assert_allclose(np.asarray(found), np.repeat(np.asarray(expected)[:, :, None], 3, axis=2), atol=1)


def test_16_bit_png_from_disk(tmp_path: Path) -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "deep.png"))[:, :, 0], ramp // 257)


def test_floats_that_are_no_brightness_become_black() -> None:
    values = np.array([[np.nan, -3.0, 0.5, 1.0]], dtype=np.float32)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 128, 255]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    picture = quarters().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size).point(lambda v: 0 if v < 128 else 255))
    picture.save(tmp_path / "clear.png")
    found = load_image(tmp_path / "clear.png")
    assert corners(found)[:2] == [WHITE, WHITE]
    assert corners(found)[2] == BLUE
    half = Image.new("LA", (2, 2), (0, 51))
    assert np.asarray(to_rgb(half)).tolist() == [[[204] * 3] * 2] * 2


def test_transparent_palette_lies_on_white(tmp_path: Path) -> None:
    picture = quarters().quantize(4)
    clear = picture.getpixel((2, 2))
    picture.save(tmp_path / "palette.png", transparency=clear)
    picture.save(tmp_path / "palette.gif", transparency=clear)
    for name in ("palette.png", "palette.gif"):
        assert corners(load_image(tmp_path / name)) == [WHITE, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("name", ["film.gif", "film.png", "film.webp", "film.tif"])
def test_an_animation_shows_its_first_frame(tmp_path: Path, name: str) -> None:
    others = [Image.new("RGB", (WIDTH, HEIGHT), c) for c in (BLUE, GREEN)]
    options = {"lossless": True} if name.endswith("webp") else {}
    quarters().save(tmp_path / name, save_all=True, append_images=others, **options)
    assert_quarters(load_image(tmp_path / name), tolerance=4)


def test_cmyk_jpeg_from_disk(tmp_path: Path) -> None:
    quarters().convert("CMYK").save(tmp_path / "print.jpg", quality=95, subsampling=0)
    assert_quarters(load_image(tmp_path / "print.jpg"), tolerance=12)


def test_the_given_picture_is_left_alone() -> None:
    picture = quarters().convert("RGBA")
    before = picture.tobytes()
    to_rgb(picture).paste((0, 0, 0), (0, 0, 5, 5))
    assert picture.tobytes() == before
    already = quarters()
    assert to_rgb(already) is already  # no copy of what may be 500 MB


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp"])
def test_a_loaded_picture_does_not_hang_on_its_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    quarters().save(path)
    picture = load_image(path)
    path.unlink()
    assert type(picture) is Image.Image
    assert to_rgb(picture) is picture
    assert picture.resize((3, 2)).size == (3, 2)


def test_arrays_are_pictures_too() -> None:
    pixels = np.asarray(quarters())
    assert as_image(pixels).tobytes() == quarters().tobytes()
    assert as_image(pixels[:, :, 0]).mode == "L"
    for wrong in (pixels.astype(np.float32), pixels.transpose(2, 0, 1), pixels[None], pixels[:0], np.asarray("x")):
        with pytest.raises(HoiError, match="give \\(h, w, 3\\) uint8"):
            as_image(wrong)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "F", "YCbCr"])
def test_the_processor_takes_every_mode(mode: str) -> None:
    processor = HoiClipProcessor("vcoco", shortest_edge=32, longest_edge=56, clip_size=16)
    inputs = processor(Image.new(mode, (WIDTH, HEIGHT)))
    assert inputs["pixel_values"].shape == (1, 3, 32, 48)
    assert inputs["clip_pixel_values"].shape == (1, 3, 16, 16)
    assert inputs["pixel_mask"].all()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (300, 1), (3000, 3)])
def test_extreme_shapes_have_both_views(size: tuple[int, int]) -> None:
    processor = HoiClipProcessor("vcoco", shortest_edge=64, longest_edge=112, clip_size=32)
    inputs = processor(Image.new("RGB", size, RED))
    height, width = inputs["pixel_values"].shape[-2:]
    assert (height, width) == processor.resized_size(Image.new("RGB", size))
    assert 1 <= height <= 112
    assert 1 <= width <= 112
    assert inputs["clip_pixel_values"].shape == (1, 3, 32, 32)
