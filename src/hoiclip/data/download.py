"""Download a file: it continues where it was cut off, and what is no such file is not kept."""

from __future__ import annotations

import hashlib
import http.client
import re
import string
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from hoiclip.errors import HoiError, first_line

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
        HoiError: unusable address, connection lost (run again to continue), a web page instead of the
            file, or wrong checksum; the last two leave nothing behind.
    """
    url, name = _address(url)
    target = Path(folder) / name
    part, tag = target.with_name(f"{name}.part"), target.with_name(f"{name}.part.tag")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _fetch(url, part, tag, progress)
            _refuse_web_page(url, part, name)
            verify(part, sha256, remove=True)
            part.replace(target)
            tag.unlink(missing_ok=True)
            return target
    except urllib.error.HTTPError as error:
        raise HoiError(f"{url}: the server answers {error.code} {error.reason}; check the address") from error
    except (OSError, http.client.HTTPException) as error:
        reason = first_line(error)
        raise HoiError(f"{url}: the download was cut off ({reason}); run the same command again to continue") from error
    except HoiError:
        raise
    except (ValueError, OverflowError) as error:  # a port, a host or a header that is none
        raise HoiError(f"{url}: cannot be downloaded ({first_line(error)}); check the address") from error
    verify(target, sha256)
    return target


def _address(url: str) -> tuple[str, str]:
    """The address in the characters that are allowed in it, and the name of its file."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        name = PurePosixPath(urllib.parse.unquote(parts.path)).name
        parts.port  # noqa: B018 - a ValueError where it is no number
    except ValueError:
        parts, name = urllib.parse.urlsplit(""), ""
    named = name not in ("", "..") and not set(name) & set("\0\\:") and len(name.encode()) <= 200
    if parts.scheme not in ("http", "https") or not parts.netloc or not named:
        raise HoiError(f"{url}: is no address of a file; give one that starts with http:// or https://")
    return urllib.parse.quote(url.strip(), safe=string.punctuation), name


def _refuse_web_page(url: str, part: Path, name: str) -> None:
    """Many servers answer a lost address, or one that asks for a login, with a page and no error."""
    with part.open("rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    page = start.startswith((b"<!doctype", b"<html", b"<head", b"<body")) or (b"<html" in start and start[:1] == b"<")
    if page and PurePosixPath(name).suffix.lower() not in (".html", ".htm", ".xml", ".svg"):
        part.unlink()
        raise HoiError(f"{url}: the server sends a web page, not {name}; open the address in a browser to see why")


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
        length = (response.headers.get("Content-Length") or "").strip()
        total = have + int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version and not version.startswith("W/"):
            tag.write_text(version, encoding="utf-8")
        else:
            tag.unlink(missing_ok=True)
        bar = tqdm(
            total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None if progress else True
        )
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
        way_out = "download it again" if remove else "delete it and download it again"
        raise HoiError(f"{path}: has the SHA-256 {found}, expected {sha256}; {way_out}")
