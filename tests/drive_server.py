"""A server that behaves like Google Drive: redirect, cookie, page that asks for confirmation, no ETag."""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

QUOTA = (
    "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p>Sorry, you can't view or "
    "download this file at this time.</p><p>Too many users have viewed or downloaded this file recently.</p></body>"
)
ACCESS = "<!DOCTYPE html><html><head><title>Google Drive: Sign-in</title></head><body>You need access</body></html>"
ODD = "<!doctype html><html><head><title>Virus &amp; more</title></head><body>surprise</body></html>"
CONFIRM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form id="search" action="/search"><input type="hidden" name="q" value="x"></form>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a-b-{id}"></form></body></html>"""


class Drive:
    """What the server does now, and what it was asked: ``log`` has the Range of each request for bytes, or None."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | Path] = {}
        self.confirms = self.ranges = True
        self.page: tuple[int, str] | None = None  # in place of every file
        self.cut: int | None = None  # bytes after which the connection breaks off
        self.tag: str | None = None
        self.pause = 0.0  # seconds after each MiB of a file
        self.go_on = threading.Event()  # bytes stop in the middle until it is set
        self.go_on.set()
        self.log: list[str | None] = []
        self.origin = self.content = ""


class _Handler(BaseHTTPRequestHandler):
    drive: Drive

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        drive, file_id = self.drive, query.get("id", "")
        if parts.path == "/uc":
            self.send_response(303)
            self.send_header("Location", f"{drive.content}/download?id={file_id}&export=download")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif drive.page is not None:
            self.html(*drive.page)
        elif file_id not in drive.files:
            self.html(404, ODD)
        elif drive.confirms and not self.confirmed(query):
            self.html(200, CONFIRM.format(action=f"{drive.content}/download", id=file_id))
        else:
            self.send_bytes(drive.files[file_id])

    def confirmed(self, query: dict[str, str]) -> bool:
        right = query.get("confirm") == "t" and query.get("uuid") == f"a-b-{query['id']}"
        return right and "NID=1" in self.headers.get("Cookie", "")

    def html(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "NID=1; path=/")
        self.end_headers()
        self.wfile.write(body)

    def send_bytes(self, source: bytes | Path) -> None:
        drive = self.drive
        drive.log.append(self.headers.get("Range"))
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if drive.ranges else None
        start = int(asked[1]) if asked else 0
        if asked and start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if drive.tag:
            self.send_header("ETag", drive.tag)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", 'attachment; filename="checkpoint_best.pth"')
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        end = size if drive.cut is None else min(size, start + drive.cut)
        try:
            self.send_span(source, start, end)
        except OSError:  # the other side is gone
            self.close_connection = True

    def send_span(self, source: bytes | Path, start: int, end: int) -> None:
        if isinstance(source, bytes):
            half = (start + end) // 2
            self.wfile.write(source[start:half])
            self.drive.go_on.wait(120)
            self.wfile.write(source[half:end])
            return
        with source.open("rb") as file:
            file.seek(start)
            while start < end:
                start += self.wfile.write(file.read(min(1 << 20, end - start)))
                time.sleep(self.drive.pause)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Drive]:
    """A Drive that answers until the block ends."""
    drive = Drive()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"drive": drive}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    drive.origin, drive.content = (f"http://{host}:{server.server_port}" for host in ("localhost", "127.0.0.1"))
    try:
        yield drive
    finally:
        server.shutdown()
        server.server_close()
