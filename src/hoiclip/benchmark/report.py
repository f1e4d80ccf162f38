"""The table that ``hoiclip bench`` prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    where = about.get("gpu") or f"{about['processor']}, {about['cores']} cores, {about['threads']} threads"
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
