"""What one row of a benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BASELINE = "transformers"  # the row of DETR's and CLIP's plain forward passes, as people run them
BASELINE_KEEPING_MEMORY = "transformers, memory kept"  # the same after hoiclip.keep_freed_memory, as all our rows are
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One row to measure.

    Attributes:
        model: folder.
        backend, precision, device: as for :func:`hoiclip.load`.
        size: (height, width) the detector sees.
        batch: images per forward pass.
        repeats: of each timing; medians are reported.
        photos: folder with the images to detect in; None times the model alone.
        keep: where to write the outputs for them, for comparison.
        calibration: folder of other images, for int8.
        gflop: of one image, if known: what would take more than a minute a pass is not begun.
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
