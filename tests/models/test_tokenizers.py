"""The tokenizer is the user's own, and tells the sentences of a vocabulary apart; else nothing changes."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from tiny import tiny_clip, tiny_detector, tiny_model
from transformers import CLIPModel, DetrForObjectDetection

import hoiclip
from hoiclip import HoiError, HoiVocabulary, hub
from hoiclip.checkpoints.by_name import find_folder
from hoiclip.checkpoints.folders import load_model, save_model
from hoiclip.checkpoints.initialise import initialise_from
from hoiclip.cli import main
from hoiclip.models.text_embedder import TextEmbedder

WORDS = HoiVocabulary.from_words("ride horse, hold ball")


def unknown_words(tokenizer: Path, folder: Path) -> Path:
    """A tokenizer that maps every word it meets to one token, as transformers makes one up where it finds none."""
    shutil.copytree(tokenizer, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocab = {"<|startoftext|>": 512, "<|endoftext|>": 513, "?": 1}
    content["model"] = {"type": "WordLevel", "vocab": vocab, "unk_token": "?"}
    content["pre_tokenizer"] = {"type": "Whitespace"}
    content["post_processor"] = content["normalizer"] = content["decoder"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def auto_map(tokenizer: Path, folder: Path) -> Path:
    shutil.copytree(tokenizer, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["code.Own", "code.Own"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "code.py").write_text(f"open({str(folder / 'executed')!r}, 'w')\nclass Own: pass\n")
    return folder


def without_files(tokenizer: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "clip", "architectures": ["CLIPModel"]}')
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    return folder


def half_of_the_files(tokenizer: Path, folder: Path) -> Path:
    shutil.copytree(tokenizer, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "merges.txt").unlink(missing_ok=True)
    return folder


def torn(tokenizer: Path, folder: Path) -> Path:
    shutil.copytree(tokenizer, folder)
    whole = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(whole[: len(whole) // 2])
    return folder


BAD: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "none": (without_files, "holds no tokenizer"),
    "half": (half_of_the_files, "holds no tokenizer"),
    "torn": (torn, "no CLIP tokenizer can be loaded"),
    "code": (auto_map, "wants to run code of its own"),
    "no words": (unknown_words, "tokenizer"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_tokenizer_changes_nothing(
    tmp_path: Path, tokenizer: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question"))
    make, reason = BAD[what]
    folder = make(tokenizer, tmp_path / "clip")
    model = tiny_model(tokenizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for attempt in (
        lambda: model.set_vocabulary(WORDS, tokenizer=str(folder)),
        lambda: save_model(model, tmp_path / "out", tokenizer=str(folder)),
    ):
        with pytest.raises(HoiError, match=reason) as error:
            attempt()
        assert str(error.value).startswith(f"{folder}: ")
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert not (tmp_path / "out").exists()
    assert not (folder / "executed").exists()
    model.set_vocabulary(WORDS)  # its own tokenizer is still there


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("beside", [True, False])
def test_a_start_from_detr_and_clip_needs_a_tokenizer(
    tmp_path: Path, tokenizer: Path, what: str, beside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = BAD[what]
    folder, clip, detr = make(tokenizer, tmp_path / "tokenizer"), tmp_path / "clip", tmp_path / "detr"
    DetrForObjectDetection(tiny_detector(decoder_layers=3)).save_pretrained(detr)
    CLIPModel(tiny_clip()).save_pretrained(clip)
    arguments = [] if beside else ["--tokenizer", str(folder)]
    if beside:
        for file in folder.iterdir():
            if file.name != "config.json":
                shutil.copy(file, clip)
    command = ["convert", "detr", str(detr), "--clip", str(clip), "--out", str(tmp_path / "out"), *arguments]
    capsys.readouterr()
    assert main(command) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert told.startswith(f"hoiclip: {clip if beside else folder}: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(HoiError, match=reason):
        initialise_from(detr, clip, WORDS, tokenizer=None if beside else folder, interaction_heads=4)


def test_two_sentences_with_the_same_ids_are_never_accepted(tokenizer: Path) -> None:
    class Deaf:
        def __call__(self, sentences: list[str], **_: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[512, len(s) % 2, 513] for s in sentences]}

    with pytest.raises(HoiError, match="cannot tell 'a photo of a person"):
        tiny_model(tokenizer).set_vocabulary("vcoco", tokenizer=Deaf())


def test_a_sentence_beyond_the_text_tower_is_told(tokenizer: Path) -> None:
    model = tiny_model(tokenizer)
    long = HoiVocabulary.from_words(f"ride {'x' * 90}, hold ball")
    with pytest.raises(HoiError) as error:
        model.set_vocabulary(long)
    sentence = long.interaction_prompts[0]
    tokens = len(TextEmbedder(str(tokenizer)).tokenizer(sentence)["input_ids"])
    told = f"the sentence {sentence!r} has {tokens} tokens, {tokens - 77} more than the 77"
    assert str(error.value).startswith(told)
    assert model.vocabulary.name == "tiny"


def test_a_tokenizer_of_another_text_tower_is_told(tokenizer: Path) -> None:
    model = tiny_model(tokenizer)
    for changes in ({"vocab_size": 300}, {"eos_token_id": 7}):
        for name, value in changes.items():
            setattr(model.config.clip.text_config, name, value)
        with pytest.raises(HoiError, match="this tokenizer does not"):
            model.set_vocabulary(WORDS, tokenizer=str(tokenizer))


# --- the hub ---------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that nobody reaches, without HF_HUB_OFFLINE."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_answers", {})


@pytest.fixture
def cached(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model in the hub's cache."""
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("0" * 40)
    shutil.copytree(model_folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return "owner/name"


def test_without_network_it_is_told_at_once(
    no_network: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], tokenizer: Path
) -> None:
    start = time.monotonic()
    for source in ("nobody/nothing", "nothing"):
        with pytest.raises(HoiError, match=f"{source}: no "):
            find_folder(source)
        with pytest.raises(HoiError, match=rf"{source}: no CLIP tokenizer .*cannot be reached"):
            tiny_model(tokenizer).set_vocabulary(WORDS, tokenizer=source)
    with pytest.raises(HoiError, match="cannot be reached"):
        initialise_from("nobody/detr", "nobody/clip")
    assert time.monotonic() - start < 5
    assert capsys.readouterr().err == ""


def test_without_network_the_cache_is_used(no_network: None, cached: str) -> None:
    start = time.monotonic()
    model = load_model(cached)
    model.set_vocabulary(WORDS)  # by the tokenizer that lies beside the model in the cache
    assert time.monotonic() - start < 10
    detector = hoiclip.load(cached, device="cpu", vocabulary=WORDS)
    assert detector.vocabulary == WORDS


def test_a_hub_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    monkeypatch.setattr(hub, "_ask", lambda _: time.sleep(5) or True)
    monkeypatch.setattr(hub, "_answers", {})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    start = time.monotonic()
    assert "cannot be reached" in str(hub.prepare("owner/name"))
    assert time.monotonic() - start < 3


def test_a_hub_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(hub, "_answers", {})
    assert hub.prepare("owner/name") is None
    server.shutdown()


def test_offline_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_answers", {})
    monkeypatch.setattr(hub, "_ask", lambda _: pytest.fail("the network is used"))
    assert "HF_HUB_OFFLINE is set" in str(hub.prepare("owner/name"))
