"""The commands of docs/compare.md run as written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from hoiclip.cli import main
from hoiclip.evaluation.written_forms import WRITTEN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compare.md"


def test_ten_lines_lead_to_table_report_and_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert len(commands) <= 10
    shown = []
    for command in commands:
        assert command[0] == "hoiclip"
        assert main(command[1:]) == 0
        shown.append(capsys.readouterr().out)
    ours, table, report, comparison = shown[0], shown[4], shown[5], shown[6]
    assert table == ours  # the file in QPIC's form says what the model's own detections said
    assert 0.5 < json.loads(Path("metrics.json").read_text())["full"] < 1
    assert Path("report/index.html").is_file()
    assert "report: report/index.html" in report
    assert "ours.json (first) and plain.json (second)" in comparison
    assert re.search(r"full .*\d", comparison.rpartition("protocol hoiclip")[2])


def test_the_page_names_every_form_that_is_written() -> None:
    text = PAGE.read_text("utf-8")
    assert all(f"`{form}`" in text for form in WRITTEN)
