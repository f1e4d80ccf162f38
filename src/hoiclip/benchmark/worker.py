"""One row of a benchmark, measured in a process of its own: ``python -m hoiclip.benchmark.worker JOB``."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from hoiclip.benchmark.baseline import PlainComposition
from hoiclip.benchmark.comparison import COMPARED, TOP
from hoiclip.benchmark.job import BASELINE, BASELINE_KEEPING_MEMORY, Job, Row, _identity, failed
from hoiclip.benchmark.measurement import PeakMemory, count_operations, matmul_peak, seconds_of
from hoiclip.benchmark.synthetic import draw_photo
from hoiclip.errors import HoiError
from hoiclip.inference.detector import HoiDetector
from hoiclip.inference.exported_detector import ExportedDetector
from hoiclip.models.configuration import HoiClipConfig

EXPORTED = ("onnx", "openvino")  # what users run from an exported folder, and so is measured from one
PATIENCE = 60  # seconds a forward pass may take; torch emulates bfloat16 where the processor lacks it


def measure(job: Job) -> Row:
    """Load, warm up, then time one backend in this process.

    Returns:
        ``model_ms``: median of a forward pass of ``batch`` images; ``end_to_end_ms``: of the same
        from files to detections, one after the other; ``images_per_second``: of a folder, reading
        overlapped; ``peak_memory_mib`` of all that, without loading; and what they are made of.
    """
    import hoiclip

    try:
        if job.backend != BASELINE:
            hoiclip.keep_freed_memory()
        if job.backend in (BASELINE, BASELINE_KEEPING_MEMORY):
            return _measure_baseline(job)
        with tempfile.TemporaryDirectory(prefix="hoiclip-bench-") as scratch:
            exported = Path(scratch, "exported")
            if job.backend in EXPORTED:
                _export(job, exported)
            start = time.perf_counter()
            detector: HoiDetector | ExportedDetector
            if job.backend in EXPORTED:
                detector = ExportedDetector(exported, device=job.device, batch_size=job.batch)
            else:
                detector = HoiDetector.from_pretrained(
                    job.model, backend=job.backend, precision=job.precision, device=job.device, batch_size=job.batch
                )
            return _measure_detector(job, detector, time.perf_counter() - start)
    except HoiError as error:
        return failed(job, str(error))


def _export(job: Job, folder: Path) -> None:
    """Export the model in a process of its own, which takes the memory for it along.

    Raises:
        HoiError: what the export says.
    """
    command = ["export", job.model, "--to", job.backend, "--precision", job.precision, "--size", str(min(job.size))]
    command += ["--calibration", job.calibration] if job.calibration and job.precision == "int8" else []
    done = subprocess.run(
        [sys.executable, "-m", "hoiclip", *command, "--out", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the export ended with code {done.returncode}"]
        raise HoiError(said[-1].removeprefix("hoiclip: "))


def _measure_detector(job: Job, detector: HoiDetector | ExportedDetector, loaded: float) -> Row:
    """Time the model of a detector that took ``loaded`` seconds to open, and its way from files to detections."""
    detector.preparation.shortest_edge, detector.preparation.longest_edge = min(job.size), max(job.size)
    image, device = draw_photo(job.size, seed=0), torch.device(detector.device)
    work: Callable[[], Any]
    if isinstance(detector, ExportedDetector):
        recorder = Recorder(detector.runtime)
        detector.runtime = recorder  # type: ignore[assignment]
        views = detector.preparation.views(image)
        names = ("pixel_values", "clip_pixel_values")
        arrays = {name: np.stack([np.asarray(view)] * job.batch) for name, view in zip(names, views, strict=True)}

        def work() -> Any:
            return recorder.backend.compute(arrays)

    else:
        recorder = Recorder(detector.backend)
        detector.backend = recorder  # type: ignore[assignment]
        inputs = detector.processor([image] * job.batch).to(device)

        def work() -> Any:
            return recorder.backend(**inputs)

    with torch.inference_mode():
        row = _time_model(job, work, device)
        row["load_s"] = loaded
        if job.backend == "torch" and job.precision == "fp32":
            one = {name: tensor[:1] for name, tensor in inputs.items()}
            row["gflop_per_image"] = count_operations(lambda: recorder.backend(**one)) / 1e9
    memory: PeakMemory = row.pop("memory")
    if job.photos is not None:
        files = sorted(Path(job.photos).iterdir())
        first = files[: job.batch]
        everything: dict[str, Any] = {"threshold": 0.0, "top_k": TOP}
        times = seconds_of(lambda: detector(first, **everything), job.repeats, device)
        row["end_to_end_ms"] = 1000 * statistics.median(times)
        recorder.kept = []
        (whole,) = seconds_of(lambda: list(detector.detect_files(files, keep_images=False, **everything)), 1, device)
        row["images_per_second"] = len(files) / whole
        if job.keep is not None:
            kept: dict[str, Any] = {**recorder.outputs(), "object_ids": detector.vocabulary.object_ids}
            np.savez(job.keep, **kept)
    row["peak_memory_mib"] = memory.mib()
    return row


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
    """Operations per second of the best matrix product in this backend's precision.

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
    """A backend or a graph's runtime that can keep its outputs."""

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

    def compute(self, arrays: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
        """As a runtime."""
        found: dict[str, np.ndarray] = self.backend.compute(arrays)
        if self.kept is not None:
            self.kept.append({name: found[name] for name in COMPARED if name in found})
        return found

    def outputs(self) -> dict[str, np.ndarray]:
        """(B, ...) by name, of all images in order."""
        assert self.kept is not None
        return {name: np.concatenate([kept[name] for kept in self.kept]) for name in self.kept[0]}


def _measure_baseline(job: Job) -> Row:
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
