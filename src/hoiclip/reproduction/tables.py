"""The paper's tables as data: which weights and which evaluation make each line, and what the paper prints.

table = paper_table("table5", "playground")
print(render_markdown(table, {cell: [{"full": 0.61, "rare": 0.48, "non_rare": 0.64}, ...]}, seeds=[0, 1, 2]))

A line is a :class:`Cell`: an experiment of ``configs/``, the few options that make it this line, and
the K of the training-free enhancement.  Lines that differ in K alone share their weights.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from hoiclip.errors import HoiError
from hoiclip.files import ASSETS
from hoiclip.vocabulary import HoiVocabulary

TABLES = ("table1", "table2", "table5", "table6", "table7", "figure1")
DATASETS = ("playground", "hicodet")
METRICS = {
    "full": "Full", "rare": "Rare", "non_rare": "Non-rare", "unseen": "Unseen", "seen": "Seen",
    "rare_in_training": "Rare (< 10 in the training data)",
}  # fmt: skip
CONTROL = "learned classifier"  # ours, not the paper's: reads no sentences, so it cannot know unseen classes
PAPER_FILE = ASSETS / "paper_tables.json"
VALIDATION_SHARE = 0.1  # of HICO-DET's training images; the playground draws validation scenes of its own


@dataclass(frozen=True)
class Cell:
    """One line of a table.

    Attributes:
        method: whose line it is (``HOICLIP``, ``GEN-VLKT``, ...), empty where a table has one only.
        row: what the line is called within the table.
        config: the experiment it builds on.
        options: (option, value) on top of it.
        top_k: K of the training-free enhancement; 0 for none, ``"own"`` for the experiment's.
        paper: the paper's numbers by metric, in percent; empty where it has none.
    """

    method: str
    row: str
    config: str
    options: tuple[tuple[str, Any], ...] = ()
    top_k: int | Literal["own"] = "own"
    paper: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """Method and row in a few words."""
        return " ".join(part for part in (self.method, self.row) if part)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper on one dataset.

    Attributes:
        name: ``table1`` ... ``figure1``.
        title: what is compared.
        dataset: ``playground`` or ``hicodet``.
        row_title: heading of the rows' names.
        metrics: names in the order of the columns.
        split: ``test``, or ``validation`` where a hyperparameter is chosen.
        cells: the lines.
    """

    name: str
    title: str
    dataset: str
    row_title: str
    metrics: tuple[str, ...]
    split: Literal["test", "validation"]
    cells: tuple[Cell, ...]

    @property
    def methods(self) -> list[str]:
        """Distinct methods in order."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def rows(self) -> list[str]:
        """Distinct rows in order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))


def paper_table(name: str, dataset: str = "playground") -> PaperTable:
    """One of the paper's tables.

    Raises:
        HoiError: if the name or the dataset is unknown.
    """
    if name not in TABLES:
        raise HoiError(f"unknown table {name!r}: choose one of {', '.join(TABLES)}")
    if dataset not in DATASETS:
        raise HoiError(f"unknown dataset {dataset!r}: choose one of {', '.join(DATASETS)}")
    printed = _paper()["table1" if name == "figure1" else name]
    cells = []
    for method, row, *numbers in printed["numbers"]:
        metrics = tuple(zip(printed["columns"][2:], numbers, strict=True))
        cells.append(_cell(name, dataset, method, row, metrics))
    if name == "table2" and dataset == "playground":
        cells += [_control(dataset, row) for row in ("RF-UC", "UV")]
        settings = list(dict.fromkeys(cell.row for cell in cells))
        cells.sort(key=lambda cell: settings.index(cell.row))
    also = ("rare",) if name == "table1" else ()  # the paper's Rare there is another quantity
    return PaperTable(
        name=name,
        title="Figure 1, data efficiency and verbs by frequency" if name == "figure1" else printed["title"],
        dataset=dataset,
        row_title=printed["columns"][1],
        metrics=("full",) if name == "figure1" else (*printed["columns"][2:], *also),
        split="validation" if name == "table7" else "test",
        cells=tuple(cells),
    )


@cache
def _paper() -> dict[str, Any]:
    return json.loads(PAPER_FILE.read_text(encoding="utf-8"))


def _cell(table: str, dataset: str, method: str, row: str, paper: tuple[tuple[str, float], ...]) -> Cell:
    baseline = "gen_vlkt" if dataset == "hicodet" else f"{dataset}_gen_vlkt"
    config, options, top_k = dataset, [], "own"  # type: str, list[tuple[str, Any]], Any
    if method == "GEN-VLKT":
        config, top_k = baseline, 0
    if table in ("table1", "figure1"):
        options = [("data.fraction", float(row.removesuffix(" %")) / 100)]
    elif table == "table2":
        options = [("vocabulary", _split_name(dataset, row))]
        top_k = 0 if method != "HOICLIP" else "own"
    elif table == "table5":
        part = row.removeprefix("+").lower()
        config = dataset if part in ("verb", "free") else f"{dataset}_{part}"
        top_k = "own" if part == "free" else 0
    elif table == "table6":
        verbs = {"“A": "sentence", "Average": "average", "Visual": "arithmetic"}
        options, top_k = [("verbs.method", verbs[row.split()[0]])], 0
    elif table == "table7":
        if dataset == "hicodet":
            options = [("data.hold_out", VALIDATION_SHARE)]
        if method == "α":
            options, top_k = [*options, ("model.verb_weight", float(row))], 0
        else:
            top_k = int(row)
    return Cell(method, row, config, tuple(options), top_k, paper)


def _control(dataset: str, row: str) -> Cell:
    """The control: the whole model without text classifier and verb vectors."""
    options = (
        ("vocabulary", _split_name(dataset, row)),
        ("model.interaction_classifier", "learned"),
        ("model.verb_classifier", False),
    )
    return Cell(CONTROL, row, dataset, options, 0)


def _split_name(dataset: str, row: str) -> str:
    return f"{'hico' if dataset == 'hicodet' else dataset}_{row.lower().replace('-', '_')}"


def option_text(value: Any) -> str:
    """A value as it is typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def cell_command(cell: Cell, options: Sequence[str] = ()) -> str:
    """The command that trains one line, and with which K of the enhancement it is evaluated."""
    own = [f"--{name} {option_text(value)}" for name, value in cell.options]
    command = " ".join(["hoiclip train", cell.config, *options, *own])
    return command if cell.top_k == "own" else f"{command}    # evaluated with K = {cell.top_k}"


# --- Markdown --------------------------------------------------------------------------------------


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; no deviation of a single value, NaN of none."""
    if not values:
        return math.nan, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def render_number(values: Sequence[float]) -> str:
    """Fractions as ``61.20 ± 0.41`` percent, empty where there are none."""
    mean, deviation = mean_and_deviation(values)
    if math.isnan(mean):
        return ""
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def metric_values(runs: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """One metric of all runs that have it, fractions."""
    return [run[metric] for run in runs if run.get(metric) is not None]


def metric_heading(metric: str, dataset: str) -> str:
    """What a column is called; of Rare there are two, so each says what it means."""
    if metric not in ("rare", "non_rare"):
        return METRICS[metric]
    vocabulary = HoiVocabulary.from_name("hico" if dataset == "hicodet" else dataset)
    rare = len(vocabulary.rare)
    return f"{METRICS[metric]} (fixed {rare if metric == 'rare' else vocabulary.num_interactions - rare})"


def render_markdown(
    table: PaperTable, results: Mapping[Cell, Sequence[Mapping[str, Any]]], seeds: Sequence[int], notes: str = ""
) -> str:
    """Ours, mean ± standard deviation, with the paper's number beside each.

    Args:
        table: which lines.
        results: metrics (fractions) of each run of a cell; cells without any stay empty.
        seeds: what was asked for; a cell that has fewer runs says so.
        notes: a sentence about how the runs were made.
    """
    where = "HICO-DET" if table.dataset == "hicodet" else "the playground"
    spread = ", mean ± sample standard deviation" if len(seeds) > 1 else ""
    choices = table.name == "table7"
    several = any(table.methods) and not choices
    heads = [table.row_title, *(["method"] if several else [])]
    printed = {metric for cell in table.cells for metric, _ in cell.paper}
    numbers = 0
    for metric in table.metrics:
        columns = [metric_heading(metric, table.dataset), *(["paper"] if metric in printed else [])]
        heads, numbers = [*heads, *columns], numbers + len(columns)
    lines = [
        f"### {table.title}",
        "",
        f"mAP in percent on the {table.split} split of {where}, seeds {', '.join(map(str, seeds))}{spread}; "
        "the column beside each number is the paper's, on HICO-DET." + (f" {notes}" if notes else ""),
        "",
        f"| {' | '.join(heads)} |",
        "|" + "---|" * (len(heads) - numbers) + "---:|" * numbers,
    ]
    for cell in table.cells:
        runs, paper = results.get(cell, ()), dict(cell.paper)
        row = f"{cell.method} = {cell.row}" if choices else cell.row
        row += "" if len(runs) in (0, len(seeds)) else f" ({len(runs)} of {len(seeds)} runs)"
        shown = [row, *([cell.method] if several else [])]
        for metric in table.metrics:
            shown.append(render_number(metric_values(runs, metric)))
            if metric in printed:
                shown.append(f"{paper[metric]:.2f}" if metric in paper else "")
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"
