"""``hoiclip bench``: how fast each backend is, as a ratio to our own eager fp32 in the same run.

    hoiclip bench --model model/ --backends torch,compile,openvino --precisions fp32,bf16 --size 800x1066

Every row is measured in a fresh process, so that its memory is its own and no other backend's threads
are in its way.  Without a model, the full-size one (ResNet-50, ViT-B/32) with seeded random weights.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from hoiclip.configuration import HoiClipConfig
from hoiclip.errors import HoiError
from hoiclip.measuring import PeakMemory, count_operations, machine, matmul_peak, seconds_of
from hoiclip.yardstick import PlainComposition, draw_photo, draw_photos, save_seeded_model

COMPARED = ("human_boxes", "object_boxes", "object_logits", "interaction_logits", "zero_shot_logits")
YARDSTICK = "transformers"  # the row of DETR's and CLIP's plain forward passes, as people run them
KEPT_YARDSTICK = "transformers, memory kept"  # the same after hoiclip.keep_freed_memory, as all our rows are
TOP = 100
CALIBRATION_PHOTOS = 20
PATIENCE = 60  # seconds a forward pass may take; torch emulates bfloat16 where the processor lacks it

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One row to measure.

    Attributes:
        model: folder.
        backend, precision, device: as for :func:`hoiclip.load`.
        size: (height, width) the detector sees.
        batch: pictures per forward pass.
        repeats: of each timing; medians are reported.
        photos: folder with the pictures to detect in; None times the model alone.
        keep: where to write what the model said about them, for comparison.
        calibration: folder of other pictures, for int8.
        gflop: of one picture, if known: what would take more than a minute a pass is not begun.
    """

    model: str
    backend: str = "torch"
    precision: str = "fp32"
    device: str = "cpu"
    size: tuple[int, int] = (800, 1066)
    batch: int = 1
    repeats: int = 7
    photos: str | None = None
    keep: str | None = None
    calibration: str | None = None
    gflop: float | None = None

    @property
    def name(self) -> str:
        """Of a file, and for messages."""
        height, width = self.size
        return f"{self.backend}-{self.precision}-{height}x{width}-{self.batch}"


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
    """Measure every combination, and for each size and batch our eager fp32 and the yardsticks.

    Args:
        model: folder; None makes the full-size model with seeded weights.
        backends: of ``hoiclip.backends.BACKENDS``.
        precisions: of ``hoiclip.backends.PRECISIONS``.
        sizes: (height, width) pairs the detector sees; the photographs are twice as large.
        batches: pictures per forward pass.
        device: as for :func:`hoiclip.load`.
        repeats: of each timing; medians are reported.
        images: so many drawn photographs are detected in, and compared with eager fp32.
        seed: of the photographs, and of the weights if there is no model.
        run: measures one row; by default in a fresh process.
        progress: told about each row.

    Returns:
        ``machine``, ``settings`` and ``rows``.  A row that cannot be measured has an ``error``.

    Raises:
        HoiError: an unknown backend or precision, no model there, or eager fp32 itself fails.
    """
    from hoiclip.backends import BACKENDS, PRECISIONS
    from hoiclip.detector import choose_device

    for what, given, known in (("backend", backends, BACKENDS), ("precision", precisions, PRECISIONS)):
        for name in given:
            if name not in known:
                raise HoiError(f"unknown {what} {name!r}: choose from {', '.join(known)}")
    if model is not None and not (Path(model) / "config.json").is_file():
        raise HoiError(f"{model}: no model folder (there is no config.json); give one that hoiclip wrote")
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
    settings = {
        "model": str(model) if model is not None else f"ResNet-50 + ViT-B/32, weights of seed {seed}",
        "date": date.today().isoformat(),
        "repeats": repeats,
        "images": max(images, *batches),
        "seed": seed,
        "device": str(chosen),
    }
    return {"machine": machine(chosen), "settings": settings, "rows": rows}


def _others(base: Job, backends: Sequence[str], precisions: Sequence[str], examples: Path) -> list[Job]:
    """What is measured beside eager fp32: the yardsticks, and every other combination."""
    yardsticks = (YARDSTICK, KEPT_YARDSTICK) if base.device == "cpu" else (YARDSTICK,)
    jobs = [replace(base, backend=name, photos=None) for name in yardsticks]
    for backend, precision in product(backends, precisions):
        if (backend, precision) != (base.backend, base.precision):
            calibration = str(examples) if precision == "int8" else None
            jobs.append(replace(base, backend=backend, precision=precision, calibration=calibration))
    return jobs


def _measure_beside(
    base: Job, others: Sequence[Job], folder: Path, run: Callable[[Job], Row], progress: Callable[[str], None]
) -> list[Row]:
    """Rows of the base and of the others; the base is timed again at the end, to see how steady the machine is."""
    from hoiclip.backends import check_combination

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
            if job.backend not in (YARDSTICK, KEPT_YARDSTICK):
                check_combination(job.backend, job.precision)
            rows.append(compared(run(job), job, reference, base))
        except HoiError as error:
            rows.append(failed(job, str(error)))
    for row in rows:
        if "model_ms" in rows[1] and "model_ms" in row:  # the first of the others is the yardstick
            row["yardstick_speedup"] = rows[1]["model_ms"] / row["model_ms"]
    progress(f"{base.name}, once more")
    again = run(replace(base, photos=None, keep=None))
    reference["again"] = again["model_ms"] / reference["model_ms"] if "model_ms" in again else None
    return rows


def compared(row: Row, job: Job, reference: Row, base: Job) -> Row:
    """The row with its ratios to our eager fp32, and how far its answers are from it."""
    if "error" in row:
        return row
    row["gflop_per_image"] = row.get("gflop_per_image") or reference["gflop_per_image"]
    seconds = row["model_ms"] / 1000
    row["gflops"] = row["gflop_per_image"] * job.batch / seconds
    peak = row["matmul_peak_gflops"]
    row["fraction_of_peak"] = row["gflops"] / peak if peak else None
    row["speedup"] = reference["model_ms"] / row["model_ms"]
    row["speedup_best"] = reference["model_ms_best"] / row["model_ms_best"]  # steadier on a busy machine
    if row["images_per_second"] is not None:
        row["end_to_end_speedup"] = row["images_per_second"] / reference["images_per_second"]
        row["of_model_rate"] = row["images_per_second"] * seconds / job.batch
    if job.keep is not None and base.keep is not None:
        with np.load(base.keep) as a, np.load(job.keep) as b:
            row |= differences(dict(a), dict(b))
    return row


def differences(expected: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> Row:
    """How far outputs of B images are from those of another run.

    Args:
        expected, got: (B, ...) by name, see ``HoiClipOutput``; ``object_ids`` (K,) of the vocabulary.

    Returns:
        ``max_logit_difference`` over interaction and object logits, ``max_box_difference`` as a
        fraction of the picture, ``top100_overlap`` the share of each image's best 100 (query,
        interaction) pairs found by both, over all images.
    """
    gaps = {name: float(np.abs(expected[name] - got[name]).max()) for name in COMPARED if name in expected}
    best = [_best(expected), _best(got)]
    shared = [len(a & b) / max(len(a), 1) for a, b in zip(*best, strict=True)]
    return {
        "max_logit_difference": max(gaps["interaction_logits"], gaps["object_logits"]),
        "max_box_difference": max(gaps["human_boxes"], gaps["object_boxes"]),
        "top100_overlap": statistics.mean(shared),
    }


def _best(outputs: dict[str, np.ndarray]) -> list[set[tuple[int, int]]]:
    """The best (query, interaction) pairs of each image by the fused score of Eq. 21."""
    from hoiclip.postprocessing import highest_scores

    sure = {name: 1 / (1 + np.exp(-outputs[f"{name}_logits"])) for name in ("interaction", "object")}
    fused = sure["interaction"] + np.square(sure["object"])[..., outputs["object_ids"]]  # (B, N, K)
    image, query, hoi, _ = highest_scores(fused, TOP)
    return [set(zip(query[image == i].tolist(), hoi[image == i].tolist(), strict=True)) for i in range(len(fused))]


# --- one row ---------------------------------------------------------------------------------------


def run_in_process(job: Job) -> Row:
    """:func:`measure` in a fresh Python; whatever goes wrong there becomes the row's ``error``."""
    command = [sys.executable, "-m", "hoiclip.bench", json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    why = f"the process ended with code {done.returncode}"
    if done.returncode < 0:
        why = f"the process was ended by signal {-done.returncode}, perhaps for want of memory"
    elif done.stderr.strip():
        why = done.stderr.strip().splitlines()[-1]
    return failed(job, why)


def failed(job: Job, why: str) -> Row:
    """The row of a job that could not be done, with one sentence."""
    return {**_identity(job), "error": why}


def _identity(job: Job) -> Row:
    return {
        "backend": job.backend,
        "precision": job.precision,
        "device": job.device,
        "size": list(job.size),
        "batch": job.batch,
    }


def measure(job: Job) -> Row:
    """Load, warm up, then time one backend in this process.

    Returns:
        ``model_ms``: median of a forward pass of ``batch`` pictures; ``end_to_end_ms``: of the same
        from files to detections, one after the other; ``images_per_second``: of a folder, reading
        overlapped; ``peak_memory_mib`` of all that, without loading; and what they are made of.
    """
    import hoiclip

    try:
        if job.backend != YARDSTICK:
            hoiclip.keep_freed_memory()
        if job.backend in (YARDSTICK, KEPT_YARDSTICK):
            return _measure_yardstick(job)
        start = time.perf_counter()
        detector = hoiclip.load(
            job.model,
            backend=job.backend,
            precision=job.precision,
            device=job.device,
            batch_size=job.batch,
            calibration=job.calibration,
        )
        loaded = time.perf_counter() - start
        detector.processor.shortest_edge, detector.processor.longest_edge = min(job.size), max(job.size)
        picture = draw_photo(job.size, seed=0)
        inputs = detector.processor([picture] * job.batch).to(detector.device)
        recorder = Recorder(detector.backend)
        detector.backend = recorder  # type: ignore[assignment]
        with torch.inference_mode():
            row = _time_model(job, lambda: recorder.backend(**inputs), detector.device)
            row["load_s"] = loaded
            if job.backend == "torch" and job.precision == "fp32":
                one = {name: tensor[:1] for name, tensor in inputs.items()}
                row["gflop_per_image"] = count_operations(lambda: recorder.backend(**one)) / 1e9
        memory: PeakMemory = row.pop("memory")
        if job.photos is not None:
            files = sorted(Path(job.photos).iterdir())
            first = files[: job.batch]
            everything: dict[str, Any] = {"threshold": 0.0, "top_k": TOP}
            times = seconds_of(lambda: detector(first, **everything), job.repeats, detector.device)
            row["end_to_end_ms"] = 1000 * statistics.median(times)
            recorder.kept = []
            (whole,) = seconds_of(
                lambda: list(detector.detect_files(files, keep_pictures=False, **everything)), 1, detector.device
            )
            row["images_per_second"] = len(files) / whole
            if job.keep is not None:
                kept: dict[str, Any] = {**recorder.outputs(), "object_ids": detector.vocabulary.object_ids}
                np.savez(job.keep, **kept)
        row["peak_memory_mib"] = memory.mib()
        return row
    except HoiError as error:
        return failed(job, str(error))


def _time_model(job: Job, work: Callable[[], Any], device: torch.device) -> Row:
    peak = _peak(job, device)
    warm_up = seconds_of(work, 2, device)
    memory = PeakMemory(device)
    times = seconds_of(work, job.repeats, device)
    return {
        **_identity(job),
        "model_ms": 1000 * statistics.median(times),
        "model_ms_best": 1000 * min(times),
        "end_to_end_ms": None,
        "images_per_second": None,
        "first_pass_s": warm_up[0],
        "matmul_peak_gflops": peak and peak / 1e9,
        "memory": memory,
    }


def _peak(job: Job, device: torch.device) -> float | None:
    """Operations per second of the best matrix product within reach of this backend.

    Raises:
        HoiError: if at this rate a forward pass would take longer than anybody waits.
    """
    peaks = [matmul_peak(job.precision, device)]
    slow = peaks[0] and job.gflop and job.gflop * job.batch * 1e9 / peaks[0] > PATIENCE
    if slow and job.backend in ("torch", "compile"):
        assert peaks[0] is not None
        raise HoiError(
            f"not measured: this machine multiplies {peaks[0] / 1e9:.1f} GFLOP/s in {job.precision}, "
            "so that a forward pass takes minutes; use fp32 here, or openvino, which knows a way around"
        )
    if job.precision != "fp32" and device.type == "cpu":
        peaks.append(matmul_peak("fp32", device))  # what a graph runtime falls back to
    return max((peak for peak in peaks if peak), default=None)


class Recorder:
    """A backend that, asked to, keeps what it said."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.kept: list[dict[str, np.ndarray]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def __call__(self, **inputs: torch.Tensor) -> Any:
        outputs = self.backend(**inputs)
        if self.kept is not None:
            found = {name: getattr(outputs, name) for name in COMPARED}
            self.kept.append({n: t.float().cpu().numpy().copy() for n, t in found.items() if t is not None})
        return outputs

    def outputs(self) -> dict[str, np.ndarray]:
        """(B, ...) by name, of all pictures in order."""
        assert self.kept is not None
        return {name: np.concatenate([kept[name] for kept in self.kept]) for name in self.kept[0]}


def _measure_yardstick(job: Job) -> Row:
    device = torch.device(job.device)
    config = HoiClipConfig.from_pretrained(job.model)
    model = PlainComposition(config).to(device).eval()
    side = config.clip.vision_config.image_size
    inputs = {
        "pixel_values": torch.randn(job.batch, 3, *job.size, device=device),
        "pixel_mask": torch.ones(job.batch, *job.size, dtype=torch.int64, device=device),
        "clip_pixel_values": torch.randn(job.batch, 3, side, side, device=device),
    }
    with torch.inference_mode():
        row = _time_model(job, lambda: model(**inputs), device)
        row["gflop_per_image"] = count_operations(lambda: model(**{n: t[:1] for n, t in inputs.items()})) / 1e9
    row["peak_memory_mib"] = row.pop("memory").mib()
    return row


# --- the table -------------------------------------------------------------------------------------

COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("backend", "backend", str),
    ("precision", "precision", str),
    ("size", "size", lambda v: f"{v[0]}x{v[1]}"),
    ("batch", "batch", str),
    ("model ms", "model_ms", lambda v: f"{v:.0f}"),
    ("speed-up", "speedup", lambda v: f"{v:.2f}"),
    ("over transformers", "yardstick_speedup", lambda v: f"{v:.2f}"),
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
    """What :func:`bench` found, in Markdown."""
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


def main(arguments: Iterable[str]) -> None:
    """Measure the job given as JSON; the row is the last line printed."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    (text,) = arguments
    given = json.loads(text)
    job = Job(**{**given, "size": tuple(given["size"])})
    print(json.dumps(measure(job)))


if __name__ == "__main__":
    main(sys.argv[1:])
