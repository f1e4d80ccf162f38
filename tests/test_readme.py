"""Every command of the README and every Python block of the README and the guide runs as written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference import checkpoint, recipe
from tiny import tiny_tokenizer

from hoiclip import cli
from hoiclip.checkpoints.convert import convert_hoiclip
from hoiclip.cli import main
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.vocabulary import HoiVocabulary

ROOT = Path(__file__).resolve().parents[1]
BY_MAKE = {"fuzz", "demo", "test", "test-all", "lint", "format"}


def blocks(file: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / file).read_text(), re.DOTALL | re.MULTILINE)


def commands(file: str) -> list[list[str]]:
    lines = [line for block in blocks(file, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's reader has: a photo and the published checkpoint (here with recipe weights)."""
    folder = tmp_path_factory.mktemp("reader")
    Image.fromarray(recipe.image(5, 240, 320)).save(folder / "photo.jpg")
    torch.save({"model": checkpoint("hico"), "epoch": 89}, folder / "checkpoint.pth")
    words = HoiVocabulary.from_name("hico")
    boxes = np.array([[10, 10, 60, 110], [20, 60, 90, 140]])
    image = AnnotatedImage("a.jpg", boxes, [0, words.object_ids[0]], [[0, 1]], [0])
    save_hoia([image], folder / "test_hico.json", words)
    right = {"human_box": [10, 10, 60, 110], "object_box": [20, 60, 90, 140], "score": 0.9, "hoi_id": 0}
    (folder / "mine.jsonl").write_text(json.dumps({"file_name": "a.jpg", "image_size": None, "triplets": [right]}))
    return folder


def test_the_readmes_commands_and_code_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    known = [c for c in commands("README.md") if c[0] == "hoiclip"]
    assert [c[1] for c in known] == ["convert", "detect", "detect", "evaluate"]
    convert, detect, ask, evaluate = known
    assert main(evaluate[1:]) == 0
    assert json.loads(Path("metrics.json").read_text())["full"] == pytest.approx(1)
    assert main(convert[1:]) == 0
    assert main(detect[1:]) == 0
    assert Image.open("found/photo.jpg").size[0] >= 320
    assert len(Path("found/detections.jsonl").read_text().splitlines()) == 1
    for block in blocks("README.md", "python"):
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert '"triplets"' in printed

    # without a network and a tokenizer beside the model, asking for other words is one sentence
    assert main(ask[1:]) == cli.BAD_INPUT
    assert "tokenizer" in capsys.readouterr().err
    tiny_tokenizer(Path("model"), end=49407)
    assert main(ask[1:]) == 0
    found = json.loads(Path("asked/detections.jsonl").read_text())["triplets"]
    assert {t["interaction"] for t in found} <= {"ride unicycle", "hold umbrella", "sit on bench"}


def test_the_demo_judges_the_shipped_model_and_shows_right_and_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:.*\n\t\$\(BIN\)/hoiclip demo$", makefile, re.MULTILINE)
    assert main(["demo", "--out", str(tmp_path), "--scenes", "60"]) == 0
    printed = capsys.readouterr()
    assert "drawn scenes only" in printed.err
    figures = dict(re.findall(r"^  (\w+) +([\d.]+) %", printed.out, re.MULTILINE))
    assert set(figures) == {"all", "rare", "unseen"}
    assert float(figures["all"]) > 40
    assert Image.open(tmp_path / "demo.png").size[0] > 1000
    assert len((tmp_path / "detections.jsonl").read_text().splitlines()) == 60


def test_the_guides_python_runs() -> None:
    for block in blocks("docs/guide.md", "python"):
        exec(compile(block, "guide.md", "exec"), {})


def test_the_readmes_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {c[1] for file in ("README.md", "CONTRIBUTING.md") for c in commands(file) if c[0] == "make"}
    assert named == BY_MAKE
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_readmes_install_line_takes_the_pinned_torch() -> None:
    lines = [c for c in commands("README.md") if c[0] == "pip"]
    assert lines == [["pip", "install", "-c", "constraints.txt", "."]]
    assert re.search(r"^torch==\d", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([\w/.]+\.md)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).is_file(), target


def test_the_guides_table_of_vocabularies_is_true() -> None:
    rows = re.findall(r"^\| (`.*?) \| (\d+) \| (\d+)[^|]* \| (\d+)", (ROOT / "docs/guide.md").read_text(), re.MULTILINE)
    assert len(rows) == 7
    for names, verbs, objects, interactions in rows:
        for name in re.findall(r"`(\w+)`", names):
            words = HoiVocabulary.from_name(name)
            assert (len(words.verbs), len(words.objects)) == (int(verbs), int(objects))
            assert words.num_interactions == int(interactions)


def test_conversion_needs_no_tokenizer_but_can_save_one(workplace: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer", end=49407)
    arguments = ["convert", "hoiclip", str(workplace / "checkpoint.pth"), "--tokenizer", str(tokenizer)]
    assert main([*arguments, "--out", str(workplace / "with-words")]) == 0
    assert (workplace / "with-words" / "tokenizer.json").is_file()
    assert convert_hoiclip(workplace / "checkpoint.pth").text_embedder is not None
