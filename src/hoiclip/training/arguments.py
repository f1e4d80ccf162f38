"""From an experiment to the arguments of transformers' Trainer and the learning-rate schedule."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from hoiclip import published
from hoiclip.errors import HoiError
from hoiclip.experiments.options import Experiment


@dataclass(frozen=True)
class Schedule:
    """Batches, learning rates, when to evaluate and save; see :class:`hoiclip.experiments.options.TrainOptions`."""

    learning_rate: float
    backbone_learning_rate: float
    epochs: float
    drop_epoch: float
    drop_factor: float
    ema: float | None
    drop_last: bool  # done by EpochSampler: torch's loaders would count accumulated passes one by one
    evaluate_every: int  # epochs; 0 for never
    checkpoint_every: int  # epochs; 0 for never
    checkpoint_every_steps: int  # optimizer steps; 0 for never
    keep_checkpoints: int


# --- transformers' arguments -----------------------------------------------------------------------


def training_arguments(experiment: Experiment) -> TrainingArguments:
    """The arguments of transformers' Trainer.

    Raises:
        HoiError: if the batch cannot be shared among the processes, or ``train.report_to`` names what is not installed.
    """
    options, processes = experiment.train, int(os.environ.get("WORLD_SIZE", 1))
    shares = processes * options.accumulate
    if options.batch_size % shares:
        raise HoiError(
            f"train.batch_size {options.batch_size} cannot be shared by {processes} processes "
            f"and {options.accumulate} accumulated passes: make it a multiple of {shares}"
        )
    if options.normalise == "process" and (options.virtual_processes < 1 or options.virtual_processes % processes):
        raise HoiError(
            f"train.virtual_processes {options.virtual_processes} cannot be shared by {processes} processes: "
            f"make it a multiple of {processes}"
        )
    board = options.report_to
    if board != "none" and importlib.util.find_spec(board) is None:
        raise HoiError(f"train.report_to {board}: needs the package {board}: pip install {board}")
    workers = experiment.data.workers
    saving: dict[str, Any] = {}
    if options.gradient_checkpointing:  # renamed in newer releases of transformers
        name = "activation_checkpointing"
        name = name if name in TrainingArguments.__dataclass_fields__ else "gradient_checkpointing"
        saving = {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    return TrainingArguments(
        **saving,
        output_dir=experiment.out,
        per_device_train_batch_size=options.batch_size // shares,
        gradient_accumulation_steps=options.accumulate,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip_norm,
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        torch_compile=options.compile,
        logging_steps=options.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="no",  # RunCallback decides
        save_strategy="no",
        report_to=[] if board == "none" else [board],
        run_name=experiment.name or None,
        disable_tqdm=not options.progress,
        seed=experiment.seed,
        use_cpu=options.cpu,
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_prefetch_factor=2 if workers else None,
        dataloader_pin_memory=not options.cpu,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        ddp_timeout=7200,  # seconds the others wait while the first process makes verb vectors
        ddp_backend="gloo" if options.cpu and processes > 1 else None,
    )


def schedule_of(experiment: Experiment) -> Schedule:
    """Learning rates, and when to evaluate and save."""
    options = experiment.train
    scale = options.batch_size / published.BATCH_SIZE if options.scale_learning_rate else 1.0
    return Schedule(
        learning_rate=options.learning_rate * scale,
        backbone_learning_rate=options.backbone_learning_rate * scale,
        epochs=options.epochs,
        drop_epoch=options.drop_epoch,
        drop_factor=options.drop_factor,
        ema=options.ema,
        drop_last=options.drop_last,
        evaluate_every=experiment.evaluation.every,
        checkpoint_every=options.checkpoint_every,
        checkpoint_every_steps=options.checkpoint_every_steps,
        keep_checkpoints=options.keep_checkpoints,
    )
