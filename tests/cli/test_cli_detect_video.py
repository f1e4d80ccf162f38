"""`hoiclip detect` with videos: files beside images, options, resuming, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from video_files import encode_video, picture

from hoiclip.cli import BAD_INPUT, INTERRUPTED, main
from hoiclip.inference.detector import HoiDetector

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def detect(model_folder: Path, tmp_path: Path) -> Any:
    """Runs the command on the CPU into tmp_path/out; everything is shown unless options say otherwise."""

    def run(*arguments: Any) -> int:
        fixed = ["--model", model_folder, "--out", tmp_path / "out", "--device", "cpu"]
        if "--threshold" not in arguments:
            fixed += ["--threshold", 0]
        return main([str(a) for a in ("detect", *arguments, *fixed)])

    return run


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]


def seconds(path: Path) -> list[float]:
    with av.open(str(path)) as file:
        return [float(frame.time) for frame in file.decode(video=0)]


def test_a_folder_may_hold_images_and_videos(tmp_path: Path, detect: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(0, (64, 48)).save(folder / "photo.png")
    encode_video(folder / "clip.mp4", 12, sound="aac")
    (folder / "strange.xyz").write_text("?")
    assert detect(folder) == 0
    told = capsys.readouterr()
    assert "1 file was not looked at, being no images: strange.xyz" in told.err
    assert f"{folder / 'clip.mp4'}: 12 frames -> " in told.out
    found = lines(tmp_path)
    assert [line["file_name"] for line in found] == [str(folder / "photo.png")] + [str(folder / "clip.mp4")] * 12
    assert [line["frame"] for line in found[1:]] == list(range(12))
    assert [line["time"] for line in found[1:]] == pytest.approx([i / 25 for i in range(12)])
    for line in found[1:]:
        assert line["image_size"] == [48, 64]
        assert 0 < len(line["triplets"]) <= 10
        for triplet in line["triplets"]:
            assert triplet["human_track"] >= 1
            assert triplet["object_track"] >= 1
            assert triplet["human_track"] != triplet["object_track"]
    drawn = tmp_path / "out" / "clip.mp4"
    assert seconds(drawn) == pytest.approx([i / 25 for i in range(12)], abs=1e-3)
    with av.open(str(drawn)) as file:
        assert [stream.codec_context.name for stream in file.streams.audio] == ["aac"]


def test_every_start_and_end(tmp_path: Path, detect: Any) -> None:
    path = encode_video(tmp_path / "clip.mp4", 30)
    assert detect(path, "--every", 5, "--start", 0.2, "--end", 0.9) == 0
    assert [line["frame"] for line in lines(tmp_path)] == [5, 10, 15, 20]
    assert seconds(tmp_path / "out" / "clip.mp4") == pytest.approx([0.0, 0.2, 0.4, 0.6], abs=1e-3)


def test_no_pictures_writes_lines_only(tmp_path: Path, detect: Any) -> None:
    assert detect(encode_video(tmp_path / "clip.mp4", 3), "--no-pictures") == 0
    assert len(lines(tmp_path)) == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".clip.frames.jsonl", "detections.jsonl"]


def test_an_interrupted_run_is_resumed_to_the_same_lines_and_frames(
    tmp_path: Path, detect: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = encode_video(tmp_path / "clip.mp4", 20)
    assert detect(path) == 0
    whole = lines(tmp_path), seconds(tmp_path / "out" / "clip.mp4")
    (tmp_path / "out").rename(tmp_path / "whole")
    plain, asked = HoiDetector._detect_batch, 0

    def interrupted(self: HoiDetector, batch: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 13:
            raise KeyboardInterrupt
        return plain(self, batch, **options)

    monkeypatch.setattr(HoiDetector, "_detect_batch", interrupted)
    assert detect(path) == INTERRUPTED
    kept = lines(tmp_path)
    assert kept == whole[0][: len(kept)]
    assert 0 < len(kept) < 20
    assert not (tmp_path / "out" / "clip.mp4").exists()
    asked = 100
    assert detect(path, "--resume") == 0
    assert asked == 100 + 8
    assert (lines(tmp_path), seconds(tmp_path / "out" / "clip.mp4")) == whole
    capsys.readouterr()
    assert detect(path, "--resume") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert detect(path, "--resume", "--every", 2) == BAD_INPUT
    assert "belongs to another every (1, now 2)" in capsys.readouterr().err
    assert (lines(tmp_path), seconds(tmp_path / "out" / "clip.mp4")) == whole


def test_a_broken_video_is_told_and_the_others_go_on(
    tmp_path: Path, detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = encode_video(tmp_path / "cut.mp4", 200, size=(160, 120), options={"movflags": "faststart"})
    content = cut.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    (tmp_path / "none.mp4").write_text("no video")
    good = encode_video(tmp_path / "good.mp4", 4)
    assert detect(cut, tmp_path / "none.mp4", tmp_path / "gone.mp4", good) == BAD_INPUT
    told = capsys.readouterr().err
    assert f"hoiclip: {cut}: is " in told
    assert "none.mp4: cannot be opened as a video" in told
    assert "gone.mp4: no such file" in told
    names = [line["file_name"] for line in lines(tmp_path)]
    assert names.count(str(good)) == 4
    assert names.count(str(cut)) == len(seconds(tmp_path / "out" / "cut.mp4")) > 10


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "nothing to detect in"),
        (["VIDEO", "--start", 2, "--end", 1], "--end 1: is not after --start 2"),
        (["VIDEO", "--attention"], "--attention: is for images"),
        (["VIDEO", "--html"], "--html: is for images"),
        (["IMAGE", "--every", 2], "--every: is for videos, and none was named"),
        (["--camera", 0, "--resume"], "--camera 0: what was live cannot be resumed"),
        (["--camera", 97], "camera 97: "),
        (["rtsp://127.0.0.1:9/x"], "rtsp://127.0.0.1:9/x: cannot be opened as a video"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, detect: Any, capsys: pytest.CaptureFixture[str], arguments: list[Any], sentence: str
) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "photo.png")
    names = {"VIDEO": encode_video(tmp_path / "clip.mp4", 2), "IMAGE": tmp_path / "photo.png"}
    assert detect(*(names.get(a, a) for a in arguments)) == BAD_INPUT
    assert sentence in capsys.readouterr().err


def test_a_drawing_never_takes_the_place_of_the_video(tmp_path: Path, model_folder: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", 2)
    content = path.read_bytes()
    assert main(["detect", str(path), "--model", str(model_folder), "--out", str(tmp_path)]) == BAD_INPUT
    assert path.read_bytes() == content


def test_the_python_of_the_docs_runs_as_written(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "video.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(model_folder)
    encode_video(tmp_path / "clip.mp4", 6)
    exec(compile(block, "docs/video.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(seconds(tmp_path / "drawn.mp4")) == 3
