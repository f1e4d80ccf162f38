"""A hub of models on this machine: what huggingface_hub asks of the real one, and large files on a second server."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

WRITE, READ = "hf_mayWrite", "hf_mayRead"  # tokens; the first one's account is "owner"
LARGE = (".safetensors", ".bin", ".onnx", ".data")
Files = dict[str, bytes]


@dataclass
class Repository:
    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Files, message: str) -> str:
        seed = json.dumps([len(self.commits), message, branch])
        oid = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    endpoint: str = ""
    storage: str = ""  # of another host, as far as a client can see
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # to the hub: method, path, authorization
    stored: list[tuple[str, str | None]] = field(default_factory=list)  # to the storage: method, authorization
    refuse: tuple[int, str] | None = None  # answer every question about a model with this status and error code
    stuck: threading.Event | None = None  # set as soon as a large file has begun to come; then nobody answers any more

    def files(self, name: str, branch: str = "main") -> Files:
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]


class _Answering(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.0"  # a connection for each request: none outlives the server

    def log_message(self, *_: Any) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _Storage(_Answering):
    def do_PUT(self) -> None:
        self.hub.stored.append(("PUT", self.headers.get("Authorization")))
        if self.hub.stuck is not None:
            self.rfile.read(16)
            self.hub.stuck.set()
            threading.Event().wait(30)
            return
        data = self.body()
        self.hub.large[hashlib.sha256(data).hexdigest()] = data
        self.answer(200)

    def do_GET(self) -> None:
        self.hub.stored.append(("GET", self.headers.get("Authorization")))
        self.answer(200, self.hub.large[self.path.rpartition("/")[2]])


class _Hub(_Answering):
    def handle_any(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path, self.headers.get("Authorization")))
        parts = [unquote(part) for part in path.strip("/").split("/")]  # a branch may have a slash in its name
        if path == "/":
            self.answer(200)
        elif path == "/api/validate-yaml":
            wrong = "license: nonsense" in json.loads(self.body())["content"]
            errors = [{"message": '"license" must be one of [mit, ...]'}] if wrong else []
            self.answer(400 if wrong else 200, {"errors": errors, "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(self.body()))
        elif parts[:2] == ["api", "models"]:
            self.about("/".join(parts[2:4]), parts[4:])
        elif ".git/info/lfs" in path:
            self.batch("/".join(parts[:2]).removesuffix(".git"))
        elif parts[2:3] != ["resolve"]:
            self.answer(404)
        else:
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    do_GET = do_HEAD = do_POST = handle_any

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def may(self, name: str, *, write: bool = False) -> bool:
        """Whether the request may go on; answers it if not."""
        status = 0
        headers = {}
        if self.token not in (None, WRITE, READ):
            status, headers = 401, {"X_Error_Message": "Invalid credentials in Authorization header"}
        elif self.hub.refuse is not None:
            status, headers = self.hub.refuse[0], {"X_Error_Code": self.hub.refuse[1]}
        elif name not in self.hub.repositories or (self.hub.repositories[name].private and self.token is None):
            self.body()
            self.answer(401 if self.token is None else 404, {}, X_Error_Code="RepoNotFound")
            return False
        elif write and self.token != WRITE:
            status = 403 if self.token else 401
        if status:
            self.body()
            self.answer(status, {}, **headers)
        return not status

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization'] or 'owner'}/{asked['name']}"
        if self.token not in (WRITE, READ):
            message = {"X_Error_Message": "Invalid credentials in Authorization header"} if self.token else {}
            return self.answer(401, {}, **message)
        if self.token != WRITE or not name.startswith("owner/"):
            return self.answer(403, {})
        if name in self.hub.repositories:
            return self.answer(409, {"url": f"{self.hub.endpoint}/{name}"})
        repository = Repository(asked.get("visibility") == "private" or bool(asked.get("private")))
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self.hub.repositories[name] = repository
        return self.answer(200, {"url": f"{self.hub.endpoint}/{name}", "id": name})

    def about(self, name: str, parts: list[str]) -> None:
        what = parts[0] if parts else "info"
        if not self.may(name, write=what in ("branch", "commit", "preupload")):
            return None
        repository = self.hub.repositories[name]
        revision = parts[1] if len(parts) > 1 else "main"
        if what == "branch":
            self.body()
            if revision in repository.branches:
                return self.answer(409, {})
            repository.branches[revision] = repository.branches["main"]
            return self.answer(200, {})
        oid = repository.find(revision)
        if oid is None:
            self.body()
            return self.answer(404, {}, X_Error_Code="RevisionNotFound")
        files = repository.commits[oid]
        if what in ("info", "revision"):
            names = [{"rfilename": path} for path in files]
            return self.answer(200, {"id": name, "sha": oid, "private": repository.private, "siblings": names})
        if what == "tree" and parts[2:]:
            return self.answer(404, X_Error_Code="EntryNotFound")  # no folders here
        if what == "tree":
            return self.answer(200, [self.entry(path, data) for path, data in files.items()])
        if what == "preupload":
            asked = json.loads(self.body())["files"]
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for f in asked
            ]
            return self.answer(200, {"files": modes})
        assert what == "commit", what
        return self.take_commit(name, revision, dict(files))

    def take_commit(self, name: str, branch: str, files: Files) -> None:
        message = ""
        for line in self.body().splitlines():
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "header":
                message = value["summary"]
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
            else:
                raise AssertionError(kind)
        oid = self.hub.repositories[name].commit(branch, files, message)
        self.answer(200, {"commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}", "commitOid": oid})

    @staticmethod
    def entry(path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": etag(data)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def batch(self, name: str) -> None:
        if not self.may(name, write=True):
            return
        objects = json.loads(self.body())["objects"]
        for wanted in objects:
            if wanted["oid"] not in self.hub.large:
                wanted["actions"] = {"upload": {"href": f"{self.hub.storage}/{wanted['oid']}", "header": {}}}
        self.answer(200, {"transfer": "basic", "objects": objects})

    def resolve(self, name: str, revision: str, path: str) -> None:
        if not self.may(name):
            return None
        repository = self.hub.repositories[name]
        oid = repository.find(revision)
        if oid is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        data = repository.commits[oid].get(path)
        if data is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
        if path.endswith(LARGE):
            digest = hashlib.sha256(data).hexdigest()
            linked = {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(len(data)), "X_Repo_Commit": oid}
            return self.answer(302, Location=f"{self.hub.storage}/{digest}", **linked)
        return self.answer(200, data, ETag=f'"{etag(data)}"', X_Repo_Commit=oid)


def etag(data: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    servers = []
    for kind in (_Hub, _Storage):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type(kind.__name__, (kind,), {"hub": hub}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    hub.endpoint = f"http://127.0.0.1:{servers[0].server_port}"
    hub.storage = f"http://localhost:{servers[1].server_port}"
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
