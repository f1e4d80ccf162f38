"""Figure 1 (b): verbs grouped by how often the training set shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hoiclip.experiments.data import open_run_data
from hoiclip.experiments.options import Experiment
from hoiclip.reproduction.tables import Cell, PaperTable
from hoiclip.vocabulary import HoiVocabulary

GROUPS = 5  # of verbs, in Figure 1 (b)


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
    data = open_run_data(replace(experiment, data=replace(experiment.data, fraction=1.0)))
    counts = verb_instances(data.train, data.vocabulary)
    verb_of = data.vocabulary.verb_ids
    scores: dict[str, np.ndarray] = {}
    for cell in table.cells:
        runs = results.get(cell, ())
        if cell.row == "100 %" and runs:
            aps = np.array([[np.nan if c["ap"] is None else c["ap"] for c in run["classes"]] for run in runs])
            per_class = aps.mean(axis=0)
            evaluated = ~np.isnan(per_class)
            sums = np.bincount(verb_of[evaluated], per_class[evaluated], len(counts))
            with np.errstate(invalid="ignore"):
                scores[cell.method] = sums / np.bincount(verb_of[evaluated], minlength=len(counts))
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
    """(V,) annotated pairs of each verb, without opening an image where that can be avoided."""
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
