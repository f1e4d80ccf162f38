"""The published names with files of their full layout: fetched, resumed after a kill, converted; wrong ones refused."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from drive_server import ODD, Drive, serving
from PIL import Image
from reference import checkpoint, recipe

import hoiclip
from hoiclip import HoiError, HoiVocabulary
from hoiclip.checkpoints.by_name import take_file
from hoiclip.checkpoints.convert import convert_gen_vlkt, convert_hoiclip
from hoiclip.data.download import OVERLAP
from hoiclip.data.drive import drive_id
from hoiclip.model_zoo import DATA, cache_home, find_entry, zoo
from hoiclip.models.configuration import RESNETS


def test_every_line_of_the_table_can_be_used() -> None:
    entries = zoo()
    assert len(entries) == 27
    for entry in entries.values():
        assert all(vars(entry).values()), entry
        if entry.kind in ("hoiclip", "gen-vlkt"):
            assert HoiVocabulary.from_name(entry.vocabulary).name == entry.vocabulary
        if entry.address.startswith("https://drive.google.com"):
            assert drive_id(entry.address) == entry.address.rpartition("/")[2]
        elif entry.kind != DATA and entry.name not in ("playground", "training-free"):
            assert entry.address.endswith(".pth")
        if entry.address != "-" and entry.kind != DATA:
            assert entry.backbone.split()[0].replace("R", "resnet") in RESNETS
            assert entry.layers in ("3", "6")
    addresses = [e.address for e in entries.values() if e.address != "-"]
    assert len(set(addresses)) == len(addresses)
    assert {e.licence for e in entries.values() if "Artanic30" in e.page} == {"none stated"}


def with_layers(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """GEN-VLKT's larger layout: layers beyond the third repeat it."""
    more = dict(weights)
    for name, tensor in weights.items():
        for new in range(3, layers):
            if re.match(r"transformer\.(instance|interaction)_decoder\.layers\.2\.", name):
                more[name.replace(".layers.2.", f".layers.{new}.")] = tensor
    return more


def test_gen_vlkt_with_six_decoder_layers_is_converted_whole() -> None:
    model = convert_gen_vlkt(with_layers(checkpoint("gen_vlkt"), 6))
    assert (model.config.detector.decoder_layers, model.config.interaction_layers) == (6, 6)
    last, third = model.interaction_decoder.layers[5].mlp.fc1.weight, model.interaction_decoder.layers[2].mlp.fc1.weight
    assert torch.equal(last, third)


@pytest.mark.parametrize("wrong", ["hico_nf_uc", "hico_uc1"])
def test_splits_of_one_size_are_told_apart(wrong: str) -> None:
    assert len(HoiVocabulary.from_name(wrong).seen) == len(HoiVocabulary.from_name("hico_rf_uc").seen)
    with pytest.raises(HoiError, match=f"was trained on other interactions than the vocabulary '{wrong}'"):
        convert_hoiclip(checkpoint("hico_rf_uc"), wrong)


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HOICLIP_HOME", str(tmp_path / "home"))
    with serving() as drive:
        monkeypatch.setenv("HOICLIP_DRIVE_ORIGIN", drive.origin)
        yield drive


def left() -> list[str]:
    """Every file and folder of a model or download in the cache."""
    places = (cache_home() / "models", cache_home() / "downloads")
    return [p.name for place in places if place.is_dir() for p in place.iterdir() if p.suffix != ".lock"]


def serve(drive: Drive, name: str, file: Path | bytes) -> None:
    drive.files[find_entry(name).address.rpartition("/")[2]] = file


def test_a_gen_vlkt_file_is_a_model_under_its_own_name_only(drive: Drive, tmp_path: Path) -> None:
    torch.save({"model": checkpoint("gen_vlkt")}, tmp_path / "gen.pth")
    for name, words in (
        ("hoiclip-hicodet", "this is not a HOICLIP checkpoint for the vocabulary 'hico'"),
        ("gen-vlkt-s-vcoco", "rows in visual_projection.weight where the vocabulary 'vcoco' has 263"),
        ("gen-vlkt-m-hicodet", "has a resnet50 and 3 decoder layers where gen-vlkt-m-hicodet has a resnet101 and 3"),
        ("detr-r50", "this is not the official DETR checkpoint"),
    ):
        with pytest.raises(HoiError, match=words):
            take_file(find_entry(name), tmp_path / "gen.pth")
        assert left() == []
    serve(drive, "gen-vlkt-s-hicodet", tmp_path / "gen.pth")
    detector = hoiclip.load("gen-vlkt-s-hicodet", device="cpu")
    assert left() == ["gen-vlkt-s-hicodet"]
    expected = checkpoint("gen_vlkt")["visual_projection.weight"]
    assert torch.equal(detector.model.interactions.weight, expected)


@pytest.mark.slow
def test_a_full_size_model_killed_at_two_fifths_goes_on_converts_and_detects(drive: Drive, tmp_path: Path) -> None:
    name, source = "hoiclip-hicodet", tmp_path / "best.pth"
    torch.save({"model": checkpoint("hico")}, source)
    size = source.stat().st_size
    assert size > 600_000_000
    serve(drive, name, source)
    Image.fromarray(recipe.image(11, 320, 416)).save(tmp_path / "photo.png")
    words = ["detect", str(tmp_path / "photo.png"), "--model", name, "--device", "cpu", "--threshold", "0"]
    command = [sys.executable, "-m", "hoiclip", *words, "--out", str(tmp_path / "out")]
    part = cache_home() / "downloads" / f"{name}.pth.part"
    drive.pause = 0.01
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while run.poll() is None and not (part.is_file() and part.stat().st_size > 0.4 * size):
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    have = part.stat().st_size
    assert 0.4 * size < have < 0.9 * size
    assert not (cache_home() / "models").exists()
    drive.pause = 0
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert drive.log == [None, f"bytes={have - OVERLAP}-"]
    assert left() == [name]
    assert (tmp_path / "out" / "detections.jsonl").read_text().count("\n") == 1
    loaded, expected = hoiclip.load(name, device="cpu").model.state_dict(), checkpoint("hico")
    assert torch.equal(loaded["verbs.weight"], expected["verb_projection.weight"])
    assert torch.equal(loaded["detector.human_queries.weight"], expected["query_embed_h.weight"])
    for wrong, content in (
        ("hoiclip-vcoco", source),
        ("hoiclip-hicodet-rf-uc", source),
        ("gen-vlkt-s-hicodet", source),
    ):
        serve(drive, wrong, content)
        with pytest.raises(HoiError, match="what was downloaded is not this model and was removed"):
            hoiclip.load(wrong)
    drive.page = 200, ODD
    with pytest.raises(HoiError, match="sends a web page"):
        hoiclip.load("hoiclip-hicodet-uv")
    assert left() == [name]
