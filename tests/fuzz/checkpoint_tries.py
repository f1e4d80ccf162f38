"""Damaged and hostile checkpoints, model folders and exported folders."""

from __future__ import annotations

import argparse
import collections
import io
import json
import math
import os
import pathlib
import random
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import damaged, damaged_json, json_text, with_odd_values
from promises import Box, Try
from safetensors.torch import save
from seeds import WEIGHTS, World, copied

from hoiclip.checkpoints.reading import open_checkpoint, read_tensor, read_weights

ALONE = 1 / 40  # of the command lines run in a process of their own
BOMB = 0


class Reduced:
    """Unpickling it calls the function."""

    def __init__(self, *reduction: Any) -> None:
        self.reduction = reduction

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduction


def beside(rng: random.Random, canary: str) -> Any:
    """What training scripts store beside weights, or what runs code."""
    plain = [
        argparse.Namespace(lr=1e-4, nested=argparse.Namespace(a=1)), np.float64(31.2), np.zeros(3), Path("x"), 3, None,
        collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]), {"epoch": 3, 5: "x"}, {1, 2}, b"x", "é" * 9,
        np.arange(3, dtype=object), np.array([("a", 1)], dtype=[("n", "U3"), ("i", "i4")]), torch.Size([2]),
        torch.float16, torch.device("cpu"), torch.zeros(0), torch.zeros(2, 3).t(), torch.ones(1).expand(1000), 1 << 300,
        [[[[]]]], float("nan"), slice(1, 2), range(3), complex(1, 2), Ellipsis, torch.Generator().get_state(),
    ]  # fmt: skip
    code = [
        Reduced(os.system, (f"touch {canary}",)), Reduced(exec, (f"open({canary!r}, 'w')",)),
        Reduced(open, (canary, "w")),
        Reduced(pathlib.Path.touch, (Path(canary),)), Reduced(np.save, (canary, np.zeros(1))),
        Reduced(getattr, (os, "getcwd")), Reduced(eval, ("__import__('os').getcwd()",)),
        Reduced(argparse.Namespace, (), {"a": Reduced(os.system, (f"touch {canary}",))}),
        Reduced(torch.save, (1, canary)), Reduced(torch.load, (canary,)), Reduced(bytearray, (1 << 40,)),
        Reduced(collections.deque, ([], 1 << 60)), Reduced(range, (0, 1 << 60)), Reduced(np.ndarray, ((1 << 40,),)),
    ]  # fmt: skip
    return rng.choice(plain if rng.random() < 0.6 else code)


def _content(rng: random.Random, canary: str) -> Any:
    content: Any = {"model": dict(WEIGHTS), "epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}
    for _ in range(rng.choice((0, 1, 1, 2))):
        extra = beside(rng, canary)
        place = rng.randrange(4)
        if place == 0:
            content["args"] = extra
        elif place == 1:
            content["model"][rng.choice(("a.weight", "b", "module.x", "x" * 3000, "\n"))] = extra
        elif place == 2:
            content = rng.choice(
                (extra, [content, extra], {"state_dict": content, "model_ema": content["model"], "x": extra})
            )
            break
        else:
            content["deep"] = {"er": [({"x": extra},)]}
    return content


def checkpoints(rng: random.Random, world: World, box: Box) -> Try:
    """Files through the readers and ``convert``, folders through ``detect``."""
    what = rng.random()
    if what < 0.3:
        return _folder(rng, world, box)
    if what < 0.45:
        return _safetensors(rng, box)
    file = io.BytesIO()
    content = _content(rng, str(box.canary))
    try:
        torch.save(content, file, _use_new_zipfile_serialization=rng.random() < 0.6)
        data = file.getvalue()
    except Exception:  # a state that no pickler writes
        data = _saved()
    if rng.random() < 0.3:
        data = _scripted()
    if rng.random() < 0.6:
        data = _repacked(rng, data) if data[:2] == b"PK" and rng.random() < 0.6 else damaged(rng, data)
    return _read(rng, box, box.put(rng.choice(("a.pth", "a.pt", "a.bin")), data))


def _read(rng: random.Random, box: Box, path: Path) -> Try:
    reader: Callable[[Path], Any] = rng.choice((read_weights, open_checkpoint, read_weights, read_tensor))
    if rng.random() < 0.75:

        def read() -> None:
            found = reader(path)
            weights = getattr(found, "weights", found)
            for tensor in [weights] if isinstance(weights, torch.Tensor) else weights.values():
                assert isinstance(tensor, torch.Tensor)
                tensor.float().sum() if not tensor.is_complex() and tensor.numel() < 1 << 20 else None

        return Try(read)
    kind = rng.choice(("hoiclip", "gen-vlkt", "detr"))
    clip = ["--clip", path] if kind == "detr" else []
    out = box.out / "model"
    return Try(
        ["convert", kind, path, *clip, "--out", out],
        lambda ok: None if ok or not out.exists() else "a refused checkpoint left a model folder",
        rng.random() < ALONE,
    )


@cache
def _saved() -> bytes:
    file = io.BytesIO()
    torch.save({"model": WEIGHTS}, file)
    return file.getvalue()


@cache
def _scripted() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))), file)
    return file.getvalue()


def _repacked(rng: random.Random, data: bytes) -> bytes:
    """A zip whose checksums are right and one of whose members is damaged: mostly the pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        names = old.namelist()
        chosen = next(name for name in names if name.endswith("data.pkl")) if rng.random() < 0.7 else rng.choice(names)
        for name in names:
            content = old.read(name)
            if name == chosen:
                content = _damaged_pickle(rng, content) if rng.random() < 0.5 else damaged(rng, content)
            new.writestr(rng.choice((name, name, name, name + "x")) if rng.random() < 0.03 else name, content)
    return file.getvalue()


def _damaged_pickle(rng: random.Random, data: bytes) -> bytes:
    """One opcode or its argument is another one's."""
    try:
        import pickletools

        ops = [(op, argument, at) for op, argument, at in pickletools.genops(data)]
    except Exception:
        return damaged(rng, data)
    number = rng.randrange(len(ops) - 1)
    start, end = ops[number][2], ops[number + 1][2]
    assert start is not None
    parts = (
        b"", b"0", b"2", b"(", b")", b"t", b"R", b"b", b"}", b"]", b"e", b"u", b"N", b"\x85", b"\x81", b"Q", b"K\xff",
        b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"G\x7f\xf8" + bytes(6), b"h\x00",
        b"r\xff\xff\xff\x7f",
        b"cos\nsystem\n", b"ctorch\nFloatStorage\n", b"X\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8,
        b"(" * 3000, b"]" * 3000,
    )  # fmt: skip
    other = rng.choice(ops[:-1])
    following = ops[ops.index(other) + 1][2]
    part = rng.choice((rng.choice(parts), data[other[2] : following]))
    return data[:start] + part + (data[start:end] if rng.random() < 0.4 else b"") + data[end:]


# --- safetensors -----------------------------------------------------------------------------------


def _safetensors(rng: random.Random, box: Box) -> Try:
    data = save(dict(WEIGHTS), {"format": "pt"})
    return _read(rng, box, box.put("a.safetensors", _damaged_safetensors(rng, data)))


def _damaged_safetensors(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return damaged(rng, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = with_odd_values(rng, json.loads(data[8 : 8 + length]))
    text = json_text(header).encode("utf-8", "surrogatepass")
    told = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 1 << 40, (1 << 64) - 1))
    return struct.pack("<Q", told) + text + data[8 + length :]


# --- folders ---------------------------------------------------------------------------------------


def _folder(rng: random.Random, world: World, box: Box) -> Try:
    folder = copied(rng.choice((world.model, world.model, *world.exported)), box.given / "model")
    path = rng.choice([p for p in sorted(folder.iterdir()) if p.suffix != ".json"] + list(folder.glob("*.json")) * 2)
    data = path.read_bytes()
    if rng.random() < 0.06:
        path.unlink()
    elif path.suffix == ".json":
        path.write_bytes(damaged_json(rng, json.loads(data)))
    elif path.suffix == ".safetensors":
        path.write_bytes(_damaged_safetensors(rng, data))
    else:
        path.write_bytes(damaged(rng, data))
    photo = box.put("photo.png", world.images["RGB.png"])
    lines = box.out / "detections.jsonl"

    def check(accepted: bool) -> str | None:
        if not accepted:
            return "a refused model left lines" if lines.exists() else None
        (line,) = lines.read_text().splitlines()
        numbers = [n for t in json.loads(line)["triplets"] for n in (*t["human_box"], *t["object_box"], t["score"])]
        return None if all(map(math.isfinite, numbers)) else "a box or score is no number"

    words = rng.choice(([], [], ["--verbs", "ride, hold"], ["--zero-shot-top-k", 2]))
    fixed = ["--model", folder, "--out", box.out, "--threshold", 0, "--no-pictures"]
    return Try(["detect", photo, *fixed, *words], check, rng.random() < ALONE)
