"""``hoiclip models``: what can be had, one in full, and JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hoiclip.cli import main
from hoiclip.model_zoo import find_entry, zoo


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOICLIP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def put(home: Path, name: str) -> None:
    (home / "models" / name).mkdir(parents=True)
    (home / "models" / name / "model.safetensors").write_bytes(bytes(3 << 20))


def test_the_table_names_everything_within_a_hundred_columns(home: Path, capsys: pytest.CaptureFixture) -> None:
    put(home, "hoiclip-vcoco")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 100
    assert lines[-1] == str(home)
    assert {line.split()[0] for line in lines if line.strip()} >= {*zoo(), "NAME"}
    row = next(line for line in lines if line.startswith("hoiclip-vcoco "))
    assert row.split()[:7] == ["hoiclip-vcoco", "hoiclip", "vcoco", "3", "MiB", "V-COCO", "63.50/64.81"]
    assert "github.com/Artanic30/HOICLIP, licence: none stated" in lines
    dp_hoi = next(line for line in lines if line.startswith("dp-hoi-hicodet "))
    assert "MiB" not in dp_hoi


def test_one_is_shown_in_full(home: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["models", "gen-vlkt-l-hicodet"]) == 0
    shown = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert {name: text.strip() for name, text in shown.items()} == {
        "name": "gen-vlkt-l-hicodet",
        "kind": "gen-vlkt",
        "trained on": "hico",
        "backbone": "R101",
        "decoder layers": "6",
        "published": "HICO-DET 34.95/31.18/36.08, known object 38.22/34.36/39.37",
        "licence": "MIT",
        "page": "github.com/YueLiao/gen-vlkt",
        "file": find_entry("gen-vlkt-l-hicodet").address,
        "in the cache": "no",
        "use": "hoiclip detect PHOTO --model gen-vlkt-l-hicodet",
        "by hand": "open the file's address in a browser, then: hoiclip models gen-vlkt-l-hicodet --file FILE",
    }
    put(home, "gen-vlkt-l-hicodet")
    main(["models", "gen-vlkt-l-hicodet"])
    assert f"in the cache:   {home / 'models' / 'gen-vlkt-l-hicodet'} (3 MiB)" in capsys.readouterr().out


def test_json_has_the_same(home: Path, capsys: pytest.CaptureFixture) -> None:
    put(home, "hoiclip-vcoco")
    main(["models", "--json"])
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(zoo())
    assert listed["hoiclip-vcoco"]["cached"] == str(home / "models" / "hoiclip-vcoco")
    assert listed["hoiclip-vcoco"]["bytes"] == 3 << 20
    assert listed["dp-hoi-hicodet"]["cached"] is None
    assert listed["playground"]["bytes"] > 100_000
    main(["models", "hoiclip-vcoco", "--json"])
    assert json.loads(capsys.readouterr().out) == listed["hoiclip-vcoco"]


def test_slips_and_a_file_without_a_name_are_told(capsys: pytest.CaptureFixture) -> None:
    assert main(["models", "dp-hoi-hico-det"]) == 2
    assert "did you mean dp-hoi-hicodet?" in capsys.readouterr().err
    assert main(["models", "--file", "best.pth"]) == 2
    assert "hoiclip models NAME --file best.pth" in capsys.readouterr().err


def test_the_list_needs_no_torch_and_the_cache_is_the_systems_by_default(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom hoiclip.cli import main\nfrom hoiclip.model_zoo import cache_home\nmain(['models'])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\nprint(cache_home())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HOICLIP_HOME"} | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if sys.platform == "linux":
        assert done.stdout.splitlines()[-1] == str(tmp_path / "hoiclip")
