"""Pickles, PyTorch's files and NumPy's archives as plain data and arrays: nothing in them is run."""

from __future__ import annotations

import _compat_pickle
import gc
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.errors import HoiError, first_line
from hoiclip.files import MOST_TEXT, SMALL_TEXT

LARGE = 1 << 23  # bytes from which Python's own unpickler, at 3 MB a second, takes too long
ZIP = b"PK\x03\x04"
PLAIN = frozenset((float, int, str, bool, type(None)))
DEEPEST = 20  # lists within dictionaries within lists
MAKERS = re.compile(
    r"_codecs\.encode|numpy\.dtype|numpy\.(_?core\.)?(multiarray\.(scalar|_reconstruct)|numeric\._frombuffer)"
)  # what makes arrays
CODES = frozenset(f"{kind}{size}" for kind, size in (
    *(("f", n) for n in (2, 4, 8)), *((k, n) for k in "iu" for n in (1, 2, 4, 8)), ("b", 1),
))  # fmt: skip


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so may be a pickle of any protocol."""
    return head[:1] == b"\x80" or head[:3] in (b"(lp", b"(dp") or head[:2] in (b"]q", b"}q")


def read_plain(path: str | Path) -> Any:
    """What a ``.npz``, ``.pt``, ``.pth`` or ``.pkl`` file holds; its content decides which of them it is.

    Returns:
        Dictionaries, lists, numbers, words and NumPy arrays.

    Raises:
        HoiError: missing, damaged, or one that wants to run code.
    """
    from hoiclip.checkpoints.archives import read_file
    from hoiclip.checkpoints.pickles import CodeRefusedError, read_pickle

    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head == ZIP and _is_numpy(path):
            return _read_numpy(path)
        if head == ZIP or _is_old_torch(path):
            return _plain(read_file(path))
        large = path.stat().st_size >= LARGE
        return _plain(_read_large(path) if large else read_pickle(path.read_bytes()))
    except CodeRefusedError as refused:
        raise HoiError(
            f"{path}: refused, since it wants to run code ({str(refused)[:100]!r}); only data is read"
        ) from (refused)
    except HoiError as error:
        raise error if str(error).startswith(str(path)) else HoiError(f"{path}: {error}") from error
    except MemoryError:
        raise HoiError(f"{path}: asks for more memory than there is; make or copy it again") from None
    except Exception as error:  # pickles and archives raise many kinds
        raise HoiError(f"{path}: is damaged or cut off ({first_line(error, 100)}); make or copy it again") from error


def _is_old_torch(path: Path) -> bool:
    """Whether a file begins as those of PyTorch before 1.6 do, with a pickled number."""
    with path.open("rb") as file:
        return file.read(14)[2:] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"


def _is_numpy(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return bool(archive.namelist()) and all(name.endswith(".npy") for name in archive.namelist())


def _read_numpy(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > max(SMALL_TEXT, MOST_TEXT * os.path.getsize(path)):
        raise HoiError(f"unpacks to more than {MOST_TEXT} times its size; make it again")
    with np.load(path, allow_pickle=False) as content:
        try:
            return {name: _number_or_array(content[name]) for name in content.files}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise HoiError("holds Python objects, which are not read; save arrays of numbers") from error


def _number_or_array(value: np.ndarray) -> Any:
    return value.item() if value.ndim == 0 else value


# --- large pickles ---------------------------------------------------------------------------------


def _read_large(path: Path) -> Any:
    collected = gc.isenabled()
    gc.disable()  # it would look through millions of records again and again, none of which can go
    try:
        with path.open("rb") as file:
            return _NamesOnly(file).load()
    finally:
        if collected:
            gc.enable()


class _NamesOnly(pickle.Unpickler):
    """The fast unpickler, to which every class and function that a file names is a :class:`_Name`.

    It imports nothing, and calls only names, of which those of NumPy's arrays make a :class:`_Made`.  Small files
    do without it, since it reserves memory for any index that a file names.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")

    def find_class(self, module: str, name: str) -> Any:
        """Only the name; nothing is imported."""
        return _Name(f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}")


class _Name:
    """The name of a class or function; called, it makes a record, or refuses."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Made:
        if not MAKERS.fullmatch(self.name):
            from hoiclip.checkpoints.pickles import CodeRefusedError

            raise CodeRefusedError(self.name)
        return _Made(self.name, arguments)


class _Made:
    """What a call in a pickle would have made, as :class:`hoiclip.checkpoints.pickles.Inert` is."""

    __slots__ = ("arguments", "kind", "state")

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


# --- records of a pickle ---------------------------------------------------------------------------


def _plain(content: Any) -> Any:
    """Arrays and numbers in the place of the records that stand for them.

    Raises:
        HoiError: if there is a record of anything else.
    """
    from torch import Tensor

    from hoiclip.checkpoints.pickles import Inert, Named

    seen: dict[int, tuple[Any, Any]] = {}  # each once, however often it is named; it and what has taken its place

    def plain(value: Any, depth: int) -> Any:
        if isinstance(value, (_Made, Inert)):
            return _array(value)
        if isinstance(value, (dict, list, tuple)):
            if id(value) not in seen:
                if depth > DEEPEST:
                    raise HoiError("its lists are nested too deeply; it is no file of detections")
                changed = list(value) if isinstance(value, tuple) else value
                seen[id(value)] = value, changed
                for key, entry in changed.items() if isinstance(changed, dict) else enumerate(changed):
                    if type(entry) not in PLAIN:
                        changed[key] = plain(entry, depth + 1)
            return seen[id(value)][1]
        if isinstance(value, Tensor):
            half = value.is_floating_point() and value.element_size() == 2  # NumPy has no bfloat16
            return _number_or_array((value.detach().float() if half else value.detach()).numpy())
        if isinstance(value, (_Name, Named)):
            raise HoiError(f"holds {value.name[:100]!r}, which is no data; save lists, numbers and arrays")
        return value

    return plain(content, 0)


def _array(record: Any) -> Any:
    """An array or number of NumPy's out of the record of its making."""
    own = record.kind.rpartition(".")[2]
    shape: Any
    if record.kind.startswith("numpy.") and own == "_reconstruct" and isinstance(record.state, tuple):
        shape, dtype, fortran, content = record.state[-4:]
    elif record.kind.startswith("numpy.") and own == "_frombuffer" and len(record.arguments) == 4:
        content, dtype, shape, order = record.arguments
        fortran = order == "F"
    elif record.kind.startswith("numpy.") and own == "scalar" and len(record.arguments) == 2:
        (dtype, content), shape, fortran = record.arguments, (), False
    elif record.kind == "torch.Size":
        return [int(v) for v in record.arguments[0]]
    else:
        raise HoiError(f"holds a {record.kind[:100]!r}, which is no data; save lists, numbers and arrays")
    code, order = _number_type(dtype)
    array = np.frombuffer(_bytes(content), dtype=order + code if code[1] != "1" else code)
    array = array.reshape(shape, order="F" if fortran else "C")  # of another length it raises
    return _number_or_array(array if order == "<" else array.astype(code))


def _number_type(record: Any) -> tuple[str, str]:
    """The code of an array's numbers, and ``<`` or ``>``."""
    code = record.arguments[0] if getattr(record, "kind", "") == "numpy.dtype" and record.arguments else None
    if not isinstance(code, str) or code not in CODES:
        raise HoiError("holds an array of Python objects or words, which is not read; save arrays of numbers")
    state = record.state
    return code, ">" if isinstance(state, tuple) and len(state) > 1 and state[1] == ">" else "<"


def _bytes(content: Any) -> bytes:
    """What an array holds: bytes, or how pickles from before there were any write them."""
    if getattr(content, "kind", "") == "_codecs.encode":
        return str(content.arguments[0]).encode("latin-1")
    if isinstance(content, str):  # a pickle of Python 2
        return content.encode("utf-8", "surrogateescape")
    return bytes(content)
