"""The gallery: one page without a server, that finds, sorts and enlarges."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from browser import accessibility_faults, open_browser
from PIL import Image

from hoiclip.cli import BAD_INPUT, main
from hoiclip.errors import HoiError
from hoiclip.visualization.gallery import GalleryImage, write_gallery


def images(folder: Path, count: int) -> list[GalleryImage]:
    """Drawings of one colour; image i rides a horse with score i / count, every third holds a cup as well."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for i in range(count):
        drawing = folder / f"photo {i}.jpg"
        if not drawing.exists():
            Image.new("RGB", (640, 400), (i % 256, 80, 120)).save(drawing)
        triplets = [("ride", "horse", "ride horse", i / count)]
        if i % 3 == 0:
            triplets.append(("hold", "cup", "hold cup", 0.5))
        found.append(GalleryImage(f"photos/photo {i}.jpg", drawing, sorted(triplets, key=lambda t: -t[3])))
    return found


def data_of(page: Path) -> Any:
    return json.loads(re.search(r"= (\{.*\});", page.read_text()).group(1))


def test_the_page_holds_every_image_and_its_words_once(tmp_path: Path) -> None:
    data = data_of(write_gallery(tmp_path, images(tmp_path, 4), progress=False))
    assert data["verbs"] == ["hold", "ride"]
    assert data["objects"] == ["cup", "horse"]
    assert data["names"] == ["hold cup", "ride horse"]
    assert data["images"][3] == ["photos/photo 3.jpg", "photo%203.jpg", "thumbnails/photo%203.jpg",
                                 [[1, 1, 1, 0.75], [0, 0, 0, 0.5]]]  # fmt: skip
    with Image.open(tmp_path / "thumbnails" / "photo 3.jpg") as small:
        assert small.size == (320, 200)


def test_no_name_ends_the_script(tmp_path: Path) -> None:
    (one,) = images(tmp_path, 1)
    evil = "</script><script>alert(1)</script>"
    page = write_gallery(tmp_path, [GalleryImage(evil, one.drawing, [(evil, evil, evil, 0.5)])], progress=False)
    assert page.read_text().count("</script>") == 1
    assert data_of(page)["images"][0][0] == evil


def test_thumbnails_are_made_once_and_again_when_the_drawing_changes(tmp_path: Path) -> None:
    listed = images(tmp_path, 2)
    write_gallery(tmp_path, listed, progress=False)
    small = tmp_path / "thumbnails" / "photo 0.jpg"
    before = small.stat().st_mtime_ns
    write_gallery(tmp_path, listed, progress=False)
    assert small.stat().st_mtime_ns == before
    time.sleep(0.02)
    Image.new("RGB", (300, 300)).save(listed[0].drawing)
    write_gallery(tmp_path, listed, progress=False)
    with Image.open(small) as made:
        assert made.size == (300, 300)


def test_a_drawing_that_is_damaged_is_told(tmp_path: Path) -> None:
    (one,) = images(tmp_path, 1)
    one.drawing.write_bytes(b"no")
    with pytest.raises(HoiError, match=r"photo 0\.jpg: cannot be shown in the gallery"):
        write_gallery(tmp_path, [one], progress=False)


def test_detect_writes_it_and_resume_completes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 60), "grey").save(tmp_path / name)
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["detect", str(tmp_path / "a.png"), *out]) == 0
    both = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert main(["detect", *both, "--resume", "--html", *out]) == 0
    names = [row[0] for row in data_of(tmp_path / "out" / "index.html")["images"]]
    assert names == both
    (tmp_path / "out" / "index.html").unlink()
    assert main(["detect", *both, "--resume", "--html", *out]) == 0  # nothing left to detect
    assert len(data_of(tmp_path / "out" / "index.html")["images"]) == 2
    assert main(["detect", *both, "--html", "--no-pictures", *out]) == BAD_INPUT


@pytest.mark.slow
def test_five_thousand_images_stay_usable_in_a_browser(tmp_path: Path) -> None:
    page = write_gallery(tmp_path, images(tmp_path, 5000), progress=False)
    browser = open_browser(1200, 800)
    try:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.support.ui import Select

        def count() -> str:
            return browser.find_element(By.ID, "count").text

        def cards() -> list[str]:
            return [card.text.splitlines()[0] for card in browser.find_elements(By.CLASS_NAME, "card")]

        begun = time.perf_counter()
        browser.get(page.as_uri())
        assert count() == "5000 of 5000 images"
        assert cards()[0] == "ride horse 1.00"
        assert accessibility_faults(browser) == []
        assert len(cards()) <= 360  # the rest is drawn when it is scrolled to
        Select(browser.find_element(By.ID, "verb")).select_by_visible_text("hold")
        assert count() == "1667 of 5000 images"
        assert set(cards()) == {"hold cup 0.50"}
        Select(browser.find_element(By.ID, "verb")).select_by_visible_text("all")
        browser.find_element(By.ID, "name").send_keys("photo 499")
        assert count() == "11 of 5000 images"
        browser.find_element(By.CLASS_NAME, "card").send_keys(Keys.ENTER)  # by keyboard
        assert browser.find_element(By.ID, "title").text == "photos/photo 4999.jpg"
        browser.find_element(By.ID, "next").click()
        assert browser.find_element(By.ID, "title").text == "photos/photo 4998.jpg"
        assert browser.execute_script("return document.getElementById('picture').naturalWidth") == 640
        browser.find_element(By.ID, "close").click()
        assert time.perf_counter() - begun < 60  # a stall of the page, not its speed
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        browser.quit()
