"""What both pretrainings share: the loop, seeds, checkpoints that survive a kill, provenance."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from tqdm import tqdm

from hoiclip.errors import HoiError


@dataclass(frozen=True)
class Schedule:
    """How long a pretraining runs, and what it does on the way.

    Attributes:
        samples: images to see in all; the learning rate falls to its end over them.
        batch: images per step.
        lr: the highest learning rate, reached after ``warmup`` steps.
        warmup: in steps.
        measure_every, checkpoint_every: in images.
        stop_after: pause at the first checkpoint with so many images, to go on another time, perhaps
            to another end.
    """

    samples: int
    batch: int
    lr: float
    warmup: int
    measure_every: int
    checkpoint_every: int
    stop_after: int | None = None

    @property
    def steps(self) -> int:
        """To the end."""
        return self.samples // self.batch

    def due(self, step: int, every: int) -> bool:
        """Whether something done once in ``every`` images is done after this step."""
        return step % max(1, every // self.batch) == 0 or step == self.steps


class Pretraining:
    """Steps, checkpoints and measurements; goes on from ``checkpoint.pt`` where there is one.

    Args:
        out: the run's folder.
        parts: all modules that learn, by name.
        optimizer: of their parameters.
        schedule: how long.
        command: that started this; kept with those before it.

    Attributes:
        step: made so far.
        history: every measurement with the number of images seen.

    Raises:
        HoiError: if the checkpoint there cannot be read.
    """

    def __init__(
        self,
        out: Path,
        parts: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        command: str,
    ) -> None:
        self.file, self.parts, self.optimizer, self.schedule = out / "checkpoint.pt", parts, optimizer, schedule
        self.step, self.history, self.commands = 0, [], [command]  # type: int, list[dict[str, Any]], list[str]
        self.began = time.monotonic()
        state = load_checkpoint(self.file)
        if state:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            optimizer.load_state_dict(state["optimizer"])
            self.step, self.history = state["step"], state["history"]
            self.commands = [c for c in state["commands"] if c != command] + self.commands
            self.began -= state["seconds"]

    @property
    def samples(self) -> int:
        """Images seen so far."""
        return self.step * self.schedule.batch

    def run(
        self,
        title: str,
        losses: Callable[[int], Mapping[str, Tensor]],
        measure: Callable[[], dict[str, float]],
        clipped: Sequence[nn.Parameter],
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        """To the end, or to where the schedule pauses.

        Args:
            title: of the progress bar.
            losses: of a step; all are shown, ``loss`` is the one that teaches.
            measure: how good the model is by now.
            clipped: parameters whose gradient's norm is kept at 1 or below.
            after_step: called after each.
        """
        schedule = self.schedule
        bar = tqdm(total=schedule.steps, initial=self.step, desc=title, unit="step", mininterval=5)
        while self.step < schedule.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = schedule.lr * learning_rate_factor(self.step, schedule.steps, schedule.warmup)
            found = losses(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            found["loss"].backward()
            nn.utils.clip_grad_norm_(clipped, 1.0)
            self.optimizer.step()
            after_step()
            self.step += 1
            bar.update()
            if self.step % 20 == 0:
                bar.set_postfix({name: f"{value.item():.3f}" for name, value in found.items()}, refresh=False)
            if schedule.due(self.step, schedule.measure_every):
                self.history.append({"samples": self.samples, **measure()})
                tqdm.write(str({**self.history[-1], "seconds": self._seconds()}))
            if schedule.due(self.step, schedule.checkpoint_every):
                self._save()
                if schedule.stop_after is not None and self.samples >= schedule.stop_after:
                    break
        bar.close()

    def _seconds(self) -> int:
        return round(time.monotonic() - self.began)

    def _save(self) -> None:
        state = {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "commands": self.commands,
            "seconds": self._seconds(),
        }
        save_checkpoint(self.file, state)

    def write_weights(self, out: Path, seed: int, held_out: str) -> dict[str, Any]:
        """Halve what transformers saved in ``out`` and say how it came about; the last measurement."""
        halve_weights(out)
        metrics = self.history[-1] if self.history else {}
        write_provenance(
            out,
            commands=self.commands,
            seed=seed,
            samples=self.samples,
            seconds=self._seconds(),
            metrics=metrics,
            held_out=held_out,
            history=self.history,
        )
        return metrics


def pretraining_command(kind: str, **options: Any) -> str:
    """What to type for it again: options that are None or False are left out, True ones stand alone."""
    command = f"hoiclip playground pretrain {kind}"
    for name, value in options.items():
        if value is not None and value is not False:
            shown = "" if value is True else f" {value:g}" if isinstance(value, float) else f" {value}"
            command += f" --{name.replace('_', '-')}{shown}"
    return command


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
