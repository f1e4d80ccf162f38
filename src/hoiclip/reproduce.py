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
from hoiclip.experiments import Experiment, load_experiment
from hoiclip.files import write_text
from hoiclip.paper_figures import draw_table
from hoiclip.paper_tables import Cell, PaperTable, mean_and_deviation, metric_values, paper_table, render_markdown
from hoiclip.runs import Run, refuse_other_options, work_off
from hoiclip.vocabulary import HoiVocabulary

GROUPS = 5  # of verbs, in Figure 1 (b)


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


def cell_experiment(cell: Cell, options: Sequence[str] = (), split: str = "test") -> Experiment:
    """What to train for one line; equal weights have equal names.

    Raises:
        HoiError: an unknown option or a value of the wrong type.
    """
    own = [f"--{option}={json.dumps(value)}" for option, value in cell.options]
    experiment = load_experiment(cell.config, ["--evaluation.every=0", "--train.keep_checkpoints=1", *options, *own])
    plain = _shipped(cell.config)
    name = cell.config
    for option, value in cell.options:
        if value != _option(plain, option):
            name += f"-{option.rpartition('.')[2]}-{value}"
    if experiment.data.source == "playground":
        experiment.data.evaluation_split = experiment.data.evaluation_split or split
    elif split == "validation" and not experiment.data.hold_out:
        raise HoiError("a choice is judged on held-out training pictures: give --data.hold_out a share")
    experiment.train.resume, experiment.name = True, name
    return experiment


_shipped = cache(load_experiment)


def _option(experiment: Experiment, name: str) -> Any:
    value: Any = experiment
    for part in name.split("."):
        value = getattr(value, part)
    return value


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
