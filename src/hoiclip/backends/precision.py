"""``--precision auto``: what this processor computes fastest within a stated loss."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from hoiclip.backends.base import BACKENDS

AUTO = "auto"
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
FAST_BF16, FAST_INT8 = ("avx512_bf16", "amx_bf16"), ("avx512_vnni", "avx_vnni", "amx_int8")


def processor_features() -> list[str]:
    """Those of :data:`FEATURES` that the processor has; none where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        flags = next(line for line in lines if line.startswith("flags")).split()
        return [name for name in FEATURES if name in flags]
    return []


def fastest_precision(backend: str, device: torch.device, *, calibrated: bool) -> str:
    """The fastest of a backend's precisions on this machine.

    ``bf16`` changes 3 of the best 100 triplets, ``int8`` 9 (docs/speed.md).  The latter is chosen only where the user
    has images to calibrate it with.

    Args:
        backend: one of ``BACKENDS``.
        device: where it computes.
        calibrated: whether there are such images.
    """
    own = BACKENDS[backend].precisions
    if device.type == "cuda":
        return "bf16" if "bf16" in own and torch.cuda.is_bf16_supported() else "fp32"
    has = set(processor_features()) if device.type == "cpu" else set()
    if calibrated and "int8" in own and has.intersection(FAST_INT8):
        return "int8"
    return "bf16" if "bf16" in own and has.intersection(FAST_BF16) else "fp32"
