"""Whatever an image comes as, it is the same image; what is none is told in one sentence."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from hoiclip import image_inputs
from hoiclip.errors import HoiError
from hoiclip.image_inputs import open_image

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(png: bytes) -> Iterator[str]:
    """Serves /a.png; /page is HTML, /cut ends too early, the rest is missing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/a.png": png, "/page": b"<html>hello</html>", "/cut": png, "/big": bytes(3000)}.get(self.path)
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write((found or b"")[: 40 if self.path == "/cut" else None])

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_every_form_is_the_same_image(png: bytes, server: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png)
    channels_first = torch.from_numpy(PIXELS).permute(2, 0, 1)
    with (tmp_path / "a.png").open("rb") as file:
        forms = [
            tmp_path / "a.png", str(tmp_path / "a.png"), png, bytearray(png), memoryview(png), io.BytesIO(png), file,
            Image.fromarray(PIXELS), PIXELS, channels_first, channels_first.float() / 255, f"{server}/a.png",
        ]  # fmt: skip
        for form in forms:
            np.testing.assert_array_equal(np.asarray(open_image(form)), PIXELS, err_msg=repr(type(form)))


def test_bytes_are_turned_upright_as_files_are() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif)
    assert open_image(buffer.getvalue()).size == (12, 20)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (b"", "bytes: is empty"),
        (b"no image", "bytes: is no image that can be read"),
        (io.StringIO("text"), "gives text; open it with mode 'rb'"),
        (torch.zeros(2, 3, 8, 8), r"a tensor of shape \(2, 3, 8, 8\) is no image"),
        (torch.zeros(5, 8, 8), "is no image; give"),
        (torch.full((3, 8, 8), -1.5), "outside 0..1; give it before it is normalised"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "torch.int64 is no image"),
    ],
)
def test_what_is_no_image_is_told(form: object, told: str) -> None:
    with pytest.raises(HoiError, match=told):
        open_image(form)


def test_a_cut_png_is_told_from_bytes_too(png: bytes) -> None:
    with pytest.raises(HoiError, match="bytes: is damaged"):
        open_image(png[:-200])


@pytest.mark.parametrize(
    ("place", "told"),
    [("/missing.png", "answers 404"), ("/page", "no image that can be read"), ("/cut", "cannot be|damaged|no image")],
)
def test_addresses_that_give_no_image_are_told(place: str, told: str, server: str) -> None:
    with pytest.raises(HoiError, match=told) as error:
        open_image(server + place)
    assert str(error.value).startswith(server + place)


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(HoiError, match="cannot be fetched"):
        open_image("http://127.0.0.1:9/a.png")


def test_what_is_too_large_is_told(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_inputs, "MOST_BYTES", 2048)
    with pytest.raises(HoiError, match="is larger than"):
        open_image(f"{server}/big")
