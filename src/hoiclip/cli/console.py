"""What is printed never ends a command: letters that the console lacks are escaped, a closed pipe is gone without."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let both standard streams take whatever is printed, as long as the command runs."""
    before = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:  # a program without a console has no streams
        sys.stdout, sys.stderr = (_Lasting(stream or nowhere) for stream in before)  # type: ignore[assignment]
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdout, sys.stderr = before


class _Lasting:
    """A text stream whose writing and flushing succeed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:  # also file names that are no text
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            return self._stream.write(text)
        except BrokenPipeError:  # "| head" has seen enough; the work goes on
            self._close_pipe()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._close_pipe()

    def _close_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
