"""Freed memory stays with the process: the next tensor costs no page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

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
