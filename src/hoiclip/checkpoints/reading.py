"""Read other people's checkpoints as tensors only: a file that wants to run code is refused."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from hoiclip.checkpoints.key_mapping import Weights, listing
from hoiclip.errors import HoiError, first_line

# What a training script stores beside its weights: its own options.  Plain data, no code.
ALLOWED_CLASSES: list[Any] = [argparse.Namespace]


# --- reading files ---------------------------------------------------------------------------------


def read_weights(path: str | Path) -> Weights:
    """Read tensors by name from a ``.pth``, ``.pt``, ``.bin``, ``.safetensors`` file or a TorchScript archive.

    The entries ``model``, ``state_dict`` or ``model_state_dict`` of a training checkpoint are
    looked into.

    Raises:
        HoiError: if the file is missing, empty, no checkpoint, holds no tensors or wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise HoiError(f"{path}: no such file; give the path of a checkpoint")
    if path.stat().st_size == 0:
        raise HoiError(f"{path}: the file is empty; download the checkpoint again")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except HoiError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds for broken files
        raise HoiError(f"{path}: not a readable checkpoint ({first_line(error)}); download it again") from error
    for entry in ("model", "state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        raise HoiError(f"{path}: holds a {type(content).__name__}, not weights by name; give a training checkpoint")
    weights = {re.sub(r"^module\.", "", str(k)): v for k, v in content.items() if isinstance(v, Tensor)}
    if not weights:
        raise HoiError(f"{path}: holds no tensors; give a training checkpoint")
    return weights


def read_tensor(path: str | Path) -> Tensor:
    """Read the one tensor that a ``.pth`` or ``.pt`` file holds, such as the published verb vectors.

    Raises:
        HoiError: if the file is missing, holds anything else, or wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise HoiError(f"{path}: no such file; give the path of a tensor")
    try:
        content = _unpickle(path)
    except HoiError:
        raise
    except Exception as error:  # torch raises many kinds for broken files
        raise HoiError(f"{path}: not a readable tensor ({first_line(error)}); download it again") from error
    if not isinstance(content, Tensor):
        raise HoiError(f"{path}: holds a {type(content).__name__}, not a tensor; give the published verb vectors")
    return content.detach()


def _unpickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            scripted = any(name.endswith("constants.pkl") for name in archive.namelist())
        if scripted:  # OpenAI publishes CLIP as TorchScript: its code is loaded but never called
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.jit.load(str(path), map_location="cpu").state_dict()
    try:
        with torch.serialization.safe_globals(ALLOWED_CLASSES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported class ([\w.]+)|unrecognized function (\S+)", str(error))
        if unsafe:
            wanted = unsafe[1] or unsafe[2] or unsafe[3]
            raise HoiError(f"{path}: refused, since it wants to run code ({wanted}); only tensors are read") from error
        # torch's own text advises to load the file unsafely
        raise HoiError(
            f"{path}: not a readable checkpoint: no file of PyTorch's, or a damaged one; give a .pth, .pt or "
            ".safetensors file, or download it again"
        ) from error


def as_weights(source: Mapping[str, Any] | str | Path) -> tuple[Weights, str]:
    if isinstance(source, Mapping):
        inner = source.get("model", source)
        return dict(inner), "the given state dict"
    return read_weights(source), str(source)


def fill_weights(model: PreTrainedModel, weights: Weights, origin: str, hint: str, *, complete: bool = True) -> None:
    """Copy weights into a model; every shape must fit.

    Raises:
        HoiError: listing wrongly shaped, missing or unexpected names.
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
    model.load_state_dict(weights, strict=False)
