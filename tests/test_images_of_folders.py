"""No file of a folder vanishes silently: what is an image by name or content is looked at, the rest is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from hoiclip import images
from hoiclip.errors import HoiError
from hoiclip.images import LONGEST_JPEG, find_images, load_image, save_image
from hoiclip.visualization.drawing_names import drawing_paths


def photo(path: Path, kind: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), "teal").save(path, format=kind)
    return path


def test_heic_photos_are_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "IMG_1.jpg")
    (tmp_path / "IMG_2.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    found = find_images([tmp_path])
    assert [path.name for path in found] == ["IMG_1.jpg", "IMG_2.HEIC"]
    monkeypatch.setattr(images, "_heif_can_be_read", lambda: False)
    with pytest.raises(HoiError, match=r"IMG_2\.HEIC: is a HEIC image: pip install 'hoiclip\[heic\]', or convert it"):
        load_image(found[1])


def test_heic_photos_are_read_where_pillow_heif_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.heic")
    image = load_image(tmp_path / "a.heic")
    assert (image.size, image.mode) == ((64, 48), "RGB")
    assert image.getpixel((20, 20))[0] > 240


def test_an_image_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    for name in ("no_suffix", "photo.jpg.1", "b.JFIF", "c.tmp"):
        photo(tmp_path / name)
    assert [path.name for path in find_images([tmp_path])] == ["b.JFIF", "c.tmp", "no_suffix", "photo.jpg.1"]


def test_what_was_not_looked_at_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "a.jpg")
    for name in ("clip.mp4", "x", "y", "z", "notes.txt", "labels.json", ".hidden"):
        (tmp_path / name).write_text("no image")
    assert [path.name for path in find_images([tmp_path])] == ["a.jpg"]
    told = capsys.readouterr().err
    assert "4 files were not looked at, being no images: clip.mp4, x, y and 1 more" in told
    assert "notes" not in told


def test_a_folder_with_brackets_in_its_name_is_meant_literally(tmp_path: Path) -> None:
    inside = photo(tmp_path / "Trip [2024]" / "a.jpg")
    assert find_images([tmp_path / "Trip [2024]" / "*.jpg"]) == [inside]
    assert find_images([tmp_path / "Trip [2024]"]) == [inside]
    assert find_images([tmp_path / "T*" / "*.jpg"]) == [inside]


def test_links_are_followed_and_each_real_folder_is_looked_into_once(tmp_path: Path) -> None:
    inside = photo(tmp_path / "photos" / "day" / "a.jpg")
    photo(tmp_path / "photos" / ".hidden" / "b.jpg")
    elsewhere = photo(tmp_path / "elsewhere" / "c.jpg")
    top = photo(tmp_path / "photos" / "d.jpg")
    for name in ("loop", "again"):  # two links back: without care there are 2^40 ways
        (tmp_path / "photos" / "day" / name).symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "a link").symlink_to(tmp_path / "photos" / "day", target_is_directory=True)
    (tmp_path / "photos" / "more").symlink_to(elsewhere.parent, target_is_directory=True)
    linked = tmp_path / "photos" / "more" / "c.jpg"
    assert set(find_images([tmp_path / "photos" / "**" / "*.jpg"])) == {top, inside, linked}
    assert set(find_images([tmp_path / "photos" / "**"])) == {top, inside, linked}
    assert set(find_images([tmp_path / "*" / "**" / "day" / "*.jpg"])) == {inside}
    assert set(find_images([tmp_path / "**" / "day" / "**" / "a.jpg"])) == {inside}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "camera.jpg")
    with pytest.raises(HoiError, match=r"camera\.jpg: is no file but a pipe"):
        load_image(tmp_path / "camera.jpg")


def test_postscript_named_jpg_starts_no_program(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(HoiError, match=r"a\.jpg: is no image that can be read"):
        load_image(tmp_path / "a.jpg")


def test_a_drawing_of_a_side_longer_than_a_jpegs_is_made_smaller(tmp_path: Path) -> None:
    save_image(Image.new("RGB", (LONGEST_JPEG + 500, 4)), tmp_path / "long.jpg")
    with Image.open(tmp_path / "long.jpg") as written:
        assert written.size == (LONGEST_JPEG, 4)


def test_the_longest_names_have_drawings_of_their_own(tmp_path: Path) -> None:
    names = [Path("in") / f"{'é' * 125}{i}.png" for i in range(3)]  # 251 bytes and the suffix
    paths = drawing_paths(names, tmp_path)
    assert len(set(paths.values())) == 3
    for path in paths.values():
        save_image(Image.new("RGB", (2, 2)), path)
        assert path.is_file()
