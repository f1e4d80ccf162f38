"""A reader of our files never sees half of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoiclip.errors import HoiError
from hoiclip.files import atomic_folder, atomic_path, replace_folder, restore_folder, write_text_atomic


def power_fails(path: Path) -> None:
    path.write_text("unfin")
    raise RuntimeError


def test_a_file_is_replaced_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text_atomic(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as unfinished:
        power_fails(unfinished)
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_is_added_to_only_when_complete(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path) as unfinished:
        power_fails(unfinished / "half")
    with atomic_folder(tmp_path) as unfinished:
        (unfinished / "whole").write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "whole"]


def test_a_folder_is_exchanged_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    for content in ("first", "second"):
        with replace_folder(folder) as fresh:
            (fresh / content).write_text(content)
    with pytest.raises(RuntimeError), replace_folder(folder) as fresh:
        power_fails(fresh / "third")
    assert [p.name for p in folder.iterdir()] == ["second"]


def test_a_folder_moved_aside_by_a_process_that_was_killed_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".replaced-best").mkdir()
    (tmp_path / ".replaced-best" / "kept").write_text("old")
    restore_folder(tmp_path / "best")
    assert (tmp_path / "best" / "kept").read_text() == "old"
    (tmp_path / ".replaced-best").mkdir()
    restore_folder(tmp_path / "best")  # killed after the second renaming: the new one is whole
    assert (tmp_path / "best" / "kept").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HoiError, match="cannot be written"):
        write_text_atomic(tmp_path / "file" / "below.txt", "x")
