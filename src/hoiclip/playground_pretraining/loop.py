"""What both pretrainings share: settings, the loop on accelerate, checkpoints that survive a kill, provenance."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from tqdm import tqdm
from transformers import get_cosine_with_min_lr_schedule_with_warmup, set_seed

from hoiclip.errors import HoiError
from hoiclip.files import atomic_path, write_text_atomic

LOWEST_RATE = 0.02  # of the learning rate, at the end of its half cosine


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long a pretraining runs, on what, and what it does on the way.

    Attributes:
        seed: of weights and scenes.
        samples: images to learn from in all; the learning rate falls to its end over them.
        batch: images per step.
        lr, weight_decay: AdamW; the highest learning rate, reached after ``warmup`` steps.
        warmup: in steps.
        threads: of torch on a CPU.
        workers: processes that draw scenes; 0 draws in this one.
        measure_every, checkpoint_every: in images.
        measure_scenes: held-out scenes per measurement.
        stop_after: pause at the first checkpoint with so many images, to go on another time, perhaps to
            another end.
        start_from: folder of weights to begin with instead of fresh ones.
        device: ``cpu`` or ``cuda``; None takes a GPU if there is one.
        bf16: mixed precision; two to three times as fast on a CPU with AVX-512 bf16, slow on others.
    """

    seed: int = 0
    samples: int
    batch: int
    lr: float
    weight_decay: float
    warmup: int
    threads: int = 1
    workers: int = 1
    measure_every: int
    measure_scenes: int
    checkpoint_every: int
    stop_after: int | None = None
    start_from: str | Path | None = None
    device: str | None = None
    bf16: bool = False

    @property
    def steps(self) -> int:
        """To the end."""
        return self.samples // self.batch

    def due(self, step: int, every: int) -> bool:
        """Whether something done once in ``every`` images is done after this step."""
        return step % max(1, every // self.batch) == 0 or step == self.steps

    def command(self, part: str) -> str:
        """What to type for it again."""
        command = f"hoiclip playground pretrain {part} --seed {self.seed} --samples {self.samples} --lr {self.lr:g}"
        for name in ("start_from", "stop_after"):
            if (value := getattr(self, name)) is not None:
                command += f" --{name.replace('_', '-')} {value}"
        switches = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is True]
        return command + "".join(f" --{name}" for name in switches)

    def prepare(self) -> Accelerator:
        """Seed everything, and choose device and precision."""
        torch.set_num_threads(self.threads)
        set_seed(self.seed)
        return Accelerator(cpu=self.device == "cpu", mixed_precision="bf16" if self.bf16 else "no")


class Pretraining:
    """Steps, checkpoints and measurements; goes on from ``checkpoint.pt`` where there is one.

    Args:
        out: the run's folder.
        parts: all modules that learn, by name.
        optimizer: of their parameters.
        settings: how long.
        accelerator: device and precision.
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
        settings: Settings,
        accelerator: Accelerator,
        command: str,
    ) -> None:
        self.file, self.parts, self.optimizer, self.settings = out / "checkpoint.pt", parts, optimizer, settings
        self.accelerator = accelerator
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
        for group in optimizer.param_groups:  # of these settings, also where an earlier part had others
            group["lr"] = group["initial_lr"] = settings.lr
        self.schedule = get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, settings.warmup, settings.steps, last_epoch=self.step - 1, min_lr_rate=LOWEST_RATE
        )

    @property
    def samples(self) -> int:
        """Images seen so far."""
        return self.step * self.settings.batch

    def run(
        self,
        title: str,
        losses: Callable[[int], Mapping[str, Tensor]],
        measure: Callable[[], dict[str, float]],
        clipped: Sequence[nn.Parameter],
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the end, or to where the settings pause.

        Args:
            title: of the progress bar.
            losses: of a step; all are shown, ``loss`` is the one that teaches.
            measure: how good the model is by now.
            clipped: parameters whose gradient's norm is kept at 1 or below.
            after_step: called after each.
        """
        settings = self.settings
        bar = tqdm(total=settings.steps, initial=self.step, desc=title, unit="step", mininterval=5)
        while self.step < settings.steps:
            with self.accelerator.autocast():
                found = losses(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(found["loss"])
            self.accelerator.clip_grad_norm_(clipped, 1.0)
            self.optimizer.step()
            self.schedule.step()
            after_step()
            self.step += 1
            bar.update()
            if self.step % 20 == 0:
                bar.set_postfix({name: f"{value.item():.3f}" for name, value in found.items()}, refresh=False)
            if settings.due(self.step, settings.measure_every):
                self.history.append({"samples": self.samples, **measure()})
                tqdm.write(str({**self.history[-1], "seconds": self._seconds()}))
            if settings.due(self.step, settings.checkpoint_every):
                self._save()
                if settings.stop_after is not None and self.samples >= settings.stop_after:
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


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, each channel less ``mean`` over ``std``."""
    centre, spread = torch.tensor(mean, device=images.device), torch.tensor(std, device=images.device)
    return ((images.float() / 255 - centre) / spread).permute(0, 3, 1, 2).contiguous()


def step_aside() -> None:
    """Lower the priority of a process that draws scenes, which leaves training its core."""
    if get_worker_info() is None:  # drawing in the training process itself
        return
    torch.set_num_threads(1)
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside the old checkpoint, then take its place: there is always a whole one."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


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
    """Store the floats of a saved model as fp16; loading casts them back."""
    path = folder / "model.safetensors"
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def write_provenance(folder: Path, **facts: Any) -> None:
    """Write ``provenance.json``: how these weights came about."""
    facts = {"date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__.split("+")[0], **facts}
    write_text_atomic(folder / "provenance.json", json.dumps(facts, indent=2) + "\n")
