"""Graphs computed by OpenVINO or onnxruntime: numpy arrays in and out, no torch is loaded."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from hoiclip.backends.allocator import drop_mapped_pages
from hoiclip.backends.manifest import INPUTS, Manifest
from hoiclip.backends.optional_packages import require
from hoiclip.errors import HoiError, first_line


class GraphRuntime(ABC):
    """An opened graph.

    Attributes:
        input_names: what it takes.
        output_names: what it gives, in the graph's order.
        output_sizes: their last dimensions; None for one that is free.
        streams: so many batches are computed at once, if as many threads ask; each gets its share of the cores.
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    output_sizes: dict[str, int | None]
    streams: int

    @abstractmethod
    def compute(self, arrays: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
        """Compute the outputs of a batch, by name.

        Args:
            arrays: by name as in ``export.json``; without a mask there is no padding.

        Raises:
            HoiError: if the graph does not take them.
        """


class OpenVinoRuntime(GraphRuntime):
    """OpenVINO on the CPU, for every size at once; each part in the type the graph says.

    Args:
        graph: path of a ``.xml``, whose weights are then mapped, not read; or an ``openvino.Model``.
        device: must be "cpu".
        output_names: of the graph.
        streams: so many batches at once; 1 answers soonest, several have a higher rate.

    Raises:
        HoiError: without openvino, for another device, or if the graph is damaged.
    """

    def __init__(self, graph: Any, device: str, output_names: Sequence[str], streams: int = 1) -> None:
        openvino = require("openvino", "openvino")
        if device != "cpu":
            raise HoiError(f"--device {device}: the openvino backend computes on the CPU; use --device cpu")
        self.output_names, self.streams = tuple(output_names), streams
        settings = {
            "NUM_STREAMS": streams,
            # without this OpenVINO takes bfloat16 for everything on CPUs that have it
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_NUM_THREADS": threads_to_use(),
            # pinned, the threads of two processes that take one core each would both sit on the first, and streams
            # wait for the core where images are prepared
            "ENABLE_CPU_PINNING": streams == 1 and threads_to_use() >= _cores(),
        }
        try:
            compiled = openvino.Core().compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            raise HoiError(
                f"{graph}: is damaged or no OpenVINO graph ({first_line(error)}); export the model again"
            ) from error
        # a port may go by more names than ours: conversions for this machine add their own
        self.input_names = tuple(name for name in INPUTS if any(name in i.get_names() for i in compiled.inputs))
        self.output_sizes = {
            name: shape[-1].get_length() if shape[-1].is_static else None
            for name in self.output_names
            for shape in [compiled.output(name).get_partial_shape()]
        }
        if isinstance(graph, Path):
            drop_mapped_pages(graph.with_suffix(".bin"))
        self._compiled = compiled
        self._requests: SimpleQueue[Any] = SimpleQueue()  # each holds a batch's tensors: no thread may see another's
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())

    def compute(self, arrays: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
        """As of :class:`GraphRuntime`."""
        given = _complete(arrays, self.input_names)
        request = self._requests.get()
        try:
            found = request.infer(given, share_inputs=True, share_outputs=True)
            return {name: np.array(found[name], dtype=np.float32) for name in self.output_names}
        except (RuntimeError, KeyError, ValueError) as error:
            raise HoiError(
                f"the OpenVINO graph does not take these images ({first_line(error)}); export the model again"
            ) from error
        finally:
            self._requests.put(request)


class OnnxRuntime(GraphRuntime):
    """onnxruntime on the CPU, or on CUDA where its GPU package is installed.

    Args:
        graph: path of a ``.onnx``.
        device: "cpu", or "cuda".
        output_names: of the graph.
        streams: so many batches at once; 1 answers soonest, several have a higher rate.

    Raises:
        HoiError: without onnxruntime, or one that cannot use the device, or if the graph is damaged.
    """

    def __init__(self, graph: Path, device: str, output_names: Sequence[str], streams: int = 1) -> None:
        onnxruntime = require("onnxruntime", "onnx")
        self.output_names, self.streams = tuple(output_names), streams
        wanted = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
        if wanted not in onnxruntime.get_available_providers():
            raise HoiError(f"--device {device}: this onnxruntime cannot use it; install onnxruntime-gpu or use cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads_to_use() // streams)  # of each batch
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=[wanted])
        except Exception as error:  # onnxruntime has a kind of its own for every status
            raise HoiError(
                f"{graph}: is damaged or no ONNX graph ({first_line(error)}); export the model again"
            ) from error
        sizes = {o.name: o.shape[-1] for o in self._session.get_outputs() if o.shape}
        self.output_sizes = {n: s if isinstance(s, int) else None for n, s in sizes.items()}
        self.input_names = tuple(i.name for i in self._session.get_inputs())

    def compute(self, arrays: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
        """As of :class:`GraphRuntime`."""
        try:
            found = self._session.run(self.output_names, _complete(arrays, self.input_names))
        except Exception as error:  # a kind of its own for every status
            raise HoiError(
                f"the ONNX graph does not take these images ({first_line(error)}); export the model again"
            ) from error
        return dict(zip(self.output_names, found, strict=True))


def open_graph(folder: str | Path, device: str = "cpu", streams: int = 1) -> GraphRuntime:
    """Open the graph of an exported folder; ``streams`` as of :class:`GraphRuntime`.

    Raises:
        HoiError: if it is none, or as the runtimes.
    """
    manifest = Manifest.read(folder)
    kinds = {"onnx": OnnxRuntime, "openvino": OpenVinoRuntime}  # Manifest knows no other format
    return kinds[manifest.format](Path(folder) / manifest.graph, device, manifest.outputs, streams)


def threads_to_use() -> int:
    """As many as torch computes with where torch is loaded, else as many as it would: OMP_NUM_THREADS, or the cores."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    wished = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wished.isdecimal() and int(wished):
        return int(wished)
    return _cores()


def use_threads(count: int) -> None:
    """Compute with so many threads from now on, whatever computes; graphs that are open keep theirs."""
    os.environ["OMP_NUM_THREADS"] = str(count)  # of torch, if it is loaded later
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def _cores() -> int:
    """Cores this process may use; two threads of one core count once, which is what matrix products like."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = set()
    for cpu in allowed:
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:  # another system, or a jail
            cores.add(str(cpu))
    return max(1, len(cores))


def _complete(arrays: Mapping[str, np.ndarray | None], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Keep only what the graph takes; without a mask there is no padding."""
    pixel_values = arrays["pixel_values"]
    assert pixel_values is not None
    given = {}
    for name in names:
        value = arrays.get(name)
        if value is None and name == "pixel_mask":
            value = np.ones((len(pixel_values), *pixel_values.shape[2:]), dtype=np.int64)
        if value is None:
            raise ValueError(f"{name} is missing: pass what HoiClipProcessor returns")
        given[name] = np.ascontiguousarray(value, dtype=np.int64 if name == "pixel_mask" else np.float32)
    return given
