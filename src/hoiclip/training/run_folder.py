"""The checkpoints in a run's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from hoiclip.files import WRITING

EMA_FILE = "moving_average.pt"


def checkpoints(folder: Path) -> list[int]:
    """Steps of the complete checkpoints of a run."""
    found = (entry.name.removeprefix("checkpoint-") for entry in folder.glob("checkpoint-*") if entry.is_dir())
    return [int(step) for step in found if step.isdigit()]


def last_checkpoint(folder: Path, sweep: bool = True) -> str | None:
    """The newest complete checkpoint of a run; half-written ones are swept away if wished."""
    if not folder.is_dir():
        return None
    if sweep:
        for leftover in folder.glob(f"{WRITING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return get_last_checkpoint(str(folder))
