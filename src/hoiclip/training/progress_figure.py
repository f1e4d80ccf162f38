"""``training.png``: what a run's ``log.jsonl`` tells, as a picture."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hoiclip.evaluation.report_figures import STYLE
from hoiclip.files import atomic_path
from hoiclip.training.callbacks import read_log

FIGURE = "training.png"
#: what a term of the loss is called, by its name in the log
TERMS = {
    "hoi_labels": "interactions", "obj_ce": "object class", "sub_bbox": "human box, L1",
    "obj_bbox": "object box, L1", "sub_giou": "human box, GIoU", "obj_giou": "object box, GIoU", "feat_mimic": "mimic",
}  # fmt: skip
METRICS = ("full", "rare", "non_rare", "seen", "unseen", "scenario_1", "scenario_2")
OF_EARLIER_LAYER = re.compile(r"_\d+$")  # loss_obj_ce_0: the same term on an earlier decoder layer


def draw_training(folder: str | Path) -> Path | None:
    """Draw the loss, its terms on the last decoder layer, and the metrics over the steps.

    Args:
        folder: of a run; ``training.png`` is written there.

    Returns:
        The picture; None where the log holds nothing to draw.

    Raises:
        HoiError: if it cannot be written.
    """
    records = [record for _, record in read_log(Path(folder) / "log.jsonl")]
    losses, metrics = _losses(records), _metrics(records)
    if not losses and not metrics:
        return None
    with matplotlib.rc_context(STYLE):
        panels = [panel for panel in ((_draw_losses, losses), (_draw_metrics, metrics)) if panel[1]]
        figure = Figure(figsize=(8.4, 3.6 * len(panels)), layout="constrained")
        axes: Any = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for (draw, lines), below in zip(panels, axes[:, 0], strict=True):
            draw(below, lines)
            for step in _drops(records):
                below.axvline(step, color="#8a8f98", linestyle=":", linewidth=1)
            below.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
        axes[-1, 0].set_xlabel("optimizer steps (dotted: the learning rate falls)" if _drops(records) else
                               "optimizer steps")  # fmt: skip
        path = Path(folder) / FIGURE
        with atomic_path(path) as unfinished:
            figure.savefig(unfinished, dpi=110, format="png")
    return path


def _draw_losses(axes: Axes, lines: dict[str, list[tuple[int, float]]]) -> None:
    for name, points in lines.items():
        look: dict[str, Any] = {"label": TERMS.get(name, name), "linewidth": 1.2}
        if name == "loss":
            look = {"label": "all together, weighted", "linewidth": 1.8, "color": "black"}
        axes.plot(*zip(*points, strict=True), marker=_marker(points), **look)
    axes.set(ylabel="loss", yscale="log")


def _draw_metrics(axes: Axes, lines: dict[str, list[tuple[int, float]]]) -> None:
    for i, (name, points) in enumerate(lines.items()):
        percent = [(step, 100 * value) for step, value in points]
        axes.plot(*zip(*percent, strict=True), label=name.replace("_", " ").replace("non rare", "non-rare"),
                  linewidth=2 if i == 0 else 1.2, marker=_marker(points))  # fmt: skip
    axes.set_ylabel("mAP in %")
    axes.set_ylim(bottom=0)


def _losses(records: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of the loss and of its terms; a logarithmic axis has no place for 0."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            term = name == "loss" or (name.startswith("loss_") and not OF_EARLIER_LAYER.search(name))
            if term and isinstance(value, int | float) and value > 0:
                lines.setdefault(name.removeprefix("loss_"), []).append((record["step"], value))
    return lines


def _metrics(records: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    found = {
        name: [(record["step"], record[f"eval_{name}"]) for record in records if f"eval_{name}" in record]
        for name in METRICS
    }
    return {name: points for name, points in found.items() if points}


def _drops(records: list[dict[str, Any]]) -> list[int]:
    """The steps at whose log line the learning rate was lower than at the one before."""
    rates = [(record["step"], record["learning_rate"]) for record in records if "learning_rate" in record]
    return [step for (_, before), (step, after) in pairwise(rates) if after < before]


def _marker(points: list[tuple[int, float]]) -> str:
    return "o" if len(points) < 3 else ""  # a line through one point is not seen
