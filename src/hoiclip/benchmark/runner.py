"""``hoiclip bench``: how fast each backend is, as a ratio to our own eager fp32 in the same run.

    hoiclip bench --model model/ --backends torch,compile,openvino --precisions fp32,bf16 --size 800x1066

Every row is measured in a fresh process, so that its memory is its own and no other backend's threads
are in its way.  Without a model, the full-size one (ResNet-50, ViT-B/32) with seeded random weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

from hoiclip.backends.base import BACKENDS, PRECISIONS, check_combination
from hoiclip.backends.devices import choose_device
from hoiclip.benchmark.comparison import compared
from hoiclip.benchmark.job import BASELINE, BASELINE_KEEPING_MEMORY, Job, Row, failed
from hoiclip.benchmark.measurement import machine
from hoiclip.benchmark.synthetic import draw_photos, save_seeded_model
from hoiclip.benchmark.worker import main
from hoiclip.errors import HoiError

CALIBRATION_PHOTOS = 20


# --- a whole run -----------------------------------------------------------------------------------


def bench(
    model: str | Path | None = None,
    *,
    backends: Sequence[str] = ("torch",),
    precisions: Sequence[str] = ("fp32",),
    sizes: Sequence[tuple[int, int]] = ((800, 1066),),
    batches: Sequence[int] = (1,),
    device: str | None = None,
    repeats: int = 7,
    images: int = 20,
    seed: int = 0,
    run: Callable[[Job], Row] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure every combination, and for each size and batch our eager fp32 and the baselines.

    Args:
        model: folder; None makes the full-size model with seeded weights.
        backends: of ``hoiclip.backends.base.BACKENDS``.
        precisions: of ``hoiclip.backends.base.PRECISIONS``.
        sizes: (height, width) pairs the detector sees; the photographs are twice as large.
        batches: images per forward pass.
        device: as for :func:`hoiclip.load`.
        repeats: of each timing; medians are reported.
        images: so many drawn photographs are detected in, and compared with eager fp32.
        seed: of the photographs, and of the weights if there is no model.
        run: measures one row; by default in a fresh process.
        progress: told about each row.

    Returns:
        ``machine`` (with its load before), ``settings`` and ``rows``.  A row that cannot be measured has an ``error``.

    Raises:
        HoiError: an unknown backend or precision, no model there, or eager fp32 itself fails.
    """
    _refuse_unknown(model, backends, precisions)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # before this run adds to it
    chosen = choose_device(device)
    run = run or run_in_process
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="hoiclip-bench-") as scratch:
        folder = Path(scratch)
        if model is None:
            progress("making the full-size model with seeded weights")
            save_seeded_model(folder / "model", seed)
        source = str(model or folder / "model")
        for size, batch in product(sizes, batches):
            photos = folder / f"photos-{size[0]}x{size[1]}"
            if not photos.is_dir():
                draw_photos(photos, size, max(images, *batches), seed)
            examples = folder / "calibration"
            if "int8" in precisions and not examples.is_dir():
                draw_photos(examples, size, CALIBRATION_PHOTOS, seed + 1)
            base = Job(source, device=str(chosen), size=size, batch=batch, repeats=repeats, photos=str(photos))
            rows += _measure_beside(base, _others(base, backends, precisions, examples), folder, run, progress)
    name = str(model) if model is not None else f"ResNet-50 + ViT-B/32, weights of seed {seed}"
    settings = {"model": name, "date": date.today().isoformat(), "repeats": repeats, "seed": seed}
    settings |= {"images": max(images, *batches), "device": str(chosen)}
    return {"machine": {**machine(chosen), "load": load}, "settings": settings, "rows": rows}


def _refuse_unknown(model: str | Path | None, backends: Sequence[str], precisions: Sequence[str]) -> None:
    """Raise HoiError before anything is measured."""
    for what, given, known in (("backend", backends, BACKENDS), ("precision", precisions, PRECISIONS)):
        for name in given:
            if name not in known:
                raise HoiError(f"unknown {what} {name!r}: choose from {', '.join(known)}")
    if model is not None and not (Path(model) / "config.json").is_file():
        raise HoiError(f"{model}: no model folder (there is no config.json); give one that hoiclip wrote")


def _others(base: Job, backends: Sequence[str], precisions: Sequence[str], examples: Path) -> list[Job]:
    """The other rows beside eager fp32: the baselines, and every other combination."""
    baselines = (BASELINE, BASELINE_KEEPING_MEMORY) if base.device == "cpu" else (BASELINE,)
    jobs = [replace(base, backend=name, photos=None) for name in baselines]
    for backend, precision in product(backends, precisions):
        if (backend, precision) != (base.backend, base.precision):
            calibration = str(examples) if precision == "int8" else None
            jobs.append(replace(base, backend=backend, precision=precision, calibration=calibration))
    return jobs


def _measure_beside(
    base: Job, others: Sequence[Job], folder: Path, run: Callable[[Job], Row], progress: Callable[[str], None]
) -> list[Row]:
    """Rows of the base and of the others; the base is timed again at the end, to see how steady the machine is."""
    base = replace(base, keep=str(folder / f"{base.name}.npz"))
    progress(base.name)
    reference = run(base)
    if "error" in reference:
        raise HoiError(f"our eager fp32, the measure of all rows, failed: {reference['error']}")
    rows = [compared(reference, base, reference, base)]
    for job in others:
        job = replace(job, gflop=reference["gflop_per_image"])
        if job.photos is not None:
            job = replace(job, keep=str(folder / f"{job.name}.npz"))
        progress(job.name)
        try:
            if job.backend not in (BASELINE, BASELINE_KEEPING_MEMORY):
                check_combination(job.backend, job.precision)
            rows.append(compared(run(job), job, reference, base))
        except HoiError as error:
            rows.append(failed(job, str(error)))
    for row in rows:
        if "model_ms" in rows[1] and "model_ms" in row:  # the first of the others is the baseline
            row["baseline_speedup"] = rows[1]["model_ms"] / row["model_ms"]
    progress(f"{base.name}, once more")
    again = run(replace(base, photos=None, keep=None))
    reference["again"] = again["model_ms"] / reference["model_ms"] if "model_ms" in again else None
    return rows


# --- one row ---------------------------------------------------------------------------------------


def run_in_process(job: Job) -> Row:
    """Run :func:`measure` in a fresh Python; whatever goes wrong there becomes the row's ``error``."""
    command = [sys.executable, "-m", "hoiclip.benchmark.worker", json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    why = f"the process ended with code {done.returncode}"
    if done.returncode < 0:
        why = f"the process was ended by signal {-done.returncode}, perhaps for want of memory"
    elif done.stderr.strip():
        why = done.stderr.strip().splitlines()[-1]
    return failed(job, why)


def parse_names(option: str, text: str) -> list[str]:
    """Words between commas, each once.  Raises HoiError if there are none."""
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise HoiError(f"{option}: name at least one")
    return names


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """``800x1066,640x640`` to (height, width) pairs.  Raises HoiError for anything else."""
    sizes = [tuple(name.split("x")) for name in parse_names("--size", text)]
    if not all(len(size) == 2 and all(side.isdecimal() and int(side) >= 32 for side in size) for size in sizes):
        raise HoiError(f"--size: {text!r} is no HEIGHTxWIDTH such as 800x1066, each at least 32")
    return [(int(height), int(width)) for height, width in sizes]


def parse_batches(text: str) -> list[int]:
    """``1,16`` to numbers.  Raises HoiError for anything else."""
    names = parse_names("--batch", text)
    if not all(name.isdecimal() and int(name) > 0 for name in names):
        raise HoiError(f"--batch: {text!r} is no list of whole numbers of at least 1")
    return [int(name) for name in names]


if __name__ == "__main__":
    main(sys.argv[1:])
