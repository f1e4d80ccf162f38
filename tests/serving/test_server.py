"""``hoiclip serve`` as its visitors meet it: HTTP, programs, a browser, crowds and rubbish."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import accessibility_faults, open_browser
from PIL import Image

import hoiclip
from hoiclip.cli import BAD_INPUT, main
from hoiclip.playground.dataset import PlaygroundDataset

pytest.importorskip("gradio", reason="needs pip install 'hoiclip[web]'")


class Server:
    """A server process at its address."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "hoiclip", "serve", "--port", "0", "--device", "cpu", *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.address = re.search(r"http://127\.0\.0\.1:\d+", line).group()
        self.wait()

    def wait(self) -> None:
        for _ in range(600):
            try:
                self.get("/health")
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, content: bytes | None, **fields: Any) -> tuple[int, Any]:
        """Status and answer of ``POST /detect``."""
        edge = uuid.uuid4().hex
        parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
        body = "".join(parts).encode()
        if content is not None:
            body += f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
            body += content + b"\r\n"
        body += f"--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.address + "/detect", body, kind), timeout=120
            ) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.process.kill()
    running.process.wait()


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def scenes() -> list[bytes]:
    world = PlaygroundDataset(12, 8, "test")
    return [encoded(world[i][0]) for i in range(8)]


def test_http_answers_what_the_detector_finds(server: Server, scenes: list[bytes]) -> None:
    health = server.get("/health")
    assert health["status"] == "ok"
    assert health["model"].startswith("playground")
    status, found = server.post(scenes[0])
    alone = hoiclip.load(device="cpu")(scenes[0]).to_dict()
    assert status == 200
    assert [t["interaction"] for t in found["triplets"]] == [t["interaction"] for t in alone["triplets"]]
    np.testing.assert_allclose(
        [t["score"] for t in found["triplets"]], [t["score"] for t in alone["triplets"]], atol=1e-3
    )
    status, found = server.post(scenes[0], interactions="ride horse, hold ball", threshold=0, top_k=3)
    assert {t["interaction"] for t in found["triplets"]} <= {"ride horse", "hold ball"}
    assert len(found["triplets"]) == 3


@pytest.mark.parametrize(
    ("content", "fields", "status", "told"),
    [
        (b"", {}, 400, "the image: is empty"),
        (b"no image", {}, 400, "is no image that can be read"),
        (None, {}, 422, "send a multipart form"),
        ("scene", {"threshold": "much"}, 422, "threshold"),
        ("scene", {"threshold": "2"}, 400, "give a probability"),
        ("scene", {"top_k": "0"}, 400, "give 1 to 100"),
        ("scene", {"interactions": "ride"}, 400, "'ride'"),
        (b"\x89PNG" + b"0" * 22_000_000, {}, 413, "larger than 20 MB"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    server: Server, scenes: list[bytes], content: Any, fields: dict, status: int, told: str
) -> None:
    got, answer = server.post(scenes[0] if content == "scene" else content, **fields)
    assert got == status
    assert list(answer) == ["error"]
    assert told in answer["error"]
    assert "\n" not in answer["error"]


def test_programs_ask_the_page_by_gradio_client(server: Server, scenes: list[bytes], tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    (tmp_path / "a.png").write_bytes(scenes[1])
    client = Client(server.address, verbose=False)
    answer = client.predict(handle_file(str(tmp_path / "a.png")), "", 0.3, 10, api_name="/detect")
    assert answer == server.post(scenes[1])[1]


def test_no_file_but_its_own_is_served(server: Server) -> None:
    for path in ("/gradio_api/file=/etc/passwd", f"/gradio_api/file={__file__}", "/../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(server.address + path, timeout=30)
        assert refused.value.code in (403, 404)


def test_a_port_that_is_taken_is_told(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    port = server.address.rsplit(":", 1)[1]
    assert main(["serve", "--port", port, "--device", "cpu"]) == BAD_INPUT
    assert "cannot be listened at" in capsys.readouterr().err


def broken(seed: int, sound: bytes) -> bytes:
    """An upload as networks and people make them."""
    rng = random.Random(seed)
    content = bytearray(sound)
    match seed % 4:
        case 0:
            return bytes(content[: rng.randrange(len(content))])
        case 1:
            for _ in range(40):
                content[rng.randrange(len(content))] = rng.randrange(256)
            return bytes(content)
        case 2:
            return rng.randbytes(rng.randrange(5000))
        case _:
            return b"<html>" + rng.randbytes(100)


def test_the_server_lives_on_after_rubbish(server: Server, scenes: list[bytes]) -> None:
    for seed in range(100):
        status, answer = server.post(broken(seed, scenes[0]))
        assert status in (200, 400), answer
        if status == 400:
            assert "\n" not in answer["error"]
    assert server.post(scenes[2])[0] == 200


def test_the_space_runs_as_it_is(tmp_path: Path) -> None:
    app = Path(__file__).parents[2] / "spaces" / "app.py"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    running = subprocess.Popen([sys.executable, str(app)], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=5) as answer:
                    page = json.loads(answer.read())
                break
            except OSError:
                time.sleep(0.1)
        assert page["title"] == "hoiclip"
    finally:
        running.kill()
        running.wait()


@pytest.mark.slow
def test_fifty_at_once_for_two_minutes_are_not_mixed_up(scenes: list[bytes]) -> None:
    server = Server()
    try:
        expected = [server.post(scene)[1]["triplets"] for scene in scenes]
        for _ in range(100):
            server.post(scenes[0])
        before, end = server.resident_mib(), time.monotonic() + 120
        counts = {"answered": 0, "busy": 0}
        wrong: list[Any] = []
        lock = threading.Lock()

        def client(number: int) -> None:
            which = number % len(scenes)
            while time.monotonic() < end:
                status, answer = server.post(scenes[which])
                with lock:
                    if status == 200 and answer["triplets"] == expected[which]:
                        counts["answered"] += 1
                    elif status == 503 and "try again" in answer["error"]:
                        counts["busy"] += 1
                    else:
                        wrong.append((which, status, answer))
                if status == 503:
                    time.sleep(0.2)

        clients = [threading.Thread(target=client, args=(i,)) for i in range(50)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        assert wrong == []
        assert counts["answered"] > 100
        assert counts["busy"] > 0  # 50 do not fit into a queue of 16
        assert server.resident_mib() < before + 150
        assert server.stop() in (0, 130, -signal.SIGINT)
    finally:
        server.process.kill()


@pytest.mark.slow
def test_the_page_in_a_browser(server: Server, scenes: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "scene.png").write_bytes(scenes[0])
    for width in (390, 1300):
        (tmp_path / str(width)).mkdir()
        browser = open_browser(width, 1000, tmp_path / str(width))
        try:
            _visit(browser, server, tmp_path / "scene.png")
            saved = json.loads((tmp_path / str(width) / "detections.json").read_text())
            assert [t["interaction"] for t in saved["triplets"]].count("point at bicycle") == 2
        finally:
            browser.quit()


def _visit(browser: Any, server: Server, image: Path) -> None:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(browser, 60, ignored_exceptions=[StaleElementReferenceException])  # the table is drawn anew
    browser.get(server.address)
    upload = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "input[type=file]"))
    upload.send_keys(str(image))

    def press(text: str) -> None:
        def pressed(_: Any) -> bool:
            found = [b for b in browser.find_elements(By.TAG_NAME, "button") if b.text.strip() == text]
            if found:
                browser.execute_script("arguments[0].click()", found[0])
            return bool(found)

        wait.until(pressed)

    def cell(text: str) -> Any:
        shown = browser.find_elements(By.CSS_SELECTOR, "[role=gridcell], td")
        return next((c for c in shown if c.text.strip() == text and c.is_displayed()), None)

    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "img[src*='scene']") or b.find_elements(By.TAG_NAME, "img"))
    time.sleep(1)
    press("Detect")

    def chosen(_: Any) -> bool:
        row = cell("point at bicycle")
        if row is None:
            return False
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
        row.click()
        return True

    wait.until(chosen)
    wait.until(lambda b: "Where the model looked" in b.page_source)
    assert accessibility_faults(browser) == []
    press("Show all")
    press("Download JSON")
    time.sleep(2)
    words = browser.find_element(By.CSS_SELECTOR, "textarea")
    words.send_keys("hold ball")
    press("Detect")
    wait.until(lambda _: cell("hold ball") and not cell("point at bicycle"))
    assert not browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth + 2")
    elsewhere = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => n.startsWith('http') "
        "&& !n.startsWith(location.origin))"
    )
    assert elsewhere == []  # nothing is asked of other servers
