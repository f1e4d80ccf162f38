"""The checkpoints in a run's folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

from safetensors import safe_open

from hoiclip.errors import HoiError, first_line
from hoiclip.files import WRITING

EMA_FILE = "moving_average.pt"


def checkpoints(folder: Path) -> list[int]:
    """Steps of the complete checkpoints of a run."""
    found = (entry.name.removeprefix("checkpoint-") for entry in folder.glob("checkpoint-*") if entry.is_dir())
    return [int(step) for step in found if step.isdigit()]


def last_checkpoint(folder: Path, *, sweep: bool = True, averaged: bool = False) -> str | None:
    """The newest checkpoint of a run that is whole, told on stderr if newer ones are not.

    Args:
        folder: of the run.
        sweep: take half-written ones away.
        averaged: a moving average of the weights belongs to each.

    Returns:
        Its folder; None where there is no checkpoint.

    Raises:
        HoiError: if there are checkpoints and none is whole.
    """
    if not folder.is_dir():
        return None
    if sweep:
        for leftover in folder.glob(f"{WRITING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
    steps = sorted(checkpoints(folder), reverse=True)
    for step in steps:
        checkpoint = folder / f"checkpoint-{step}"
        damage = _damage(checkpoint, averaged)
        if damage is None:
            return str(checkpoint)
        print(f"hoiclip: {checkpoint}: is damaged ({damage}); the one before is taken", file=sys.stderr)
    if steps:
        raise HoiError(f"{folder}: none of its checkpoints can be read; delete them to start anew, or copy them again")
    return None


def _damage(checkpoint: Path, averaged: bool) -> str | None:
    """What is wrong with a checkpoint, or None."""
    tensors = ["optimizer.pt", "scheduler.pt", *([EMA_FILE] if averaged else [])]
    tensors += sorted(path.name for path in checkpoint.glob("rng_state*.pth")) or ["rng_state.pth"]
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        with safe_open(checkpoint / "model.safetensors", framework="pt") as weights:  # compares the length too
            weights.keys()
        for name in tensors:
            with zipfile.ZipFile(checkpoint / name) as archive:  # as torch.save writes it
                wrong = archive.testzip()
            if wrong is not None:
                return f"{name} does not have its checksum"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename or error)).name} is missing"
    except Exception as error:  # zip, pickle, JSON and safetensors each have their own
        return first_line(error, 120)
    return None


def sync_folder(folder: Path) -> None:
    """Have the system write a folder's files to the disk, so that a rename never comes before them."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
