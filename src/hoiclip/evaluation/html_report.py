"""An evaluation as one web page that needs no server, its figures beside it as PNG and CSV.

write_report("report/", Evaluated("my method", results, detections, annotations, vocabulary))
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from string import Template
from typing import Any

from hoiclip.errors import HoiError
from hoiclip.evaluation import breakdowns, report_figures, report_images
from hoiclip.evaluation.error_kinds import ERRORS, KINDS, ErrorKinds, find_error_kinds
from hoiclip.evaluation.hicodet import HicoDetResult
from hoiclip.evaluation.paired_bootstrap import RESAMPLES, Difference, paired_differences
from hoiclip.evaluation.reports import Evaluated, interval
from hoiclip.files import ASSETS, write_text_atomic

PAGE = "index.html"
CONFUSIONS = 20
MEANINGS = {
    "correct": "the interaction, and both boxes with an IoU of at least 0.5; the first of its annotated pair",
    "duplicate": "the same, of a pair that a detection with a higher score has found",
    "verb": "both boxes and the object are right, the interaction is another one",
    "object class": "both boxes are right, the object is another one",
    "pairing": "both are right boxes of an annotated person and object, which do not belong together",
    "human box": "the interaction and the object's box are right, the person's IoU is from 0.1 to 0.5",
    "object box": "the interaction and the person's box are right, the object's IoU is from 0.1 to 0.5",
    "both boxes": "the interaction is right, the IoU of both boxes is from 0.1 to 0.5",
    "background": "none of these: nothing annotated is near, or more than one thing is wrong",
    "missed": "annotated pairs that no detection found, nor nearly was",
}
PART_HEAD = ("part", "classes", "annotated", "found", "mean AP")


def report_folder(folder: str | Path) -> Path:
    """The folder of a report, made where it is missing, before hours go into what it will hold.

    Raises:
        HoiError: it cannot be a folder, or not be written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise HoiError(f"{path}: cannot be the folder of a report ({error}); name another --report") from error
    if not os.access(path, os.W_OK):
        raise HoiError(f"{path}: cannot be written to; name another --report")
    return path


def compare(evaluated: Evaluated) -> list[Difference]:
    """Differences in mean AP to ``evaluated.other``, with intervals; none where there is no other.

    Raises:
        HoiError: the two were evaluated on different annotations.
    """
    if evaluated.other is None:
        return []
    first, second = (find_error_kinds(e.detections, e.annotations, e.vocabulary) for e in (evaluated, evaluated.other))
    return paired_differences(first, second, len(evaluated.annotations))


def write_report(folder: str | Path, evaluated: Evaluated, differences: Sequence[Difference] | None = None) -> Path:
    """Write ``index.html``, and beside it figures (PNG), their numbers (CSV) and the worst images (JPEG).

    Args:
        folder: made where it is missing.
        evaluated: what the report is on.
        differences: what :func:`compare` found; None has it found.

    Returns:
        The page.

    Raises:
        HoiError: if the folder cannot be written to, nothing is annotated, or detections do not fit the annotations.
    """
    path = report_folder(folder)
    if not any(len(image.hoi_ids) for image in evaluated.annotations):
        raise HoiError("no pair is annotated in these images, so there is nothing to report on")
    errors = find_error_kinds(evaluated.detections, evaluated.annotations, evaluated.vocabulary)
    worst = _worst(path, evaluated, errors)
    result = next(iter(evaluated.results.values()))
    missing = result.num_images_without_detections
    facts = (
        f"{len(evaluated.annotations):,} images, {len(errors.truth_hoi_ids):,} annotated pairs and "
        f"{len(errors.hoi_ids):,} detections of {evaluated.vocabulary.num_interactions:,} interactions "
        f"(vocabulary {evaluated.vocabulary.name})."
    )
    facts += f" Nothing was handed in for {missing:,} images." if missing else ""
    page = Template((ASSETS / "report.html").read_text(encoding="utf-8"))
    content = page.safe_substitute(
        title=html.escape(evaluated.title),
        facts=html.escape(facts),
        numbers=_numbers(path, evaluated.results) + _comparison(path, evaluated, differences),
        kinds=_kinds(path, errors),
        scores=_scores(path, evaluated, errors),
        verbs=_verbs(path, errors),
        parts=_parts(path, evaluated, errors, result),
        classes=_classes(path, result),
        worst=worst,
        footer="Made by hoiclip evaluate --report. Every table lies beside this page as CSV, every figure as PNG.",
    )
    write_text_atomic(path / PAGE, content)
    return path / PAGE


# --- sections --------------------------------------------------------------------------------------


def _numbers(folder: Path, results: Mapping[str, HicoDetResult]) -> str:
    means = {name: result.means() for name, result in results.items()}
    columns = list(dict.fromkeys(c for row in means.values() for c, v in row.items() if not math.isnan(v)))
    values = {name: [row.get(c, math.nan) for c in columns] for name, row in means.items()}
    report_figures.write_csv(folder / "numbers.csv", ["protocol", *columns], [(n, *v) for n, v in values.items()])
    shown = [(name, *map(percent, of_protocol)) for name, of_protocol in values.items()]
    heads = ["protocol", *(c.replace("_", " ").replace("non rare", "non-rare").replace(" gt", " GT") for c in columns)]
    return f"<p>In percent.</p>{table(heads, shown, 'the numbers of every protocol')}"


def _comparison(folder: Path, evaluated: Evaluated, differences: Sequence[Difference] | None) -> str:
    """Both methods side by side, where there are two."""
    if evaluated.other is None:
        return ""
    lines = compare(evaluated) if differences is None else differences
    heads = ["mean", "first", "second", "difference", "low", "high"]
    report_figures.write_csv(folder / "comparison.csv", heads, [astuple(line) for line in lines])
    shown = [
        (line.name, percent(line.first), percent(line.second), f"{100 * line.difference:+.2f}", interval(line))
        for line in lines
    ]
    theirs = find_error_kinds(evaluated.other.detections, evaluated.other.annotations, evaluated.other.vocabulary)
    gains = theirs.gains()
    other = [(name, f"{theirs.counts()[name]:,}", f"+{100 * gains[name]:.2f}") for name in ERRORS]
    title = html.escape(evaluated.other.title)
    return (
        f"<h3>Beside {title}</h3><p>Mean AP in percent by the protocol “hoiclip”, this one first, {title} second. The "
        "interval of the difference holds 95 % of what images drawn with replacement give, the same ones for both "
        f"({RESAMPLES:,} draws): where it holds no 0, other images would hardly have turned the order.</p>"
        + table(["mean", "first", "second", "difference", "95 % interval"], shown, "differences to the other method")
        + f"<p>Kinds of errors of {title}, to set beside those below:</p>"
        + table(["kind", "number", "mAP gain"], other, "kinds of errors of the other method")
    )


def _kinds(folder: Path, errors: ErrorKinds) -> str:
    counts, gains, before = errors.counts(), errors.gains(), errors.mean_ap()
    rows = [(name, counts[name], gains.get(name, math.nan)) for name in (*KINDS, ERRORS[-1])]
    report_figures.write_csv(folder / "error_kinds.csv", ["kind", "count", "map_gain"], rows)
    report_figures.draw_gains(folder / "error_kinds.png", gains)
    most = max(gains, key=lambda name: gains[name])
    told = f"mAP is {percent(before)} %. "
    told += f"Fixing “{most}” alone would make it {percent(before + gains[most])} %." if gains[most] else ""
    shown = [
        (name, f"{count:,}", "" if math.isnan(gain) else f"+{100 * gain:.2f}", MEANINGS[name])
        for name, count, gain in rows
    ]
    return (
        f"<p><strong>{html.escape(told)}</strong> Each detection is of exactly one kind, the first that fits in the "
        "order of the table. A kind is fixed by making of each of its errors what it nearly was, with the score it "
        "has, or by taking it away where that pair is found already; missed pairs are no longer looked for. Gains do "
        "not add up: fixing everything gives 100 %. All by the protocol “hoiclip”.</p>"
        f"{figure('error_kinds.png', 'Bars: mAP points gained by fixing each kind of error; numbers in the table')}"
        f"{table(['kind', 'number', 'mAP gain', '=meaning'], shown, 'kinds of errors')}"
    )


def _scores(folder: Path, evaluated: Evaluated, errors: ErrorKinds) -> str:
    curve = breakdowns.precision_by_recall(errors)
    in_order = breakdowns.detections_in_order(evaluated.detections, evaluated.annotations)
    result = breakdowns.reliability(errors, in_order)
    report_figures.draw_precision_recall(folder / "precision_recall.png", curve)
    rows = [(round(float(r), 2), float(p)) for r, p in zip(breakdowns.RECALLS, curve, strict=True)]
    report_figures.write_csv(folder / "precision_recall.csv", ["recall", "precision"], rows)
    report_figures.draw_reliability(folder / "reliability.png", result)
    heads = ["least", "most", "detections", "mean_score", "precision"]
    report_figures.write_csv(folder / "reliability.csv", heads, [astuple(b) for b in result.bins])
    calibration = (
        "These scores go beyond 1, so they rank and are no probabilities."
        if math.isnan(result.calibration_error)
        else f"Expected calibration error: {percent(result.calibration_error)} %, with bins of equally many detections "
        f"{percent(result.adaptive_error)} %."
    )
    what = "Probabilities of the interaction alone" if result.interaction else "Scores"
    caption = f"{what} against the share of correct detections. {calibration}"
    return (
        '<div class="beside">'
        + figure("precision_recall.png", "Precision over recall, the mean over all classes with annotated pairs.")
        + figure("reliability.png", caption)
        + "</div>"
    )


def _verbs(folder: Path, errors: ErrorKinds) -> str:
    names = [verb.replace("_", " ") for verb in errors.vocabulary.verbs]
    rows = [(names[right], names[wrong], n) for right, wrong, n in breakdowns.verb_confusions(errors)]
    report_figures.write_csv(folder / "verb_confusions.csv", ["annotated", "detected", "pairs"], rows)
    if not rows:
        return "<p>No wrong verb outranks a right one.</p>"
    shown = [(a, b, f"{n:,}") for a, b, n in rows[:CONFUSIONS]]
    return (
        "<p>Annotated pairs whose boxes and object were found, and for which the wrong verb has a higher score than "
        f"the right one, or the right one was not found. The most frequent {len(shown)} of {len(rows):,}.</p>"
        + table(["annotated", "*detected instead", "pairs"], shown, "verbs taken for other verbs")
    )


def _parts(folder: Path, evaluated: Evaluated, errors: ErrorKinds, result: HicoDetResult) -> str:
    in_order = breakdowns.detections_in_order(evaluated.detections, evaluated.annotations)
    areas = breakdowns.smaller_areas(in_order), breakdowns.smaller_areas(evaluated.annotations)
    known = result.training_instances is not None
    groups = {
        "training instances of the class" if known else "rarity of the class": breakdowns.by_training_instances(
            errors, result.training_instances
        ),
        "size of the smaller box": breakdowns.by_size(errors, *areas),
        "annotated pairs in the image": breakdowns.by_crowd(errors, len(evaluated.annotations)),
    }
    groups = {title: parts for title, parts in groups.items() if parts}
    rows = [(title, *astuple(part)) for title, parts in groups.items() for part in parts]
    report_figures.write_csv(folder / "parts.csv", ["group", *PART_HEAD], rows)
    report_figures.draw_parts(folder / "parts.png", groups)
    tables = "".join(
        f"<h3>By {html.escape(title)}</h3>"
        + table(PART_HEAD, [(p.name, p.classes, f"{p.annotated:,}", f"{p.found:,}", percent(p.mean_ap)) for p in parts],
                f"mean AP by {title}")
        for title, parts in groups.items()
    )  # fmt: skip
    return (
        "<p>Mean AP in percent over the classes that have annotated pairs in the part. Small boxes have less than "
        "32 × 32 pixels, large ones 96 × 96 and more.</p>"
        f"{figure('parts.png', 'Bars: mean AP of each part; numbers in the tables')}{tables}"
    )


def _classes(folder: Path, result: HicoDetResult) -> str:
    counts = result.training_instances
    heads = ["id", "interaction", "ap", "recall", "annotated", "detections", "correct"]
    columns: list[Any] = [result.per_class, result.recall, result.num_gt, result.num_det, result.num_tp]
    if counts is not None:
        heads, columns = [*heads, "training"], [*columns, counts]
    names = [result.vocabulary.interaction_name(k) for k in range(result.vocabulary.num_interactions)]
    rows = [(k, name, *(column[k].item() for column in columns)) for k, name in enumerate(names)]
    report_figures.write_csv(folder / "classes.csv", heads, rows)
    shown = [(k, name, percent(ap), percent(recall), *rest) for k, name, ap, recall, *rest in rows]
    titles = ["id", "*interaction", "AP", "greatest recall", *heads[4:]]
    return table(titles, shown, "AP of each class", "class-table")


def _worst(folder: Path, evaluated: Evaluated, errors: ErrorKinds) -> str:
    """The section of the worst images."""
    listed, reason = report_images.draw_worst(
        folder, evaluated.detections, evaluated.annotations, errors, evaluated.open_samples
    )
    heads = ["file_name", "ap", "annotated", "found", "not_found"]
    rows = [(w.name, w.figures.ap, w.figures.annotated, w.figures.found, "; ".join(w.not_found)) for w in listed]
    report_figures.write_csv(folder / "worst_images.csv", heads, rows)
    told = "The AP of an image ranks all its detections together; of equal ones, those with more pairs not found first."
    told += f" Not drawn: {reason}." if reason else " Left what is annotated, right the best detections."
    pieces = [f'<h2 id="worst">Worst images</h2><p>{html.escape(told)}</p><div class="worst">']
    for image in listed:
        lost = ", ".join(dict.fromkeys(image.not_found)) or "none"
        best = "; ".join(f"{name} {score:.2f} ({kind})" for name, score, kind in image.best) or "none"
        figures = image.figures
        head = f"AP {percent(figures.ap)} %, {figures.found} of {figures.annotated} pairs found"
        text = f"Not found: {lost}. Best detections: {best}."
        picture = ""
        if image.drawing:
            alt = f"{image.name}: annotated pairs beside the best detections"
            picture = f'<img src="{image.drawing}" alt="{html.escape(alt)}" loading="lazy">'
        caption = f"<strong>{html.escape(image.name)}</strong> {html.escape(head)}. {html.escape(text)}"
        pieces.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return "".join([*pieces, "</div>"])


# --- pieces of HTML --------------------------------------------------------------------------------


def percent(value: float) -> str:
    """A fraction in percent with two digits; nothing for NaN."""
    return "" if math.isnan(value) else f"{100 * value:.2f}"


def figure(name: str, caption: str) -> str:
    """A picture of the folder with what it shows beneath."""
    text = html.escape(caption)
    return f'<figure><img src="{html.escape(name)}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], label: str, name: str = "") -> str:
    """A table; one with a ``name`` can be sorted and scrolls.  ``*`` marks a column of words, ``=`` of sentences."""
    kinds = ["words" if head[0] == "*" else "sentence" if head[0] == "=" else "" for head in heads]
    marks = [f' class="{kind}"' if kind else "" for kind in kinds]
    head = "".join(
        '<th scope="col"' + (' class="words">' if kind else ">") + html.escape(text.lstrip("*=")) + "</th>"
        for text, kind in zip(heads, kinds, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{m}>{html.escape(str(v))}</td>" for v, m in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    opened = f'<table id="{name}" class="sortable">' if name else "<table>"
    tall = " tall" if name else ""
    return (
        f'<div class="scroll{tall}" tabindex="0" role="region" aria-label="{html.escape(label)}">{opened}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
