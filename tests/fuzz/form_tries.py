"""Detections in the forms of other programs, damaged and hostile, through ``evaluate`` and ``data``."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

from mutations import damaged, damaged_json
from promises import Box, Try
from seeds import World

ALONE = 1 / 60  # of the command lines run in a process of their own
BOMB = 1 / 80
FOLDERS = ("hico-mat", "images", "parquet")
WRITTEN = ("jsonl", "parquet", "qpic", "coco", "hico-mat", "vcoco-pickle")


class Runs:
    """Leaves a mark where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def forms(rng: random.Random, world: World, box: Box) -> Try:
    """A file, or one of a folder, damaged."""
    form = rng.choice([name for name in world.forms if name != "lines"])
    files = dict(world.forms[form])
    bad = rng.choice(list(files))
    if form in ("qpic", "coco") and rng.random() < 0.8:
        files[bad] = damaged_json(rng, json.loads(files[bad]))
    elif form.startswith("pickle") and rng.random() < 0.3:
        content = pickle.loads(files[bad])
        content[rng.choice(list(content))] = Runs(box.canary)
        files[bad] = pickle.dumps(content, rng.choice((0, 2, 4, 5)))
    elif form == "images" and rng.random() < BOMB:
        files[bad] = pickle.dumps(laughs())
    elif rng.random() < 0.95:
        files[bad] = damaged(rng, files[bad])
    for name, data in files.items():
        box.put(f"theirs/{name}", data)
    theirs = box.given / "theirs" if form in FOLDERS else box.given / "theirs" / form
    good = json.dumps(world.annotations["test_hico.json"]).encode()
    given = ["--annotations", box.put("test_hico.json", good)]
    alone = rng.random() < ALONE
    if rng.random() < 0.3:
        to = rng.choice(WRITTEN)
        return Try(["data", "convert-detections", theirs, *given, "--to", to, "--out", box.out / "x"], alone=alone)
    out = box.out / "metrics.json"

    def check(accepted: bool) -> str | None:
        if not accepted:
            return "there are metrics of a refused file" if out.exists() else None
        full = json.loads(out.read_text())["full"]
        return None if 0 <= full < 1 + 1e-9 else f"mAP is {full}"

    return Try(["evaluate", "hicodet", "--detections", theirs, *given, "--out", out], check, alone)


def laughs() -> Any:
    """Lists in lists, 10 to the power of 18 numbers if each is looked at."""
    row: Any = [1]
    for _ in range(18):
        row = [row] * 10
    return row
