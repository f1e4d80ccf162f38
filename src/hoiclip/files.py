"""Write files so that a reader never sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hoiclip.errors import HoiError

ASSETS = Path(__file__).parent / "assets"  # label spaces, splits and the playground's weights
REPLACED = ".replaced-"  # how the name of a folder begins while another takes its place
WRITING = ".writing-"  # how a folder's name begins until it is complete


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it takes the place of ``path``.

    Raises:
        HoiError: if the folder cannot be written or the disk is full; ``path`` keeps what it held.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=WRITING, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise HoiError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder inside ``folder``; on success its files move out into ``folder``.

    Raises:
        HoiError: if the folder cannot be written or the disk is full; what was there stays.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=WRITING) as unfinished:
            yield Path(unfinished)
            for file in sorted(Path(unfinished).iterdir()):
                file.replace(folder / file.name)
    except OSError as error:
        raise HoiError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error


@contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; on success it takes its place, whatever was there goes.

    After an exception ``folder`` keeps what it held; the unfinished one is left for a look.  A process
    killed between the two renames leaves the old folder beside, and :func:`restore_folder` puts it back.
    """
    folder = Path(folder)
    fresh = folder.with_name(f"{WRITING}{folder.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    old = folder.with_name(f"{REPLACED}{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: str | Path) -> None:
    """Put back what :func:`replace_folder` had moved aside when its process was killed."""
    folder = Path(folder)
    old = folder.with_name(f"{REPLACED}{folder.name}")
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, all of it or nothing.  Raises as :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
