"""What ``hoiclip bench`` prints: the table, doubts about it, and how it compares with one of another day."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hoiclip.errors import HoiError

STEADY = 1.1  # so many times slower or faster may the same work be at the end
BUSY = 0.5  # other processes that wanted a core on average, before anything was measured

# --- the table -------------------------------------------------------------------------------------

COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("backend", "backend", str),
    ("precision", "precision", str),
    ("size", "size", lambda v: f"{v[0]}x{v[1]}"),
    ("batch", "batch", str),
    ("model ms", "model_ms", lambda v: f"{v:.0f}"),
    ("speed-up", "speedup", lambda v: f"{v:.2f}"),
    ("over transformers", "baseline_speedup", lambda v: f"{v:.2f}"),
    ("from file ms", "end_to_end_ms", lambda v: f"{v:.0f}"),
    ("images/s", "images_per_second", lambda v: f"{v:.2f}"),
    ("speed-up", "end_to_end_speedup", lambda v: f"{v:.2f}"),
    ("of model rate", "of_model_rate", lambda v: f"{v:.2f}"),
    ("peak MiB", "peak_memory_mib", lambda v: f"{v:.0f}"),
    ("GFLOP/image", "gflop_per_image", lambda v: f"{v:.1f}"),
    ("GFLOP/s", "gflops", lambda v: f"{v:.0f}"),
    ("of matmul peak", "fraction_of_peak", lambda v: f"{v:.0%}"),
    ("max Δ logit", "max_logit_difference", lambda v: f"{v:.0e}" if v else "0"),
    ("top 100 alike", "top100_overlap", lambda v: f"{v:.1%}"),
)


def table(results: dict[str, Any]) -> str:
    """Render the results of :func:`bench` in Markdown."""
    about, settings = results["machine"], results["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    has = f" ({about['features']})" if about.get("features") else ""
    where = about.get("gpu") or f"{about['processor']}{has}, {about['cores']} cores, {about['threads']} threads"
    lines = [
        f"{settings['model']} on {where}; {versions}; {settings['date']}",
        "",
        "| " + " | ".join(title for title, _, _ in COLUMNS) + " |",
        "|" + "|".join(" --- " if i < 2 else " ---: " for i in range(len(COLUMNS))) + "|",
    ]
    rows = results["rows"]
    for row in rows:
        cells = [show(row[key]) if row.get(key) is not None else "" for _, key, show in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"{row['backend']} {row['precision']}: {row['error']}" for row in rows if "error" in row)]
    again = [f"{row['again']:.2f}" for row in rows if row.get("again")]
    lines.append(f"Eager fp32 once more at the end took {', '.join(again)} times as long as at the start.")
    return "\n".join(lines)


def doubts(results: dict[str, Any]) -> Iterator[str]:
    """Why the numbers may not be believed, a sentence each."""
    load = results["machine"].get("load")
    if load is not None and load > BUSY:
        yield f"other programs kept {load:.1f} cores busy when this began; close them and measure again"
    for row in results["rows"]:
        again = row.get("again")
        if again and not 1 / STEADY <= again <= STEADY:
            yield (
                f"eager fp32 took {again:.2f} times as long at the end as at the start: the machine changed its speed "
                "meanwhile, and ratios may be off by as much; measure again"
            )


def read_results(file: Path) -> dict[str, Any]:
    """What ``hoiclip bench --out`` wrote on another day.

    Raises:
        HoiError: if it is not that.
    """
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        for row in results["rows"]:
            _key(row)
            float(row.get("model_ms", 0))
        dict(results["settings"]), dict(results["machine"])
    except OSError as error:
        raise HoiError(f"{file}: cannot be read ({error.strerror}); give what hoiclip bench --out wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HoiError(f"{file}: is not what hoiclip bench --out wrote; measure once more with --out") from error
    return {**results, "file": str(file)}


def comparison(results: dict[str, Any], before: dict[str, Any]) -> str:
    """How the rows of this run compare with those of another day, by :func:`read_results`."""
    settings, about = before["settings"], before["machine"]
    old = {_key(row): row for row in before["rows"] if "model_ms" in row}
    pairs = [(row, old[_key(row)]) for row in results["rows"] if "model_ms" in row and _key(row) in old]
    if not pairs:
        return f"{before['file']} has no row in common with this run: measure the same backends, precisions and sizes."
    lines = [f"Beside {before['file']}, of {settings.get('date')} on {about.get('processor')}:"]
    if any(about.get(name) != results["machine"].get(name) for name in ("processor", "features", "threads", "gpu")):
        lines.append("That was another machine: only the speed-ups can be compared.")
    if settings.get("model") != results["settings"]["model"]:
        lines.append(f"That was another model, {settings.get('model')}.")
    lines += ["", "| backend | precision | size | batch | model ms, then | now | ratio | speed-up, then | now |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row, then in pairs:
        cells = [row["backend"], row["precision"], f"{row['size'][0]}x{row['size'][1]}", str(row["batch"])]
        cells += [f"{then['model_ms']:.0f}", f"{row['model_ms']:.0f}", f"{row['model_ms'] / then['model_ms']:.2f}"]
        cells += [f"{r['speedup']:.2f}" if r.get("speedup") else "" for r in (then, row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["backend"], row["precision"], tuple(row["size"]), row["batch"]
