"""Files at s3://, against a server of our own that speaks as much of S3 as is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server, s3_server

from hoiclip.errors import HoiError
from hoiclip.object_stores import is_folder, is_uri, list_folder, read_bytes, remove, write_bytes
from hoiclip.parquet_rows import read_rows, row, settle, write_rows

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'hoiclip[results]'")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobodys")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with s3_server() as running:
        yield running


def test_objects_are_written_listed_read_and_removed(server: S3Server) -> None:
    for name in ("b c.jpg", "a.jpg", ".hidden", "below/d.jpg"):
        write_bytes(server.uri(f"bucket/photos/{name.replace(' ', '%20')}"), name.encode())
    assert server.objects["bucket/photos/a.jpg"] == b"a.jpg"
    listed = list_folder(server.uri("bucket/photos"))
    assert listed == [server.uri("bucket/photos/a.jpg"), server.uri("bucket/photos/b%20c.jpg")]
    assert [read_bytes(name) for name in listed] == [b"a.jpg", b"b c.jpg"]
    assert is_folder(server.uri("bucket/photos"))
    assert not is_folder(listed[0])
    assert list_folder(server.uri("bucket/nowhere")) == []
    remove(listed[0])
    with pytest.raises(HoiError, match=r"a\.jpg\?.*: no such file; check the path"):
        read_bytes(listed[0])


def test_rows_in_a_bucket_are_those_of_a_folder(server: S3Server, tmp_path: Path) -> None:
    made_by = json.dumps({"model": "m"})
    found = {"image_size": [4, 6], "triplets": []}
    for folder in (server.uri("bucket/found"), str(tmp_path)):
        write_rows(folder, [row("a.jpg", found), row("b.jpg", None, "b.jpg: is empty")], made_by)
        write_rows(folder, [row("a.jpg", found), row("c.jpg", found)], made_by)
    assert [r for _, r in read_rows(server.uri("bucket/found"))] == [r for _, r in read_rows(tmp_path)]
    assert settle(server.uri("bucket/found"), made_by, drop_failed=True) == ({"a.jpg", "c.jpg"}, set())
    assert sorted(r["file_name"] for _, r in read_rows(server.uri("bucket/found"))) == ["a.jpg", "c.jpg"]


def test_what_is_no_store_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HoiError, match="foo://bucket/x: cannot be reached"):
        read_bytes("foo://bucket/x")
    assert [is_uri(name) for name in ("s3://b/x", "gs://b", "http://h/x.jpg", "a/b.jpg", "C:/x")] == [
        True, True, False, False, False,
    ]  # fmt: skip
