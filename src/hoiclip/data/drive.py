"""Files of Google Drive: from the page that shares one to its bytes.

    response = DriveFile("https://drive.google.com/file/d/ID").ask({"Range": "bytes=100-"})

A large file comes after a page that asks for confirmation; its form leads to the file.
Not gdown: what it does with each kind of page could only be tested against Google itself.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from html import unescape
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any

from hoiclip.errors import HoiError

ORIGIN = "https://drive.google.com"
ORIGIN_VARIABLE = "HOICLIP_DRIVE_ORIGIN"  # another server in its place, for tests
LINK = re.compile(r"https?://drive\.google\.com/(?:file/d/|(?:open|uc)\?(?:.*&)?id=)([\w-]{10,100})")
MOST_PAGE = 1 << 20  # bytes of a web page that are looked at
TOO_MANY = re.compile(r"too many users have viewed or downloaded|quota exceeded|download quota", re.IGNORECASE)
NO_ACCESS = re.compile(
    r"you need access|need permission|request access|sign in to continue|access denied", re.IGNORECASE
)


def drive_id(url: str) -> str | None:
    """The id of the file that an address of Google Drive shares; None for any other address."""
    found = LINK.match(url.strip())
    return found[1] if found else None


def origin() -> str:
    """The server that is asked."""
    return os.environ.get(ORIGIN_VARIABLE) or ORIGIN


class DriveFile:
    """One shared file, and the cookies of the exchange about it.

    Args:
        url: as the browser shows it, ``https://drive.google.com/file/d/ID``.
        timeout: seconds without a byte.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self.timeout = url, timeout
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._direct: str | None = None  # where the bytes are

    def ask(self, headers: Mapping[str, str]) -> Any:
        """The answer that carries the file, or the part of it that ``headers`` ask for.

        Raises:
            HoiError: a page in its place: too many downloads, no access, no such file, or an unknown one.
            OSError: no connection, or another refusal of the server (as HTTPError).
        """
        if self._direct is None:
            plain = {name: value for name, value in headers.items() if name not in ("Range", "If-Range")}
            response = self._find(plain)  # a part of a page would not show what the page says
            if response is not None and plain == headers:
                return response
            if response is not None:
                response.close()
        assert self._direct is not None
        response = self._open(self._direct, headers)
        if _is_page(response.headers):
            raise self._refusal(response)
        return response

    def _find(self, headers: Mapping[str, str]) -> Any:
        """Find where the bytes are; the answer with the whole file, or None after a page that asks to confirm."""
        query = urllib.parse.urlencode({"export": "download", "id": drive_id(self.url) or ""})
        response = self._open(f"{origin()}/uc?{query}", headers)
        if not _is_page(response.headers):
            self._direct = response.url
            return response
        self._direct = _form(_text(response), response.url)
        if self._direct is None:
            raise self._refusal(response)
        return None

    def _open(self, address: str, headers: Mapping[str, str]) -> Any:
        try:
            return self._browser.open(urllib.request.Request(address, headers=dict(headers)), timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 404, 410, 429):
                raise self._refusal(error, error.code) from error
            raise

    def _refusal(self, response: Any, status: int = 200) -> HoiError:
        """One sentence for a page that came in place of the file."""
        page = _text(response)
        by_hand = "open the address in a browser"
        if TOO_MANY.search(page) or status == 429:
            return HoiError(
                f"{self.url}: Google gives this file to nobody for now, since too many have downloaded it; "
                f"try again in a day, or {by_hand}, sign in and download it by hand"
            )
        if status in (404, 410):
            return HoiError(f"{self.url}: Google has no such file any more; {by_hand} to see whether it has moved")
        if NO_ACCESS.search(page) or status in (401, 403) or "accounts.google" in response.url:
            return HoiError(
                f"{self.url}: Google gives this file only to accounts with access to it; "
                f"{by_hand}, ask for access there and download it by hand"
            )
        title = re.search(r"<title>(.*?)</title>", page, re.DOTALL | re.IGNORECASE)
        shown = f" ({' '.join(unescape(title[1]).split())[:80]!r})" if title else ""
        return HoiError(f"{self.url}: Google sends a web page{shown}, not the file; {by_hand} and download it by hand")


def _is_page(headers: Message) -> bool:
    attached = headers.get("Content-Disposition", "").lower().startswith("attachment")
    return headers.get_content_type() == "text/html" and not attached


def _text(response: Any) -> str:
    """The page; read once and kept, since a stream cannot be read again."""
    if not hasattr(response, "page"):
        with response:
            response.page = response.read(MOST_PAGE).decode("utf-8", errors="replace")
    return response.page


class _Forms(HTMLParser):
    """Action and hidden fields of each form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.found.append((given.get("action", ""), {}))
        elif tag == "input" and self.found and given.get("type", "").lower() == "hidden" and given.get("name"):
            self.found[-1][1][given["name"]] = given.get("value", "")


def _form(page: str, address: str) -> str | None:
    """Where the form that confirms the download leads; Google answers its fields in the address too."""
    forms = _Forms()
    forms.feed(page)
    for action, fields in forms.found:
        if "confirm" in fields:
            target = urllib.parse.urljoin(address, action)
            if urllib.parse.urlsplit(target).scheme not in ("http", "https"):
                continue
            joint = "&" if urllib.parse.urlsplit(target).query else "?"
            return f"{target}{joint}{urllib.parse.urlencode(fields)}"
    return None
