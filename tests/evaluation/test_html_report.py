"""The page that explains an evaluation: its numbers are the evaluation's, and everybody can use it."""

from __future__ import annotations

import csv
import html
import json
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import accessibility_faults, open_browser
from PIL import Image
from test_error_kinds import FOUR, Made
from test_evaluate_hicodet import SMALL, world

from hoiclip import Detections, HoiVocabulary
from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.data.samples import ImageFolder
from hoiclip.errors import HoiError
from hoiclip.evaluation import evaluate_hicodet, load_detections, save_detections
from hoiclip.evaluation.error_kinds import ERRORS, find_error_kinds
from hoiclip.evaluation.html_report import MEANINGS, write_report
from hoiclip.evaluation.reports import Evaluated

HICO = HoiVocabulary.from_name("hico")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def evaluated(seed: int = 3, title: str = "mine", **options) -> Evaluated:
    annotations, found = world(seed, images=30)
    results = {
        "hoiclip": evaluate_hicodet(found, annotations, **options),
        "official, default": evaluate_hicodet(found, annotations, protocol="official", **options),
    }
    return Evaluated(title, results, found, annotations, SMALL)


def test_the_numbers_beside_the_page_are_those_of_the_evaluation(tmp_path: Path) -> None:
    counts = np.array([5, 0, 2000, 12])
    what = evaluated(training_instances=counts)
    assert write_report(tmp_path / "new" / "report", what) == tmp_path / "new" / "report" / "index.html"
    folder = tmp_path / "new" / "report"
    result = what.results["hoiclip"]
    numbers = {row["protocol"]: row for row in rows(folder / "numbers.csv")}
    assert float(numbers["hoiclip"]["full"]) == result.full
    assert float(numbers["official, default"]["full"]) == what.results["official, default"].full
    classes = rows(folder / "classes.csv")
    assert [float(row["ap"]) for row in classes] == result.per_class.tolist()
    assert [int(row["training"]) for row in classes] == counts.tolist()
    errors = find_error_kinds(what.detections, what.annotations, SMALL)
    kinds = {row["kind"]: row for row in rows(folder / "error_kinds.csv")}
    assert {name: int(row["count"]) for name, row in kinds.items()} == errors.counts()
    assert {name: float(kinds[name]["map_gain"]) for name in ERRORS} == errors.gains()
    assert next(row["group"] for row in rows(folder / "parts.csv")) == "training instances of the class"
    assert len(rows(folder / "precision_recall.csv")) == 101
    assert sum(int(row["detections"]) for row in rows(folder / "reliability.csv")) == len(errors.kind)
    page = (folder / "index.html").read_text("utf-8")
    assert f"mAP is {100 * result.full:.2f} %." in page
    assert all(html.escape(meaning) in page for meaning in MEANINGS.values())


def test_the_page_shows_pictures_that_lie_beside_it_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = write_report(tmp_path, evaluated()).read_text("utf-8")
    assert not re.search(r"https?:|//[a-z]", page.partition("<script>")[0])
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert shown == ["error_kinds.png", "precision_recall.png", "reliability.png", "parts.png"]
    for name in shown:
        with Image.open(tmp_path / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10, name
    assert "$" not in page.partition("<script>")[0]


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    what = evaluated(title="<b>mine & yours</b> ${kinds}")
    page = write_report(tmp_path, what).read_text("utf-8")
    assert page.count("&lt;b&gt;mine &amp; yours&lt;/b&gt; ${kinds}") == 2


def test_the_worst_images_are_drawn_where_they_are_at_hand(tmp_path: Path) -> None:
    made = [Made(f"{i}.png", kinds, i) for i, kinds in enumerate([["correct"], ["missed"], ["verb", "correct"]])]
    annotations = [replace(image.annotation, size=(1200, 400)) for image in made]
    for image in annotations[:2]:
        Image.new("RGB", (400, 1200), "grey").save(tmp_path / image.file_name)
    found = {image.annotation.file_name: image.found for image in made}
    results = {"hoiclip": evaluate_hicodet(found, annotations)}
    what = Evaluated("mine", results, found, annotations, FOUR, lambda: ImageFolder(annotations, tmp_path))
    page = write_report(tmp_path / "report", what).read_text("utf-8")
    listed = rows(tmp_path / "report" / "worst_images.csv")
    assert [row["file_name"] for row in listed] == ["1.png", "2.png", "0.png"]
    assert listed[0]["not_found"] == "ride horse"
    assert re.findall(r'<img src="(images/[^"]+)"', page) == ["images/00.jpg", "images/02.jpg"]
    with Image.open(tmp_path / "report" / "images" / "00.jpg") as drawing:
        assert np.asarray(drawing).std() > 1
    assert "Not drawn:" in page
    assert "2.png" in page.partition("Not drawn:")[2]
    Image.new("RGB", (400, 1200), "grey").save(tmp_path / "2.png")
    turned = replace(what, open_samples=lambda: ImageFolder(annotations[::-1], tmp_path))
    page = write_report(tmp_path / "turned", turned).read_text("utf-8")
    assert re.findall(r'<img src="(images/[^"]+)"', page) == ["images/00.jpg"]  # the one in the middle
    assert "is not among the images where the annotations have it" in page


def test_without_annotated_pairs_there_is_nothing_to_report_on(tmp_path: Path) -> None:
    what = replace(evaluated(), detections={}, annotations=[AnnotatedImage("0.jpg")])
    with pytest.raises(HoiError, match="no pair is annotated in these images"):
        write_report(tmp_path, what)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(HoiError, match="cannot be the folder of a report"):
        write_report(tmp_path / "file", what)
    assert (tmp_path / "file").read_text() == "kept"


def test_everybody_can_use_the_page_and_sort_its_classes(tmp_path: Path) -> None:
    page = write_report(tmp_path, evaluated())
    browser = open_browser(1200, 900)
    try:
        from selenium.webdriver.common.by import By

        browser.get(page.as_uri())
        assert accessibility_faults(browser) == []
        assert browser.get_log("browser") == []

        def column(index: int) -> list[str]:
            cells = browser.find_elements(By.CSS_SELECTOR, f"#class-table tbody tr:not([hidden]) td:nth-child({index})")
            return [cell.text for cell in cells]

        heads = browser.find_elements(By.CSS_SELECTOR, "#class-table th button")
        by_id = column(3)
        heads[2].click()
        assert column(3) == sorted(by_id, key=float, reverse=True) != by_id
        heads[2].click()
        assert column(3) == sorted(by_id, key=float)
        heads[1].click()
        assert column(2) == ["feed horse", "hold cup", "ride horse", "wash cup"]
        browser.find_element(By.ID, "wanted").send_keys("horse")
        assert column(2) == ["feed horse", "ride horse"]
        assert browser.find_element(By.ID, "shown").text == "2 of 4"
    finally:
        browser.quit()


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Annotations of two images, and detections that are right in one."""
    hoi = HICO.interactions.index((HICO.verbs.index("ride"), HICO.objects.index("bicycle")))
    boxes = np.array([[10, 10, 60, 110], [20, 60, 90, 140]])
    person, bicycle = HICO.objects.index("person"), HICO.objects.index("bicycle")
    images = [
        AnnotatedImage(f"{i}.jpg", boxes, np.array([person, bicycle]), np.array([[0, 1]]), np.array([hoi]), (200, 200))
        for i in range(2)
    ]
    save_hoia(images, tmp_path / "test_hico.json", HICO)
    columns = boxes[:1], boxes[1:], np.array([bicycle]), HICO.verb_ids[[hoi]], np.array([hoi])
    save_detections(tmp_path / "mine.jsonl", {"0.jpg": Detections(*columns, np.array([0.9]), HICO, (200, 200))})
    return tmp_path / "mine.jsonl", tmp_path / "test_hico.json"


def test_the_command_writes_a_report_of_anybodys_detections(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--detections", str(files[0]), "--annotations", str(files[1]), "--report", str(tmp_path / "report")]
    assert main(["evaluate", "hicodet", *told, "--out", str(tmp_path / "metrics.json")]) == 0
    assert f"report: {tmp_path / 'report' / 'index.html'}" in capsys.readouterr().out
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert "Evaluation: mine.jsonl" in page
    assert "Nothing was handed in for 1 images." in page
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for row in rows(tmp_path / "report" / "numbers.csv"):
        assert float(row["full"]) == metrics["results"][row["protocol"]]["full"]


def test_two_files_are_compared_on_screen_and_on_the_page(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (right,) = load_detections(files[0], HICO).values()
    save_detections(tmp_path / "theirs.jsonl", {"1.jpg": right[np.zeros(0, dtype=int)]})
    told = ["--annotations", str(files[1]), "--detections", str(files[0]), "--compare", str(tmp_path / "theirs.jsonl")]
    assert main(["evaluate", "hicodet", *told]) == 0
    printed = capsys.readouterr().out
    # one of two images is found: 6 of 11 recalls are reached; of two drawn images none, one or both may be it
    assert re.search(r"full +54\.55 +0\.00 +\+54\.55 +\+0\.00 to \+100\.00\n", printed)
    assert re.search(r"^hoiclip +54\.55 ", printed, re.MULTILINE)
    assert main(["evaluate", "hicodet", *told, "--report", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert "Evaluation: mine.jsonl" in page
    assert "Beside theirs.jsonl" in page
    (full, *_) = rows(tmp_path / "report" / "comparison.csv")
    assert (float(full["first"]), float(full["second"])) == (pytest.approx(6 / 11), 0)


def test_a_comparison_needs_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "hicodet", "--compare", "theirs.jsonl"]) == BAD_INPUT
    assert "give the first one with --detections" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sweep", "0,5"], "--report explains one evaluation, --sweep makes several"),
        (["--evaluation.protocol", "vcoco"], "not V-COCO's roles"),
        (["--report", "FILE/report"], "cannot be the folder of a report"),
    ],
)
def test_what_cannot_be_reported_on_is_refused_before_anything_is_read(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text("")
    options = [option.replace("FILE", str(tmp_path / "FILE")) for option in options]
    told = ["evaluate", "hicodet", "--report", str(tmp_path / "report"), *options]
    assert main([*told, "--detections", "nowhere.jsonl", "--annotations", "nowhere.json"]) == BAD_INPUT
    assert complaint in capsys.readouterr().err


def test_a_model_is_reported_on_with_its_images(tmp_path: Path) -> None:
    told = ["evaluate", "playground", "--images", "4", "--seed", "1", "--report", str(tmp_path / "report")]
    saved = tmp_path / "found.jsonl"
    assert main([*told, "--save-detections", str(saved)]) == 0
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert "Evaluation: the shipped model on playground" in page
    drawn = re.findall(r'<img src="(images/[^"]+)"', page)
    assert drawn == [f"images/{i:02}.jpg" for i in range(4)]
    detected = load_detections(saved, HoiVocabulary.from_name("playground"))
    counts = {row["kind"]: int(row["count"]) for row in rows(tmp_path / "report" / "error_kinds.csv")}
    assert sum(counts.values()) - counts["missed"] == sum(len(d) for d in detected.values())


PROGRAM = "import sys; from hoiclip.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_the_whole_of_hicodet_takes_a_minute_and_2_gb_at_most(shared: Path, tmp_path: Path) -> None:
    from hoiclip.data import open_dataset

    annotations = open_dataset(shared / "facts" / "hico_test_hoia.json.gz", vocabulary="hico").load("test")
    assert len(annotations) == 9658
    random = np.random.default_rng(0)
    found = {}
    for image in annotations:
        hois = random.integers(0, 600, 100)
        boxes = np.repeat([[10.0, 10, 110, 110]], 100, axis=0), np.repeat([[20.0, 20, 120, 120]], 100, axis=0)
        if len(image.hoi_ids):  # near annotated pairs, half of them of the right interaction
            near = random.integers(0, len(image.hoi_ids), 100)
            hois = np.where(random.random(100) < 0.5, image.hoi_ids[near], hois)
            spread = random.choice([2, 20], (100, 1))
            boxes = tuple(
                b[near] + np.abs(random.normal(0, 1, (100, 4))) * spread * [-1, -1, 1, 1]
                for b in (image.human_boxes, image.object_boxes)
            )
        ids = HICO.object_ids[hois], HICO.verb_ids[hois], hois
        found[image.file_name] = Detections(*boxes, *ids, np.sort(random.random(100))[::-1], HICO)
    save_detections(tmp_path / "found.jsonl", found)
    command = ["evaluate", "hicodet", "--detections", str(tmp_path / "found.jsonl")]
    command += ["--annotations", str(shared / "facts" / "hico_test_hoia.json.gz"), "--report", str(tmp_path / "report")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", PROGRAM, *command], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # of a processor
    print(f"{seconds:.0f} s, {after.ru_maxrss / 1e6:.2f} GB")
    assert seconds < 60
    assert after.ru_maxrss < 2e6  # kB
    counts = {row["kind"]: int(row["count"]) for row in rows(tmp_path / "report" / "error_kinds.csv")}
    assert sum(counts.values()) - counts["missed"] == 965_800
