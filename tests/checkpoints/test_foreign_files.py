"""Files that users of the field really have: nothing in them runs, what is plain data does not stand in the way."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import functools
import io
import os
import pathlib
import pickle
import random
import signal
import sys
import types
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hoiclip import HoiError
from hoiclip.checkpoints.archives import read_file
from hoiclip.checkpoints.reading import open_checkpoint, read_tensor, read_weights

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).half()}


def same(found: dict, expected: dict = WEIGHTS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in found)


def foreign_class(module: str, name: str, base: type = object) -> type:
    """A class of a package that is installed where the file is written only."""
    names = module.split(".")
    for i in range(len(names)):
        part = ".".join(names[: i + 1])
        sys.modules.setdefault(part, types.ModuleType(part))
    made = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, made)
    return made


def forget_foreign_classes() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("omegaconf", "easydict", "nowhere")]:
        del sys.modules[name]


# --- nothing runs ----------------------------------------------------------------------------------


class Writer(torch.nn.Module):
    """Its exported ``__setstate__`` writes a file when the archive is loaded by torch.jit.load."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.weight = torch.ones(2)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, torch.Tensor, bool]:
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]) -> None:
        self.path = state[0]
        self.weight = state[1]
        self.training = state[2]
        written = torch.from_file(state[0], True, 4, dtype=torch.uint8).copy_(torch.ones(4, dtype=torch.uint8))
        self.weight = written.float()

    def forward(self) -> torch.Tensor:
        return self.weight


@pytest.mark.parametrize("read", [read_weights, read_tensor])
def test_a_torchscript_archive_is_never_run(tmp_path: Path, read: Callable) -> None:
    trace = tmp_path / "executed"
    torch.jit.script(Writer(str(trace))).save(str(tmp_path / "clip.pt"))
    with pytest.raises(HoiError):
        read(tmp_path / "clip.pt")
    assert not trace.exists()
    torch.jit.load(str(tmp_path / "clip.pt"))  # and it would have
    assert trace.exists()


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((3,), 2.0))
        self.mask = torch.zeros(4)  # no parameter and no buffer: not of the state dict
        self.line = torch.nn.Linear(3, 2).half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line((x * self.scale).half()) + self.mask.sum()


@pytest.mark.parametrize("traced", [True, False])
def test_a_torchscript_archive_gives_its_state_dict(tmp_path: Path, traced: bool) -> None:
    module = torch.nn.Sequential(Inner(), torch.nn.BatchNorm1d(2), Inner().line)
    scripted = torch.jit.trace(module[0], torch.zeros(1, 3), check_trace=False) if traced else torch.jit.script(module)
    scripted.save(str(tmp_path / "clip.pt"))
    assert same(read_weights(tmp_path / "clip.pt"), scripted.state_dict())


class Reduced:
    def __init__(self, *reduction: Any) -> None:
        self.reduction = reduction

    def __reduce__(self) -> tuple:
        return self.reduction


def harmful(trace: Path) -> dict[str, Any]:
    """What would write ``trace`` or worse."""
    return {
        "system": Reduced(os.system, (f"touch {trace}",)),
        "exec": Reduced(exec, (f"open({str(trace)!r}, 'w')",)),
        "open": Reduced(open, (str(trace), "w")),
        "method of a path": Reduced(pathlib.Path.touch, (trace,)),
        "popen": Reduced(__import__("subprocess").Popen, (["touch", str(trace)],)),
        "partial": Reduced(functools.partial(os.system, f"touch {trace}"), ()),
        "numpy saves": Reduced(np.save, (str(trace), np.zeros(1))),
        "torch saves": Reduced(torch.save, (1, str(trace))),
        "torch loads bytes": Reduced(torch.storage._load_from_bytes, (b"x",)),
        "nested": {"deep": [({"er": Reduced(os.system, (f"touch {trace}",))},)]},
        "as state": Reduced(argparse.Namespace, (), {"a": Reduced(os.system, (f"touch {trace}",))}),
    }


HARMFUL = list(harmful(Path("x")))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", HARMFUL)
def test_what_really_runs_code_is_refused(tmp_path: Path, what: str, zipped: bool) -> None:
    trace = tmp_path / "executed"
    content = {"model": WEIGHTS, "args": harmful(trace)[what]}
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(HoiError, match=r"bad\.pth: refused, since it wants to run code \("):
        read_weights(tmp_path / "bad.pth")
    assert not trace.exists()
    assert not trace.with_suffix(".npy").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'touch executed'\ntR.",
        b"(S'touch executed'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch executed'\no.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch executed'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x0dstr.__class__\x93\x8c\x01a\x85R.",
        b"\x80\x04\x82\x01.",
        b"cpathlib\nPath.touch\n(S'executed'\ntR.",
        b"ctorch.jit\nload\n(S'x'\ntR.",
    ],
)
def test_every_way_to_call_is_refused(tmp_path: Path, code: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    Path("bad.pth").write_bytes(old + code + pickle.dumps([], 2))
    with pytest.raises(HoiError, match="refused, since it wants to run code"):
        read_weights("bad.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pth"]


def test_names_are_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = foreign_class("nowhere.options", "Config")
    torch.save({"model": WEIGHTS, "config": kind()}, tmp_path / "x.pth")
    forget_foreign_classes()
    (tmp_path / "nowhere.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert same(read_weights(tmp_path / "x.pth"))
    assert not {name for name in sys.modules if name.startswith("nowhere")}


def test_states_and_attributes_change_no_class(tmp_path: Path) -> None:
    """BUILD on a class or function would set attributes of it."""
    old = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    for target in (b"cargparse\nNamespace\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"):
        code = target + b"(N(dS'evil'\nI1\nstb."
        (tmp_path / "x.pth").write_bytes(old + code + pickle.dumps([], 2))
        with pytest.raises(HoiError, match="not weights by name"):
            read_weights(tmp_path / "x.pth")
    assert not hasattr(argparse.Namespace, "evil")
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")


# --- plain data beside the weights -----------------------------------------------------------------


def companions() -> dict[str, Any]:
    options = foreign_class("omegaconf.dictconfig", "DictConfig")()
    options.__dict__.update(_content={"lr": 1, "path": Path("x")}, _parent=options)
    easy = foreign_class("easydict", "EasyDict", dict)(a=1)
    easy.__dict__["a"] = 1
    loose = foreign_class("nowhere.collected", "Items", list)([1, 2])
    return {
        "numpy number": np.float64(31.2),
        "numpy array": np.arange(4).reshape(2, 2),
        "numpy strings and objects": (np.array(["a"]), np.array([None, 3], dtype=object)),
        "numpy type": np.dtype("float32"),
        "random state": np.random.RandomState(0).get_state(),
        "random generator": np.random.default_rng(0),
        "path": {"out": pathlib.PurePosixPath("a/b"), "here": Path("x")},
        "deque": collections.deque([1.0, 2.0], maxlen=3),
        "counters": (collections.Counter("aab"), collections.defaultdict(list, a=[1]), collections.OrderedDict(a=1)),
        "sets": ({1, 2}, frozenset("ab"), bytearray(b"x"), b"bytes", 3 + 4j, slice(1, 2), range(3)),
        "dates": (datetime.datetime.now(), datetime.timedelta(1), datetime.date(2020, 1, 1), datetime.UTC),
        "numbers": (decimal.Decimal("1.5"), uuid.uuid4(), 10**400),
        "options": argparse.Namespace(a=1, nested=argparse.Namespace(path=Path("x"))),
        "simple options": types.SimpleNamespace(a=1),
        "an enum": signal.SIGTERM,
        "a function by name": os.system,  # a name alone runs nothing
        "torch's": (torch.float16, torch.Size([1, 2]), torch.device("cpu")),
        "omegaconf": options,
        "easydict": easy,
        "a list of its own": loose,
        "a path of windows": pathlib.PureWindowsPath("c:/x"),
    }


COMPANIONS = list(companions())
forget_foreign_classes()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("what", COMPANIONS)
def test_plain_data_beside_the_weights_is_no_code(tmp_path: Path, what: str, zipped: bool, protocol: int) -> None:
    content = {"model": WEIGHTS, "epoch": 89, "beside": companions()[what]}
    torch.save(content, tmp_path / "x.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    forget_foreign_classes()
    assert same(read_weights(tmp_path / "x.pth"))


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_every_form_are_read_as_torch_reads_them(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0)
    content = {
        "view": base[4:10].view(2, 3),
        "transposed": base.view(4, 6).T,
        "base": base,
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 3),
        "bool": torch.tensor([True, False]),
        "bfloat16": torch.ones(3, dtype=torch.bfloat16),
        "unsigned": torch.tensor([1, 65535], dtype=torch.uint16),
        "complex": torch.ones(2, dtype=torch.complex64),
        "expanded": torch.arange(5).expand(1, 5),
    }
    if not zipped:
        del content["unsigned"]  # which torch itself cannot read back
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert same(read_weights(tmp_path / "x.pth"), torch.load(tmp_path / "x.pth"))


# --- where the weights lie -------------------------------------------------------------------------

EMA = {name: tensor + 1 for name, tensor in WEIGHTS.items()}


def prefixed(prefix: str, weights: dict = WEIGHTS) -> dict:
    return {prefix + name: tensor for name, tensor in weights.items()}


PLACES: dict[str, dict] = {
    "alone": WEIGHTS,
    "model": {"model": WEIGHTS},
    "state_dict": {"state_dict": WEIGHTS, "epoch": 1},
    "model_state_dict": {"model_state_dict": WEIGHTS},
    "model_state": {"model_state": WEIGHTS},
    "two floors": {"model": {"state_dict": WEIGHTS}},
    "DDP": {"model": prefixed("module.")},
    "torch.compile": {"model": prefixed("_orig_mod.")},
    "compiled DDP": {"model": prefixed("_orig_mod.module.")},
    "DDP of a compiled one": {"model": prefixed("module._orig_mod.")},
    "a compiled part": {"a._orig_mod.weight": WEIGHTS["a.weight"], "a.bias": WEIGHTS["a.bias"]},
    "Lightning": {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 1}, "callbacks": {}},
    "Lightning with torch.compile": {"state_dict": prefixed("model._orig_mod.")},
    "averaged by torch": {"model": {**prefixed("module."), "n_averaged": torch.tensor(3)}},
}


@pytest.mark.parametrize("what", PLACES)
def test_weights_are_found_and_freed_of_wrappers(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(PLACES[what], tmp_path / "x.pth")
    assert same(read_weights(tmp_path / "x.pth"))
    assert capsys.readouterr().err == ""


AVERAGES: dict[str, dict] = {
    "ema": {"ema": EMA},
    "model_ema": {"model_ema": EMA},
    "ema_state_dict": {"ema_state_dict": prefixed("module.", EMA)},
    "state_dict_ema": {"state_dict_ema": EMA},
    "nested": {"ema": {"module": EMA, "updates": 3}},
    "with its settings": {"ema_decay": 0.99, "ema_model": {"shadow": 1, "state_dict": EMA}},
}


@pytest.mark.parametrize("what", AVERAGES)
def test_a_moving_average_is_a_choice(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.pth"
    torch.save(AVERAGES[what], file)
    assert same(read_weights(file), EMA)
    assert "holds only a moving average" in capsys.readouterr().err
    with pytest.raises(HoiError, match="holds only a moving average"):
        read_weights(file, "raw")
    torch.save({"model": WEIGHTS, **AVERAGES[what]}, file)
    assert same(read_weights(file))
    told = capsys.readouterr().err
    assert "--weights ema" in told
    assert told.count("\n") == 1
    assert same(read_weights(file, "raw"))
    assert same(read_weights(file, "ema"), EMA)
    assert capsys.readouterr().err == ""


def test_both_in_one_dictionary(tmp_path: Path) -> None:
    for average in ("model_ema.module.", "ema_model.", "ema."):
        torch.save({"state_dict": {**prefixed("model."), **prefixed(average, EMA)}}, tmp_path / "x.pth")
        assert same(read_weights(tmp_path / "x.pth", "raw"))
        assert same(read_weights(tmp_path / "x.pth", "ema"), EMA)


def test_no_average_to_choose(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS}, tmp_path / "x.pth")
    with pytest.raises(HoiError, match="holds no moving average"):
        read_weights(tmp_path / "x.pth", "ema")


def test_weights_that_are_not_found_are_named(tmp_path: Path) -> None:
    def told(content: Any) -> str:
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(HoiError) as error:
            read_weights(tmp_path / "x.pth")
        assert str(error.value).startswith(f"{tmp_path / 'x.pth'}: ")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "tensors under generator" in told({"generator": WEIGHTS, "epoch": 1})
    assert "holds no tensors (only epoch)" in told({"epoch": 1})
    assert "whole model" in told({"model": torch.nn.Linear(2, 2), "epoch": 1})
    assert "whole model" in told(torch.nn.Linear(2, 2))
    assert "several names" in told({"model": {"module.a": torch.ones(1), "module._orig_mod.a": torch.ones(1)}})
    sparse = torch.eye(3).to_sparse()
    assert "model.b" not in told({"model": {"a": torch.ones(1), "b": sparse}})
    assert "b is a sparse" in told({"model": {"a": torch.ones(1), "b": sparse}})
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
    assert "b is a sparse, quantised or nested tensor" in told({"model": {"a": torch.ones(1), "b": nested}})


# --- damaged files ---------------------------------------------------------------------------------


def test_sizes_that_are_not_there_take_no_memory(tmp_path: Path) -> None:
    old = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]

    def content(values: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
        class Tensors(pickle.Pickler):
            def persistent_id(self, thing: Any) -> Any:
                return ("storage", torch.FloatStorage, "0", "cpu", values, None) if thing == "numbers" else None

        file = io.BytesIO()
        hooks: Any = collections.OrderedDict()
        tensor = Reduced(torch._utils._rebuild_tensor_v2, ("numbers", 0, size, stride, False, hooks))
        Tensors(file, 2).dump({"model": {"w": tensor}})
        numbers = pickle.dumps(["0"], 2) + (2).to_bytes(8, "little") + bytes(8)
        return b"".join(old) + file.getvalue() + numbers

    file = tmp_path / "x.pth"
    file.write_bytes(content(2, (2,), (1,)))
    assert read_weights(file)["w"].tolist() == [0, 0]
    for values, size, stride in ((10**12, (2,), (1,)), (2, (10**12,), (0,)), (2, (3,), (1,)), (2, (2,), (-1,))):
        file.write_bytes(content(values, size, stride))
        with pytest.raises(HoiError, match="not a readable checkpoint"):
            read_weights(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_is_one_sentence(tmp_path: Path, zipped: bool) -> None:
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(a=1)}, tmp_path / "whole.pth",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    whole = (tmp_path / "whole.pth").read_bytes()
    generator = random.Random(0)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(generator.choice((1, 3, 10))):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        (tmp_path / "x.pth").write_bytes(broken[: generator.choice((len(broken), generator.randrange(len(broken))))])
        with suppress(HoiError):  # nothing else may come out
            read_weights(tmp_path / "x.pth")


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    for content in ({"a\nb\x1b[2J": 1}, {"model": {"a\nb": torch.eye(2).to_sparse()}}, {"a\u202eb": WEIGHTS}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(HoiError) as error:
            read_weights(tmp_path / "x.pth")
        assert str(error.value).isprintable()


def test_what_a_file_holds_beside_its_weights_is_kept(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "args": {"nheads": 4}}, tmp_path / "x.pth")
    assert open_checkpoint(tmp_path / "x.pth").beside["args"] == {"nheads": 4}
    assert read_file(tmp_path / "x.pth")["args"] == {"nheads": 4}
