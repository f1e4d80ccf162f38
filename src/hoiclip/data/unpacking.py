"""Unpack an archive: all of it or nothing, nothing outside its folder, and no more than a data set needs."""

from __future__ import annotations

import errno
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from hoiclip.data.download import CHUNK, verify
from hoiclip.errors import HoiError, first_line
from hoiclip.files import held_temporary, sweep

UNPACKING = ".unpacking-"  # how the folder is called in which an archive is unpacked
MOST_EXPANSION = 100  # times the size of the archive; annotations as JSON reach 20, images 1
ALWAYS_ALLOWED = 256 << 20  # bytes
MEMBER = 512  # bytes that a file or folder counts at least, so that millions of empty ones are noticed
ENCRYPTED = 1  # flag of a zip member
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
#: what reading a damaged archive leads to
BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    UnicodeError,
    RuntimeError,  # and with it NotImplementedError
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
)


class DamagedArchive(HoiError):
    """An archive that cannot be read to its end; another download may help."""


def unpack(archive: str | Path, root: str | Path, *, sha256: str | None = None, progress: bool = True) -> None:
    """Unpack a ``.tar[.gz|.bz2|.xz]`` or ``.zip`` into ``root``, all of it or nothing.

    Members are unpacked into a hidden folder and moved into place at the end.  An archive with an
    absolute name, ``..``, a link or a device is refused as a whole, and so is one that would
    overwrite something in ``root``, or that unpacks to far more than a data set would.  What a killed
    run left half unpacked is removed.

    Raises:
        DamagedArchive: cut off, or no archive at all.
        HoiError: as above, or missing, encrypted, of an unknown compression, wrong checksum, disk full.
    """
    archive, root = Path(archive), Path(root)
    if not os.path.isfile(archive):
        raise HoiError(f"{archive}: no such archive; give the downloaded file")
    verify(archive, sha256)
    made_root = not os.path.exists(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root, UNPACKING)
        with held_temporary(root, UNPACKING, folder=True) as staging:
            _unpack_into(staging, archive, root, progress)
            for entry in sorted(staging.iterdir()):
                entry.rename(root / entry.name)
    except HoiError:  # a ValueError too
        raise
    except BROKEN as error:
        reason = first_line(error)
        raise DamagedArchive(f"{archive}: is a damaged or cut-off archive ({reason}); download it again") from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # bz2's, or a place before the beginning of the file
            raise DamagedArchive(f"{archive}: is a damaged archive ({first_line(error)}); download it again") from error
        raise HoiError(f"{archive}: cannot be unpacked into {root} ({error.strerror or error})") from error
    finally:
        if made_root and os.path.isdir(root) and not any(root.iterdir()):
            root.rmdir()


def _unpack_into(staging: Path, archive: Path, root: Path, progress: bool) -> None:
    """Write the members below ``staging``, unless ``root`` has something of that name."""
    room = _Room(archive)
    for name, stream, size in tqdm(
        _members(archive), desc=f"unpacking {archive.name}", unit=" files", disable=None if progress else True
    ):
        room.take(MEMBER)
        top = name.parts[0]
        if os.path.exists(root / top):
            raise HoiError(f"{root / top}: exists already; move it away or unpack into another folder")
        target = staging / name
        if stream is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with stream, target.open("xb") as file:
            while chunk := stream.read(CHUNK):
                room.take(len(chunk))
                file.write(chunk)
            if file.tell() != size:
                raise EOFError(f"{name} has {file.tell()} of {size} bytes")


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes] | None, int]]:
    """(safe relative name, contents or None for a folder, size) of each member."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                mode = info.external_attr >> 16
                regular = not mode or stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
                path = info.filename.replace("\\", "/")  # older Windows programs write backslashes
                name = _safe(path, archive, regular)
                if info.flag_bits & ENCRYPTED:
                    raise HoiError(
                        f"{archive}: is encrypted ({path!r}); unpack it with its password and give the folder"
                    )
                if info.compress_type not in METHODS:
                    raise HoiError(
                        f"{archive}: {path!r} is packed by method {_method(info.compress_type)}, which Python does not "
                        "read; unpack it with another program and give the folder"
                    )
                if name.parts:
                    yield name, None if path.endswith("/") else packed.open(info), info.file_size
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive, "r|*") as packed_tar:
            for member in packed_tar:
                name = _safe(member.name, archive, member.isfile() or member.isdir())
                if name.parts:
                    yield name, packed_tar.extractfile(member) if member.isfile() else None, member.size
    else:
        raise DamagedArchive(f"{archive}: is neither a tar nor a zip archive, or is damaged; download it again")


def _safe(name: str, archive: Path, regular: bool) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise HoiError(f"{archive}: the member {name!r} would be written outside the folder; do not trust this archive")
    if path.parts and path.parts[0].startswith(UNPACKING):
        raise HoiError(f"{archive}: the member {name!r} has a name that hoiclip keeps for itself; rename it")
    if not regular:
        raise HoiError(f"{archive}: the member {name!r} is a link or device; do not trust this archive")
    return path


def _method(number: int) -> str:
    names = {1: "shrink", 6: "implode", 9: "deflate64", 93: "zstandard", 95: "xz", 97: "wavpack", 98: "ppmd", 99: "AES"}
    return f"{names[number]} ({number})" if number in names else str(number)


class _Room:
    """How much an archive may still unpack to."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.left = max(ALWAYS_ALLOWED, MOST_EXPANSION * archive.stat().st_size)

    def take(self, size: int) -> None:
        """Raises HoiError where it is too much."""
        self.left -= size
        if self.left < 0:
            raise HoiError(
                f"{self.archive}: unpacks to more than {MOST_EXPANSION} times its size; do not trust this archive, "
                "or unpack it yourself and give the folder"
            )
