"""The paper's tables as images: ours solid with error bars, the paper's dashed.

On HICO-DET both stand in one panel; the playground's numbers live on another scale, so there the
paper gets panels of its own below ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hoiclip.files import atomic_path
from hoiclip.reproduction.tables import CONTROL, METRICS, Cell, PaperTable, mean_and_deviation, metric_values

BLUE, LIGHT_BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#86b3e0", "#d9702b", "#3a8f5c", "#8a8f98"
COLOURS = {
    "HOICLIP": BLUE, "HOICLIP†": LIGHT_BLUE, "GEN-VLKT": ORANGE, CONTROL: GREY,
    "Full": BLUE, "Rare": ORANGE, "Non-rare": GREEN,
}  # fmt: skip
FORMS = {"table2": "bars", "table6": "dots"}
TITLE_LENGTH = 40  # letters above a panel
SHORT = {
    "“A photo of person doing”": "sentence",
    "Average of HOI representation": "average",
    "Visual semantic arithmetic": "arithmetic",
}
MARKERS = {"HOICLIP": "o", "GEN-VLKT": "s", "Full": "o", "Rare": "s", "Non-rare": "D"}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555b66",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "legend.frameon": False,
}


@dataclass
class Curve:
    """Numbers in percent over the panel's positions; NaN where there is none."""

    label: str
    colour: str
    values: list[float]
    deviations: list[float]
    dashed: bool = False


@dataclass
class Panel:
    """One set of axes.

    Attributes:
        title: above it.
        x_title: below it.
        ticks: what stands at positions 0, 1, ...
        form: ``line``, ``dots`` or ``bars``.
        curves: what is drawn.
    """

    title: str
    x_title: str
    ticks: list[str]
    form: str = "line"
    curves: list[Curve] = field(default_factory=list)


def draw_table(
    table: PaperTable,
    results: Mapping[Cell, Sequence[Mapping[str, Any]]],
    path: str | Path,
    groups: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a table's figure as PNG.

    Args:
        table: which lines.
        results: metrics (fractions) of the runs of each cell.
        path: the file.
        groups: of Figure 1 (b), as :func:`hoiclip.reproduction.figure1.verb_groups` makes them.

    Raises:
        HoiError: if the file cannot be written.
    """
    import matplotlib as mpl

    rows = panels_of(table, results)
    with mpl.rc_context(STYLE):
        columns = max(map(len, rows)) + (1 if table.name == "figure1" else 0)
        figure = Figure(
            figsize=(max(4.3 * columns, 6.6), 3.5 * len(rows) + 0.9),
            layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1),
        )
        grid = figure.add_gridspec(len(rows), columns)
        for r, panels in enumerate(rows):
            for c, panel in enumerate(panels):
                draw_panel(figure.add_subplot(grid[r, c]), panel, first=c == 0)
        if table.name == "figure1":
            draw_groups(figure.add_subplot(grid[:, columns - 1]), groups)
        figure.suptitle(table.title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        _legend(figure, [panel for panels in rows for panel in panels])
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})


def panels_of(table: PaperTable, results: Mapping[Cell, Sequence[Mapping[str, Any]]]) -> list[list[Panel]]:
    """Arrange the curves of a table in rows of panels."""
    together = table.dataset == "hicodet"
    ours: list[Panel] = []
    paper: list[Panel] = []
    for subject, series in _subjects(table):
        methods = {method for _, method, _ in series}
        rows = list(dict.fromkeys(cell.row for cell in table.cells if cell.method in methods))
        rows = rows[::-1] if table.row_title == "share" else rows  # from little to much, as the paper draws it
        x_title = {"share": "share of the training data", "value": series[0][1]}.get(table.row_title, "")
        for kind, panels in (("ours, playground", ours), ("paper, HICO-DET", paper)):
            break_line = len(subject) + len(kind) > TITLE_LENGTH  # a longer one would be cut off at the edge
            title = subject if together else (":\n" if break_line else ": ").join(p for p in (subject, kind) if p)
            panel = Panel(title, x_title, [SHORT.get(row, row) for row in rows], FORMS.get(table.name, "line"))
            for label, method, metric in series:
                if panels is ours or any(dict(c.paper) for c in table.cells if c.method == method):
                    panel.curves.append(_curve(table, results, label, method, metric, rows, kind.startswith("paper")))
            panels.append(panel)
    if together:
        for mine, theirs in zip(ours, paper, strict=True):
            mine.curves += theirs.curves
        return [ours]
    return [ours, paper] if len(ours) > 1 else [ours + paper]


def _subjects(table: PaperTable) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Panels and their curves: (label, method, metric)."""
    if table.name == "figure1":
        return [("(a) Full", [(method, method, "full") for method in table.methods])]
    if table.name in ("table1", "table2"):  # methods are compared, a panel for each metric
        printed = {metric for cell in table.cells for metric, _ in cell.paper}
        metrics = [metric for metric in table.metrics if metric in printed]
        return [(METRICS[m], [(method, method, m) for method in table.methods]) for m in metrics]
    return [
        (f"choice of {method}" if method else "", [(METRICS[m], method, m) for m in table.metrics])
        for method in table.methods
    ]


def _curve(
    table: PaperTable, results: Any, label: str, method: str, metric: str, rows: Sequence[str], paper: bool
) -> Curve:
    curve = Curve(label, COLOURS[label], [], [], dashed=paper)
    cells = {cell.row: cell for cell in table.cells if cell.method == method}
    for row in rows:
        mean, deviation = np.nan, None
        if row in cells and paper:
            mean = dict(cells[row].paper).get(metric, np.nan) / 100
        elif row in cells:
            mean, deviation = mean_and_deviation(metric_values(results.get(cells[row], ()), metric))
        curve.values.append(100 * mean)
        curve.deviations.append(100 * (deviation or 0.0))
    return curve


# --- drawing ---------------------------------------------------------------------------------------


def draw_panel(axes: Axes, panel: Panel, *, first: bool = True) -> None:
    """One panel; the leftmost of a row names the unit."""
    positions = np.arange(len(panel.ticks), dtype=float)
    labels = list(dict.fromkeys(curve.label for curve in panel.curves))
    alone = not any(not curve.dashed for curve in panel.curves)  # the paper's own panel
    width = 0.8 / max(len(labels), 1)
    for curve in panel.curves:
        beside = positions + (labels.index(curve.label) - (len(labels) - 1) / 2) * width
        if panel.form == "bars":
            _draw_bars(axes, curve, beside, 0.88 * width, alone)
        else:
            dots = panel.form == "dots"
            at = (
                positions + (beside - positions) / 3 + (0.04 if curve.dashed and not alone else 0)
                if dots
                else positions
            )
            _draw_line(axes, curve, at, joined=not dots)
    axes.margins(x=0.08 if panel.form == "line" else 0.05, y=0.12)
    if panel.form == "bars":
        axes.set_ylim(bottom=0)
    elif panel.form == "dots":
        axes.set_xlim(-0.5, len(positions) - 0.5)
    axes.set_title(panel.title)
    axes.set_xticks(positions, panel.ticks)
    axes.set_xlabel(panel.x_title)
    if first:
        axes.set_ylabel("mAP (%)")


def _draw_line(axes: Axes, curve: Curve, at: np.ndarray, *, joined: bool) -> None:
    line = "--" if curve.dashed else "-"
    look: dict[str, Any] = {"mfc": "white"} if curve.dashed else {}
    if any(curve.deviations):
        look |= {"yerr": curve.deviations, "capsize": 3.5}
    axes.errorbar(
        at, curve.values, color=curve.colour, marker=MARKERS.get(curve.label, "o"), ms=5.5, lw=1.8,
        elinewidth=1.3, ls=line if joined else "none", **look,
    )  # fmt: skip


def _draw_bars(axes: Axes, curve: Curve, at: np.ndarray, width: float, alone: bool) -> None:
    if curve.dashed and not alone:  # the paper's height, as a mark on ours
        axes.hlines(curve.values, at - width / 2, at + width / 2, color="#111111", ls=(0, (2, 1)), lw=1.8, zorder=3)
        return
    look: dict[str, Any] = {"color": curve.colour}
    if curve.dashed:
        look = {"color": to_rgba(curve.colour, 0.35), "edgecolor": curve.colour, "ls": "--", "lw": 1.1}
    if any(curve.deviations):
        look |= {"yerr": curve.deviations, "capsize": 3, "error_kw": {"lw": 1.2}}
    axes.bar(at, curve.values, width, **look)


def draw_groups(axes: Axes, groups: Sequence[Mapping[str, Any]]) -> None:
    """Figure 1 (b): mean AP of the verbs of a group, the standard deviation among them as a line."""
    labels = []
    methods = [m for m in ("HOICLIP", "GEN-VLKT") if any(m in group for group in groups)]
    for i, group in enumerate(groups):
        low, high = group["instances"]
        labels.append(f"{_thousands(low)}\N{EN DASH}{_thousands(high)}" if high > low else _thousands(low))
        for j, method in enumerate(methods):
            if method in group:
                x = i + 0.16 * (j - (len(methods) - 1) / 2)
                mean, deviation = 100 * group[method]["mean"], 100 * math.sqrt(group[method]["variance"])
                axes.vlines(x, mean - deviation, mean + deviation, color=COLOURS[method], lw=2.2)
                axes.plot(x, mean, MARKERS[method], color=COLOURS[method], ms=6.5)
    axes.set_xticks(range(len(labels)), labels, fontsize=8.5)
    axes.margins(x=0.1, y=0.12)
    axes.set_title("(b) verbs by frequency, ± std. dev.: ours")
    axes.set_xlabel("training instances of the verb")


def _thousands(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.1f}k"


def _legend(figure: Figure, panels: Sequence[Panel]) -> None:
    """One legend for all panels, below them; the paper's style is explained once, where it is not in a title."""
    curves = {curve.label: curve for panel in panels for curve in panel.curves}
    handles: list[Any] = []
    for label, curve in curves.items():
        if panels[0].form == "bars":
            handles.append(Patch(color=curve.colour, label=label))
        else:
            marker = MARKERS.get(label, "o")
            line = "none" if panels[0].form == "dots" else "-"
            handles.append(Line2D([], [], color=curve.colour, marker=marker, ls=line, label=label))
    if any(len({curve.dashed for curve in panel.curves}) == 2 for panel in panels):
        hollow: dict[str, Any] = {"marker": "o", "mfc": "white"} if panels[0].form != "bars" else {}
        line = "none" if panels[0].form == "dots" else "--"
        handles.append(Line2D([], [], color="#111111", ls=line, label="paper", **hollow))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
