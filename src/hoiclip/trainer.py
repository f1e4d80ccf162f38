"""transformers' Trainer, taught what HOICLIP needs: its groups and schedule, named loss terms, real
evaluation over all processes, checkpoints that are whole or not there, and a stop that loses nothing.

What is put on disk, in the run's folder:

    log.jsonl                one line per logging step and per evaluation
    checkpoint-120/          everything needed to go on from step 120, written beside and then renamed
    best/                    the model with the best evaluation so far, ready for ``hoiclip detect``
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from hoiclip.checkpoints import save_model
from hoiclip.data import HoiTrainingDataset
from hoiclip.errors import HoiError
from hoiclip.files import WRITING, refilling, write_text
from hoiclip.judging import EvaluationSet, detect_samples, judge
from hoiclip.modeling import HoiClipModel
from hoiclip.optimization import MovingAverage, drop_schedule, optimizer_groups
from hoiclip.processing import HoiClipProcessor

EMA_FILE = "moving_average.pt"


@dataclass(frozen=True)
class Schedule:
    """How the weights move; see ``experiments.TrainOptions`` for the meaning of each number."""

    learning_rate: float = 1e-4
    backbone_learning_rate: float = 1e-5
    epochs: float = 90
    drop_epoch: float = 60
    drop_factor: float = 0.1
    ema: float | None = None
    evaluate_every: int = 1  # epochs; 0 for never
    checkpoint_every: int = 1  # epochs; 0 for never
    checkpoint_every_steps: int = 0  # optimiser steps; 0 for never
    keep_checkpoints: int = 2


# --- what happens around the steps -----------------------------------------------------------------


class EpochOrder(Sampler[int]):
    """A new order each epoch that depends on (seed, epoch) alone."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.length).tolist())


class StopRequest:
    """Remembers that the process was asked to end (SIGTERM, as preempted machines send it)."""

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
    """Decides when to log, evaluate and save; writes ``log.jsonl``."""

    def __init__(self, trainer: HoiTrainer) -> None:
        self.trainer = trainer
        self.log = Path(trainer.args.output_dir) / "log.jsonl"

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line, record in read_log(self.log) if record["step"] <= state.global_step]
        write_text(self.log, "".join(f"{line}\n" for line in kept if state.global_step))

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        epoch = int(state.epoch or 0)
        self.trainer.order.set_epoch(epoch)
        dataset = self.trainer.train_dataset
        if isinstance(dataset, HoiTrainingDataset):
            dataset.set_epoch(epoch)

    def on_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.trainer.average is not None:
            self.trainer.average.update(self.trainer.model)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        every = self.trainer.schedule.checkpoint_every_steps
        if every and state.global_step % every == 0:
            control.should_save = True
        if self.trainer.stop.agreed(args.device):
            control.should_save = control.should_training_stop = True
        if control.should_save:  # a resumed run starts its averages here, so the first one ends them here
            control.should_log = True

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.trainer.stop.asked:
            return
        schedule, epoch = self.trainer.schedule, round(state.epoch or 0)
        last = state.global_step >= state.max_steps
        if schedule.evaluate_every and (epoch % schedule.evaluate_every == 0 or last):
            control.should_evaluate = self.trainer.evaluation is not None
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
    """Lines of a ``log.jsonl`` and what they say; a line cut off by a crash is left out."""
    if not Path(path).is_file():
        return []
    records = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            records.append((line, json.loads(line)))
        except json.JSONDecodeError:
            continue
    return records


# --- the trainer -----------------------------------------------------------------------------------


class HoiTrainer(Trainer):
    """Trains a :class:`HoiClipModel`.

    Args:
        model: what to train.
        args: transformers' arguments; ``output_dir`` is the run's folder.
        train_dataset: items with ``pixel_values``, ``clip_pixel_values``, ``labels``, ``file_name``.
        collate: items to a batch that names its ``file_names``.
        schedule: learning rates, when to evaluate and save.
        evaluation: what to judge the model on, or None.
        processor: saved with every model.
    """

    optimizer: Any
    lr_scheduler: Any
    control: TrainerControl

    def __init__(
        self,
        model: HoiClipModel,
        args: TrainingArguments,
        train_dataset: Dataset[Any],
        collate: Any,
        schedule: Schedule,
        evaluation: EvaluationSet | None = None,
        processor: HoiClipProcessor | None = None,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=train_dataset, data_collator=collate)
        # the criterion does not divide by a number of items: with accumulated gradients the mean is taken
        self.model_accepts_loss_kwargs = False
        self.schedule, self.evaluation, self.processor = schedule, evaluation, processor
        self.order = EpochOrder(len(train_dataset), args.seed)  # type: ignore[arg-type]
        self.stop = StopRequest()
        self.average = MovingAverage(model, schedule.ema) if schedule.ema else None
        self._terms: dict[str, Tensor] = {}
        self._terms_seen = 0
        self.add_callback(RunCallback(self))

    @property
    def run_folder(self) -> Path:
        """Where everything of this run lies."""
        return Path(self.args.output_dir)

    # --- optimisation ----------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW on the groups of :func:`optimizer_groups`."""
        if self.optimizer is None:
            groups = optimizer_groups(self.model, self.schedule.learning_rate, self.schedule.backbone_learning_rate)
            self.optimizer = torch.optim.AdamW(
                groups, lr=self.schedule.learning_rate, weight_decay=self.args.weight_decay
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """One drop, at ``drop_epoch`` of ``epochs``; its place scales with ``max_steps``."""
        if self.lr_scheduler is None:
            drop = round(num_training_steps * self.schedule.drop_epoch / self.schedule.epochs)
            self.lr_scheduler = drop_schedule(optimizer or self.optimizer, drop, self.schedule.drop_factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.order

    def compute_loss(  # type: ignore[override]
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of one batch.

        Raises:
            HoiError: if it is not finite; the message names the pictures and the saved reproduction.
        """
        file_names = inputs.get("file_names", [])
        batch = {name: value for name, value in inputs.items() if name != "file_names"}
        out = model(**batch)
        loss, terms = out["loss"], out["loss_dict"]
        if not torch.isfinite(loss):
            raise HoiError(self._report_broken(loss, batch, file_names))
        for name, value in terms.items():
            seen = self._terms.get(name)
            self._terms[name] = value.detach() if seen is None else seen + value.detach()
        self._terms_seen += 1
        return (loss, out) if return_outputs else loss

    def _report_broken(self, loss: Tensor, batch: dict[str, Any], file_names: Sequence[str]) -> str:
        step = self.state.global_step
        folder = self.run_folder / f"broken-step-{step}-process-{self.args.process_index}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"batch": _to_cpu(batch), "file_names": list(file_names)}, folder / "batch.pt")
        self._save(str(folder))
        hint = "a smaller learning rate or --train.precision bf16"
        return (
            f"the loss is {loss.item()} at step {step} with the images {', '.join(file_names)}; "
            f"batch and weights are saved in {folder}; try {hint}"
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each loss term since the last log, over all processes."""
        if "loss" in logs and self._terms:
            names = sorted(self._terms)
            means = torch.stack([self._terms[name] for name in names]).float() / self._terms_seen
            if distributed.is_initialized():
                distributed.all_reduce(means)
                means /= distributed.get_world_size()
            logs.update(zip(names, means.tolist(), strict=True))
            self._terms, self._terms_seen = {}, 0
        super().log(logs, start_time)

    # --- evaluation ------------------------------------------------------------------------------

    def evaluate(  # type: ignore[override]
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Detect on every picture once, over all processes, and judge; keeps the best model.

        Returns:
            Metrics by name with the prefix; empty when the run was asked to stop meanwhile.
        """
        data = self.evaluation
        if data is None:
            return {}
        model = self.model
        was_training = model.training
        model.eval()
        if self.average is not None:
            self.average.swap(model)
        try:
            share = detect_samples(
                model,
                data,
                process=self.args.process_index,
                processes=self.args.world_size,
                progress=self.is_world_process_zero() and not self.args.disable_tqdm,
            )
            found = []
            for item in share:
                found.append(item)
                if self.stop.asked and self.args.world_size == 1:
                    return {}
            parts = [found]
            if self.args.world_size > 1:
                parts = [None] * self.args.world_size  # type: ignore[list-item]
                distributed.all_gather_object(parts, found)
            means = judge([item for part in parts for item in part], data)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
            if self.args.should_save:
                self._keep_if_best(means)
        finally:
            if self.average is not None:
                self.average.swap(model)
            model.train(was_training)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _keep_if_best(self, means: dict[str, float]) -> None:
        assert self.evaluation is not None
        best, name = self.run_folder / "best", self.evaluation.main_metric
        record = best / "metrics.json"
        value = means.get(name, 0.0)
        if record.is_file() and json.loads(record.read_text(encoding="utf-8")).get(name, 0.0) >= value:
            return
        with refilling(best) as folder:
            self._save(str(folder))
            write_text(folder / "metrics.json", json.dumps({"step": self.state.global_step, **means}, indent=1))

    # --- checkpoints -----------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The model as a folder that :func:`hoiclip.load` opens."""
        folder = Path(output_dir or self.args.output_dir)
        save_model(self.model, folder)  # type: ignore[arg-type]
        if self.processor is not None:
            self.processor.save_pretrained(folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Everything needed to go on, written into a hidden folder that is renamed when complete."""
        step = self.state.global_step
        final = self.run_folder / f"checkpoint-{step}"
        if final.is_dir():
            return
        writing = self.run_folder / f"{WRITING}{step}"
        if self.args.should_save:
            shutil.rmtree(writing, ignore_errors=True)
            writing.mkdir(parents=True)
            self._save(str(writing))
            self.state.save_to_json(str(writing / "trainer_state.json"))
            if self.average is not None:
                torch.save(self.average.state_dict(), writing / EMA_FILE)
        self._barrier()
        self._save_optimizer_and_scheduler(str(writing))
        self._save_scaler(str(writing))
        self._save_rng_state(str(writing))
        self._barrier()
        if self.args.should_save:
            os.rename(writing, final)
            for old in sorted(checkpoints(self.run_folder))[: -self.schedule.keep_checkpoints or None]:
                shutil.rmtree(self.run_folder / f"checkpoint-{old}", ignore_errors=True)

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            distributed.barrier()

    def run(self, resume_from: str | None) -> bool:
        """Train to the end, or until asked to stop.

        Args:
            resume_from: checkpoint folder to go on from.

        Returns:
            True when the training is complete.
        """
        if resume_from and self.average is not None and (Path(resume_from) / EMA_FILE).is_file():
            state = torch.load(Path(resume_from) / EMA_FILE, map_location="cpu", weights_only=True)
            self.average.load_state_dict(state)
        if resume_from and 0 < self.args.max_steps <= int(Path(resume_from).name.rpartition("-")[2]):
            return True  # Trainer would make one more step
        with self.stop:
            self.train(resume_from_checkpoint=resume_from)
        return self.state.global_step >= self.state.max_steps

    def save_result(self) -> None:
        """The trained model (its moving average where one is kept) into the run's folder."""
        if self.args.should_save:
            if self.average is not None:
                self.average.swap(self.model)
            self._save()
        self._barrier()


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


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {k: _to_cpu(v) for k, v in value.items()}
    return [_to_cpu(v) for v in value] if isinstance(value, (list, tuple)) else value
