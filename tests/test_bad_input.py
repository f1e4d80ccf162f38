"""Bad input is told in one sentence that names the file, with exit code 2, and destroys nothing."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model

from hoiclip import HoiVocabulary
from hoiclip.checkpoints.folders import save_model
from hoiclip.checkpoints.reading import read_weights
from hoiclip.cli import main
from hoiclip.errors import HoiError

pytestmark = pytest.mark.usefixtures("one_thread")

EARLIER = '{"file_name": "earlier.jpg", "image_size": [1, 1], "triplets": []}\n'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder that holds an earlier run's result."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "detections.jsonl").write_text(EARLIER)
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.effect_noise((96, 64), 90).save(path)
    return path


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail with exit code 2 and one sentence, and returns the sentence."""

    def run(*arguments: Any) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 2
        told = capsys.readouterr()
        assert "Traceback" not in told.err + told.out
        lines = told.err.splitlines()
        assert len(lines) == 1, told.err
        assert lines[0].startswith("hoiclip: ")
        return lines[0].removeprefix("hoiclip: ")

    return run


@pytest.fixture
def refused(complaint: Callable[..., str], model_folder: Path, out: Path) -> Callable[..., str]:
    """The same for detect; what an earlier run wrote must survive."""

    def run(*arguments: Any, model: Path | str = model_folder) -> str:
        told = complaint("detect", *arguments, "--model", model, "--out", out, "--device", "cpu", "--resume")
        assert (out / "detections.jsonl").read_text().startswith(EARLIER)
        told_again = complaint("detect", *arguments, "--model", model, "--out", out, "--device", "cpu")
        assert (out / "detections.jsonl").read_text().startswith(EARLIER)
        assert told_again == told
        return told

    return run


# --- pictures --------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG that declares any size it likes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def jpeg(path: Path) -> bytes:
    Image.effect_noise((200, 160), 90).save(path)
    return path.read_bytes()


BAD_PICTURES = {
    "empty.jpg": (lambda path: b"", "is empty"),
    "truncated.jpg": (lambda path: jpeg(path)[:3000], "is damaged and cannot be decoded"),
    "header-only.jpg": (lambda path: jpeg(path)[:200], "is damaged and cannot be decoded"),
    "text.jpg": (lambda path: b"Dear diary, today I am a picture.\n", "is no image that can be read"),
    "wrong-checksum.png": (lambda path: png(9, 9, b"")[:20] + b"\xff" * 20, "cannot be decoded|is no image"),
    "bomb.png": (lambda path: png(60000, 60000, bytes(1000)), "has too many pixels"),
    "bomb.gif": (
        lambda path: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0" + b",\0\0\0\0" * 9,
        "pixels|damaged",
    ),
    "zero-size.png": (lambda path: png(0, 5, b""), "damaged|no image"),
    "no-data.png": (lambda path: png(50, 50, b""), "is damaged and cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_named(tmp_path: Path, refused: Callable[..., str], name: str) -> None:
    make, reason = BAD_PICTURES[name]
    path = tmp_path / name
    path.write_bytes(make(path))
    told = refused(path)
    assert told.startswith(f"{path}: ")
    assert any(r in told for r in reason.split("|")), told
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["detections.jsonl"]


def test_a_missing_picture_and_other_things_that_are_none(tmp_path: Path, photo: Path, refused: Callable) -> None:
    assert refused(tmp_path / "missing.jpg") == f"{tmp_path / 'missing.jpg'}: no such image; check the path"
    assert refused(photo / "inside.jpg").startswith(f"{photo / 'inside.jpg'}: cannot be read (Not a directory)")
    long = tmp_path / ("x" * 300 + ".jpg")
    assert refused(long).startswith(f"{long}: cannot be read (File name too long)")


def test_a_picture_that_may_not_be_read(photo: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", forbidden)
    assert refused(photo) == f"{photo}: may not be read; check its permissions"


def test_a_reader_that_fails_in_its_own_way(photo: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(*_: Any, **__: Any) -> Any:
        raise struct.error("unpack requires\na buffer")

    monkeypatch.setattr(Image, "open", odd)
    assert refused(photo) == f"{photo}: is damaged and cannot be decoded (unpack requires); copy it again"


@pytest.mark.parametrize("size", [(1, 1), (30000, 10), (10, 30000), (2, 5000)])
def test_odd_shapes_work_in_little_time(tmp_path: Path, out: Path, model_folder: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "odd.png"
    Image.new("RGB", size, "red").save(path)
    start = time.process_time()
    arguments = ["detect", str(path), "--model", str(model_folder), "--out", str(out), "--threshold", "0"]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert time.process_time() - start < 20
    entry = json.loads((out / "detections.jsonl").read_text())
    assert entry["image_size"] == [size[1], size[0]]
    for triplet in entry["triplets"]:
        assert 0 <= triplet["human_box"][0] <= triplet["human_box"][2] <= size[0]
    with Image.open(out / "odd.jpg") as drawing:
        assert max(drawing.size) <= max(*size, 1300)


def test_an_unreadable_folder(tmp_path: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    real = Path.iterdir

    def forbidden(self: Path) -> Iterator[Path]:
        if self == folder:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self)

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert refused(folder) == f"{folder}: the folder cannot be read (Permission denied); check permissions"


def test_folders_and_patterns_without_pictures(tmp_path: Path, refused: Callable) -> None:
    (tmp_path / "void").mkdir()
    assert refused(tmp_path / "void").startswith(f"{tmp_path / 'void'}: no images in this folder")
    assert refused(tmp_path / "*.webp").startswith(f"{tmp_path / '*.webp'}: nothing matches this pattern")


# --- models ----------------------------------------------------------------------------------------


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    """A model folder to break."""
    return Path(shutil.copytree(model_folder, tmp_path / "broken"))


@pytest.mark.parametrize("source", ["nowhere", "no-such-owner/no-such-model", "photo.png", "out", "a/b/c"])
def test_an_unknown_model(
    tmp_path: Path, photo: Path, refused: Callable, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(photo, model=source).startswith(f"{source}: no ")


def test_no_model_at_all(photo: Path, complaint: Callable, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip.inference.loading.SHIPPED_MODEL", Path("nowhere"))
    assert complaint("detect", photo, "--out", out).startswith("no model is shipped with this version")
    assert (out / "detections.jsonl").read_text() == EARLIER


def _cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _edit_part(folder: Path, part: str, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    _edit(folder / "config.json", **{part: {**content[part], **changes}})


def _with_nan(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = torch.tensor(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _without_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["logit_scale"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN_MODELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no vocabulary": (lambda m: (m / "vocabulary.json").unlink(), "vocabulary.json"),
    "torn vocabulary": (lambda m: _cut(m / "vocabulary.json", 0.5), "vocabulary.json"),
    "vocabulary is a list": (lambda m: (m / "vocabulary.json").write_text("[1, 2]"), "vocabulary.json"),
    "vocabulary lacks a key": (lambda m: (m / "vocabulary.json").write_text('{"name": "x"}'), "vocabulary.json"),
    "vocabulary with odd pairs": (lambda m: _edit(m / "vocabulary.json", interactions=[[0], [1]]), "vocabulary.json"),
    "vocabulary of another model": (lambda m: HoiVocabulary.from_name("vcoco").save(m), "vocabulary.json"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors"),
    "empty weights": (lambda m: (m / "model.safetensors").write_bytes(b""), "no model can be loaded"),
    "truncated weights": (lambda m: _cut(m / "model.safetensors", 0.7), "no model can be loaded"),
    "garbage weights": (
        lambda m: (m / "model.safetensors").write_bytes(bytes(range(256)) * 20),
        "no model can be loaded",
    ),
    "a weight missing": (_without_a_tensor, "missing weights in model.safetensors (logit_scale)"),
    "config of other sizes": (
        lambda m: _edit(m / "config.json", num_queries=7),
        "mismatched weights in model.safetensors",
    ),
    "torn config": (lambda m: _cut(m / "config.json", 0.5), "config.json"),
    "config with a nonsense value": (lambda m: _edit(m / "config.json", variant="best"), "variant"),
    "no config": (lambda m: (m / "config.json").unlink(), "config.json"),
    "processor is a list": (lambda m: (m / "processor_config.json").write_text("[1]"), "processor_config.json"),
    "processor nested": (lambda m: (m / "processor_config.json").write_text("[" * 9000), "processor_config.json"),
    "no processor": (lambda m: (m / "processor_config.json").unlink(), "no readable processor_config.json there"),
    "torn processor": (lambda m: _cut(m / "processor_config.json", 0.5), "processor_config.json"),
    "a size in words": (lambda m: _edit(m / "processor_config.json", shortest_edge="128"), "shortest_edge must be"),
    "a negative size": (lambda m: _edit(m / "processor_config.json", longest_edge=-5), "longest_edge must be"),
    "a size as truth": (lambda m: _edit(m / "processor_config.json", clip_size=True), "clip_size must be"),
    "a huge view": (lambda m: _edit(m / "processor_config.json", clip_size=10000), "clip_size must be"),
    "another view": (lambda m: _edit(m / "processor_config.json", clip_size=224), "this CLIP looks at 32 pixels"),
    "negative queries": (lambda m: _edit(m / "config.json", num_queries=-4), "num_queries must be"),
    "queries in words": (lambda m: _edit(m / "config.json", num_queries="4"), "num_queries must be"),
    "layers without end": (lambda m: _edit_part(m, "detector", encoder_layers=10**7), "detector.encoder_layers must"),
    "a huge width": (lambda m: _edit_part(m, "detector", d_model=16384), "mismatched weights"),
    "heads that do not divide": (lambda m: _edit(m / "config.json", interaction_heads=5), "interaction_heads must"),
    "an unknown activation": (lambda m: _edit_part(m, "detector", activation_function="x"), "no model can be loaded"),
    "no number": (lambda m: _edit(m / "config.json", verb_weight="much"), "verb_weight must be a number"),
    "weights that are no numbers": (lambda m: _with_nan(m), "logit_scale holds NaN"),
    "unknown setting": (lambda m: _edit(m / "processor_config.json", colour="red"), "colour"),
}


@pytest.mark.parametrize("what", BROKEN_MODELS)
def test_a_broken_model_folder(photo: Path, refused: Callable, copy: Path, what: str) -> None:
    damage, reason = BROKEN_MODELS[what]
    damage(copy)
    told = refused(photo, model=copy)
    assert told.startswith(f"{copy}: ")
    assert reason in told


# --- words -----------------------------------------------------------------------------------------

BAD_VOCABULARIES = {
    "not yaml": "verbs: [ride\nobjects: {",
    "no dictionary": "- ride\n- hold\n",
    "empty": "",
    "no objects": "verbs: [ride]\n",
    "empty verbs": "verbs: []\nobjects: [horse]\n",
    "unknown key": "verbs: [ride]\nobjects: [horse]\ncolours: [red]\n",
    "unknown pair": "verbs: [ride]\nobjects: [horse]\npairs: [ride camel]\n",
    "pairs a number": "verbs: [ride]\nobjects: [horse]\npairs: 3\n",
    "empty verb entry": "verbs: [{}]\nobjects: [horse]\n",
    "rare a number": "verbs: [ride]\nobjects: [horse]\nrare: 7\n",
    "ids no numbers": "verbs: [ride]\nobjects: [horse]\ncategory_ids: [x]\n",
    "twice the same": "verbs: [ride, ride]\nobjects: [horse]\n",
    "binary": "\x00\x01\x02",
}


@pytest.mark.parametrize("what", BAD_VOCABULARIES)
def test_a_bad_vocabulary_file(tmp_path: Path, photo: Path, refused: Callable, what: str) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(BAD_VOCABULARIES[what])
    assert refused(photo, "--vocabulary", path).startswith(f"{path}: ")


def test_words_that_cannot_be_understood(tmp_path: Path, photo: Path, refused: Callable) -> None:
    assert "unknown vocabulary 'hiko'" in refused(photo, "--vocabulary", "hiko")
    missing = tmp_path / "none.yaml"
    assert refused(photo, "--vocabulary", missing).startswith(f"{missing}: no such file")
    assert "'ride' needs a verb and an object" in refused(photo, "--interactions", "ride")
    assert "no interaction" in refused(photo, "--interactions", " , ")
    assert "empty name" in refused(photo, "--verbs", "ride,,hold")
    assert "unknown vocabulary ''" in refused(photo, "--vocabulary", "")


def test_new_words_without_a_tokenizer(photo: Path, refused: Callable, copy: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (copy / name).unlink(missing_ok=True)
    _edit(copy / "config.json", tokenizer="openai/clip-vit-base-patch32")
    told = refused(photo, "--interactions", "ride unicycle", model=copy)
    assert told.startswith("openai/clip-vit-base-patch32: no CLIP tokenizer can be loaded")


def test_an_unknown_device(photo: Path, complaint: Callable, model_folder: Path, out: Path) -> None:
    told = complaint("detect", photo, "--model", model_folder, "--out", out, "--device", "abacus")
    assert told == "device abacus is not available here; use --device cpu"


# --- writing ---------------------------------------------------------------------------------------


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow past ``limit`` bytes: the operating system itself refuses."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_disk_full_while_a_picture_is_written(photo: Path, refused: Callable, out: Path) -> None:
    with full_disk(2000):
        told = refused(photo)
    assert told.startswith(f"{out / 'photo.jpg'}: cannot be written (File too large)")
    assert (out / "detections.jsonl").read_text() == EARLIER
    assert [p.name for p in out.iterdir()] == ["detections.jsonl"]  # nothing half written is left


def test_no_space_left_for_a_picture(
    photo: Path, refused: Callable, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", _no_space)
    assert refused(photo) == (
        f"{out / 'photo.jpg'}: cannot be written (No space left on device); free some space or choose another folder"
    )
    assert [p.name for p in out.iterdir()] == ["detections.jsonl"]


@pytest.mark.parametrize("resume", [True, False])
def test_disk_full_while_a_result_is_written(
    photo: Path, complaint: Callable, out: Path, model_folder: Path, resume: bool
) -> None:
    arguments = ["detect", photo, "--model", model_folder, "--out", out, "--threshold", 0, "--no-pictures"]
    with full_disk(len(EARLIER) + 100):
        told = complaint(*arguments, *["--resume"] * resume)
    assert told.startswith(f"{out / 'detections.jsonl'}: cannot be written (File too large)")
    assert (out / "detections.jsonl").read_text() == EARLIER
    assert [p.name for p in out.iterdir()] == ["detections.jsonl"]
    assert main([str(a) for a in (*arguments, "--resume")]) == 0  # with room again it goes on
    assert [json.loads(line)["file_name"] for line in (out / "detections.jsonl").open()] == ["earlier.jpg", str(photo)]


def test_an_output_folder_that_cannot_be(photo: Path, complaint: Callable, model_folder: Path, tmp_path: Path) -> None:
    told = complaint("detect", photo, "--model", model_folder, "--out", photo)
    assert told.startswith(f"{photo / 'photo.jpg'}: cannot be written (")
    (tmp_path / "odd" / "detections.jsonl").mkdir(parents=True)
    told = complaint("detect", photo, "--model", model_folder, "--out", tmp_path / "odd", "--resume")
    assert told.startswith(f"{tmp_path / 'odd' / 'detections.jsonl'}: cannot be read (Is a directory)")


@pytest.mark.parametrize(
    "line",
    [
        "no json\n", "[1, 2]\n", '{"name": "x"}\n', "\n", '{"file_name": ["a"]}\n', "\xff\n",
        '{"file_name": "a", "triplets": ["x"]}\n', '{"file_name": "a", "triplets": [{"hoi_id": [0]}]}\n',
        '{"file_name": "a", "triplets": [{"hoi_id": 0, "interaction_score": "x"}]}\n',
    ],
)  # fmt: skip
def test_resuming_a_file_that_is_something_else(photo: Path, complaint: Callable, out: Path, line: str) -> None:
    content = EARLIER.encode() + line.encode("latin-1")
    (out / "detections.jsonl").write_bytes(content)
    told = complaint("detect", photo, "--model", "nowhere", "--out", out, "--resume")
    assert told.startswith(f"{out / 'detections.jsonl'}: line 2 is no result of hoiclip detect")
    assert (out / "detections.jsonl").read_bytes() == content


# --- checkpoints -----------------------------------------------------------------------------------


class Malicious:
    """What a poisoned checkpoint carries."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("kind", ["hoiclip", "gen-vlkt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_checkpoint_is_not_run(tmp_path: Path, complaint: Callable, kind: str, zipped: bool) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "executed"
    content = {"model": {"logit_scale": torch.ones(1)}, "args": Malicious(f"touch {trace}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    told = complaint("convert", kind, path, "--out", tmp_path / "model")
    assert told.startswith(f"{path}: refused, since it wants to run code (")
    assert "system" in told
    assert not trace.exists()
    assert not (tmp_path / "model").exists()
    torch.load(path, weights_only=False)  # and it would have
    assert trace.exists()


def test_the_options_of_a_training_script_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "trained.pth"
    options = argparse.Namespace(lr=1e-4, dataset_file="hico", betas=(0.9, 0.999), nested=argparse.Namespace(a=1))
    torch.save({"model": {"module.weight": torch.arange(3.0)}, "args": options, "epoch": 89}, path)
    assert read_weights(path)["weight"].tolist() == [0, 1, 2]


BAD_CHECKPOINTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda p: None, "no such file"),
    "a folder": (lambda p: p.mkdir(), "no such file"),
    "empty": (lambda p: p.touch(), "the file is empty"),
    "text": (lambda p: p.write_text("<html>404</html>"), "not a readable checkpoint"),
    "garbage": (lambda p: p.write_bytes(bytes(range(256)) * 20), "not a readable checkpoint"),
    "a photo": (lambda p: p.write_bytes(b"\xff\xd8\xff\xe0"), "no file of PyTorch's, or a damaged one"),
    "no weights": (lambda p: torch.save({"epoch": 3}, p), "holds no tensors"),
    "one tensor": (lambda p: torch.save(torch.zeros(3), p), "holds a Tensor"),
    "a list": (lambda p: torch.save([torch.zeros(3)], p), "holds a list"),
    "other weights": (lambda p: torch.save({"model": {"a": torch.zeros(3), "b": torch.zeros(())}}, p), "hico"),
    "empty model": (lambda p: torch.save({"model": {}}, p), "holds no tensors"),
}


@pytest.mark.parametrize("what", BAD_CHECKPOINTS)
def test_a_bad_checkpoint(tmp_path: Path, complaint: Callable, what: str) -> None:
    path = tmp_path / "checkpoint.pth"
    make, reason = BAD_CHECKPOINTS[what]
    make(path)
    told = complaint("convert", "hoiclip", path, "--out", tmp_path / "model")
    assert told.startswith(f"{path}: ")
    assert reason in told
    assert "weights_only" not in told  # torch's own text advises to load the file unsafely
    assert not (tmp_path / "model").exists()


def test_a_numpy_number_beside_the_weights_is_no_code(tmp_path: Path, complaint: Callable) -> None:
    path = tmp_path / "best.pth"
    torch.save({"model": {"logit_scale": torch.ones(())}, "best_map": np.float64(31.2), "out": Path("x")}, path)
    told = complaint("convert", "hoiclip", path, "--vocabulary", "hico", "--out", tmp_path / "model")
    assert told.startswith(f"{path}: this is not a HOICLIP checkpoint for the vocabulary 'hico'; missing: backbone")
    assert "ema" in complaint("convert", "hoiclip", path, "--weights", "ema", "--out", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_likely_slips_are_told_in_one_line_and_asked_for(
    photo: Path, out: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["detect", str(photo), "--model", str(model_folder), "--out", str(out), "--threshold", "0"]
    for words in (["--verbs", "hodl\nride"], ["--interactions", "hodl horse\nRide Bicycle"], ["--verbs", "hold;ride"]):
        capsys.readouterr()
        assert main([*start, *words]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hoiclip: ")]
        expected = "hoiclip: new to this model, and asked for as typed: 'hodl' (did you mean 'hold'?)"
        assert told == ([expected] if "hodl" in words[1] else [])
        entry = json.loads((out / "detections.jsonl").read_text())
        verbs = {triplet["verb"] for triplet in entry["triplets"]}
        assert verbs <= {"ride", "hodl", "hold"}
        assert verbs


def test_a_truncated_checkpoint(tmp_path: Path, complaint: Callable) -> None:
    path = tmp_path / "half.pth"
    torch.save({"model": {"weight": torch.zeros(1000)}}, path)
    _cut(path, 0.5)
    assert complaint("convert", "hoiclip", path, "--out", tmp_path / "m").startswith(f"{path}: not a readable")


@pytest.mark.parametrize(
    ("kind", "name", "rows"),
    [
        ("hoiclip", "visual_projection.weight", 263),
        ("hoiclip", "obj_visual_projection.weight", 82),
        ("hoiclip", "verb_projection.weight", 29),
        ("gen-vlkt", "visual_projection.weight", 480),
    ],
)
def test_a_checkpoint_of_another_vocabulary(
    tmp_path: Path, complaint: Callable, kind: str, name: str, rows: int
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": {name: torch.zeros(rows, 4)}}, path)
    told = complaint("convert", kind, path, "--vocabulary", "hico", "--out", tmp_path / "model")
    assert told.startswith(f"{path}: has {rows} rows in {name} where the vocabulary 'hico' has ")
    assert "name the vocabulary it was trained on" in told


def test_convert_with_words_nobody_knows(tmp_path: Path, complaint: Callable) -> None:
    path = tmp_path / "any.pth"
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    assert "unknown vocabulary 'hiko'" in complaint(
        "convert", "hoiclip", path, "--vocabulary", "hiko", "--out", tmp_path / "m"
    )
    assert complaint("convert", "detr", path, "--out", tmp_path / "m").startswith("--clip is missing")
    assert complaint("convert", "detr", path, "--clip", tmp_path, "--out", tmp_path / "m").startswith(f"{path}: ")
    missing = tmp_path / "no-clip"
    told = complaint("convert", "gen-vlkt", path, "--clip", missing, "--out", tmp_path / "m")
    assert told.startswith(f"{missing}: ") or told.startswith(f"{path}: ")


@pytest.mark.parametrize("limit", [0, 500, 50_000])
def test_disk_full_while_a_model_is_written(
    tmp_path: Path, complaint: Callable, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip.checkpoints.convert_hoiclip", lambda *_, **__: tiny_model())
    folder = tmp_path / "model"
    with full_disk(limit):
        told = complaint("convert", "hoiclip", "any.pth", "--out", folder)
    assert str(folder) in told.split(": ")[0]
    assert "cannot be written" in told


def test_a_model_folder_that_is_a_file(tmp_path: Path, photo: Path) -> None:
    with pytest.raises(HoiError, match="cannot be written"):
        save_model(tiny_model(), photo)


def test_a_device_without_enough_memory(photo: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nand more words")

    monkeypatch.setattr("hoiclip.models.modeling.HoiClipModel.forward", greedy)
    assert refused(photo) == "cpu: does not have enough memory for a batch of 1; use --device cpu"
