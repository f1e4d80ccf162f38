"""Results on screen and on disk.

print(render_table({"HOICLIP": result}))
write_results("metrics.json", result)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.samples import Samples
from hoiclip.detections import Detections
from hoiclip.evaluation.hicodet import HicoDetResult
from hoiclip.evaluation.paired_bootstrap import Difference
from hoiclip.evaluation.vcoco import VcocoResult
from hoiclip.evaluation.vcoco_pairwise import VcocoPairwiseResult
from hoiclip.files import write_text_atomic
from hoiclip.vocabulary import HoiVocabulary

Result = HicoDetResult | VcocoResult | VcocoPairwiseResult


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with all that went into it, which a report explains.

    Attributes:
        title: what was evaluated.
        results: of the HICO-DET protocols by name, the main one first.
        detections: by file name.
        annotations: of all images.
        vocabulary: what the ids mean.
        open_samples: the images; None, or one that raises HoiError, leaves out the drawings.
        other: another method on the same images, to compare with.
    """

    title: str
    results: Mapping[str, HicoDetResult]
    detections: Mapping[str, Detections]
    annotations: Sequence[AnnotatedImage]
    vocabulary: HoiVocabulary
    open_samples: Callable[[], Samples] | None = None
    other: Evaluated | None = None


def render_table(results: Result | Mapping[str, Result]) -> str:
    """Means of one or several results in percent, one line each; ``-`` where there is none.

    Columns that no result fills are left out.
    """
    named = results if isinstance(results, Mapping) else {"": results}
    means = {name: result.means() for name, result in named.items()}
    columns = list(dict.fromkeys(c for row in means.values() for c, v in row.items() if not math.isnan(v)))
    classes = next((r.vocabulary for r in named.values() if isinstance(r, HicoDetResult)), None)
    heads = [_heading(column, classes) for column in columns]
    rows = [["", *heads]]
    for name, row in means.items():
        values = (row.get(column, math.nan) for column in columns)
        rows.append([name, *("-" if math.isnan(v) else f"{100 * v:.2f}" for v in values)])
    if not any(named):
        rows = [row[1:] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    left = 1 if any(named) else 0
    lines = [
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines += [
        f"{name or 'note'}: nothing was handed in for {missing} of {result.num_images} images"
        for name, result in named.items()
        if (missing := result.num_images_without_detections)
    ]
    return "\n".join(line.rstrip() for line in lines)


def render_differences(lines: Sequence[Difference]) -> str:
    """Two methods side by side in percent, with the interval of the difference."""
    rows = [["", "first", "second", "difference", "95 % interval"]]
    for line in lines:
        figures = (f"{100 * value:.2f}" for value in (line.first, line.second))
        rows.append([line.name, *figures, f"{100 * line.difference:+.2f}", interval(line)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows)


def interval(line: Difference) -> str:
    """The ends of an interval in percent."""
    return f"{100 * line.low:+.2f} to {100 * line.high:+.2f}"


def _heading(metric: str, vocabulary: HoiVocabulary | None) -> str:
    """What a table calls a metric; of Rare there are two, so each says what it means."""
    if metric in ("rare_in_training", "non_rare_in_training"):
        return "rare (< 10 in training)" if metric == "rare_in_training" else "non-rare (>= 10 in training)"
    heading = metric.replace("_", " ").replace("non rare", "non-rare").replace(" gt", " GT")
    if vocabulary is not None and vocabulary.rare and metric in ("rare", "non_rare"):
        rare = len(vocabulary.rare)
        return f"{heading} (fixed {rare if metric == 'rare' else vocabulary.num_interactions - rare})"
    return heading


def result_dict(result: Result) -> dict[str, Any]:
    """Plain JSON types: the means as fractions 0..1, then the figures of every class; NaN becomes None."""
    data: dict[str, Any] = {name: _number(value) for name, value in result.means().items()}
    data |= {"images": result.num_images, "images_without_detections": result.num_images_without_detections}
    if isinstance(result, HicoDetResult):
        data |= {"protocol": result.protocol, "setting": result.setting, "vocabulary": result.vocabulary.name}
        counts = result.training_instances
        data["classes"] = [
            {
                "hoi_id": k,
                "interaction": result.vocabulary.interaction_name(k),
                "ap": _number(result.per_class[k]),
                "recall": _number(result.recall[k]),
                "num_gt": int(result.num_gt[k]),
                "num_det": int(result.num_det[k]),
                "num_tp": int(result.num_tp[k]),
            }
            | ({} if counts is None else {"training_instances": int(counts[k])})
            for k in range(result.vocabulary.num_interactions)
        ]
        return data
    figures = result.per_verb if isinstance(result, VcocoPairwiseResult) else result.per_role
    if isinstance(result, VcocoResult):
        data |= {"protocol": "official", "scenario": result.scenario}
        figures = figures | {f"{name}_agent": ap for name, ap in result.per_agent.items()}
    else:
        data["protocol"] = "pairwise"
    data["classes"] = [
        {
            "name": name,
            "ap": _number(ap),
            "num_gt": result.num_gt[name],
            "num_det": result.num_det[name],
            "num_tp": result.num_tp[name],
        }
        for name, ap in figures.items()
    ]
    return data


def write_results(path: str | Path, results: Result | Mapping[str, Result], **more: Any) -> None:
    """Write everything as JSON, all of the file or nothing.

    Args:
        path: the file.
        results: one, or several by name: the first one's :func:`result_dict` then stands at the top,
            and every one's, by its name, under ``results``.
        more: plain values that stand beside them, by name.

    Raises:
        HoiError: if the file cannot be written.
    """
    if isinstance(results, Mapping):
        every = {name: result_dict(result) for name, result in results.items()}
        content = {**next(iter(every.values())), "results": every}
    else:
        content = result_dict(results)
    write_text_atomic(path, json.dumps(content | more, indent=1, ensure_ascii=False) + "\n")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
