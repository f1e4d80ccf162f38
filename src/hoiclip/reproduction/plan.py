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
import copy
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.errors import HoiError
from hoiclip.experiments.loading import load_experiment
from hoiclip.experiments.options import Experiment
from hoiclip.files import write_text_atomic
from hoiclip.reproduction.figure1 import render_groups, verb_groups
from hoiclip.reproduction.figures import draw_table
from hoiclip.reproduction.run_queue import run_all
from hoiclip.reproduction.runs import Run, rare_in_training, refuse_other_options, training_instances
from hoiclip.reproduction.tables import (
    Cell,
    PaperTable,
    mean_and_deviation,
    metric_values,
    option_text,
    paper_table,
    render_markdown,
)


def reproduce(
    name: str,
    *,
    dataset: str = "playground",
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path | None = None,
    options: Sequence[str] = (),
    jobs: int = 1,
) -> Path | None:
    """Train and evaluate all that a table of the paper needs, and write it.

    Args:
        name: ``table1``, ``table2``, ``table5``, ``table6``, ``table7`` or ``figure1``.
        dataset: ``playground`` or ``hicodet``.
        seeds: of fresh weights and the order of the images; which images there are stays the same.
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
    with contextlib.closing(run_all(waiting, jobs)) as outcomes:
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
    left = f", about {_duration(remaining)} left" if remaining >= 1 else ""
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
        self._instances: dict[str, np.ndarray | None] = {}
        runs: dict[Path, Run] = {}
        unseeded = {cell: cell_experiment(cell, options, table.split) for cell in table.cells}
        for seed in seeds:  # all lines with one seed come before any line with the next
            for cell in table.cells:
                experiment = copy.deepcopy(unseeded[cell])
                experiment.seed, experiment.name = seed, f"{experiment.name}-seed{seed}"
                experiment.out = str(out / "runs" / experiment.name)
                own = experiment.model.zero_shot_top_k or 0
                top_k = own if cell.top_k == "own" else cell.top_k
                run = runs.get(Path(experiment.out)) or Run(experiment, table.split, ())
                runs[run.folder] = replace(run, top_ks=tuple(dict.fromkeys((*run.top_ks, top_k))))
                self.cells[cell, seed] = run.folder, top_k
        self.runs = list(runs.values())

    def results(self) -> dict[Cell, list[dict[str, Any]]]:
        """Of each cell its finished runs, in the order of the seeds."""
        found = {run.folder: run.results() for run in self.runs}
        by_folder = {run.folder: run for run in self.runs}
        results: dict[Cell, list[dict[str, Any]]] = {}
        for (cell, seed), (folder, top_k) in self.cells.items():
            if top_k in found[folder]:
                result = {"seed": seed, "run": folder.name, "top_k": top_k, **found[folder][top_k]}
                if "rare_in_training" in self.table.metrics:
                    result |= rare_in_training(result, self._training_instances(by_folder[folder]))
                results.setdefault(cell, []).append(result)
        return results

    def _training_instances(self, run: Run) -> np.ndarray | None:
        """Counted once for all runs that learn from the same images."""
        key = f"{run.experiment.vocabulary} {run.experiment.data}"
        if key not in self._instances:
            self._instances[key] = training_instances(run)
        return self._instances[key]

    def write(self, *, figure: bool = True) -> Path:
        """Markdown, JSON and, if wished, the figure, of what is finished; the Markdown's path."""
        table, results = self.table, self.results()
        groups: list[dict[str, Any]] = []
        markdown = render_markdown(table, results, self.seeds, self._notes())
        if table.name == "figure1" and figure:
            groups = verb_groups(table, results, self.runs[0].experiment)
            markdown += "\n" + render_groups(groups)
        path = self.out / f"{table.name}.md"
        write_text_atomic(path, markdown)
        content = {
            "table": table.name,
            "dataset": table.dataset,
            "split": table.split,
            "seeds": self.seeds,
            "options": self.options,
            "cells": [_cell_dict(cell, table.metrics, results.get(cell, [])) for cell in table.cells],
            "verb_groups": groups,
        }
        write_text_atomic(path.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        if figure:
            draw_table(table, results, path.with_suffix(".png"), groups)
        return path

    def _notes(self) -> str:
        verbs = self.runs[0].experiment.verbs
        note = f"Verb vectors: `{verbs.source}`"
        note += ", several methods." if self.table.name == "table6" else f", `{verbs.method}`."
        if self.table.name == "table1":
            note += (
                " Rare (< 10 in the training data) is the mean over the classes with fewer than 10 instances in what "
                "the run learned from, other classes for each share; it is the paper's Rare. Rare (fixed) is the mean "
                "over one list for every share, which the paper's Table 1 does not have."
            )
        return f"{note} Options: `{' '.join(self.options)}`." if self.options else note


RUN_FIELDS = ("seed", "run", "top_k", "rare_classes_in_training")


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
        "runs": [{name: r[name] for name in RUN_FIELDS if name in r} for r in results],
        "numbers": numbers,
    }


def cell_experiment(cell: Cell, options: Sequence[str] = (), split: str = "test") -> Experiment:
    """The experiment of one line; equal weights have equal names.

    Raises:
        HoiError: an unknown option or a value of the wrong type.
    """
    own = [f"--{option}={option_text(value)}" for option, value in cell.options]
    experiment = load_experiment(cell.config, ["--evaluation.every=0", "--train.keep_checkpoints=1", *options, *own])
    plain = _shipped(cell.config)
    name = cell.config
    for option, value in cell.options:
        if value != _option(plain, option):
            name += f"-{option.rpartition('.')[2]}-{value}"
    if experiment.data.source == "playground":
        experiment.data.evaluation_split = experiment.data.evaluation_split or split
    elif split == "validation" and not experiment.data.hold_out:
        raise HoiError("a choice is evaluated on held-out training images: give --data.hold_out a share")
    experiment.train.resume, experiment.name = True, name
    return experiment


_shipped = cache(load_experiment)


def _option(experiment: Experiment, name: str) -> Any:
    value: Any = experiment
    for part in name.split("."):
        value = getattr(value, part)
    return value
