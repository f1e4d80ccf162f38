"""A short cut of the campaign (``make fuzz``), and each of its checks made to fail once."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import HERE, TRIES, run
from kinds import KINDS
from mutations import damaged, json_text, with_odd_values
from promises import Box, Outcome, Try, attempt, watch

from hoiclip.errors import HoiError

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = {"images": 16, "annotations": 24, "detections": 16, "yaml": 24, "checkpoints": 16, "archives": 24, "forms": 24}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_a_result_or_one_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = "kinds", "archive_tries", "checkpoint_tries", "form_tries"
    for module in modules:  # processes and bombs of seconds are the campaign's
        monkeypatch.setattr(f"{module}.ALONE", 0)
        monkeypatch.setattr(f"{module}.BOMB", 0)
    faults = [
        f"make fuzz KIND={kind} SEED={seed} TRIES=1: {fault}"
        for seed, outcome in run(kind, 0, SEEDS[kind], tmp_path.resolve())
        for fault in outcome["faults"]  # type: ignore[attr-defined]
    ]
    assert faults == []


def test_the_campaign_tries_every_kind() -> None:
    assert list(TRIES) == list(KINDS) == list(SEEDS)
    assert sum(TRIES.values()) >= 1500


def test_a_seed_gives_the_same_damage_again() -> None:
    tree = {"a": [1, 2, {"b": "c"}], "d": 0.5}
    for seed in range(50):
        bytes_of = [damaged(random.Random(seed), bytes(range(200))) for _ in range(2)]
        assert bytes_of[0] == bytes_of[1]
        assert len({json_text(with_odd_values(random.Random(seed), tree)) for _ in range(2)}) == 1
    assert tree == {"a": [1, 2, {"b": "c"}], "d": 0.5}


# --- each promise broken once ----------------------------------------------------------------------


def raises(error: Exception) -> None:
    raise error


def breaks(tmp_path: Path, call: object) -> Outcome:
    watch()
    return attempt(lambda box: Try(lambda: call(box)), tmp_path)  # type: ignore[operator]


def touch_fresh_memory(size: int) -> None:
    """Take memory from the system: what was freed before and kept would not show in the peak."""
    with mmap.mmap(-1, size) as fresh:
        for page in range(0, size, mmap.PAGESIZE):
            fresh[page] = 1


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda box: raises(KeyError("x")), "KeyError: 'x'"),
        (lambda box: box.canary.touch(), "outside of the output folder: open"),
        (lambda box: os.system(f"touch {box.canary}"), "outside of the output folder: os.system"),
        (lambda box: os.system(f"touch {box.canary}"), "changed outside of the output folder: "),
        (lambda box: (box.given / "photo").mkdir(), "outside of the output folder: os.mkdir"),
        (lambda box: Path("relative").touch(), "changed outside of the output folder: "),
        (lambda box: (box.out / ".unfinished-1").touch(), "left behind: .unfinished-1"),
        (lambda box: touch_fresh_memory(64 << 20), " MiB"),
        (lambda box: __import__("time").sleep(3), "took more than 1 s"),
    ],
)
def test_a_broken_promise_is_a_fault(tmp_path: Path, call: object, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault in (" MiB", "took more than 1 s"):
        monkeypatch.setattr("promises.MOST_MEMORY", 48 << 20 if "MiB" in fault else 1 << 40)
        monkeypatch.setattr("promises.LONGEST", 1)
        if "MiB" in fault and not Path("/proc/self/clear_refs").exists():
            pytest.skip("peak memory cannot be reset here")
    outcome = breaks(tmp_path, call)
    assert any(fault in told for told in outcome.faults), outcome.faults
    assert outcome.traceback == ("KeyError" in fault)
    assert list(tmp_path.iterdir()) == []


def test_what_is_allowed_is_no_fault(tmp_path: Path) -> None:
    def writes(box: Box) -> None:
        (box.out / "deep").mkdir()
        (box.out / "deep" / "file").write_text("x")

    assert breaks(tmp_path, writes).faults == []
    refused = breaks(tmp_path, lambda box: raises(HoiError("a.jpg: is empty; give another")))
    assert (refused.faults, refused.accepted) == ([], False)


@pytest.mark.slow
def test_one_try_is_repeated_by_its_seed() -> None:
    command = [sys.executable, str(HERE / "campaign.py"), "--kind", "archives", "--seed", "5", "--tries", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("| archives | 2     |")
