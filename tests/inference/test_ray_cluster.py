"""On real Ray: two nodes on loopback, workers and jobs killed -9; nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from s3_server import s3_server

from hoiclip.parquet_rows import parquet_files, read_rows
from hoiclip.playground.dataset import PlaygroundDataset

pytest.importorskip("ray", reason="ray is not installed: pip install 'hoiclip[ray]'")
pytestmark = pytest.mark.slow

SCENES = 300
OPTIONS = ["--threshold", "0.1", "--no-pictures", "--device", "cpu"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
ENVIRONMENT |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
# a token for this run: nobody else may start work on these nodes, and Ray writes none into the home folder
ENVIRONMENT |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of playground scenes."""
    folder = tmp_path_factory.mktemp("world") / "scenes"
    folder.mkdir()
    for i, (image, _) in enumerate(PlaygroundDataset(7, SCENES, "test")):
        image.save(folder / f"{i:04d}.png")
    return folder


@pytest.fixture(scope="module")
def alone(scenes: Path) -> list[dict[str, Any]]:
    """What one process finds in them, by name."""
    out = scenes.parent / "alone"
    done = subprocess.run(detect(scenes, out), env=ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode == 0
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]


def detect(source: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "hoiclip", "detect", str(source), "--out", str(out), *OPTIONS, *options]


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows as the lines of one process would be, by name."""
    found = [row for _, row in read_rows(out)]
    assert [row.pop("error") for row in found] == [None] * len(found)
    return sorted(found, key=lambda row: row["file_name"])


class Nodes:
    """Two Ray nodes of one core each on loopback."""

    def __init__(self, scratch: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        head = ["--head", "--port", self.address.partition(":")[2], "--temp-dir", scratch, "--include-dashboard=false"]
        self.started = [self.start(*head)]
        time.sleep(5)
        self.started.append(self.start("--address", self.address))

    @staticmethod
    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus", "1"]
        command += ["--node-ip-address", "127.0.0.1", "--disable-usage-stats", *options]
        return subprocess.Popen(
            command, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def workers(self) -> list[int]:
        """Processes of our own that hold a model."""
        return [pid for node in self.started for pid in descendants(node.pid) if b"PieceWorker" in command_of(pid)]

    def stop(self) -> None:
        for node in reversed(self.started):
            stop(node)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    below = descendants(process.pid)
    process.kill()
    process.wait()
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and theirs."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
    line, found = [pid], []
    while line:
        below = parents.get(line.pop(), [])
        line += below
        found += below
    return found


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as scratch:
        started = Nodes(scratch)
        yield started
        started.stop()


def wait_for_files(out: Path, count: int, job: subprocess.Popen[bytes]) -> None:
    """Until so many files are there."""
    deadline = time.monotonic() + 180
    while len(parquet_files(out)) < count:
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_worker_killed_at_a_random_moment_changes_nothing(
    seed: int, scenes: Path, alone: list[dict[str, Any]], tmp_path: Path, nodes: Nodes
) -> None:
    draw = random.Random(seed)
    job = subprocess.Popen(detect(scenes, tmp_path / "out", "--ray", nodes.address), env=ENVIRONMENT)
    wait_for_files(tmp_path / "out", draw.randrange(1, 8), job)
    time.sleep(draw.random() / 2)
    victim = draw.choice(sorted(nodes.workers()))
    assert job.poll() is None
    os.kill(victim, signal.SIGKILL)
    assert job.wait(180) == 0
    assert victim not in nodes.workers()
    assert rows(tmp_path / "out") == alone


def test_a_lost_node_changes_nothing(scenes: Path, alone: list[dict[str, Any]], tmp_path: Path, nodes: Nodes) -> None:
    job = subprocess.Popen(detect(scenes, tmp_path / "out", "--ray", nodes.address), env=ENVIRONMENT)
    wait_for_files(tmp_path / "out", 3, job)
    stop(nodes.started[1])
    assert job.wait(180) == 0
    assert rows(tmp_path / "out") == alone


def test_a_killed_job_goes_on_and_has_no_image_twice(
    scenes: Path, alone: list[dict[str, Any]], tmp_path: Path, nodes: Nodes
) -> None:
    command = detect(scenes, tmp_path / "out", "--ray", nodes.address)
    job = subprocess.Popen(command, env=ENVIRONMENT)
    wait_for_files(tmp_path / "out", 4, job)
    job.kill()
    job.wait()
    again = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    before = int(again.stderr.partition("going on after ")[2].partition(" ")[0])
    assert 0 < before < SCENES
    assert rows(tmp_path / "out") == alone


def test_this_machine_alone_tells_broken_images_and_reads_bytes_of_parquet(scenes: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "photos").mkdir()
    names = [f"{i:04d}.png" for i in range(10)]
    for name in names:
        (tmp_path / "photos" / name).write_bytes((scenes / name).read_bytes())
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG")
    done = subprocess.run(
        detect(tmp_path / "photos", tmp_path / "out", "--ray", "--ray-cpus", "1"),
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    plain = subprocess.run(
        detect(tmp_path / "photos", tmp_path / "plain"), env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, plain.returncode) == (2, 2)
    complaint = next(line for line in plain.stderr.splitlines() if "broken.png" in line)
    assert complaint in done.stderr.splitlines()
    assert done.stdout.splitlines()[-1] == f"10 of 11 images -> {tmp_path / 'out'}"
    by_name = {Path(row["file_name"]).name: row for _, row in read_rows(tmp_path / "out")}
    assert complaint == f"hoiclip: {by_name.pop('broken.png')['error']}"

    content = [(scenes / name).read_bytes() for name in names]
    table = pyarrow.table({"path": names, "image": content})
    pyarrow.parquet.write_table(table, tmp_path / "photos.parquet", row_group_size=4)
    done = subprocess.run(
        detect(tmp_path / "photos.parquet", tmp_path / "of-bytes", "--ray"),
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {r["file_name"]: r["triplets"] for r in rows(tmp_path / "of-bytes")} == {
        name: row["triplets"] for name, row in by_name.items()
    }


def test_a_bucket_is_read_and_written(scenes: Path, alone: list[dict[str, Any]], tmp_path: Path) -> None:
    keys = {name: "nobodys" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    environment = ENVIRONMENT | keys | {"AWS_EC2_METADATA_DISABLED": "true"}
    with s3_server() as server:
        for i in range(10):
            server.objects[f"bucket/photos/{i:04d}.png"] = (scenes / f"{i:04d}.png").read_bytes()
        source, out = server.uri("bucket/photos"), server.uri("bucket/found")
        command = [sys.executable, "-m", "hoiclip", "detect", source, "--out", out, *OPTIONS, "--ray"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for name, content in server.objects.items():
            if name.endswith(".parquet"):
                (tmp_path / Path(name).name).write_bytes(content)
    found = rows(tmp_path)
    assert [row["file_name"] for row in found] == [server.uri(f"bucket/photos/{i:04d}.png") for i in range(10)]
    assert [row["triplets"] for row in found] == [row["triplets"] for row in alone[:10]]


PIPELINE = """
import sys
import ray
from hoiclip.inference.ray_data import detect

ray.init(address="local", include_dashboard=False, num_cpus=2, logging_level="error", log_to_driver=False)
photos = ray.data.read_binary_files(sys.argv[1], include_paths=True)
found = detect(photos, threshold=0.1, device="cpu", num_cpus=1, concurrency=1)
found.write_parquet(sys.argv[2])
"""


def test_a_pipeline_of_ones_own_gives_the_same_rows(scenes: Path, alone: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(10):
        (tmp_path / "photos" / f"{i:04d}.png").write_bytes((scenes / f"{i:04d}.png").read_bytes())
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    command = [sys.executable, "-c", PIPELINE, str(tmp_path / "photos"), str(tmp_path / "out")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    by_name = {Path(row["file_name"]).name: row for _, row in read_rows(tmp_path / "out")}
    assert "no image that can be read" in by_name.pop("broken.png")["error"]
    assert [row["triplets"] for _, row in sorted(by_name.items())] == [row["triplets"] for row in alone[:10]]
    with Image.open(scenes / "0000.png") as image:
        assert by_name["0000.png"]["image_size"] == [image.height, image.width]
