"""Files named by s3://, gs:// and the like beside those of this machine, through pyarrow."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hoiclip.errors import HoiError, first_line
from hoiclip.files import atomic_path
from hoiclip.optional_modules import optional_module

EXTRA = "results"  # brings pyarrow; so does ray


def is_uri(name: str | Path) -> bool:
    """Whether a file or folder is named by a scheme other than http and https."""
    scheme, found, _ = str(name).partition("://")
    return bool(found) and scheme.lower() not in ("http", "https", "rtsp", "rtsps")


def list_folder(folder: str | Path) -> list[str]:
    """The files right in a folder, hidden ones left out, in order; names as :func:`read_bytes` takes them.

    Raises:
        HoiError: if it cannot be read.  One that does not exist is empty.
    """
    if not is_uri(folder):
        try:
            inside = [entry for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HoiError(f"{folder}: the folder cannot be read ({error.strerror}); check permissions") from error
        return sorted(entry.path for entry in inside)
    address = urllib.parse.urlsplit(str(folder))
    with opened(folder) as (system, path):
        selector = optional_module("pyarrow.fs", EXTRA).FileSelector(path, allow_not_found=True)
        files = [info.path for info in system.get_file_info(selector) if info.is_file]
    query = f"?{address.query}" if address.query else ""
    return sorted(
        f"{address.scheme}://{urllib.parse.quote(name)}{query}"
        for name in files
        if not name.rpartition("/")[2].startswith(".")
    )


def is_folder(name: str | Path) -> bool:
    """Whether there is a folder of that name.  Raises HoiError if an object store does not answer."""
    if not is_uri(name):
        return os.path.isdir(name)
    with opened(name) as (system, path):
        return system.get_file_info(path).type == optional_module("pyarrow.fs", EXTRA).FileType.Directory


def read_bytes(name: str) -> bytes:
    """The content of a file.

    Raises:
        HoiError: if it cannot be read.
    """
    with opened(name) as (system, path), system.open_input_file(path) as file:
        return file.read()


def write_bytes(name: str, content: bytes) -> None:
    """Write a file, all of it or nothing.

    Raises:
        HoiError: if it cannot be written.
    """
    with opened(name) as (system, path):
        if system.type_name == "local":
            # not called .parquet before it is whole: not every reader passes over hidden files
            with atomic_path(path, suffix="") as unfinished:
                unfinished.write_bytes(content)
        else:
            with system.open_output_stream(path) as file:  # an object appears when it is closed
                file.write(content)


def remove(name: str) -> None:
    """Remove a file.  Raises HoiError if it cannot be removed."""
    with opened(name) as (system, path):
        system.delete_file(path)


@contextmanager
def opened(name: str | Path) -> Iterator[tuple[Any, str]]:
    """The pyarrow file system of a file or folder and its path there; what goes wrong in the block is a HoiError."""
    arrow, file_systems = optional_module("pyarrow", EXTRA), optional_module("pyarrow.fs", EXTRA)
    try:
        if is_uri(name):
            yield file_systems.FileSystem.from_uri(str(name))
        else:
            yield file_systems.LocalFileSystem(), os.path.abspath(name)
    except FileNotFoundError:
        raise HoiError(f"{name}: no such file; check the path") from None
    except (arrow.ArrowException, OSError) as error:
        reason = first_line(getattr(error, "strerror", None) or error)
        raise HoiError(f"{name}: cannot be reached ({reason}); check address and permissions") from error
