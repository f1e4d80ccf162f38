"""Open a backend by its name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from hoiclip.backends.base import BACKENDS, Backend, check_combination
from hoiclip.backends.inference_graph import InferenceGraph
from hoiclip.backends.manifest import Manifest
from hoiclip.backends.onnx import OnnxBackend, write_onnx
from hoiclip.backends.openvino import OpenVinoBackend, openvino_graph
from hoiclip.backends.optional_packages import require
from hoiclip.backends.torch_backend import GraphBackend, ModelBackend, device_or_cpu
from hoiclip.errors import HoiError
from hoiclip.models.modeling import HoiClipModel


def open_backend(
    model: HoiClipModel | None,
    *,
    backend: str = "torch",
    precision: str = "fp32",
    device: str | torch.device | None = None,
    folder: Path | None = None,
    calibration: Iterable[Mapping[str, Tensor]] | None = None,
) -> Backend:
    """Open what computes the forward pass.

    Args:
        model: a model in evaluation mode; None if ``folder`` holds an exported graph.
        backend: one of ``BACKENDS``.
        precision: one of ``PRECISIONS``; not every backend has all.
        device: by default the CPU for onnx and openvino and the model's own for the others.
        folder: what :func:`hoiclip.inference.export.export` wrote; says itself what it holds.
        calibration: the processor's outputs for some images of the kind that will come, read by
            int8 only.

    Raises:
        HoiError: a combination that does not exist, a package that is not installed, a device that
            the backend cannot use.
    """
    if folder is not None:
        manifest = Manifest.read(folder)
        place = device_or_cpu(device)
        kinds = {"onnx": OnnxBackend, "openvino": OpenVinoBackend}  # Manifest knows no other format
        return kinds[manifest.format](folder / manifest.graph, manifest.precision, place, manifest.outputs)
    assert model is not None
    check_combination(backend, precision)
    if backend in ("torch", "compile"):
        place = torch.device(device) if device is not None else model.logit_scale.device
        if backend == "torch" and precision == "fp32":
            return ModelBackend(model, place)
        return GraphBackend(model, backend, precision, place)
    package = BACKENDS[backend].package
    if package is not None:
        require(package, backend)
    names = InferenceGraph.names(model)[1]
    if backend == "onnx":
        with tempfile.TemporaryDirectory(prefix="hoiclip-") as temporary:
            write_onnx(model, Path(temporary) / "model.onnx")
            return OnnxBackend(Path(temporary) / "model.onnx", precision, device_or_cpu(device), names)
    if backend == "openvino":
        graph = openvino_graph(model, precision, calibration)
        return OpenVinoBackend(graph, precision, device_or_cpu(device), names)
    raise HoiError(f"--backend {backend}: named in backends/base.py, but backends/registry.py does not open it")
