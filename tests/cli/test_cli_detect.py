"""`hoiclip detect`: pictures and detections.jsonl, options, resuming, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hoiclip.cli import BAD_INPUT, main
from hoiclip.errors import HoiError
from hoiclip.files import sole_writer
from hoiclip.inference.detector import HoiDetector
from hoiclip.visualization.drawing_names import drawing_paths

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = {"ride bicycle", "hold bicycle", "ride horse", "feed horse", "hold umbrella", "no interaction dog"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of two sizes."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (w, h) in {"a.png": (96, 64), "b.jpg": (60, 80), "c.bmp": (96, 64)}.items():
        Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def detect(model_folder: Path, tmp_path: Path) -> Any:
    """Runs the command on the CPU into tmp_path/out; everything is kept unless options say otherwise."""

    def run(*arguments: Any, model: Path | str = model_folder) -> int:
        fixed = ["--model", model, "--out", tmp_path / "out", "--device", "cpu"]
        if "--threshold" not in arguments:
            fixed += ["--threshold", 0]
        return main([str(a) for a in ("detect", *arguments, *fixed)])

    return run


def read(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]


def test_pictures_and_lines_appear(
    tmp_path: Path, photos: Path, detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(photos) == 0
    entries = read(tmp_path)
    assert [e["file_name"] for e in entries] == [str(photos / n) for n in ("a.png", "b.jpg", "c.bmp")]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg", "c.jpg", "detections.jsonl"]
    for entry in entries:
        height, width = entry["image_size"]
        with Image.open(entry["file_name"]) as picture:
            assert (width, height) == picture.size
        assert 0 < len(entry["triplets"]) <= 10
        scores = [t["score"] for t in entry["triplets"]]
        assert scores == sorted(scores, reverse=True)
        for triplet in entry["triplets"]:
            assert triplet["interaction"] in NAMES
            assert f"{triplet['verb']} {triplet['object']}".replace("_", " ") == triplet["interaction"]
            assert 0 <= triplet["interaction_score"] <= 1
            assert triplet["score"] >= triplet["interaction_score"]
            for key in ("human_box", "object_box"):
                x0, y0, x1, y1 = triplet[key]
                assert 0 <= x0 <= x1 <= width
                assert 0 <= y0 <= y1 <= height
    with Image.open(tmp_path / "out" / "a.jpg") as drawing:
        assert drawing.size == (96 * 7, 64 * 7)  # enlarged, so that labels can be read
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    assert len(lines) == 4
    first = entries[0]["triplets"][0]
    assert lines[0].startswith(f"{photos / 'a.png'}: {first['interaction']} {first['interaction_score']:.2f}")
    assert lines[-1] == f"3 of 3 images -> {tmp_path / 'out' / 'detections.jsonl'}, drawings in {tmp_path / 'out'}"


def test_top_k_and_threshold(tmp_path: Path, photos: Path, detect: Any) -> None:
    detect(photos / "a.png", "--top-k", 2)
    assert len(read(tmp_path)[0]["triplets"]) == 2
    detect(photos / "a.png", "--top-k", 100)
    everything = read(tmp_path)[0]["triplets"]
    scores = sorted(t["interaction_score"] for t in everything)
    least = (scores[0] + scores[-1]) / 2  # between two, since scores in the file are rounded
    assert min(abs(score - least) for score in scores) > 1e-4
    detect(photos / "a.png", "--top-k", 100, "--threshold", least)
    kept = read(tmp_path)[0]["triplets"]
    assert kept
    assert kept == [t for t in everything if t["interaction_score"] >= least]


def test_nothing_found_is_a_result_too(
    tmp_path: Path, photos: Path, detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(photos / "a.png", "--threshold", 1) == 0
    assert read(tmp_path)[0]["triplets"] == []
    assert (tmp_path / "out" / "a.jpg").is_file()
    assert "a.png: nothing found" in capsys.readouterr().out


def test_no_pictures(tmp_path: Path, photos: Path, detect: Any) -> None:
    assert detect(photos, "--no-pictures") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["detections.jsonl"]


def test_own_interactions(tmp_path: Path, photos: Path, detect: Any) -> None:
    assert detect(photos / "a.png", "--interactions", "ride unicycle, sit on bench", "--top-k", 100) == 0
    triplets = read(tmp_path)[0]["triplets"]
    assert {t["interaction"] for t in triplets} == {"ride unicycle", "sit on bench"}
    assert {(t["verb"], t["object"]) for t in triplets} == {("ride", "unicycle"), ("sit_on", "bench")}


def test_own_verbs_with_the_models_objects(tmp_path: Path, photos: Path, detect: Any) -> None:
    assert detect(photos / "a.png", "--verbs", "ride, wash", "--top-k", 100) == 0
    triplets = read(tmp_path)[0]["triplets"]
    assert {t["verb"] for t in triplets} <= {"ride", "wash"}
    assert {t["object"] for t in triplets} <= {"bicycle", "horse", "umbrella", "dog"}
    assert {t["hoi_id"] for t in triplets} <= set(range(8))


@pytest.mark.parametrize("form", ["yaml", "name"])
def test_another_vocabulary(tmp_path: Path, photos: Path, detect: Any, form: str) -> None:
    own = tmp_path / "circus.yaml"
    own.write_text("verbs: [ride, juggle]\nobjects: [unicycle, ball]\npairs: [ride unicycle, juggle ball]\n")
    assert detect(photos / "a.png", "--vocabulary", own if form == "yaml" else "vcoco", "--top-k", 100) == 0
    found = {t["interaction"] for t in read(tmp_path)[0]["triplets"]}
    if form == "yaml":
        assert found == {"ride unicycle", "juggle ball"}
    else:
        assert found - NAMES


def test_zero_shot_top_k_raises_scores(tmp_path: Path, photos: Path, detect: Any) -> None:
    detect(photos / "a.png")
    plain = read(tmp_path)[0]["triplets"][0]["score"]
    detect(photos / "a.png", "--zero-shot-top-k", 3)
    assert read(tmp_path)[0]["triplets"][0]["score"] > plain + 0.1


def test_patterns_and_repeated_names(tmp_path: Path, photos: Path, detect: Any) -> None:
    assert detect(photos / "*.png", photos / "a.png", photos / "[ab].*") == 0
    assert [Path(e["file_name"]).name for e in read(tmp_path)] == ["a.png", "b.jpg"]


def test_equal_names_from_two_folders_do_not_overwrite_one_another(tmp_path: Path, photos: Path, detect: Any) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.jpg", "A.png"):
        Image.new("RGB", (64, 64), "red").save(other / name)
    assert detect(photos / "a.png", other / "a.jpg", other / "A.png") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["A-3.jpg", "a-2.jpg", "a.jpg", "detections.jsonl"]
    assert len(read(tmp_path)) == 3


def test_the_photos_themselves_are_never_overwritten(
    photos: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (photos / "b.jpg").read_bytes()
    assert main(["detect", str(photos), "--out", str(photos), "--model", str(model_folder)]) == 2
    assert (
        capsys.readouterr().err
        == f"hoiclip: {photos / 'b.jpg'}: would be overwritten by its own drawing; use another --out\n"
    )
    assert (photos / "b.jpg").read_bytes() == before
    with pytest.raises(HoiError, match="would be overwritten"):
        drawing_paths([photos / "b.jpg"], photos / ".." / "photos")


def test_one_bad_image_among_many(
    tmp_path: Path, photos: Path, detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.jpg").write_text("no picture")
    assert detect(photos, photos / "missing.png") == 2
    assert [Path(e["file_name"]).name for e in read(tmp_path)] == ["a.png", "c.bmp"]
    told = capsys.readouterr()
    assert [line.split(": ")[:2] for line in told.err.splitlines()] == [
        ["hoiclip", str(photos / "b.jpg")],
        ["hoiclip", str(photos / "missing.png")],
    ]
    assert "2 of 4 images" in told.out


def test_resume_skips_what_is_finished_and_repairs_a_torn_line(
    tmp_path: Path, photos: Path, detect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect(photos / "a.png", photos / "b.jpg")
    log = tmp_path / "out" / "detections.jsonl"
    whole = log.read_bytes()
    first = whole.splitlines(keepends=True)[0]
    log.write_bytes(whole[:-30])  # the power went off while b.jpg was being written
    looked_at = []
    real = HoiDetector._detect_batch
    monkeypatch.setattr(
        HoiDetector, "_detect_batch", lambda self, p, **o: looked_at.append(len(p)) or real(self, p, **o)
    )
    assert detect(photos, "--resume") == 0
    assert looked_at == [1, 1]
    assert log.read_bytes().startswith(first)
    assert log.read_bytes().startswith(whole)  # the repeated line is the line that was torn
    assert [Path(e["file_name"]).name for e in read(tmp_path)] == ["a.png", "b.jpg", "c.bmp"]


def test_draft_looks_at_reduced_pictures_and_draws_none(
    tmp_path: Path, photos: Path, detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(photos, "--draft") == 2
    assert capsys.readouterr().err.startswith("hoiclip: --draft decodes no whole images to draw in: add --no-pictures")
    assert not (tmp_path / "out").exists()
    assert detect(photos, "--draft", "--no-pictures") == 0
    assert [Path(e["file_name"]).name for e in read(tmp_path)] == ["a.png", "b.jpg", "c.bmp"]
    assert [e["image_size"] for e in read(tmp_path)] == [[64, 96], [80, 60], [64, 96]]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["detections.jsonl"]


def test_resume_with_nothing_left_loads_no_model(
    tmp_path: Path, photos: Path, detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    detect(photos)
    before = (tmp_path / "out" / "detections.jsonl").read_bytes()
    capsys.readouterr()
    assert detect(photos, "--resume", model=tmp_path / "no-model") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "detections.jsonl").read_bytes() == before


def test_without_resume_an_earlier_run_is_replaced(tmp_path: Path, photos: Path, detect: Any) -> None:
    detect(photos)
    detect(photos / "c.bmp")
    assert [Path(e["file_name"]).name for e in read(tmp_path)] == ["c.bmp"]


def test_an_interrupt_keeps_what_is_written(
    tmp_path: Path, photos: Path, detect: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = HoiDetector._detect_batch, []

    def interrupted(self: HoiDetector, pictures: Any, **options: Any) -> Any:
        calls.append(pictures)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, pictures, **options)

    monkeypatch.setattr(HoiDetector, "_detect_batch", interrupted)
    assert detect(photos) == 130
    assert capsys.readouterr().err == "hoiclip: interrupted; what is written stays, --resume goes on from there\n"
    assert [Path(e["file_name"]).name for e in read(tmp_path)] == ["a.png", "b.jpg"]
    assert detect(photos, "--resume") == 0
    assert [Path(e["file_name"]).name for e in read(tmp_path)] == ["a.png", "b.jpg", "c.bmp"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--top-k", "0"],
        ["--top-k", "many"],
        ["--threshold", "1.5"],
        ["--threshold", "nan"],
        ["--verbs", "ride", "--interactions", "ride horse"],
        ["--no-such-option"],
    ],
)
def test_wrong_options_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["detect", "a.jpg", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("hoiclip detect: error: ") or arguments == [
        "--no-such-option"
    ]


def test_the_installed_command(tmp_path: Path, photos: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hoiclip", *arguments], capture_output=True, text=True, timeout=300, check=False
        )

    help_ = run("--help")
    assert help_.returncode == 0
    assert all(command in help_.stdout for command in ("detect", "convert", "demo"))
    missing = run("detect", str(photos / "a.png"), "--model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert missing.returncode == 2
    assert missing.stderr.splitlines() == [
        f"hoiclip: {tmp_path / 'nowhere'}: no such model folder; give one that hoiclip wrote, or a hub id owner/name"
    ]
    assert not (tmp_path / "out").exists()


def test_two_commands_do_not_write_to_one_folder(
    tmp_path: Path, photos: Path, detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fcntl")
    with sole_writer(tmp_path / "out"):
        assert detect(photos) == 2
    assert "another hoiclip is writing there" in capsys.readouterr().err
    assert detect(photos) == 0


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        ([], ["--interactions", "ride horse, hold umbrella"], "resume with the same model and words"),
        (["--top-k", 5], ["--top-k", 2], "holds results of another --top-k"),
        (["--threshold", 0], ["--threshold", 0.9999], "holds results of another --threshold"),
    ],
)
def test_a_file_is_not_resumed_with_other_options(
    first: list[Any], then: list[Any], told: str, tmp_path: Path, photos: Path, detect: Any, capsys: Any
) -> None:
    assert detect(photos / "a.png", *first) == 0
    before = read(tmp_path)
    assert detect(photos, *then, "--resume") == 2
    assert told in capsys.readouterr().err
    assert read(tmp_path) == before
    assert detect(photos, *first, "--resume") == 0
    assert len(read(tmp_path)) == 3


def test_an_address_is_detected_like_a_file(tmp_path: Path, photos: Path, detect: Any) -> None:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(photos))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert detect(f"{address}/a.png", photos / "a.png", f"{address}/missing.jpg") == BAD_INPUT
        server.shutdown()
    entries = read(tmp_path)
    assert [entry["file_name"] for entry in entries] == [f"{address}/a.png", str(photos / "a.png")]
    assert entries[0]["triplets"] == entries[1]["triplets"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == ["a-2.jpg", "a.jpg"]


def test_a_smaller_size_can_be_asked_for(tmp_path: Path, photos: Path, detect: Any) -> None:
    found = []
    for size in (32, 64):
        assert detect(photos, "--size", size) == 0
        found.append(read(tmp_path))
    assert found[0] != found[1]
