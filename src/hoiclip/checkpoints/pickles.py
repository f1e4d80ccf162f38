"""Pickles as plain data: nothing that a file names is ever imported, called or given a say.

A checkpoint is a pickle beside raw numbers, and a pickle is a small program.  Here it is read by an
unpickler on whose stack no real class or function ever lies: a name is a :class:`Named`, an object
made by calling one is an :class:`Inert` record of its arguments and state, and the only names that
do anything are those which put tensors and dictionaries together, listed below.  Names that make
plain data (numbers, arrays, paths, dates, options) become such records.  A call of anything else is
what code looks like, and the file is refused.
"""

from __future__ import annotations

import _compat_pickle
import io
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

MOST_REPEATED = 1 << 16  # values that a tensor may show beyond those stored for it, as an expanded one does


class CodeRefusedError(Exception):
    """A pickle calls something that is not known to make plain data; the text is its name."""


class Named:
    """A class or function that a pickle names; only the name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Inert:
    """What a class of plain data would have made: which one, of what arguments, and the state it was given."""

    __slots__ = ("arguments", "entries", "items", "kind", "state")

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None
        self.entries: dict[Any, Any] = {}
        self.items: list[Any] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, item: Any) -> None:
        """As a list or deque is filled."""
        self.items.append(item)

    def add(self, item: Any) -> None:
        """As a set is filled."""
        self.items.append(item)

    def extend(self, items: list[Any]) -> None:
        """As a list or deque is filled."""
        self.items.extend(items)


class Storage:
    """Numbers of one type in a buffer, of which tensors are views; a reader may fill the buffer later."""

    def __init__(self, buffer: bytearray, dtype: torch.dtype) -> None:
        self.numbers = torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)


# --- which names make plain data -------------------------------------------------------------------

STORAGE_TYPES = {
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}

# Of Python's own modules: numbers, containers, paths, dates, options, and what type hints in options are made of.
STANDARD = re.compile(
    r"(argparse\.Namespace|types\.SimpleNamespace|functools\.partial"
    r"|builtins\.(set|frozenset|list|dict|tuple|int|float|complex|str|bytes|bytearray|bool|slice|range|object)"
    r"|collections\.(OrderedDict|defaultdict|deque|Counter|ChainMap|UserDict|UserList|UserString)"
    r"|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path"
    r"|datetime\.(datetime|date|time|timedelta|timezone)|zoneinfo\.ZoneInfo\._unpickle"
    r"|decimal\.Decimal|fractions\.Fraction|uuid\.(UUID|SafeUUID)|ipaddress\.IPv[46]\w+"
    r"|signal\.Signals|http\.HTTP(Status|Method)|socket\.(AddressFamily|SocketKind)|re\.RegexFlag"
    r"|typing\.\w+|operator\.getitem|_codecs\.encode|copyreg\.__newobj__)"
)
# Functions of other packages by which arrays and random generators are saved.
LIBRARY = re.compile(
    r"(numpy\.(_?core\.)?(multiarray\.(scalar|_reconstruct)|numeric\._frombuffer|dtype|ndarray|bool_?|u?int\d+|float\d+)"
    r"|numpy\.random\.(_pickle\.\w+|\w+\.__pyx_unpickle_\w+)|torch\._utils\._rebuild_\w+|torch\.serialization\._get_layout"
    r"|torch\.(device|Size|Generator))"
)


def makes_plain_data(name: str) -> bool:
    """Whether a call of this name is known, or looks, like one that makes plain data.

    Of packages that are not Python's own every class counts: it becomes a record, the package is
    never asked.  Their functions and methods do not.
    """
    top = name.partition(".")[0]
    if top == "__torch__":  # classes of a TorchScript archive
        return True
    if top in sys.stdlib_module_names - {"__main__"}:
        return STANDARD.fullmatch(name) is not None
    own = name.rpartition(".")[2].lstrip("_")
    return own[:1].isupper() or LIBRARY.fullmatch(name) is not None


# --- the few names that do something ---------------------------------------------------------------


def _tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    values = 1
    for length in size:
        values *= length
    if values > max(len(storage.numbers), MOST_REPEATED):
        raise pickle.UnpicklingError("a tensor is larger than the numbers stored for it")
    if values == 0:
        return torch.empty(size, dtype=storage.numbers.dtype)
    return storage.numbers.as_strided(size, stride, offset)  # outside of the buffer it raises


def _tensor_of_type(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], grad: Any, hooks: Any, dtype: Any,
    *_: Any,
) -> Tensor:  # fmt: skip
    typed = Storage(bytearray(), DTYPES[dtype.name])
    typed.numbers = storage.numbers.view(typed.numbers.dtype)
    return _tensor(typed, offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _of_type(function: Named, kind: Any, arguments: tuple[Any, ...], *_: Any) -> Any:
    return make(function, arguments)


def _dictionary(*arguments: Any) -> dict[Any, Any]:
    return dict(*arguments)


def _reconstructed(kind: Named, *_: Any) -> Any:
    return make(kind, ())


def _member(owner: Any, name: str) -> Any:
    """How enums are saved: an attribute of a class.  It is no function yet; :func:`make` sees to that."""
    return Named(f"getattr({getattr(owner, 'name', type(owner).__name__)}, {str(name)[:100]})")


MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": lambda *_: {},
    "copyreg._reconstructor": _reconstructed,
    "builtins.getattr": _member,
}


def make(called: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call in a pickle stands for: a tensor, a dictionary, or a record of the call.

    Raises:
        CodeRefusedError: if what is called is not known to make plain data.
    """
    if not isinstance(called, Named):
        raise CodeRefusedError(getattr(called, "kind", type(called).__name__))
    if called.name in MAKERS:
        return MAKERS[called.name](*arguments)
    if called.name.startswith("getattr(") or not makes_plain_data(called.name):
        raise CodeRefusedError(called.name)
    return Inert(called.name, arguments)


# --- the unpickler ---------------------------------------------------------------------------------


class PlainUnpickler(pickle._Unpickler):
    """Python's own unpickler, with every operation that would import, call or set something replaced.

    It is the one written in Python: the one in C reserves memory for any index that a file names.

    Args:
        file: where the pickle begins.
        storage: gives the numbers for what a checkpoint calls a persistent id.
    """

    dispatch: ClassVar[Any] = dict(pickle._Unpickler.dispatch)
    append: Callable[[Any], None]
    stack: list[Any]

    def __init__(self, file: Any, storage: Callable[[Any], Storage] | None = None) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Only the name; nothing is imported."""
        if (module, name) in _compat_pickle.NAME_MAPPING:  # names of Python 2, which older protocols use
            module, name = _compat_pickle.NAME_MAPPING[module, name]
        return Named(f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """The numbers of tensors, which lie outside of the pickle."""
        if self._storage is None:
            raise pickle.UnpicklingError("numbers where none can be")
        return self._storage(pid)

    def get_extension(self, code: int) -> None:
        """Extensions are of the process that wrote the file."""
        raise CodeRefusedError(f"extension {code}")

    def _instantiate(self, klass: Any, args: tuple[Any, ...]) -> None:
        self.append(make(klass, tuple(args)))

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = make(self.stack[-1], tuple(arguments))

    def _new_object_with_keywords(self) -> None:
        keywords = self.stack.pop()
        arguments = self.stack.pop()
        self.stack[-1] = make(self.stack[-1], (*arguments, keywords))

    def _build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], (dict, Tensor, Named)):  # these lose nothing but attributes
            raise pickle.UnpicklingError(f"a state for a {type(self.stack[-1]).__name__}")

    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.NEWOBJ[0]] = _reduce
    dispatch[pickle.NEWOBJ_EX[0]] = _new_object_with_keywords
    dispatch[pickle.BUILD[0]] = _build


def read_pickle(content: bytes, storage: Callable[[Any], Storage] | None = None) -> Any:
    """One pickle as plain data.

    Raises:
        CodeRefusedError: if it calls anything that is not known to make plain data.
        Exception: of many kinds, if it is damaged.
    """
    return PlainUnpickler(io.BytesIO(content), storage).load()


def entries_of(value: Any, depth: int = 0) -> Mapping[Any, Any]:
    """The entries of a dictionary, or of a record that is like one (options, omegaconf); else none."""
    if depth > 20:
        return {}
    if isinstance(value, dict):
        return value
    if not isinstance(value, Inert):
        return {}
    state = value.state
    if isinstance(state, tuple) and len(state) == 2:  # attributes in a dictionary, and those in slots
        state = {**(state[0] or {}), **(state[1] or {})} if all(isinstance(s, dict | None) for s in state) else None
    state = state if isinstance(state, dict) else {}
    if "_val" in state:  # omegaconf keeps a value so, and the entries of a container in _content
        return {}
    if "_content" in state:
        return entries_of(state["_content"], depth + 1)
    return {**state, **value.entries}


def value_of(value: Any) -> Any:
    """A plain value out of the record of one: omegaconf's nodes and NumPy's numbers; all else as it is."""
    if not isinstance(value, Inert):
        return value
    state = value.state
    if isinstance(state, dict) and "_val" in state:
        return value_of(state["_val"])
    if value.kind.endswith("multiarray.scalar") and len(value.arguments) == 2:
        dtype, content = value.arguments
        if isinstance(content, Inert) and content.kind == "_codecs.encode":  # bytes, before pickles had them
            content = str(content.arguments[0]).encode("latin-1", errors="replace")
        code = dtype.arguments[0] if isinstance(dtype, Inert) and dtype.arguments else None
        if code in ("b1", "i4", "i8", "f4", "f8") and isinstance(content, bytes) and len(content) == int(code[1:]):
            return np.frombuffer(content, dtype=code)[0].item()
    return value
