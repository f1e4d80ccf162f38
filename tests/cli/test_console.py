"""Printing never ends a command, whatever the console can show and whether it still listens."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from hoiclip.cli import BAD_INPUT, INTERRUPTED, main
from hoiclip.cli.console import lasting_output


def console(encoding: str) -> tuple[io.TextIOWrapper, io.BytesIO]:
    buffer = io.BytesIO()
    return io.TextIOWrapper(buffer, encoding=encoding, write_through=True), buffer


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("cp1252", rb"\u5199\u771f.jpg"), ("ascii", rb"\u5199\u771f.jpg"), ("utf-8", "写真.jpg".encode())],
)
def test_letters_that_the_console_lacks_are_escaped(
    encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, buffer = console(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output():
        print("写真.jpg: ok")
    assert buffer.getvalue() == shown + b": ok" + os.linesep.encode()
    assert sys.stdout is stream


def test_a_file_name_that_is_no_text_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, buffer = console("utf-8")
    monkeypatch.setattr(sys, "stderr", stream)
    with lasting_output():
        print(os.fsdecode(b"\xe9t\xe9.jpg"), file=sys.stderr)
    assert buffer.getvalue().strip() == rb"\udce9t\udce9.jpg"


def test_a_closed_pipe_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as head does when it has seen enough
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    done = []
    with lasting_output():
        for number in range(3):
            print("x" * 100_000, flush=True)
            done.append(number)
    assert done == [0, 1, 2]


def test_a_complaint_about_a_foreign_name_is_told_on_any_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, buffer = console("cp1252")
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["detect", str(tmp_path / "写真.jpg"), "--out", str(tmp_path / "out"), "--device", "nowhere"]) == 2
    assert b"nowhere" in buffer.getvalue()


def test_a_program_without_a_console_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as pythonw and some services start programs
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["detect", "missing.jpg", "--model", "missing/folder/here"]) == BAD_INPUT
    assert sys.stdout is None


def test_an_interruption_while_a_command_is_loading_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hoiclip.cli.import_module", interrupted)
    assert main(["detect", "a.jpg"]) == INTERRUPTED
    assert capsys.readouterr().err == "hoiclip: interrupted\n"
