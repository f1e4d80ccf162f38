"""What happens around the steps of a run: the order of the images, when to log, evaluate, save and stop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Dataset, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState

from hoiclip.data.training_dataset import HoiTrainingDataset
from hoiclip.files import write_text_atomic
from hoiclip.training.arguments import Schedule
from hoiclip.training.optimization import MovingAverage


class EpochSampler(Sampler[int]):
    """A new order in each epoch that depends on (seed, epoch) alone.

    Args:
        length: of the training set.
        seed: of the orders.
        batch: images of an optimizer step, over all processes and accumulated passes.  The last ones
            of an order, which do not fill a batch, are left out, others in each epoch; a training
            set smaller than one batch is given whole, since nothing else would be left.
    """

    def __init__(self, length: int, seed: int, batch: int = 1) -> None:
        self.length, self.seed, self.epoch = length, seed, 0
        self.given = length - length % batch or length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.given

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter(order[: self.given].tolist())


class StopRequest:
    """A flag that the process was asked to end (SIGTERM, as preempted machines send it)."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None

    def __enter__(self) -> StopRequest:
        try:
            self._previous = signal.signal(signal.SIGTERM, self._remember)
        except ValueError:  # not the main thread: whoever owns it decides
            self._previous = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _remember(self, *_: object) -> None:
        self.asked = True

    def agreed(self, device: torch.device) -> bool:
        """Whether any process was asked, the same answer on all."""
        if not distributed.is_initialized():
            return self.asked
        flag = torch.tensor(float(self.asked), device=device)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag)


class RunCallback(TrainerCallback):
    """Decide when to log, evaluate and save; write ``log.jsonl``.

    Args:
        log: the file to write.
        schedule: when to evaluate and save.
        sampler, dataset: told which epoch it is.
        stop: asked after every step.
        average: updated after every optimizer step, or None.
        has_evaluation: whether there is something to evaluate on.
    """

    def __init__(
        self,
        log: Path,
        schedule: Schedule,
        sampler: EpochSampler,
        dataset: Dataset[Any],
        stop: StopRequest,
        average: MovingAverage | None,
        *,
        has_evaluation: bool,
    ) -> None:
        self.log, self.schedule, self.sampler, self.dataset = log, schedule, sampler, dataset
        self.stop, self.average, self.has_evaluation = stop, average, has_evaluation

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line, record in read_log(self.log) if record["step"] <= state.global_step]
        write_text_atomic(self.log, "".join(f"{line}\n" for line in kept if state.global_step))

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        epoch = int(state.epoch or 0)
        self.sampler.set_epoch(epoch)
        if isinstance(self.dataset, HoiTrainingDataset):
            self.dataset.set_epoch(epoch)

    def on_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        if self.average is not None:
            self.average.update(model)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        every = self.schedule.checkpoint_every_steps
        if every and state.global_step % every == 0:
            control.should_save = True
        if self.stop.agreed(args.device):
            control.should_save = control.should_training_stop = True
        if control.should_save:  # a resumed run starts its averages here, so the first one ends them here
            control.should_log = True

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stop.asked:
            return
        schedule, epoch = self.schedule, round(state.epoch or 0)
        last = state.global_step >= state.max_steps
        if schedule.evaluate_every and (epoch % schedule.evaluate_every == 0 or last):
            control.should_evaluate = self.has_evaluation
        if schedule.checkpoint_every and (epoch % schedule.checkpoint_every == 0 or last):
            control.should_save = True
        control.should_log = control.should_log or control.should_save or control.should_evaluate

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            record = {"step": state.global_step, "epoch": state.epoch, **logs}
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def read_log(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the lines of a ``log.jsonl`` and their records; a line cut off by a crash is left out."""
    if not os.path.isfile(path):
        return []
    records = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            records.append((line, json.loads(line)))
        except json.JSONDecodeError:
            continue
    return records
