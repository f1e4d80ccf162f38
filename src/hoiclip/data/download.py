"""Download and unpack a dataset: downloads continue, archives cannot write elsewhere."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import stat
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from hoiclip.errors import HoiError

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte


def download(url: str, folder: str | Path, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Download a file into ``folder``, continuing where an earlier try was cut off.

    Bytes go to ``NAME.part`` and move to ``NAME`` once complete and, if a checksum is given, right.
    ``NAME.part.tag`` remembers which version of the file was begun, so that two are never mixed.

    Args:
        url: http or https.
        folder: made if it does not exist.
        sha256: expected checksum in hex.
        progress: show a bar.

    Returns:
        The path of the file; an existing one is verified and not downloaded again.

    Raises:
        HoiError: unusable address, connection lost (run again to continue) or wrong checksum.
    """
    parts = urllib.parse.urlsplit(url)
    name = PurePosixPath(urllib.parse.unquote(parts.path)).name
    if parts.scheme not in ("http", "https") or not parts.netloc or not name:
        raise HoiError(f"{url}: is no address of a file; give one that starts with http:// or https://")
    target = Path(folder) / name
    part, tag = target.with_name(f"{name}.part"), target.with_name(f"{name}.part.tag")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _fetch(url, part, tag, progress)
            verify(part, sha256, remove=True)
            part.replace(target)
            tag.unlink(missing_ok=True)
            return target
    except urllib.error.HTTPError as error:
        raise HoiError(f"{url}: the server answers {error.code} {error.reason}; check the address") from error
    except (OSError, http.client.HTTPException) as error:
        raise HoiError(f"{url}: the download was cut off ({error}); run the same command again to continue") from error
    verify(target, sha256)
    return target


def _fetch(url: str, part: Path, tag: Path, progress: bool) -> None:
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "hoiclip"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if error.code == 416 and whole and int(whole[1]) == have:
            return  # all of it was there already
        if error.code != 416:
            raise
        part.unlink()
        return _fetch(url, part, tag, progress)
    with response:
        begins = re.match(rf"bytes {have}-", response.headers.get("Content-Range", ""))
        have = have if response.status == 206 and begins else 0
        expected = response.headers.get("Content-Length")
        total = have + int(expected) if expected else None
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version and not version.startswith("W/"):
            tag.write_text(version, encoding="utf-8")
        else:
            tag.unlink(missing_ok=True)
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress)
        with part.open("ab" if have else "wb") as file, bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                have += len(chunk)
    if total is not None and have < total:
        raise ConnectionError(f"{have} of {total} bytes arrived")


def verify(path: str | Path, sha256: str | None, *, remove: bool = False) -> None:
    """Compare a file with its SHA-256 (hex), where one is given.

    Args:
        path: the file.
        sha256: expected checksum; None checks nothing.
        remove: delete a file that does not match.

    Raises:
        HoiError: they differ.
    """
    if sha256 is None:
        return
    with Path(path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.strip().lower():
        if remove:
            Path(path).unlink()
        raise HoiError(f"{path}: has the SHA-256 {found}, expected {sha256}; download it again")


# --- unpacking -------------------------------------------------------------------------------------


def unpack(archive: str | Path, root: str | Path, *, sha256: str | None = None, progress: bool = True) -> None:
    """Unpack a ``.tar[.gz|.bz2|.xz]`` or ``.zip`` into ``root``, all of it or nothing.

    Members are unpacked into a hidden folder and moved into place at the end.  An archive with an
    absolute name, ``..``, a link or a device is refused as a whole, and so is one that would
    overwrite something in ``root``.

    Raises:
        HoiError: as above, or missing, damaged, wrong checksum, disk full.
    """
    archive, root = Path(archive), Path(root)
    if not archive.is_file():
        raise HoiError(f"{archive}: no such archive; give the downloaded file")
    verify(archive, sha256)
    made_root = not root.exists()
    staging: Path | None = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=root, prefix=".unpacking-"))
        staging.chmod(0o755)
        for name, stream in tqdm(
            _members(archive), desc=f"unpacking {archive.name}", unit=" files", disable=not progress
        ):
            top = name.parts[0]
            if (root / top).exists():
                raise HoiError(f"{root / top}: exists already; move it away or unpack into another folder")
            target = staging / name
            if stream is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("xb") as file:
                shutil.copyfileobj(stream, file, CHUNK)
        for entry in sorted(staging.iterdir()):
            entry.rename(root / entry.name)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise HoiError(f"{archive}: is a damaged or cut-off archive ({error}); download it again") from error
    except OSError as error:
        raise HoiError(f"{archive}: cannot be unpacked into {root} ({error.strerror or error})") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        if made_root and root.is_dir() and not any(root.iterdir()):
            root.rmdir()


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes] | None]]:
    """(safe relative name, contents or None for a folder) of each member."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                mode = info.external_attr >> 16
                regular = not mode or stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
                name = _safe(info.filename, archive, regular)
                if name.parts:
                    yield name, None if info.is_dir() else packed.open(info)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive, "r|*") as packed_tar:
            for member in packed_tar:
                name = _safe(member.name, archive, member.isfile() or member.isdir())
                if name.parts:
                    yield name, packed_tar.extractfile(member) if member.isfile() else None
    else:
        raise HoiError(f"{archive}: is neither a tar nor a zip archive, or is damaged; download it again")


def _safe(name: str, archive: Path, regular: bool) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise HoiError(f"{archive}: the member {name!r} would be written outside the folder; do not trust this archive")
    if not regular:
        raise HoiError(f"{archive}: the member {name!r} is a link or device; do not trust this archive")
    return path
