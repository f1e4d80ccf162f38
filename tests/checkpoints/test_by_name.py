"""Models by name: fetched once, checked, complete or not there, and told in one sentence where it cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import zoo_world
from drive_server import QUOTA, Drive, serving
from PIL import Image
from tiny import tiny_model

import hoiclip
from hoiclip import HoiError, hub
from hoiclip.checkpoints.by_name import detr_by_name, model_by_name
from hoiclip.checkpoints.folders import load_model
from hoiclip.checkpoints.initialise import load_detr
from hoiclip.cli import main
from hoiclip.model_zoo import cache_home, find_entry

TESTS = Path(__file__).resolve().parents[1]
NAME = "tiny-hoi"
ID = zoo_world.IDS[NAME]


@pytest.fixture(scope="module")
def pth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo_world.tiny_checkpoint(tmp_path_factory.mktemp("pth") / "best.pth")


@pytest.fixture
def drive(tmp_path: Path, pth: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    """A Drive with the tiny checkpoint, an empty cache in ``tmp_path / home`` and a network that may be used."""
    zoo_world.use(zoo_world.write_table(tmp_path / "table.tsv"), monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HOICLIP_HOME", str(tmp_path / "home"))
    with serving() as drive:
        monkeypatch.setenv("HOICLIP_DRIVE_ORIGIN", drive.origin)
        drive.files[ID] = pth.read_bytes()
        yield drive


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def held(where: str) -> list[str]:
    """What the cache holds in one of its folders, locks left out."""
    folder = cache_home() / where
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") if folder.is_dir() else []


def command(*words: str | Path) -> list[str]:
    return [sys.executable, str(TESTS / "zoo_world.py"), "table.tsv", *map(str, words)]


def test_a_name_becomes_a_model_once(drive: Drive, capsys: pytest.CaptureFixture) -> None:
    detector = hoiclip.load(NAME, device="cpu")
    assert detector.vocabulary.name == "tiny"
    expected = tiny_model().state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in detector.model.state_dict().items())
    told = capsys.readouterr().err
    assert f"fetching {NAME} once, into {cache_home()}" in told
    assert "licence: none stated; published: figures 1/2/3" in told
    assert f"from https://drive.google.com/file/d/{ID} (github.com/nobody/tiny)" in told
    assert (held("models"), held("downloads")) == ([NAME], [])
    assert json.loads((cache_home() / "models" / NAME / "origin.json").read_text())["licence"] == "none stated"
    drive.files.clear()
    assert hoiclip.load(NAME, device="cpu").vocabulary.name == "tiny"
    assert load_model(NAME).vocabulary.name == "tiny"
    assert "fetching" not in capsys.readouterr().err
    assert drive.log == [None]


def test_detect_takes_a_name_and_needs_no_network_the_second_time(drive: Drive, photo: Path) -> None:
    words = "detect", str(photo), "--model", NAME, "--threshold", "0", "--device", "cpu"
    assert main([*words, "--out", "first"]) == 0
    drive.files.clear()
    assert main([*words, "--out", "second", "--offline"]) == 0
    assert Path("first/detections.jsonl").read_text() == Path("second/detections.jsonl").read_text()
    assert os.environ.get("HOICLIP_OFFLINE", "") == ""


def test_a_folder_of_that_name_wins(drive: Drive, model_folder: Path) -> None:
    Path(NAME).symlink_to(model_folder)
    assert model_by_name(NAME) == NAME
    hoiclip.load(NAME, device="cpu")
    assert drive.log == []


def test_a_hub_id_is_no_name(drive: Drive) -> None:
    assert model_by_name(f"owner/{NAME}") == f"owner/{NAME}"


def test_the_shipped_model_has_a_name(drive: Drive) -> None:
    assert hoiclip.load("playground", device="cpu").vocabulary.name == "playground"
    assert drive.log == []


@pytest.mark.parametrize("asked", ["tiny-hoy", "Tiny_HOI", "tinyhoi"])
def test_a_name_that_is_nearly_right_is_told(drive: Drive, asked: str) -> None:
    with pytest.raises(HoiError, match=r"no such model folder.*; did you mean tiny-hoi\?"):
        hoiclip.load(asked)


@pytest.mark.parametrize(
    ("ask", "name", "words"),
    [
        (model_by_name, "tiny-start", "is a start for training; give it as --model.detr"),
        (model_by_name, "hicodet-images", "is data; 'hoiclip data prepare hicodet' fetches it"),
        (model_by_name, "training-free", "is put together where it is used and has no folder"),
        (detr_by_name, "tiny-hoi", "is no DETR to start from; give it as --model.start"),
    ],
)
def test_a_name_of_another_kind_says_where_it_belongs(drive: Drive, ask, name: str, words: str) -> None:
    with pytest.raises(HoiError, match=words):
        ask(name)
    assert drive.log == []


def test_a_start_for_training_stays_a_file(drive: Drive, pth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip.checkpoints.initialise.load_detr", zoo_world.load_tiny_detr)
    drive.files[zoo_world.IDS["tiny-start"]] = pth.read_bytes()
    found = detr_by_name("tiny-start")
    assert found == str(cache_home() / "models" / "tiny-start" / "tiny-start.pth")
    assert Path(found).read_bytes() == pth.read_bytes()
    assert held("downloads") == []


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["evaluate", "playground", "--model", NAME], NAME),
        (["demo", "--model", NAME], NAME),
        (["export", NAME, "--to", "onnx", "--out", "exported"], NAME),
        (["push", NAME, "owner/name"], NAME),
        (["bench", "--model", NAME], NAME),
        (["train", "playground", "--out", "run", "--model.start", NAME], NAME),
        (["train", "playground", "--out", "run", "--model.detr", "tiny-start"], "tiny-start"),
        (["convert", "detr", "tiny-start", "--clip", "owner/clip", "--out", "converted"], "tiny-start"),
    ],
)
def test_every_command_with_a_model_takes_a_name(
    drive: Drive, words: list[str], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("HOICLIP_OFFLINE", "1")
    assert main(words) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"hoiclip: {name}: is not in the cache ({cache_home()}), and --offline or HOICLIP_OFFLINE")


def test_a_slip_in_a_start_for_training_is_told(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOICLIP_OFFLINE", "1")
    with pytest.raises(HoiError, match=r"give a folder; did you mean tiny-start\?"):
        load_detr("tiny-strt")


# --- without a network -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["--offline", "HOICLIP_OFFLINE", "HF_HUB_OFFLINE", "no network"])
def test_without_a_network_the_way_by_hand_is_told(
    drive: Drive, photo: Path, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = ["detect", str(photo), "--model", NAME]
    if how == "--offline":
        words.append(how)
    elif how == "no network":
        monkeypatch.setenv("HOICLIP_DRIVE_ORIGIN", "http://127.0.0.1:9")
    else:
        monkeypatch.setenv(how, "1")
    began = time.monotonic()
    assert main(words) == 2
    assert time.monotonic() - began < 15
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"open https://drive.google.com/file/d/{ID} in a browser, then hoiclip models {NAME} --file FILE" in told
    assert how.removeprefix("no network") in told
    assert drive.log == []


def test_a_complete_download_needs_no_network_any_more(
    drive: Drive, pth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache_home() / "downloads").mkdir(parents=True)
    (cache_home() / "downloads" / f"{NAME}.pth").write_bytes(pth.read_bytes())
    monkeypatch.setenv("HOICLIP_OFFLINE", "1")
    assert hoiclip.load(NAME, device="cpu").vocabulary.name == "tiny"
    assert (held("models"), held("downloads"), drive.log) == ([NAME], [], [])


def test_offline_the_hub_is_not_asked_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_answers", {})
    monkeypatch.setattr(hub, "_ask", lambda _: True)
    with hub.without_network():
        assert "--offline or HOICLIP_OFFLINE is set" in str(hub.prepare("owner/name"))
    assert hub.prepare("owner/name") is None  # and is, afterwards


def test_a_refusal_of_google_ends_with_the_way_by_hand(drive: Drive) -> None:
    drive.page = 200, QUOTA
    with pytest.raises(HoiError, match=f"too many have downloaded it.*; or by hand: .*hoiclip models {NAME} --file"):
        hoiclip.load(NAME)
    assert (held("models"), held("downloads")) == ([], [])


# --- wrong files -----------------------------------------------------------------------------------


def damaged(content: bytes) -> bytes:
    """The same with one number of a weight changed, as two versions glued together would have it."""
    half = len(content) // 2
    return content[:half] + bytes(b ^ 1 for b in content[half : half + 4]) + content[half + 4 :]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("not a checkpoint", "not a readable checkpoint"),
        ("another checkpoint", "this is not a tiny checkpoint; unexpected: surprise"),
        ("another vocabulary", r"wrongly shaped: interactions.weight \(7, 16\) instead of \(6, 16\)"),
        ("damaged", "is damaged"),
        ("cut off, of unknown length", "not a readable checkpoint"),
    ],
)
def test_another_file_is_refused_and_nothing_stays(
    drive: Drive, pth: Path, tmp_path: Path, kind: str, words: str
) -> None:
    good = pth.read_bytes()
    changes = {
        "another checkpoint": {"surprise": torch.zeros(1)},
        "another vocabulary": {"interactions.weight": torch.zeros(7, 16)},
    }
    bad = {"not a checkpoint": b"hello" * 1000, "damaged": damaged(good), "cut off, of unknown length": good[:100_000]}
    if kind in changes:
        bad[kind] = zoo_world.tiny_checkpoint(tmp_path / "bad.pth", **changes[kind]).read_bytes()
    drive.files[ID] = bad[kind]
    with pytest.raises(HoiError, match=f"what was downloaded is not this model and was removed: .*{words}") as error:
        hoiclip.load(NAME)
    assert "\n" not in str(error.value)
    assert (held("models"), held("downloads")) == ([], [])
    drive.files[ID] = good
    assert hoiclip.load(NAME, device="cpu").vocabulary.name == "tiny"


def test_a_file_of_other_sizes_is_refused(drive: Drive, pth: Path) -> None:
    drive.files[zoo_world.IDS["tiny-six-layers"]] = pth.read_bytes()
    with pytest.raises(
        HoiError, match=r"has a resnet-tiny and 2 decoder layers where tiny-six-layers has a resnet-tiny and 6"
    ):
        hoiclip.load("tiny-six-layers")
    assert held("models") == []


def test_a_full_disk_keeps_the_download(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise HoiError("no space left; free some space or choose another folder")

    with monkeypatch.context() as patch:
        patch.setattr("hoiclip.checkpoints.folders.save_model", full)
        with pytest.raises(HoiError, match="free some space"):
            hoiclip.load(NAME)
    assert (held("models"), held("downloads")) == ([], [f"{NAME}.pth"])
    hoiclip.load(NAME, device="cpu")
    assert drive.log == [None]
    assert (held("models"), held("downloads")) == ([NAME], [])


# --- by hand ---------------------------------------------------------------------------------------


def test_a_file_downloaded_by_hand_takes_its_place(
    drive: Drive, pth: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["models", NAME, "--file", str(pth)]) == 0
    assert "in the cache:   " + str(cache_home() / "models" / NAME) in capsys.readouterr().out
    assert pth.is_file()
    bad = zoo_world.tiny_checkpoint(tmp_path / "bad.pth", surprise=torch.zeros(1))
    assert main(["models", NAME, "--file", str(bad)]) == 2
    assert "unexpected: surprise" in capsys.readouterr().err
    assert bad.is_file()
    assert held("models") == [NAME]  # the right one stays
    assert main(["models", NAME, "--file", "nowhere.pth"]) == 2
    assert main(["models", "playground", "--file", str(pth)]) == 2
    assert "is no model that comes as a file" in capsys.readouterr().err
    assert hoiclip.load(NAME, device="cpu").vocabulary.name == "tiny"
    assert drive.log == []


# --- several processes, and killed ones ------------------------------------------------------------


def test_of_two_processes_one_fetches_and_the_other_waits(drive: Drive, photo: Path) -> None:
    waiting = "another process is fetching it; waiting"
    drive.go_on.clear()
    words = "detect", photo, "--model", NAME, "--device", "cpu", "--threshold", "0", "--out"
    logs = [Path(f"log{i}") for i in range(2)]
    with logs[0].open("w") as first, logs[1].open("w") as second:
        runs = [subprocess.Popen(command(*words, f"out{i}"), stderr=log) for i, log in enumerate((first, second))]
        until = time.monotonic() + 100
        while not any(waiting in log.read_text() for log in logs) and time.monotonic() < until:
            time.sleep(0.05)
        drive.go_on.set()
        assert [run.wait(timeout=120) for run in runs] == [0, 0], [log.read_text() for log in logs]
    assert drive.log == [None]
    assert sorted(waiting in log.read_text() for log in logs) == [False, True]
    assert Path("out0/detections.jsonl").read_text() == Path("out1/detections.jsonl").read_text()


@pytest.mark.parametrize("moment", ["while downloading", "while writing", "before it is in place", "when in place"])
def test_killed_at_any_moment_nothing_half_made_is_taken_and_the_same_command_goes_on(
    drive: Drive, moment: str
) -> None:
    places = {
        "while downloading": ("hoiclip.data.download.tqdm.update", "self, n"),
        "while writing": ("hoiclip.processing.HoiClipProcessor.save_pretrained", "self, folder"),
        "before it is in place": ("pathlib.Path.rename", "self, target"),
        "when in place": ("hoiclip.model_zoo.ZooEntry.cached", "self"),
    }
    place, arguments = places[moment]
    condition = "self.place.is_dir()" if moment == "when in place" else "True"
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(TESTS)!r})
import pytest, zoo_world, hoiclip.processing, hoiclip.checkpoints.folders, hoiclip.data.download
from pathlib import Path
patch = pytest.MonkeyPatch()
zoo_world.use(Path("table.tsv"), patch)
def die({arguments}, *rest, **options):
    if {condition}:
        os.kill(os.getpid(), signal.SIGKILL)
patch.setattr({place!r}, die)
hoiclip.load({NAME!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert find_entry(NAME).place.is_dir() == (moment == "when in place")
    assert hoiclip.load(NAME, device="cpu").vocabulary.name == "tiny"
    assert (held("models"), held("downloads")) == ([NAME], [])
    assert len(drive.log) == (2 if moment == "while downloading" else 1)
