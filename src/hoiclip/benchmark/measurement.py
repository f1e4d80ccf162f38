"""Measure time, memory and operations.

Times are of the wall clock, after the device has settled.  Operations are counted while a model runs,
two for each multiply-add in convolutions, matrix products and attention; adding, normalising and
activating count as nothing, as everywhere in the literature.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hoiclip.backends.precision import processor_features

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PACKAGES = ("torch", "transformers", "openvino", "nncf", "onnxruntime", "numpy", "pillow")


def settle(device: torch.device) -> None:
    """Wait until an accelerator has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(work: Callable[[], Any], repeats: int, device: torch.device) -> list[float]:
    """Wall-clock seconds of each of ``repeats`` calls, with nothing left to do at their ends."""
    times = []
    for _ in range(repeats):
        settle(device)
        start = time.perf_counter()
        work()
        settle(device)
        times.append(time.perf_counter() - start)
    return times


def matmul_peak(precision: str, device: torch.device, side: int | None = None, seconds: float = 0.5) -> float | None:
    """Operations per second of this machine's best square matrix product, or None if it has none.

    On a CPU the best of three libraries counts: torch's matrix product, its 1x1 convolution, which is
    the same product, and in fp32 numpy's.

    Args:
        precision: ``fp32``, ``bf16``, or ``int8`` with 32-bit sums.
        device: where.
        side: rows and columns; by default large enough that memory is not the limit.
        seconds: for so long each way is tried; the best counts.
    """
    side = side or (1536 if device.type == "cpu" else 8192)
    ways: list[Callable[[], Any]] = []
    if precision == "int8":
        a = torch.randint(-127, 127, (side, side), dtype=torch.int8, device=device)
        b = a.T.contiguous()
        ways.append(lambda: torch._int_mm(a, b))
    else:
        a = torch.randn(side, side, device=device).to(DTYPES[precision])
        image = a.T.reshape(1, side, 1, side).contiguous(memory_format=torch.channels_last)
        ways += [lambda: a @ a, lambda: torch.nn.functional.conv2d(image, a[:, :, None, None])]
        if precision == "fp32" and device.type == "cpu":
            array = a.numpy()
            ways.append(lambda: array @ array)
    best = 0.0
    for work in ways:
        with contextlib.suppress(RuntimeError, NotImplementedError), torch.inference_mode():
            work()
            end = time.perf_counter() + seconds
            while not best or time.perf_counter() < end:
                best = max(best, 2 * side**3 / min(seconds_of(work, 2, device)))
    return best or None


def _attention_operations(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """From shapes (B, heads, N, d), (B, heads, T, d), (B, heads, T, d_v)."""
    *batch, n, width = query
    return 2 * math.prod(batch) * n * key[-2] * (width + value[-1])


def count_operations(work: Callable[[], Any]) -> int:
    """Two for each multiply-add of convolutions, matrix products and attention in one call.

    torch counts all but the attention it has for CPUs, which is added here.
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={attention: _attention_operations}) as counter:
        work()
    return counter.get_total_flops()


class PeakMemory:
    """Peak memory of a process since this was made, in MiB.

    On CUDA what torch took of the card; else the resident set, from the start of the process where
    the system cannot forget an earlier peak.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def mib(self) -> float:
        """So far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        with contextlib.suppress(OSError, StopIteration, ValueError):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
        unit = 2**20 if platform.system() == "Darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def resident_mib() -> float:
    """Memory held by this process now, in MiB; its peak so far where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return PeakMemory(torch.device("cpu")).mib()


def machine(device: torch.device) -> dict[str, Any]:
    """The machine the numbers hold for: processor, cores, threads, memory, versions."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    found: dict[str, Any] = {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "features": " ".join(processor_features()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
