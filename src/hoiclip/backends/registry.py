"""Open a backend by its name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from hoiclip.backends.base import BACKENDS, Backend, check_combination
from hoiclip.backends.inference_graph import InferenceGraph
from hoiclip.backends.onnx import write_onnx
from hoiclip.backends.openvino import openvino_graph
from hoiclip.backends.optional_packages import require
from hoiclip.backends.runtime_backend import RuntimeBackend
from hoiclip.backends.runtimes import GraphRuntime, OnnxRuntime, OpenVinoRuntime
from hoiclip.backends.torch_backend import GraphBackend, ModelBackend, device_or_cpu
from hoiclip.errors import HoiError
from hoiclip.models.modeling import HoiClipModel


def open_backend(
    model: HoiClipModel,
    *,
    backend: str = "torch",
    precision: str = "fp32",
    device: str | torch.device | None = None,
    calibration: Iterable[Mapping[str, Tensor]] | None = None,
) -> Backend:
    """Open what computes the forward pass.

    Args:
        model: a model in evaluation mode.
        backend: one of ``BACKENDS``.
        precision: one of ``PRECISIONS``; not every backend has all.
        device: by default the CPU for onnx and openvino and the model's own for the others.
        calibration: the processor's outputs for some images of the kind that will come, read by
            int8 only.

    Raises:
        HoiError: a combination that does not exist, a package that is not installed, a device that
            the backend cannot use.
    """
    check_combination(backend, precision)
    if backend in ("torch", "compile"):
        place = torch.device(device) if device is not None else model.logit_scale.device
        if backend == "torch" and precision == "fp32":
            return ModelBackend(model, place)
        return GraphBackend(model, backend, precision, place)
    package = BACKENDS[backend].package
    if package is not None:
        require(package, backend)
    place, names = device_or_cpu(device), InferenceGraph.names(model)[1]
    if backend == "onnx":
        with tempfile.TemporaryDirectory(prefix="hoiclip-") as temporary:
            write_onnx(model, Path(temporary) / "model.onnx")
            runtime: GraphRuntime = OnnxRuntime(Path(temporary) / "model.onnx", place.type, names)
            return RuntimeBackend(backend, precision, runtime, place)
    if backend == "openvino":
        runtime = OpenVinoRuntime(openvino_graph(model, precision, calibration), place.type, names)
        return RuntimeBackend(backend, precision, runtime, place)
    raise HoiError(f"--backend {backend}: named in backends/base.py, but backends/registry.py does not open it")
