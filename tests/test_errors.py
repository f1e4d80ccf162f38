"""A complaint is one line of bounded length, whatever the file it quotes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoiclip.data import open_dataset
from hoiclip.errors import LONGEST, HoiError
from hoiclip.experiments import load_experiment
from hoiclip.vocabulary import HoiVocabulary


def test_line_ends_and_what_a_terminal_obeys_are_escaped() -> None:
    assert str(HoiError("a\nb\r\n\x1b[2Jc\u2028: é 写真")) == "a\\nb\\r\\n\\x1b[2Jc\\u2028: é 写真"


def test_a_long_quotation_loses_its_middle() -> None:
    told = str(HoiError("a.yaml: unknown key " + "x" * 100_000 + "; give another"))
    assert told.startswith("a.yaml: unknown key xxx")
    assert told.endswith("xxx; give another")
    assert len(told) < 1.1 * LONGEST
    assert str(HoiError("x" * LONGEST)) == "x" * LONGEST


def test_values_of_files_stay_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("evaluation: |\n  a\n  b\n")
    with pytest.raises(HoiError, match=r"mine\.yaml: evaluation holds options, not the value a\\nb\\n$"):
        load_experiment(tmp_path / "mine.yaml")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "x" * 300 + ".json", "x/" * 3000])
def test_names_too_long_for_a_file_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"base: {name}\n")
    for read in (open_dataset, load_experiment, HoiVocabulary.coerce):
        with pytest.raises(HoiError):
            read(name)
    with pytest.raises(HoiError):
        load_experiment(tmp_path / "mine.yaml")
