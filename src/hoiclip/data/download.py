"""Download a file: it continues where it was cut off, and what is no such file is not kept."""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import string
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from hoiclip.data.drive import DriveFile, drive_id, origin
from hoiclip.errors import HoiError, first_line

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
PATIENCE = 4.0  # seconds in which a server must take the connection
OVERLAP = 1 << 16  # bytes that are asked for again and compared, where a server does not name versions


def download(
    url: str, folder: str | Path, *, name: str | None = None, sha256: str | None = None, progress: bool = True
) -> Path:
    """Download a file into ``folder``, continuing where an earlier try was cut off.

    Bytes go to ``NAME.part`` and move to ``NAME`` once complete and, if a checksum is given, right.
    ``NAME.part.tag`` remembers which version of the file was begun, and its length, so that two are
    never mixed.  Google Drive may name no version: there a download goes on where the length is the
    same and the last bytes that are here come once more.

    Args:
        url: http or https; also the page of a file that Google Drive shares.
        folder: made if it does not exist.
        name: of the file; by default the last part of the address.
        sha256: expected checksum in hex.
        progress: show a bar.

    Returns:
        The path of the file; an existing one is verified and not downloaded again.

    Raises:
        HoiError: unusable address, connection lost (run again to continue), a web page instead of the
            file, or wrong checksum; the last two leave nothing behind.  A refusal of Google Drive leaves
            what has arrived.
    """
    url, own_name = _address(url)
    name = name or drive_id(url) or own_name
    target = Path(folder) / name
    part, tag = target.with_name(f"{name}.part"), target.with_name(f"{name}.part.tag")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _refuse_unreachable(origin() if drive_id(url) else url)
            _fetch(_asker(url), part, tag, progress, by_length=drive_id(url) is not None)
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


def _refuse_unreachable(url: str) -> None:
    """Raise ConnectionError within seconds where there is no way to the server; looking up a name may take minutes."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    place = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    failed: list[str] = ["no answer"]

    def knock() -> None:
        try:
            socket.create_connection(place, timeout=PATIENCE).close()
            failed.clear()
        except (OSError, ValueError) as error:  # a name that is none
            failed[0] = getattr(error, "strerror", None) or first_line(error)

    question = threading.Thread(target=knock, daemon=True)
    question.start()
    question.join(PATIENCE + 1)
    if failed:
        raise ConnectionError(f"{place[0]} cannot be reached: {failed[0]}")


def _asker(url: str) -> Callable[[dict[str, str]], Any]:
    """What asks for the file, or a part of it, with the given headers."""
    if drive_id(url):
        return DriveFile(url, TIMEOUT).ask
    return lambda headers: urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


@dataclass
class _Begun:
    """What an earlier try left: how many bytes, of which version, of how many in all."""

    have: int = 0
    version: str = ""
    length: str = ""

    @classmethod
    def read(cls, part: Path, tag: Path) -> _Begun:
        if not (part.exists() and tag.exists()):
            return cls()
        lines = [*tag.read_text(encoding="utf-8").splitlines(), "", ""]
        return cls(part.stat().st_size, lines[0], lines[1]) if lines[0] or lines[1] else cls()

    def same(self, response: Any, start: int) -> bool:
        """Whether an answer continues this very file from ``start``."""
        told = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.status != 206 or told is None or int(told[1]) != start:
            return False
        if self.length and told[2] not in ("*", self.length):
            return False
        return not self.version or _version(response) in ("", self.version)


def _version(response: Any) -> str:
    """What tells one version of a file from another; empty where the server does not say for sure."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return "" if version.startswith("W/") else version


def _fetch(
    ask: Callable[[dict[str, str]], Any], part: Path, tag: Path, progress: bool, *, by_length: bool = False
) -> None:
    begun = _Begun.read(part, tag)
    headers, start = {"User-Agent": "hoiclip"}, begun.have
    if begun.have:
        start = begun.have if begun.version else max(0, begun.have - OVERLAP)
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": begun.version} if begun.version else {})
    try:
        response = ask(headers)
    except urllib.error.HTTPError as error:
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if error.code == 416 and begun.version and whole and int(whole[1]) == begun.have:
            return None  # all of it was there already
        if error.code != 416 or not begun.have:
            raise
        return _begin_anew(ask, part, tag, progress, by_length=by_length)
    with response:
        goes_on = begun.have > 0 and begun.same(response, start)
        goes_on = goes_on and (start == begun.have or _overlaps(response, part, start))
        if begun.have and response.status == 206 and not goes_on:
            return _begin_anew(ask, part, tag, progress, by_length=by_length)
        _receive(response, part, tag, begun.have if goes_on else 0, progress, by_length)


def _begin_anew(
    ask: Callable[[dict[str, str]], Any], part: Path, tag: Path, progress: bool, *, by_length: bool
) -> None:
    part.unlink(missing_ok=True)
    tag.unlink(missing_ok=True)
    _fetch(ask, part, tag, progress, by_length=by_length)


def _overlaps(response: Any, part: Path, start: int) -> bool:
    """Whether the answer begins with what ``part`` holds from ``start`` on."""
    with part.open("rb") as file:
        file.seek(start)
        held = file.read()
    return response.read(len(held)) == held


def _receive(response: Any, part: Path, tag: Path, have: int, progress: bool, by_length: bool) -> None:
    """Append an answer to the ``have`` bytes that are there of the file, or begin it."""
    length = response.headers.get("Content-Length") or ""
    if have:
        length = response.headers.get("Content-Range", "").partition("/")[2]
    length = length.strip()
    total = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
    if not have:
        part.unlink(missing_ok=True)  # first: the tag must never stand beside bytes of another version
        version = _version(response)
        if version or (by_length and total is not None):
            tag.write_text(f"{version}\n{total if total is not None else ''}", encoding="utf-8")
        else:
            tag.unlink(missing_ok=True)
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None if progress else True)
    with part.open("ab") as file, bar:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
            have += len(chunk)
    if total is not None and have != total:
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
