"""Runs of a reproduction: trained to the end, evaluated, resumable at any moment, none made twice.

A run's folder is what ``hoiclip train`` leaves, without its checkpoints, and with ``trained.json`` once
it is complete and ``test.json`` or ``validation.json`` once it is evaluated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.errors import HoiError
from hoiclip.evaluation.hicodet import means_by_training_instances
from hoiclip.evaluation.reports import result_dict
from hoiclip.experiments.data import open_run_data
from hoiclip.experiments.data_record import interaction_instances, recorded_instances
from hoiclip.experiments.loading import load_experiment
from hoiclip.experiments.options import Experiment
from hoiclip.files import write_text_atomic
from hoiclip.published import RARE_BELOW
from hoiclip.vocabulary import HoiVocabulary

TRAINED = "trained.json"


# options that leave the trained weights as they are
IRRELEVANT_OPTIONS = {
    "": {"name", "out"},
    "data": {"root", "workers", "evaluation_split", "evaluation_images"},
    "model": {"zero_shot_top_k"},
    "train": {"resume", "cpu", "progress", "log_every", "checkpoint_every", "checkpoint_every_steps",
              "keep_checkpoints", "compile", "gradient_checkpointing"},
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A training and its evaluations, which one or several lines of a table need.

    Attributes:
        experiment: what to train; its ``out`` is the run's folder.
        split: what to evaluate it on, ``test`` or ``validation``.
        top_ks: every K of the training-free enhancement to evaluate it with, 0 for none.
    """

    experiment: Experiment
    split: str
    top_ks: tuple[int, ...]

    @property
    def folder(self) -> Path:
        """Its folder."""
        return Path(self.experiment.out)

    @property
    def trained(self) -> bool:
        """Whether nothing is left to train."""
        return (self.folder / TRAINED).is_file()

    @property
    def evaluated_on(self) -> dict[str, Any]:
        """The evaluation options that decide the numbers besides the weights."""
        data = self.experiment.data
        return {
            "split": self.split,
            "images": data.evaluation_images,
            "seed": data.seed,
            "view": [data.shorter, data.longest],
        }

    def results(self) -> dict[int, dict[str, Any]]:
        """The evaluations there are by K, as :func:`hoiclip.evaluation.result_dict` makes them."""
        file = self.folder / f"{self.split}.json"
        if not self.trained or not file.is_file():
            return {}
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["judged_on"] != self.evaluated_on:
            return {}
        return {int(k): result for k, result in stored["by_top_k"].items()}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return set(self.top_ks) <= set(self.results())

    @property
    def cost(self) -> float:
        """Work that is left, in whole trainings."""
        if self.finished:
            return 0.0
        if self.trained:
            return 0.02
        return self.experiment.data.fraction if self.experiment.train.max_steps is None else 1.0


@dataclass(frozen=True)
class Outcome:
    """How far a run came: ``done``, ``stopped`` (asked to end), ``busy`` (another process has it), ``failed``."""

    state: str
    seconds: float = 0.0
    message: str = ""


def refuse_other_options(run: Run) -> None:
    """Keep runs of different options apart.

    Raises:
        HoiError: if the run's folder was trained, or begun, with options that give other weights.
    """
    file = run.folder / "config.yaml"
    if not file.is_file():
        return
    before, now = _deciding(load_experiment(file)), _deciding(run.experiment)
    for name, value in now.items():
        if before[name] != value:
            raise HoiError(
                f"{run.folder}: was trained with {name} {before[name]}, not {value}; "
                "choose another --out, or delete that folder to train it anew"
            )


def _deciding(experiment: Experiment) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in dataclasses.asdict(experiment).items():
        if name == "evaluation":
            continue
        if isinstance(value, dict):
            options |= {f"{name}.{n}": v for n, v in value.items() if n not in IRRELEVANT_OPTIONS.get(name, ())}
        elif name not in IRRELEVANT_OPTIONS[""]:
            options[name] = value
    return options


# --- the second Rare of Table 1 --------------------------------------------------------------------


def training_instances(run: Run) -> np.ndarray | None:
    """(K,) annotated pairs of each interaction in what a run learned from.

    By the run's own record; counted anew where an earlier version left none.  None where that
    cannot be done because the data set is no longer there.
    """
    vocabulary = HoiVocabulary.coerce(run.experiment.vocabulary or run.experiment.data.source)
    recorded = recorded_instances(run.folder, vocabulary)
    if recorded is not None:
        return recorded
    try:
        data = open_run_data(run.experiment)
    except HoiError:
        return None
    return interaction_instances(data.train, data.vocabulary)


def rare_in_training(result: Mapping[str, Any], instances: np.ndarray | None) -> dict[str, Any]:
    """The means over the classes that are rare in the training data, and how many these are.

    Args:
        result: an evaluation with the AP of every class, as :meth:`Run.results` reads it.
        instances: of :func:`training_instances`.

    Returns:
        ``rare_in_training``, ``non_rare_in_training`` (None for an empty part) and
        ``rare_classes_in_training``; nothing where the counts are not known.
    """
    if instances is None:
        return {}
    aps = np.array([math.nan if entry["ap"] is None else entry["ap"] for entry in result["classes"]])
    means = means_by_training_instances(aps, instances)
    found: dict[str, Any] = {name: None if math.isnan(value) else value for name, value in means.items()}
    return found | {"rare_classes_in_training": int((instances < RARE_BELOW).sum())}


# --- one run ---------------------------------------------------------------------------------------


def make_run(run: Run, *, patient: bool = False) -> Outcome:
    """Train what is not trained, evaluate what is not evaluated.

    Args:
        run: what to do.
        patient: wait where another process is at work on the same run, instead of leaving it to that.

    Raises:
        HoiError: as ``hoiclip train`` and ``hoiclip evaluate``.
    """
    from hoiclip.training.run import run_experiment

    started = time.monotonic()
    with _claimed(run.folder, patient) as mine:
        if not mine:
            return Outcome("busy")
        refuse_other_options(run)
        if not run.trained:
            run_experiment(run.experiment)
            gc.collect()  # Trainer holds itself, and all that the run kept, in a circle
            if not (run.folder / "model.safetensors").is_file():
                return Outcome("stopped")
            record = {"seconds_since_last_start": round(time.monotonic() - started)}
            write_text_atomic(run.folder / TRAINED, json.dumps(record) + "\n")
        for checkpoint in run.folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        known = run.results()
        missing = [k for k in run.top_ks if k not in known]
        if missing:
            known |= evaluate_run(run, missing)
            content = {"judged_on": run.evaluated_on, "by_top_k": {str(k): known[k] for k in sorted(known)}}
            write_text_atomic(run.folder / f"{run.split}.json", json.dumps(content, ensure_ascii=False) + "\n")
    return Outcome("done", time.monotonic() - started)


def evaluate_run(run: Run, top_ks: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Evaluate the final weights of a trained run, by the protocol of the paper's authors."""
    from hoiclip.evaluation.runner import evaluate_model, sweep_top_k
    from hoiclip.inference.loading import load

    experiment = replace(run.experiment, evaluation=replace(run.experiment.evaluation, protocol="hoiclip"))
    detector = load(run.folder, device="cpu" if experiment.train.cpu else None)
    if set(top_ks) != {0}:
        swept = sweep_top_k(experiment, detector, top_ks)
        return {k: result_dict(result) for k, result in zip(top_ks, swept.values(), strict=True)}
    plain = replace(experiment, model=replace(experiment.model, zero_shot_top_k=None))
    return {0: result_dict(evaluate_model(plain, detector, progress=experiment.train.progress)["hoiclip"])}


@contextlib.contextmanager
def _claimed(folder: Path, patient: bool) -> Iterator[bool]:
    """Lock a run for this process; the system releases it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: one command at a time, please
        yield True
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".claimed").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
