"""As much of S3 as pyarrow needs to list, read, write and remove objects, in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ETAG = '"00000000000000000000000000000000"'


class S3Server(ThreadingHTTPServer):
    """Objects by ``bucket/key``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}  # of each upload that goes on

    def uri(self, path: str) -> str:
        """The name of an object or folder, for pyarrow."""
        return f"s3://{path}?region=us-east-1&scheme=http&endpoint_override=127.0.0.1%3A{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Server

    def _asked(self) -> tuple[str, dict[str, str]]:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        bucket, mark, key = unquote(address.path).lstrip("/").partition("/")
        return bucket + mark + key if key else bucket, query  # a key that ends in / marks a folder

    def _answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), "ETag": ETAG, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, kind: str, inside: str) -> None:
        text = f'<?xml version="1.0"?><{kind} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{kind}>'
        self._answer(200, text.encode(), Content_Type="application/xml")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return content
        whole = b""
        while True:
            head, _, content = content.partition(b"\r\n")
            size = int(head.partition(b";")[0], 16)
            if size == 0:
                return whole
            whole, content = whole + content[:size], content[size + 2 :]

    def do_HEAD(self) -> None:
        path, _ = self._asked()
        if path in self.server.objects:
            self._answer(200, self.server.objects[path], Last_Modified="Thu, 26 Nov 2026 00:00:00 GMT")
        else:
            self._answer(200 if "/" not in path else 404)

    def do_GET(self) -> None:
        path, query = self._asked()
        if "list-type" in query:
            self._list(path, query)
        elif path not in self.server.objects:
            self._answer(404)
        elif wanted := self.headers.get("Range"):
            content = self.server.objects[path]
            first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            self._answer(206, part, Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        else:
            self._answer(200, self.server.objects[path])

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, inside, folders = query.get("prefix", ""), "", set()
        for name, content in sorted(self.server.objects.items()):
            key = name.removeprefix(f"{bucket}/")
            if key == name or not key.startswith(prefix):
                continue
            head, mark, _ = key[len(prefix) :].partition("/")
            if query.get("delimiter") and mark:
                folders.add(f"{prefix}{head}/")
            else:
                inside += (f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size>"
                           "<LastModified>2026-11-26T00:00:00.000Z</LastModified></Contents>")  # fmt: skip
        inside += "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders))
        count = inside.count("<Key>") + len(folders)
        head = f"<Name>{bucket}</Name><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>"
        self._xml("ListBucketResult", head + inside)

    def do_PUT(self) -> None:
        path, query = self._asked()
        content = self._body()
        if "uploadId" in query:
            self.server.parts[query["uploadId"]][int(query["partNumber"])] = content
        elif "/" in path:
            self.server.objects[path] = content
        self._answer(200)

    def do_POST(self) -> None:
        path, query = self._asked()
        self._body()
        if "uploads" in query:
            self.server.parts[path] = {}
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{escape(path)}</UploadId>")
        elif "uploadId" in query:
            parts = self.server.parts.pop(query["uploadId"])
            self.server.objects[path] = b"".join(parts[number] for number in sorted(parts))
            self._xml("CompleteMultipartUploadResult", f"<Key>{escape(path)}</Key><ETag>{ETAG}</ETag>")
        else:
            self._answer(400)

    def do_DELETE(self) -> None:
        self.server.objects.pop(self._asked()[0], None)
        self._answer(204)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server as long as the block lasts."""
    server = S3Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
