"""Freed memory stays with the process: the next tensor costs no page faults."""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from hoiclip.backends.allocator import drop_mapped_pages

PROGRAM = """
import resource, torch
from hoiclip.backends.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(64 << 18)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
kept = keep_freed_memory()
for _ in range(4):
    faults()  # grows the heap, by several tensors where alignment leaves gaps
print(int(kept), first, faults())
"""


def run(**environment: str) -> list[int]:
    """Whether memory is kept, and page faults of five 64 MiB tensors before and after."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other habits")
def test_a_tensor_freed_is_memory_for_the_next() -> None:
    kept, before, after = run()
    assert kept == 1
    assert before > 1000  # 5 x 16,384 pages, fewer where the kernel gives huge ones
    assert after == 0


def test_what_the_user_has_set_stays() -> None:
    kept, before, after = run(MALLOC_TOP_PAD_="131072")
    assert kept == 0
    assert after > before / 2


def resident(file: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    held, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            held += int(line.split()[1]) << 10
    return held


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="nothing tells what is resident")
def test_pages_of_a_mapped_file_leave_memory_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "weights with space.bin"
    file.write_bytes(bytes(range(256)) * 4096)  # 1 MiB
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::4096]) == 0
        before = resident(file)
        assert before > 1 << 19
        assert drop_mapped_pages(file) == 1 << 20
        assert resident(file) < before / 8
        assert mapped[255] == 255  # read again from the file


def test_pages_that_were_written_stay(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(1 << 16))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[7] = 9
        assert drop_mapped_pages(file) == 0
        assert mapped[7] == 9
