"""What both pretrainings share: seeds, checkpoints that survive a kill, provenance."""

from __future__ import annotations

import contextlib
import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import get_worker_info

from hoiclip.errors import HoiError


def seed_everything(seed: int) -> None:
    """torch and random, for initial weights and dropped patches; scenes have generators of their own."""
    random.seed(seed)
    torch.manual_seed(seed)


def step_aside() -> None:
    """Lowers the priority of a rendering process, which leaves training its core."""
    if get_worker_info() is None:  # rendering in the training process itself
        return
    torch.set_num_threads(1)
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes beside the old checkpoint, then takes its place: there is always a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    torch.save(state, fresh)
    os.replace(fresh, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint, or None if there is none.

    Raises:
        HoiError: if the file is no checkpoint.
    """
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise HoiError(f"{path}: not a readable checkpoint; delete it to start over") from error


def halve_weights(folder: Path) -> None:
    """Stores the floats of a saved model as fp16; loading casts them back."""
    path = folder / "model.safetensors"
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
    fresh = path.with_suffix(".new")
    save_file(tensors, fresh, metadata={"format": "pt"})
    fresh.chmod(0o644)
    os.replace(fresh, path)


def write_provenance(folder: Path, **facts: Any) -> None:
    """``provenance.json``: how these weights came about."""
    facts = {"date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__.split("+")[0], **facts}
    (folder / "provenance.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to 0.02."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * progress)))


def sine_cosine_2d(side: int, width: int, amplitude: float) -> torch.Tensor:
    """(side * side, width) position codes of a grid, row by row; width divisible by 4."""
    frequencies = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies[None]  # (side, width/4)
    code = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width/2)
    rows = code[:, None].expand(side, side, -1)
    columns = code[None].expand(side, side, -1)
    return amplitude * torch.cat([rows, columns], dim=2).reshape(side * side, width)
