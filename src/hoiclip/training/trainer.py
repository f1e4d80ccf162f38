"""transformers' Trainer with what HOICLIP needs.

Its parameter groups and schedule, named loss terms, evaluation by the metrics over all processes,
checkpoints that are whole or not there, and a stop that loses nothing.

What is put on disk, in the run's folder:

    log.jsonl                one line per logging step and per evaluation
    checkpoint-120/          everything needed to go on from step 120, written beside and then renamed
    best/                    the model with the best evaluation so far, ready for ``hoiclip detect``
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from hoiclip.checkpoints.folders import save_model
from hoiclip.errors import HoiError
from hoiclip.evaluation.runner import EvaluationSet, ProtocolEvaluators, detect_samples
from hoiclip.files import WRITING, replace_folder, write_text_atomic
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.training.arguments import Schedule
from hoiclip.training.callbacks import EpochSampler, RunCallback, StopRequest, read_log
from hoiclip.training.optimization import MovingAverage, optimizer_groups
from hoiclip.training.run_folder import EMA_FILE, checkpoints, sync_folder


class HoiTrainer(Trainer):
    """Train a :class:`HoiClipModel`.

    Args:
        model: what to train.
        args: transformers' arguments; ``output_dir`` is the run's folder.
        train_dataset: items with ``pixel_values``, ``clip_pixel_values``, ``labels``, ``file_name``.
        collate: items to a batch that names its ``file_names``.
        schedule: learning rates, when to evaluate and save.
        evaluation: what to evaluate the model on, or None.
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
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        images: int = len(train_dataset)  # type: ignore[arg-type]
        self.sampler = EpochSampler(images, args.seed, batch if schedule.drop_last else 1)
        self.stop = StopRequest()
        self.average = MovingAverage(model, schedule.ema) if schedule.ema else None
        self._terms: dict[str, Tensor] = {}
        self._terms_seen = 0
        log, has_evaluation = self.run_folder / "log.jsonl", evaluation is not None
        self.add_callback(
            RunCallback(
                log, schedule, self.sampler, train_dataset, self.stop, self.average, has_evaluation=has_evaluation
            )
        )

    @property
    def run_folder(self) -> Path:
        """The folder of this run."""
        return Path(self.args.output_dir)

    # --- optimisation ----------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW on the groups of :func:`optimizer_groups`."""
        if self.optimizer is None:
            groups = optimizer_groups(self.model, self.schedule.learning_rate, self.schedule.backbone_learning_rate)
            self.optimizer = torch.optim.AdamW(
                groups,
                lr=self.schedule.learning_rate,
                weight_decay=self.args.weight_decay,
                fused=True,  # one pass over all weights instead of several
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """One drop, at ``drop_epoch`` of ``epochs``; its place scales with ``max_steps``."""
        if self.lr_scheduler is None:
            drop = round(num_training_steps * self.schedule.drop_epoch / self.schedule.epochs)
            self.lr_scheduler = MultiStepLR(optimizer or self.optimizer, [drop], self.schedule.drop_factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.sampler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader draws its workers' seeds from a generator of its own.

        From the global one, dropout's, a resumed run would draw once more than one that never stopped.
        """
        loader = super().get_train_dataloader()
        inner = getattr(loader, "base_dataloader", loader)  # accelerate wraps it
        inner.generator = torch.Generator().manual_seed(self.args.seed)
        return loader

    def compute_loss(  # type: ignore[override]
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of one batch.

        Raises:
            HoiError: if it is not finite; the message names the images and the saved reproduction.
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
        """Detect on every image once, over all processes, and evaluate; keeps the best model.

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
            assert data.processor is not None
            evaluators = ProtocolEvaluators(data.annotations, data.processor.vocabulary, data.protocol, main_only=True)
            for file_name, detections in (item for part in parts for item in part):
                evaluators.add(file_name, detections)
            means = evaluators.means()
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
        with replace_folder(best) as folder:
            self._save(str(folder))
            write_text_atomic(folder / "metrics.json", json.dumps({"step": self.state.global_step, **means}, indent=1))

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
            sync_folder(writing)
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
            if resume_from and self._evaluation_was_lost(Path(resume_from)):
                self.evaluate()  # of the weights that this checkpoint holds
            self.train(resume_from_checkpoint=resume_from)
        return self.state.global_step >= self.state.max_steps

    def _evaluation_was_lost(self, checkpoint: Path) -> bool:
        """Whether the run ended between a checkpoint at the end of an epoch and the evaluation that was due."""
        every = self.schedule.evaluate_every
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self.state.is_local_process_zero = self.is_local_process_zero()
        self.state.is_world_process_zero = self.is_world_process_zero()
        step, epoch = self.state.global_step, self.state.epoch or 0.0
        if self.evaluation is None or not every or abs(epoch - round(epoch)) > 1e-6:
            return False
        if round(epoch) % every and step < self.state.max_steps:
            return False
        records = [record for _, record in read_log(self.run_folder / "log.jsonl") if record["step"] == step]
        return not any(name.startswith("eval_") for record in records for name in record)

    def save_result(self) -> None:
        """The trained model (its moving average where one is kept) into the run's folder."""
        if self.args.should_save:
            if self.average is not None:
                self.average.swap(self.model)
            self._save()
        self._barrier()


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {k: _to_cpu(v) for k, v in value.items()}
    return [_to_cpu(v) for v in value] if isinstance(value, (list, tuple)) else value
