"""Read other people's checkpoints as tensors only: a file that wants to run code is refused."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from hoiclip.checkpoints.archives import read_file
from hoiclip.checkpoints.key_mapping import Weights, listed, listing, printable, refuse_no_numbers
from hoiclip.checkpoints.pickles import CodeRefusedError, Inert, Named, entries_of
from hoiclip.errors import HoiError, first_line

# Entries of a training checkpoint under which its weights lie, and by which a moving average of them is known.
TRAINED = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "params", "weights", "module")
AVERAGE = re.compile(r"(.*_)?(ema|swa|average|averaged|moving_average)(_.*)?")
# What wraps a model while it is trained, by the prefix it gives to names.
INNER_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
OUTER_WRAPPERS = ("module.", "model.", "net.", "network.", "online_model.")
COUNTERS = ("n_averaged", "initted", "step", "decay", "num_updates", "updates")  # of what keeps an average
CHOICES = ("raw", "ema")
DEEPEST = 5  # dictionaries within dictionaries, on the way to the weights


@dataclass
class Checkpoint:
    """A checkpoint's weights by name, and the rest of what its training script stored beside them."""

    weights: Weights
    origin: str
    beside: Mapping[Any, Any]


# --- reading files ---------------------------------------------------------------------------------


def read_weights(path: str | Path, choice: str | None = None) -> Weights:
    """Read tensors by name from a ``.pth``, ``.pt``, ``.bin``, ``.safetensors`` file or a TorchScript archive.

    Args:
        path: the file.
        choice: as in :func:`open_checkpoint`.

    Raises:
        HoiError: if the file is missing, empty, no checkpoint, holds no tensors or wants to run code.
    """
    return open_checkpoint(path, choice).weights


def open_checkpoint(source: Mapping[str, Any] | str | Path, choice: str | None = None) -> Checkpoint:
    """Find the weights of a training checkpoint, and free their names from wrappers.

    Plain data beside the weights (numbers, arrays, paths, options) does not stand in the way;
    nothing in the file is ever run.  Prefixes of DDP, FSDP, ``torch.compile`` and Lightning are
    taken off.

    Args:
        source: a state dict, a training checkpoint, or the path of a file.
        choice: ``raw`` for the weights themselves, ``ema`` for their moving average; None takes the
            weights where the file has them, else their average, and says so on stderr where there
            was something to choose.

    Raises:
        HoiError: if the file is missing, empty, no checkpoint, holds no tensors, wants to run code,
            or does not hold what was chosen.
    """
    if choice not in (None, *CHOICES):
        raise HoiError(f"weights must be one of {', '.join(CHOICES)}, not {choice!r}")
    content: Any
    if isinstance(source, Mapping):
        content, origin = dict(source), "the given state dict"
    else:
        content, origin = _read(Path(source), "a checkpoint"), str(source)
    if "_parameters" in entries_of(content):
        raise HoiError(
            f"{origin}: holds a whole model ({_kind(content)}), which is code; save its state_dict() instead"
        )
    if not isinstance(content, dict) and not entries_of(content):
        raise HoiError(f"{origin}: holds a {_kind(content)}, not weights by name; give a training checkpoint")
    content = dict(entries_of(content))
    trained, average = _raw_and_average(content, origin)
    if not trained and not average:
        raise HoiError(f"{origin}: {_without_weights(content)}")
    return Checkpoint(_chosen(trained, average, choice, origin), origin, content)


def read_tensor(path: str | Path) -> Tensor:
    """Read the one tensor that a ``.pth`` or ``.pt`` file holds, such as the published verb vectors.

    Raises:
        HoiError: if the file is missing, holds anything else, or wants to run code.
    """
    content = _read(Path(path), "a tensor")
    if not isinstance(content, Tensor):
        raise HoiError(f"{path}: holds a {_kind(content)}, not a tensor; give the published verb vectors")
    return content.detach()


def _read(path: Path, what: str) -> Any:
    if not os.path.isfile(path):
        raise HoiError(f"{path}: no such file; give the path of {what}")
    if path.stat().st_size == 0:
        raise HoiError(f"{path}: the file is empty; download it again")
    try:
        return load_file(path) if path.suffix == ".safetensors" else read_file(path)
    except CodeRefusedError as refused:
        raise HoiError(
            f"{path}: refused, since it wants to run code ({printable(str(refused))}); only tensors are read"
        ) from refused
    except Exception as error:  # pickles, archives and safetensors raise many kinds
        reason = printable(first_line(error, 100))
        raise HoiError(
            f"{path}: not a readable checkpoint: no file of PyTorch's, or a damaged one ({reason}); "
            "give a .pth, .pt or .safetensors file, or download it again"
        ) from error


def _kind(content: Any) -> str:
    names = {Inert: "kind", Named: "name"}
    return printable(getattr(content, names[type(content)])) if type(content) in names else type(content).__name__


# --- where the weights lie -------------------------------------------------------------------------


def _raw_and_average(content: dict[Any, Any], origin: str) -> tuple[Weights, Weights]:
    """The weights and their moving average, each empty where the file has none."""
    trained = _without_wrappers(_tensors_in(content, origin), origin)
    average: Weights = {}
    for name, value in content.items():
        if AVERAGE.fullmatch(str(name).lower()) and not average:
            average = _without_wrappers(_tensors_in(value, origin, inside_average=True), origin)
    inside = {name: tensor for name, tensor in trained.items() if AVERAGE.fullmatch(name.partition(".")[0].lower())}
    if inside and not average:  # Lightning keeps both in one dictionary
        stripped = {name.partition(".")[2]: tensor for name, tensor in inside.items() if "." in name}
        average = _without_wrappers(stripped, origin)
    if inside:
        rest = {name: tensor for name, tensor in trained.items() if name not in inside}
        trained = _without_wrappers(rest, origin)
    return trained, average


def _tensors_in(value: Any, origin: str, *, inside_average: bool = False, depth: int = 0) -> dict[str, Any]:
    """The dictionary that holds the weights, here or below one of the usual names."""
    entries = entries_of(value)
    if depth > DEEPEST or not entries:
        return {}
    names = list(TRAINED)
    if inside_average:
        names += [name for name in entries if isinstance(name, str) and AVERAGE.fullmatch(name.lower())]
    for name in names:
        found = _tensors_in(entries.get(name), origin, inside_average=inside_average, depth=depth + 1)
        if found:
            return found
    odd = next((k for k, v in entries.items() if isinstance(v, Inert) and v.kind.startswith("torch._utils.")), None)
    if odd is not None:
        raise HoiError(
            f"{origin}: {printable(str(odd))} is a sparse, quantised or nested tensor; save it as a dense one"
        )
    return {str(k): v.detach() for k, v in entries.items() if isinstance(v, Tensor)}


def _without_wrappers(weights: dict[str, Any], origin: str) -> Weights:
    """Names without what DDP, FSDP, ``torch.compile``, Lightning and averages put before them.

    Raises:
        HoiError: if two weights would have the same name, or one is sparse.
    """
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
            raise HoiError(
                f"{origin}: {printable(name)} is a sparse, quantised or nested tensor; save it as a dense one"
            )
    changed = True
    while changed:
        renamed = {INNER_WRAPPERS.sub(r"\1", name): tensor for name, tensor in weights.items()}
        for prefix in OUTER_WRAPPERS:
            wrapped = [name for name in renamed if name.startswith(prefix)]
            if 2 * len(wrapped) > len(renamed) and not any(
                AVERAGE.fullmatch(name.partition(".")[0].lower()) for name in renamed
            ):
                renamed = {
                    name.removeprefix(prefix): tensor
                    for name, tensor in renamed.items()
                    if name.startswith(prefix) or name not in COUNTERS
                }
                weights = {n: t for n, t in weights.items() if n not in COUNTERS}
        if len(renamed) != len(weights):
            raise HoiError(f"{origin}: holds the same weights under several names; save one model alone")
        changed, weights = list(renamed) != list(weights), renamed
    return weights


def _chosen(trained: Weights, average: Weights, choice: str | None, origin: str) -> Weights:
    """The weights or their average; where it is a choice that nobody made, it is told."""
    if choice == "ema" and not average:
        raise HoiError(f"{origin}: holds no moving average (ema) of its weights; leave out --weights ema")
    if choice == "raw" and not trained:
        raise HoiError(f"{origin}: holds only a moving average (ema) of the weights; leave out --weights raw")
    if choice is None and average:
        told = "holds weights and their moving average; the weights are taken (convert --weights ema takes the average)"
        if not trained:
            told = "holds only a moving average of the weights, which is taken"
        print(f"hoiclip: {origin}: {told}", file=sys.stderr)
    return average if choice == "ema" or not trained else trained


def _without_weights(content: dict[Any, Any]) -> str:
    """Why no weights were found: where else in the file tensors lie."""
    whole = [str(name) for name, value in content.items() if "_parameters" in entries_of(value)]
    if whole:
        return f"holds a whole model, which is code, under {listed(whole)}; save its state_dict() instead"
    elsewhere = [
        str(name) for name, value in content.items() if any(isinstance(v, Tensor) for v in entries_of(value).values())
    ]
    if elsewhere:
        usual = ", ".join(TRAINED[:3])
        return f"holds no weights under {usual} or the like, but tensors under {listed(elsewhere)}: save those alone"
    names = [str(name) for name in content]
    return f"holds no tensors{f' (only {listed(names)})' if names else ''}; give a training checkpoint"


# --- into a model ----------------------------------------------------------------------------------


@contextmanager
def shapes_told(origin: str) -> Iterator[None]:
    """Turn what odd shapes raise while weights are renamed, split and transposed into a sentence.

    Raises:
        HoiError: naming the file.
    """
    try:
        yield
    except HoiError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        raise HoiError(
            f"{origin}: its tensors do not have the shapes of such a model ({printable(first_line(error, 100))}); "
            "give another file"
        ) from error


def fill_weights(model: PreTrainedModel, weights: Weights, origin: str, hint: str, *, complete: bool = True) -> None:
    """Copy weights into a model; every shape must fit, every value be a number.

    Raises:
        HoiError: listing wrongly shaped, missing or unexpected names, or those that hold NaN or infinity.
    """
    own = model.state_dict()
    wrong = [
        f"{n} {tuple(t.shape)} instead of {tuple(own[n].shape)}"
        for n, t in weights.items()
        if n in own and t.shape != own[n].shape
    ]
    unexpected = [n for n in weights if n not in own]
    missing = [n for n in own if n not in weights and "position_ids" not in n] if complete else []
    if wrong or unexpected or missing:
        lists = listing("wrongly shaped", wrong) + listing("missing", missing) + listing("unexpected", unexpected)
        raise HoiError(f"{origin}: {hint}{lists}")
    refuse_no_numbers(weights, origin)
    model.load_state_dict(weights, strict=False)
