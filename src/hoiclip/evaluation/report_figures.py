"""The figures of a report as PNG and their numbers as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hoiclip.evaluation.breakdowns import RECALLS, Part, Reliability
from hoiclip.files import atomic_path, write_text_atomic

BLUE, ORANGE, GREY = "#1f5fa8", "#d9702b", "#8a8f98"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "figure.facecolor": "white",  # also where the page around is dark
    "legend.frameon": False,
}
RESOLUTION = 130  # dots per inch


def draw_gains(path: Path, gains: Mapping[str, float]) -> None:
    """Bars of what fixing each kind of error brings in mAP points, the most at the top."""
    names = sorted(gains, key=lambda name: gains[name])
    points = [100 * gains[name] for name in names]

    def draw(axes: Axes) -> None:
        bars = axes.barh(names, points, color=BLUE)
        axes.bar_label(bars, [f"+{p:.2f}" for p in points], padding=3)
        axes.set_xlabel("mAP points gained if this kind of error were fixed")
        axes.set_xlim(0, max(1.15 * max(points), 0.1))
        axes.grid(axis="y", visible=False)

    _save(path, draw, (7.2, 3.6))


def draw_precision_recall(path: Path, precision: np.ndarray) -> None:
    """The mean curve of all classes; ``precision`` is (101,)."""

    def draw(axes: Axes) -> None:
        axes.plot(RECALLS, precision, color=BLUE, linewidth=2)
        axes.fill_between(RECALLS, precision, color=BLUE, alpha=0.12, linewidth=0)
        axes.set(xlabel="recall", ylabel="precision, mean over classes", xlim=(0, 1), ylim=(0, 1))

    _save(path, draw)


def draw_reliability(path: Path, result: Reliability) -> None:
    """Share of correct detections over their mean score, with how many there are beneath."""
    bins = [b for b in result.bins if b.detections]

    def draw(axes: Axes) -> None:
        most = result.bins[-1].most
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="score = share of correct ones")
        axes.plot([b.mean_score for b in bins], [b.precision for b in bins], color=BLUE, marker="o", label="detections")
        for b in bins:
            place, above = (b.mean_score, b.precision), (0, 7)
            axes.annotate(_short(b.detections), place, above, textcoords="offset points", fontsize=7, ha="center")
        what = "interaction probability" if result.interaction else "score"
        axes.set(xlabel=f"{what}, mean of bin", ylabel="share of correct detections", xlim=(0, most), ylim=(0, 1.05))
        axes.legend(loc="upper left")

    _save(path, draw)


def _short(number: int) -> str:
    """A count of few letters, as 217k."""
    return f"{number:,}" if number < 10_000 else f"{number / 1000:,.0f}k"


def draw_parts(path: Path, groups: Mapping[str, Sequence[Part]]) -> None:
    """One panel for each group of parts: mean AP of each part."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * max(len(groups), 1), 3.2), layout="constrained")
        panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for axes, (title, parts) in zip(panels, groups.items(), strict=True):
            heights = [0.0 if math.isnan(part.mean_ap) else 100 * part.mean_ap for part in parts]
            bars = axes.bar([part.name.replace(" and ", "\nand ") for part in parts], heights, color=BLUE)
            axes.bar_label(bars, [f"{h:.1f}" for h in heights], padding=2)
            axes.set_title(title, fontsize=10)
            axes.margins(y=0.1)  # room for the numbers above
            axes.grid(axis="x", visible=False)
            axes.tick_params(axis="x", labelsize=8)
        panels[0].set_ylabel("mean AP, %")
        with atomic_path(path) as unfinished:
            figure.savefig(unfinished, format="png", dpi=RESOLUTION)


def _save(path: Path, draw: Any, size: tuple[float, float] = (4.8, 3.6)) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        with atomic_path(path) as unfinished:
            figure.savefig(unfinished, format="png", dpi=RESOLUTION)


def write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table as CSV; NaN is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([["" if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows])
    write_text_atomic(path, text.getvalue())
