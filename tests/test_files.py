"""A reader of our files never sees half of one."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hoiclip import files
from hoiclip.errors import HoiError
from hoiclip.files import (
    atomic_folder,
    atomic_path,
    open_text,
    read_text,
    replace_folder,
    restore_folder,
    sweep,
    write_text_atomic,
)


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


@pytest.mark.skipif(os.name == "nt", reason="no such rights there")
def test_what_a_library_writes_as_private_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_folder(tmp_path) as unfinished:
        os.close(os.open(unfinished / "model.safetensors", os.O_CREAT | os.O_WRONLY, 0o600))
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


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


KILLED = """
import os, signal, sys
from pathlib import Path
from hoiclip.files import atomic_folder, atomic_path

folder = Path(sys.argv[1])
with atomic_path(folder / "a.json") as path, atomic_folder(folder) as unfinished:
    path.write_text("half")
    (unfinished / "half").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_what_killed_writers_left_is_swept_and_what_goes_on_stays(tmp_path: Path) -> None:
    (tmp_path / ".writing-8").mkdir()  # training removes its own
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "writing\n"
        living = {path.name for path in tmp_path.iterdir()}
        assert sum(name.startswith(".unfinished-") for name in living) == 2
        sweep(tmp_path, ".unfinished-")
        assert {path.name for path in tmp_path.iterdir()} == living
        writer.kill()
        writer.wait()
    write_text_atomic(tmp_path / "b.json", "whole")  # the first one of this process there
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing-8", "b.json"]


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_a_writer_whose_new_file_is_swept_before_it_is_locked_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def swept_at_first(*arguments: Any) -> str:
        name = new(*arguments)
        if not made:
            sweep(tmp_path, ".unfinished-")
        made.append(name)
        return name

    new = files._new
    monkeypatch.setattr(files, "_new", swept_at_first)
    write_text_atomic(tmp_path / "a.txt", "whole")
    assert len(made) == 2
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HoiError, match="cannot be written"):
        write_text_atomic(tmp_path / "file" / "below.txt", "x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_text_is_read_whatever_the_editor_that_saved_it(tmp_path: Path, encoding: str, packed: bool) -> None:
    data = "{größe:\r\n写真}\r\n".encode(encoding)
    (tmp_path / "a.txt").write_bytes(gzip.compress(data) if packed else data)  # the name does not matter
    assert read_text(tmp_path / "a.txt") == "{größe:\n写真}\n"
    with open_text(tmp_path / "a.txt") as file:
        assert list(file) == ["{größe:\n", "写真}\n"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"gr\xf6\xdfe", "not UTF-8"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (gzip.compress(b"x" * 999)[:-9], "cut-off gzip"),
        (b"\x1f\x8b\x08 broken", "gzip"),
    ],
)
def test_what_is_no_text_is_one_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    for path, said in ((tmp_path / "a.txt", words), (tmp_path, "cannot be read"), (tmp_path / "no", "no such file")):
        with pytest.raises(HoiError, match=said) as error:
            read_text(path, "a list of names")
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


def test_packed_text_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * (8 << 20)))
    assert len(read_text(tmp_path / "a.json.gz")) == 8 << 20
    monkeypatch.setattr("hoiclip.files.SMALL_TEXT", 1 << 20)
    with pytest.raises(HoiError, match="unpacks to more than 200 times its size"):
        read_text(tmp_path / "a.json.gz")
    with pytest.raises(HoiError, match="unpacks to more"), open_text(tmp_path / "a.json.gz") as file:
        next(file)
