"""Read text whatever marks an editor left in it, and write files so that a reader never sees half of one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from hoiclip.errors import HoiError, first_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ASSETS = Path(__file__).parent / "assets"  # label spaces, splits and the playground's weights
REPLACED = ".replaced-"  # how the name of a folder begins while another takes its place
MOST_TEXT = 200  # times its packed size; indented JSON reaches 40
SMALL_TEXT = 256 << 20  # bytes that any packed text may have
WRITING = ".writing-"  # how the name of a training's folder begins until it is complete; training removes leftovers
_ASKING = threading.Lock()
UNFINISHED = ".unfinished-"  # how any other file's or folder's temporary name begins


@contextmanager
def atomic_path(path: str | Path, *, suffix: str | None = None) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it takes the place of ``path``.

    Args:
        path: to be written.
        suffix: of the temporary path; by default that of ``path``.

    Raises:
        HoiError: if the folder cannot be written or the disk is full; ``path`` keeps what it held.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent)
        with held_temporary(path.parent, UNFINISHED, suffix=path.suffix if suffix is None else suffix) as temporary:
            yield temporary
            _make_readable(temporary)
            temporary.replace(path)
    except OSError as error:
        raise HoiError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error


def _make_readable(path: Path) -> None:
    """Give a file the rights of one that was written in the plain way; temporary ones are private."""
    if path.is_file():
        with _ASKING:  # it can only be read by setting it, which another thread must not see
            umask = os.umask(0)
            os.umask(umask)
        path.chmod(0o666 & ~umask)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder inside ``folder``; on success its files move out into ``folder``.

    Raises:
        HoiError: if the folder cannot be written or the disk is full; what was there stays.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep_once(folder)
        with held_temporary(folder, UNFINISHED, folder=True) as unfinished:
            yield unfinished
            for file in sorted(unfinished.iterdir()):
                _make_readable(file)
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


# --- temporary names and what is left of them ------------------------------------------------------


@contextmanager
def held_temporary(inside: Path, prefix: str, *, suffix: str = "", folder: bool = False) -> Iterator[Path]:
    """Yield a new temporary file or folder and remove what is left of it in the end.

    A lock that the system lets go of however the process ends tells :func:`sweep` that its writer lives.

    Raises:
        OSError: if nothing can be written there.
    """
    while True:
        path = Path(_new(inside, prefix, suffix, folder))
        lock = _lock(path, wait=True)
        if path.exists():
            break
        if lock is not None:  # another process swept between making and locking
            os.close(lock)
    try:
        yield path
    finally:
        if folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def _new(inside: Path, prefix: str, suffix: str, folder: bool) -> str:
    if folder:
        return tempfile.mkdtemp(dir=inside, prefix=prefix, suffix=suffix)
    handle, name = tempfile.mkstemp(dir=inside, prefix=prefix, suffix=suffix)
    os.close(handle)
    return name


def _lock(path: Path, *, wait: bool = False) -> int | None:
    """Lock a file or folder for this process; the descriptor to close, None where it is in use or locks are unknown."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # gone by now, or a link
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks, or in use
        os.close(descriptor)
        return None
    return descriptor


def sweep(folder: Path, prefix: str) -> None:
    """Remove the temporary files and folders that killed processes left; those whose writer lives stay.

    Where the system or the file system has no locks, everything stays.
    """
    try:
        leftovers = [entry for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    except OSError:
        return
    for entry in leftovers:
        lock = _lock(Path(entry.path)) if entry.is_file() or entry.is_dir() else None  # a pipe would be waited for
        if lock is not None:
            if entry.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)
            os.close(lock)


@cache  # once in a process: a folder of a hundred thousand drawings is not listed for each of them
def _sweep_once(folder: Path) -> None:
    sweep(folder, UNFINISHED)


@contextmanager
def sole_writer(folder: str | Path) -> Iterator[None]:
    """Keep other processes of this machine that ask for the same folder out, whether it exists already or not.

    The lock is a file among the temporary ones, which the system lets go of however the process ends.

    Raises:
        HoiError: if another one is at work there.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    if fcntl is None:  # one command at a time, please
        yield
        return
    try:
        handle = os.open(Path(tempfile.gettempdir()) / f"hoiclip-{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:  # no temporary files here, or those of another user
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise HoiError(f"{folder}: another hoiclip is writing there; wait for it, or choose another folder") from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def one_at_a_time(lock: str | Path, waiting: str) -> Iterator[None]:
    """Let one process at a time into the block; the others say ``waiting`` on stderr, once, and wait.

    The lock lies where the work is done, so that processes with other temporary folders and, where the
    file system can do it, other machines wait too.  The system lets go of it however a process ends.

    Args:
        lock: file to lock, made if it does not exist; it stays.
        waiting: what to tell.

    Raises:
        HoiError: if it cannot be written.
    """
    if fcntl is None:  # one command at a time, please
        yield
        return
    lock = Path(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise HoiError(f"{lock}: cannot be written ({error.strerror or error}); choose another folder") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"hoiclip: {waiting}", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, all of it or nothing.  Raises as :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# --- text ------------------------------------------------------------------------------------------


@contextmanager
def open_text(path: str | Path, what: str = "a text file") -> Iterator[TextIO]:
    """Open any text file that a user may have written, for reading line by line.

    UTF-8 with or without byte-order mark, UTF-16 and UTF-32, any line ends, plain or gzipped: the
    content decides, not the name.  Lines end in ``\\n``.

    Args:
        path: the file.
        what: the kind of file that is wanted, for the message.

    Raises:
        HoiError: missing, a folder, unreadable, cut-off gzip, one that unpacks to far more than its size,
            or no text; also while it is being read.
    """
    try:
        with Path(path).open("rb") as file:
            plain: Any = _BoundedGzip(path, file) if file.peek(2)[:2] == b"\x1f\x8b" else file
            encoding = json.detect_encoding(plain.peek(4)[:4])  # tells the UTFs apart, by mark or by zero bytes
            with io.TextIOWrapper(plain, encoding="utf-8-sig" if encoding == "utf-8" else encoding) as text:
                yield text
    except FileNotFoundError as error:
        raise HoiError(f"{path}: no such file; give {what}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise HoiError(
            f"{path}: cannot be read, a damaged or cut-off gzip file ({first_line(error)}); download it again"
        ) from error
    except UnicodeDecodeError as error:
        raise HoiError(f"{path}: is not UTF-8 or UTF-16 text ({error.reason}); give {what} in UTF-8") from error
    except OSError as error:
        raise HoiError(f"{path}: cannot be read ({error.strerror or error}); give {what}") from error


class _BoundedGzip(gzip.GzipFile):
    """A gzip file that does not fill the memory, however small it is."""

    def __init__(self, path: str | Path, file: Any) -> None:
        super().__init__(fileobj=file)
        self.path = path
        self.left = max(SMALL_TEXT, MOST_TEXT * os.fstat(file.fileno()).st_size)

    def read(self, size: int | None = -1) -> bytes:
        return b"".join(iter(self.read1, b"")) if size is None or size < 0 else self.read1(size)

    def read1(self, size: int | None = -1) -> bytes:
        data = super().read1(-1 if size is None else size)
        self.left -= len(data)
        if self.left < 0:
            raise HoiError(
                f"{self.path}: unpacks to more than {MOST_TEXT} times its size; unpack it yourself if it is meant"
            )
        return data


def read_text(path: str | Path, what: str = "a text file") -> str:
    """The whole text of a file; lines end in ``\\n``.  Raises as :func:`open_text`."""
    with open_text(path, what) as file:
        return file.read()
