"""``hoiclip reproduce``: a table of the paper, several seeds, from training to Markdown and figure.

    hoiclip reproduce table5 --seeds 0,1,2 --jobs 2
    hoiclip reproduce table5 --dataset hicodet --data.root data/hicodet --train.precision bf16 --jobs 8

Tables share runs.  What is put on disk, below ``--out``:

    runs/playground-fraction-0.05-seed0/    a run as ``hoiclip train`` leaves it, without its checkpoints,
                                            trained.json when complete, test.json and validation.json
    table5.md  table5.png  table5.json      renewed whenever a run is finished

Kill it whenever you like: the same command goes on from the last checkpoint of each unfinished run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging as transformers_logging

from hoiclip.errors import HoiError
from hoiclip.evaluation.tables import result_dict
from hoiclip.experiments import Experiment, load_experiment
from hoiclip.files import write_text
from hoiclip.paper_figures import draw_table
from hoiclip.paper_tables import Cell, PaperTable, mean_and_deviation, metric_values, paper_table, render_markdown
from hoiclip.vocabulary import HoiVocabulary

TRAINED = "trained.json"
GROUPS = 5  # of verbs, in Figure 1 (b)

# options that leave the trained weights as they are
NOT_DECIDING = {
    "": {"name", "out"},
    "data": {"root", "workers", "evaluation_split", "evaluation_images"},
    "model": {"zero_shot_top_k"},
    "train": {"resume", "cpu", "progress", "log_every", "checkpoint_every", "checkpoint_every_steps",
              "keep_checkpoints", "compile", "gradient_checkpointing"},
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Weights that one or several lines of a table ask for.

    Attributes:
        experiment: what to train; its ``out`` is the run's folder.
        split: what to judge it on, ``test`` or ``validation``.
        top_ks: every K of the training-free enhancement to judge it with, 0 for none.
    """

    experiment: Experiment
    split: str
    top_ks: tuple[int, ...]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return Path(self.experiment.out)

    @property
    def trained(self) -> bool:
        """Whether nothing is left to train."""
        return (self.folder / TRAINED).is_file()

    @property
    def judged_on(self) -> dict[str, Any]:
        """What decides the numbers besides the weights."""
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
        if stored["judged_on"] != self.judged_on:
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


def reproduce(
    name: str,
    *,
    dataset: str = "playground",
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path | None = None,
    options: Sequence[str] = (),
    jobs: int = 1,
) -> Path | None:
    """Train and judge all that a table of the paper needs, and write it.

    Args:
        name: ``table1``, ``table2``, ``table5``, ``table6``, ``table7`` or ``figure1``.
        dataset: ``playground`` or ``hicodet``.
        seeds: of fresh weights and the order of the pictures; which pictures there are stays the same.
        out: folder shared by all tables; ``reproduction/<dataset>`` by default.
        options: of every experiment, as on the command line; those that make a line of the table win.
        jobs: runs at once, each in a process of its own with its share of the cores, or one of the GPUs.

    Returns:
        The Markdown file, or None when asked to stop before the end.

    Raises:
        HoiError: bad options, missing data, a folder with runs of other options, a loss that is not finite.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise HoiError("reproduce trains several runs side by side: start it without a launcher, with --jobs 8")
    table = paper_table(name, dataset)
    out = Path(out) if out is not None else Path("reproduction") / dataset
    plan = Plan(table, seeds, out, options)
    for run in plan.runs:
        refuse_other_options(run)
    waiting = [run for run in plan.runs if not run.finished]
    print(f"{name}: {len(plan.runs)} runs, {len(plan.runs) - len(waiting)} of them finished -> {out}", flush=True)
    started, whole = time.monotonic(), sum(run.cost for run in waiting)
    count = 0
    with contextlib.closing(work_off(waiting, jobs)) as outcomes:
        for run, outcome in outcomes:
            if outcome.state == "failed":
                raise HoiError(outcome.message)
            if outcome.state == "stopped":
                print(f"{run.folder}: stopped; the same command goes on", flush=True)
                return None
            count += 1
            left = sum(other.cost for other in waiting)
            remaining = (time.monotonic() - started) * left / (whole - left) if whole > left else 0.0
            print(_progress_line(f"[{count}/{len(waiting)}]", run, outcome.seconds, remaining), flush=True)
            plan.write(figure=False)
    return plan.write()


def _progress_line(position: str, run: Run, seconds: float, remaining: float) -> str:
    result = run.results()[run.top_ks[-1]]
    shown = ", ".join(
        f"{m.replace('_', '-')} {100 * result[m]:.2f}" for m in ("full", "rare", "unseen") if result[m] is not None
    )
    left = f", about {_duration(remaining)} left" if remaining else ""
    return f"{position} {run.folder.name}: {shown} ({_duration(seconds)}{left})"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# --- which runs a table needs ----------------------------------------------------------------------


class Plan:
    """The runs of a table, and the files made of them.

    Args:
        table: what is reproduced.
        seeds: of the runs.
        out: folder of tables and runs.
        options: of every experiment, as on the command line.
    """

    def __init__(self, table: PaperTable, seeds: Sequence[int], out: Path, options: Sequence[str]) -> None:
        self.table, self.seeds, self.out, self.options = table, list(seeds), out, list(options)
        self.cells: dict[tuple[Cell, int], tuple[Path, int]] = {}  # (cell, seed) -> folder of its run, K
        runs: dict[Path, Run] = {}
        for seed in seeds:  # all lines with one seed come before any line with the next
            for cell in table.cells:
                experiment = cell_experiment(cell, seed, out, options, table.split)
                own = experiment.model.zero_shot_top_k or 0
                top_k = own if cell.top_k == "own" else cell.top_k
                run = runs.get(Path(experiment.out)) or Run(experiment, table.split, ())
                runs[run.folder] = replace(run, top_ks=tuple(dict.fromkeys((*run.top_ks, top_k))))
                self.cells[cell, seed] = run.folder, top_k
        self.runs = list(runs.values())

    def results(self) -> dict[Cell, list[dict[str, Any]]]:
        """Of each cell its finished runs, in the order of the seeds."""
        found = {run.folder: run.results() for run in self.runs}
        results: dict[Cell, list[dict[str, Any]]] = {}
        for (cell, seed), (folder, top_k) in self.cells.items():
            if top_k in found[folder]:
                result = {"seed": seed, "run": folder.name, "top_k": top_k, **found[folder][top_k]}
                results.setdefault(cell, []).append(result)
        return results

    def write(self, *, figure: bool = True) -> Path:
        """Markdown, JSON and, if wished, the figure, of what is finished; the Markdown's path."""
        table, results = self.table, self.results()
        groups: list[dict[str, Any]] = []
        markdown = render_markdown(table, results, self.seeds, self._notes())
        if table.name == "figure1" and figure:
            groups = verb_groups(table, results, self.runs[0].experiment)
            markdown += "\n" + render_groups(groups)
        path = self.out / f"{table.name}.md"
        write_text(path, markdown)
        content = {
            "table": table.name,
            "dataset": table.dataset,
            "split": table.split,
            "seeds": self.seeds,
            "options": self.options,
            "cells": [_cell_dict(cell, table.metrics, results.get(cell, [])) for cell in table.cells],
            "verb_groups": groups,
        }
        write_text(path.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        if figure:
            draw_table(table, results, path.with_suffix(".png"), groups)
        return path

    def _notes(self) -> str:
        verbs = self.runs[0].experiment.verbs
        said = f"Verb vectors: `{verbs.source}`"
        said += ", several methods." if self.table.name == "table6" else f", `{verbs.method}`."
        return f"{said} Options: `{' '.join(self.options)}`." if self.options else said


def _cell_dict(cell: Cell, metrics: Sequence[str], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    numbers = {}
    for metric in metrics:
        values = metric_values(results, metric)
        mean, deviation = mean_and_deviation(values)
        numbers[metric] = {
            "mean": None if math.isnan(mean) else mean,
            "std": deviation,
            "runs": values,
            "paper": dict(cell.paper).get(metric),
        }
    return {
        "method": cell.method,
        "row": cell.row,
        "config": cell.config,
        "options": dict(cell.options),
        "runs": [{"seed": r["seed"], "run": r["run"], "top_k": r["top_k"]} for r in results],
        "numbers": numbers,
    }


def cell_experiment(cell: Cell, seed: int, out: Path, options: Sequence[str], split: str) -> Experiment:
    """What to train for one line and one seed; equal weights have equal folders.

    Raises:
        HoiError: an unknown option or a value of the wrong type.
    """
    own = [f"--{option}={json.dumps(value)}" for option, value in cell.options]
    experiment = load_experiment(cell.config, ["--evaluation.every=0", "--train.keep_checkpoints=1", *options, *own])
    plain = load_experiment(cell.config)
    name = cell.config
    for option, value in cell.options:
        if value != _option(plain, option):
            name += f"-{option.rpartition('.')[2]}-{value}"
    if experiment.data.source == "playground":
        experiment.data.evaluation_split = experiment.data.evaluation_split or split
    elif split == "validation" and not experiment.data.hold_out:
        raise HoiError("a choice is judged on held-out training pictures: give --data.hold_out a share")
    experiment.seed, experiment.train.resume = seed, True
    experiment.name = f"{name}-seed{seed}"
    experiment.out = str(out / "runs" / experiment.name)
    return experiment


def _option(experiment: Experiment, name: str) -> Any:
    value: Any = experiment
    for part in name.split("."):
        value = getattr(value, part)
    return value


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
            options |= {f"{name}.{n}": v for n, v in value.items() if n not in NOT_DECIDING.get(name, ())}
        elif name not in NOT_DECIDING[""]:
            options[name] = value
    return options


# --- one run ---------------------------------------------------------------------------------------


def make_run(run: Run, *, patient: bool = False) -> Outcome:
    """Train what is not trained, judge what is not judged.

    Args:
        run: what to do.
        patient: wait where another process is at work on the same run, instead of leaving it to that.

    Raises:
        HoiError: as ``hoiclip train`` and ``hoiclip evaluate``.
    """
    from hoiclip.training import run_experiment

    started = time.monotonic()
    with _claimed(run.folder, patient) as mine:
        if not mine:
            return Outcome("busy")
        refuse_other_options(run)
        if not run.trained:
            run_experiment(run.experiment)
            if not (run.folder / "model.safetensors").is_file():
                return Outcome("stopped")
            record = {"seconds_since_last_start": round(time.monotonic() - started)}
            write_text(run.folder / TRAINED, json.dumps(record) + "\n")
        for checkpoint in run.folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        known = run.results()
        missing = [k for k in run.top_ks if k not in known]
        if missing:
            known |= judge_run(run, missing)
            content = {"judged_on": run.judged_on, "by_top_k": {str(k): known[k] for k in sorted(known)}}
            write_text(run.folder / f"{run.split}.json", json.dumps(content, ensure_ascii=False) + "\n")
    return Outcome("done", time.monotonic() - started)


def judge_run(run: Run, top_ks: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Evaluate the final weights of a trained run, by the protocol of the paper's authors."""
    from hoiclip.detector import load
    from hoiclip.evaluating import evaluate_model, sweep_top_k

    experiment = replace(run.experiment, evaluation=replace(run.experiment.evaluation, protocol="hoiclip"))
    detector = load(run.folder, device="cpu" if experiment.train.cpu else None)
    if set(top_ks) != {0}:
        swept = sweep_top_k(experiment, detector, top_ks)
        return {k: result_dict(result) for k, result in zip(top_ks, swept.values(), strict=True)}
    plain = replace(experiment, model=replace(experiment.model, zero_shot_top_k=None))
    return {0: result_dict(evaluate_model(plain, detector, progress=experiment.train.progress)["hoiclip"])}


@contextlib.contextmanager
def _claimed(folder: Path, patient: bool) -> Iterator[bool]:
    """Hold a run for this process; the system lets go of it when the process ends, however it ends."""
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


# --- many runs -------------------------------------------------------------------------------------


def work_off(runs: Sequence[Run], jobs: int) -> Generator[tuple[Run, Outcome], None, None]:
    """Make all runs, ``jobs`` at once; those that another command is busy with come last."""
    make = _one_by_one if jobs == 1 else partial(_side_by_side, jobs=jobs)
    busy: list[Run] = []
    for patient in (False, True):
        with contextlib.closing(make(busy if patient else runs, patient)) as made:
            for run, outcome in made:
                if outcome.state == "busy":
                    busy.append(run)
                else:
                    yield run, outcome


def _one_by_one(runs: Sequence[Run], patient: bool) -> Generator[tuple[Run, Outcome], None, None]:
    for run in runs:
        yield run, make_run(run, patient=patient)


def _side_by_side(runs: Sequence[Run], patient: bool, jobs: int) -> Generator[tuple[Run, Outcome], None, None]:
    context = multiprocessing.get_context("spawn")
    queue = list(runs)
    slots = list(range(jobs))
    working: dict[Connection, tuple[Run, int, Any]] = {}
    try:
        while queue or working:
            while queue and slots:
                run, slot = queue.pop(0), slots.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(run, patient, sender, os.getpid()), name=run.folder.name)
                with _environment(_share(slot, jobs)):
                    process.start()
                sender.close()
                working[receiver] = run, slot, process
            ready = wait(list(working))
            for receiver in [r for r in working if r in ready]:
                run, slot, process = working.pop(receiver)
                try:
                    outcome = receiver.recv()
                except EOFError:
                    process.join()
                    outcome = Outcome("failed", message=_death(run, process.exitcode))
                process.join()
                slots.append(slot)
                yield run, outcome
    finally:  # nobody waits for them any more: SIGTERM lets them save a checkpoint
        for _, _, process in working.values():
            process.terminate()
        for _, _, process in working.values():
            process.join()


def _death(run: Run, code: int | None) -> str:
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return f"{run.folder}: its process ended with {how}; the same command goes on, with fewer --jobs if memory ran out"


def _work(run: Run, patient: bool, sender: Connection, parent: int) -> None:
    """What a process of its own does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked, and ends its children
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    run.experiment.train.progress = False
    try:
        outcome = make_run(run, patient=patient)
    except HoiError as error:
        outcome = Outcome("failed", message=str(error))
    with contextlib.suppress(BrokenPipeError):
        sender.send(outcome)


def _end_with(parent: int) -> None:
    """Ask this process to end, checkpoint saved, when its parent is no more."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _share(slot: int, jobs: int) -> dict[str, str]:
    """Environment of one of several processes: its cores, its GPU."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    gpus = torch.cuda.device_count()
    if gpus > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(gpus)]
        share["CUDA_VISIBLE_DEVICES"] = names[slot % gpus]
    return share


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


# --- Figure 1 (b) ----------------------------------------------------------------------------------


def verb_groups(
    table: PaperTable, results: Mapping[Cell, Sequence[Mapping[str, Any]]], experiment: Experiment
) -> list[dict[str, Any]]:
    """Verbs grouped by how often the whole training set shows them.

    Args:
        table: Figure 1; its cells with all training data are used.
        results: runs of each cell, with the AP of every class.
        experiment: whose training set is counted.

    Returns:
        For each of five equally large groups, rarest first: ``instances`` [least, most], ``verbs``, and
        for each method ``mean`` and ``variance`` (among verbs) of the AP, a verb's AP being the mean of
        its interactions, and that the mean of the runs.
    """
    from hoiclip.training import open_run_data

    data = open_run_data(replace(experiment, data=replace(experiment.data, fraction=1.0)))
    counts = verb_instances(data.train, data.vocabulary)
    verb_of = data.vocabulary.verb_ids
    scores: dict[str, np.ndarray] = {}
    for cell in table.cells:
        runs = results.get(cell, ())
        if cell.row == "100 %" and runs:
            aps = np.array([[np.nan if c["ap"] is None else c["ap"] for c in run["classes"]] for run in runs])
            per_class = aps.mean(axis=0)
            judged = ~np.isnan(per_class)
            sums = np.bincount(verb_of[judged], per_class[judged], len(counts))
            with np.errstate(invalid="ignore"):
                scores[cell.method] = sums / np.bincount(verb_of[judged], minlength=len(counts))
    order = np.argsort(counts, kind="stable")
    groups = []
    for members in np.array_split(order, min(GROUPS, len(order))):
        group: dict[str, Any] = {
            "instances": [int(counts[members].min()), int(counts[members].max())],
            "verbs": [data.vocabulary.verbs[v] for v in members],
        }
        for method, score in scores.items():
            of_group = score[members][~np.isnan(score[members])]
            if len(of_group):
                group[method] = {"mean": float(of_group.mean()), "variance": float(of_group.var())}
        groups.append(group)
    return groups


def verb_instances(samples: Any, vocabulary: HoiVocabulary) -> np.ndarray:
    """(V,) annotated pairs of each verb, without opening a picture where that can be avoided."""
    if hasattr(samples, "annotations"):
        annotations = samples.annotations
    elif hasattr(samples, "annotation"):
        annotations = (samples.annotation(i) for i in range(len(samples)))
    else:
        annotations = (annotation for _, annotation in samples)
    counts = np.zeros(len(vocabulary.verbs), dtype=np.int64)
    for annotation in annotations:
        counts += np.bincount(vocabulary.verb_ids[annotation.hoi_ids], minlength=len(counts))
    return counts


def render_groups(groups: Sequence[Mapping[str, Any]]) -> str:
    """Figure 1 (b) as a Markdown table: mean AP ± standard deviation among the verbs, percent."""
    methods = [m for m in ("HOICLIP", "GEN-VLKT") if any(m in group for group in groups)]
    lines = [
        "Verbs by number of training instances: mean AP of the group ± standard deviation among its verbs, "
        "trained on all data.",
        "",
        f"| {' | '.join(['instances', 'verbs', *methods])} |",
        "|---|---|" + "---:|" * len(methods),
    ]
    for group in groups:
        low, high = group["instances"]
        verbs = group["verbs"]
        names = ", ".join(verbs) if len(verbs) <= 6 else f"{len(verbs)} verbs"
        shown = [f"{low}\N{EN DASH}{high}", names]
        for method in methods:
            value = group.get(method)
            shown.append(f"{100 * value['mean']:.2f} ± {100 * math.sqrt(value['variance']):.2f}" if value else "")
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"
