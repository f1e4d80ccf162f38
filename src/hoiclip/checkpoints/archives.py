"""The files PyTorch writes: zip archives, TorchScript among them, and the older row of pickles."""

from __future__ import annotations

import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hoiclip.checkpoints.pickles import STORAGE_TYPES, Inert, Named, PlainUnpickler, Storage, read_pickle

ZIP = b"PK\x03\x04"
OLD_MAGIC = 0x1950A86A20F9469CFC6C
OLD_PROTOCOL = 1001
DEEPEST = 100  # modules within modules


def read_file(path: Path) -> Any:
    """What a ``.pth``, ``.pt`` or ``.bin`` file holds; nothing in it is run.

    Returns:
        What was saved, as :mod:`hoiclip.checkpoints.pickles` reads it; of a TorchScript archive
        its parameters and buffers by name.

    Raises:
        CodeRefusedError: if it calls anything that is not known to make plain data.
        Exception: of many kinds, if it is damaged or no such file.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            file.seek(0)
            return _read_row_of_pickles(file)
    return _read_zip(path)


# --- zip archives ----------------------------------------------------------------------------------


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as listing:
        if any(entry.file_size > path.stat().st_size for entry in listing.infolist()):
            raise pickle.UnpicklingError("it was packed again, or grows without end")
    archive: Any = torch._C.PyTorchFileReader(str(path))  # what torch.load itself reads with; it runs nothing
    if archive.has_record("byteorder") and archive.get_record("byteorder") != b"little":
        raise pickle.UnpicklingError("its numbers are big-endian")
    storages: dict[str, Storage] = {}

    def storage(pid: Any) -> Storage:
        kind, dtype, key, values = _persistent(pid)
        if key not in storages:
            content = bytearray(archive.get_record(f"data/{key}"))
            if len(content) != values * dtype.itemsize:
                raise pickle.UnpicklingError(f"{kind} {key[:20]} does not have the size it should have")
            storages[key] = Storage(content, dtype)
        return storages[key]

    content = read_pickle(archive.get_record("data.pkl"), storage)
    if not archive.has_record("constants.pkl"):
        return content
    weights: dict[str, Tensor] = {}
    _collect(content, "", archive, weights)
    return weights


def _persistent(pid: Any) -> tuple[str, torch.dtype, str, int]:
    """A persistent id's kind, number type, key and number of values."""
    kind, storage_type, key, _, values = pid[:5]
    if kind != "storage" or not isinstance(storage_type, Named) or not isinstance(values, int) or values < 0:
        raise pickle.UnpicklingError("an unknown kind of numbers")
    return kind, STORAGE_TYPES[storage_type.name.rpartition(".")[2]], str(key), values


def _collect(module: Any, prefix: str, archive: Any, weights: dict[str, Tensor]) -> None:
    """Parameters and buffers of a scripted module and those inside it; other tensors are no weights."""
    if not isinstance(module, Inert) or not isinstance(module.state, dict) or prefix.count(".") > DEEPEST:
        return
    declared = _declared(module.kind, archive)
    for name, value in module.state.items():
        if isinstance(value, Tensor) and (declared is None or name in declared):
            weights[f"{prefix}{name}"] = value
        elif isinstance(value, Inert):
            _collect(value, f"{prefix}{name}.", archive, weights)


def _declared(kind: str, archive: Any) -> set[str] | None:
    """The names of a scripted class's parameters and buffers, as its source declares them; it is read as text only."""
    module, _, name = kind.rpartition(".")
    record = f"code/{module.replace('.', '/')}.py"
    if not archive.has_record(record):
        return None
    source = archive.get_record(record).decode("utf-8", errors="replace")
    body = re.search(rf"^class {re.escape(name)}\(Module\):\n((?:[ \t].*\n?|\n)*)", source, re.MULTILINE)
    lists = re.findall(r"__(?:parameters|buffers)__ = \[(.*?)\]", body[1]) if body else []
    return {name for names in lists for name in re.findall(r'"([^"]*)"', names)} if lists else None


# --- before PyTorch 1.6 ----------------------------------------------------------------------------


def _read_row_of_pickles(file: BinaryIO) -> Any:
    """Magic number, protocol, system, content, names of storages: five pickles; then the numbers."""
    room = os.fstat(file.fileno()).st_size
    buffers: dict[str, tuple[bytearray, torch.dtype]] = {}

    def storage(pid: Any) -> Storage:
        nonlocal room
        kind, dtype, key, values = _persistent(pid)
        if key not in buffers:
            room -= values * dtype.itemsize
            if room < 0:
                raise pickle.UnpicklingError(f"{kind} {key[:20]} is larger than the file")
            buffers[key] = bytearray(values * dtype.itemsize), dtype
        whole = Storage(*buffers[key])
        view = pid[5] if len(pid) > 5 else None
        if view is not None:
            whole.numbers = whole.numbers[view[1] : view[1] + view[2]]
        return whole

    if PlainUnpickler(file).load() != OLD_MAGIC or PlainUnpickler(file).load() != OLD_PROTOCOL:
        raise pickle.UnpicklingError("no file of PyTorch's")
    PlainUnpickler(file).load()  # about the machine that wrote it
    content = PlainUnpickler(file, storage).load()
    for key in PlainUnpickler(file).load():
        buffer, dtype = buffers[str(key)]
        (values,) = struct.unpack("<q", file.read(8))
        if values * dtype.itemsize != len(buffer) or len(numbers := file.read(len(buffer))) != len(buffer):
            raise pickle.UnpicklingError("the numbers are cut off")
        buffer[:] = numbers
        buffers.pop(str(key))
    if buffers:
        raise pickle.UnpicklingError("numbers are missing")
    return content
