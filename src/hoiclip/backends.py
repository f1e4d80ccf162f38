"""One switch for what computes the forward pass.

    torch      the model itself, as trained; the only one that can hand out attention maps
    compile    torch.compile; needs a C++ compiler, and minutes at the first picture
    onnx       onnxruntime
    openvino   OpenVINO: the fastest on CPUs

``fp32`` gives the numbers of the model itself to about 1e-4, in every backend.  ``bf16`` and
``int8`` are faster and differ more; docs/speed.md says by how much.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoiclip.errors import HoiError
from hoiclip.graphs import Manifest, openvino_graph, require, write_onnx
from hoiclip.inference import INPUTS, InferenceGraph, as_output
from hoiclip.modeling import HoiClipModel, HoiClipOutput

BACKENDS = ("torch", "compile", "onnx", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
SUPPORTED = {
    "torch": ("fp32", "bf16"),
    "compile": ("fp32", "bf16"),
    "onnx": ("fp32",),
    "openvino": ("fp32", "bf16", "int8"),
}
PACKAGES = {"onnx": ("onnxruntime",), "openvino": ("openvino",)}


class Backend:
    """Computes a model's outputs from its inputs.

    Attributes:
        name: one of ``BACKENDS``.
        precision: one of ``PRECISIONS``.
        device: where the inputs are wanted and the outputs are given.
        output_names: fields of :class:`HoiClipOutput` that it fills.
    """

    name: str
    precision: str
    device: torch.device
    output_names: tuple[str, ...]

    def __call__(
        self, *, pixel_values: Tensor, pixel_mask: Tensor | None = None, clip_pixel_values: Tensor | None = None
    ) -> HoiClipOutput:
        """Inputs and outputs as of :meth:`HoiClipModel.forward`."""
        raise NotImplementedError

    @property
    def has_zero_shot(self) -> bool:
        """Whether the training-free enhancement has something to work with."""
        return "zero_shot_logits" in self.output_names


class ModelBackend(Backend):
    """The model itself; what is done to it later shows at once."""

    name, precision = "torch", "fp32"

    def __init__(self, model: HoiClipModel, device: torch.device) -> None:
        self.model, self.device = model, device

    @property
    def output_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """As the attribute of :class:`Backend`."""
        return InferenceGraph.names(self.model)[1]

    def __call__(self, **inputs: Tensor) -> HoiClipOutput:  # type: ignore[override]
        if self.device.type == "cpu":  # the order convolutions like best there; backward, in training, does not
            inputs["pixel_values"] = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
        return self.model(**inputs)


class GraphBackend(Backend):
    """torch with the work of training left out (:class:`InferenceGraph`), compiled if asked for.

    Compiled for every size at once (``dynamic``), so that pictures of new sizes bring no new compilation.
    """

    def __init__(self, model: HoiClipModel, name: str, precision: str, device: torch.device) -> None:
        self.name, self.precision, self.device = name, precision, device
        graph = InferenceGraph(model, half=precision == "bf16").to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.input_names, self.output_names = graph.input_names, graph.output_names
        self.run = torch.compile(graph, dynamic=True) if name == "compile" else graph

    def __call__(self, **inputs: Tensor | None) -> HoiClipOutput:
        given = _complete(inputs, self.input_names)
        with torch.no_grad():
            try:
                return as_output(self.output_names, self.run(**given))
            except torch._dynamo.exc.BackendCompilerFailed as error:
                reason = str(error).strip().splitlines()[0]
                raise HoiError(
                    f"--backend compile: torch.compile failed here ({reason}); install a C++ compiler or use openvino"
                ) from error


class OnnxBackend(Backend):
    """onnxruntime on the CPU, or on CUDA where its GPU package is installed."""

    name = "onnx"

    def __init__(self, graph: Path, precision: str, device: torch.device, output_names: Iterable[str]) -> None:
        onnxruntime = require("onnxruntime", "onnx")
        self.precision, self.device, self.output_names = precision, device, tuple(output_names)
        wanted = "CPUExecutionProvider" if device.type == "cpu" else "CUDAExecutionProvider"
        if wanted not in onnxruntime.get_available_providers():
            raise HoiError(f"--device {device}: this onnxruntime cannot use it; install onnxruntime-gpu or use cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=[wanted])
        self.input_names = tuple(i.name for i in self.session.get_inputs())

    def __call__(self, **inputs: Tensor | None) -> HoiClipOutput:
        given = _as_arrays(_complete(inputs, self.input_names))
        found = self.session.run(self.output_names, given)
        return as_output(self.output_names, [torch.from_numpy(a).to(self.device) for a in found])


class OpenVinoBackend(Backend):
    """OpenVINO on the CPU, for every size at once; each part in the type the graph says."""

    name = "openvino"

    def __init__(self, graph: Any, precision: str, device: torch.device, output_names: Iterable[str]) -> None:
        openvino = require("openvino", "openvino")
        if device.type != "cpu":
            raise HoiError(f"--device {device}: the openvino backend computes on the CPU; use --device cpu")
        self.precision, self.device, self.output_names = precision, device, tuple(output_names)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            # without this OpenVINO takes bfloat16 for everything on CPUs that have it
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        # a port may go by more names than ours: conversions for this machine add their own
        self.input_names = tuple(name for name in INPUTS if any(name in i.get_names() for i in compiled.inputs))
        self.request = compiled.create_infer_request()

    def __call__(self, **inputs: Tensor | None) -> HoiClipOutput:
        given = _as_arrays(_complete(inputs, self.input_names))
        found = self.request.infer(given, share_inputs=True, share_outputs=True)
        return as_output(
            self.output_names, [torch.from_numpy(np.array(found[n], dtype=np.float32)) for n in self.output_names]
        )


def open_backend(
    model: HoiClipModel | None,
    *,
    backend: str = "torch",
    precision: str = "fp32",
    device: str | torch.device | None = None,
    folder: Path | None = None,
    calibration: Iterable[Mapping[str, Tensor]] | None = None,
) -> Backend:
    """What computes the forward pass.

    Args:
        model: a model in evaluation mode; None if ``folder`` holds an exported graph.
        backend: one of ``BACKENDS``.
        precision: one of ``PRECISIONS``; not every backend has all.
        device: by default the CPU for onnx and openvino and the model's own for the others.
        folder: what :func:`hoiclip.export.export` wrote; says itself what it holds.
        calibration: the processor's outputs for some pictures of the kind that will come, read by
            int8 only.

    Raises:
        HoiError: a combination that does not exist, a package that is not installed, a device that
            the backend cannot use.
    """
    if folder is not None:
        manifest = Manifest.read(folder)
        place = _device(device)
        if manifest.format == "onnx":
            return OnnxBackend(folder / manifest.graph, manifest.precision, place, manifest.outputs)
        return OpenVinoBackend(folder / manifest.graph, manifest.precision, place, manifest.outputs)
    assert model is not None
    check_combination(backend, precision)
    if backend in ("torch", "compile"):
        place = torch.device(device) if device is not None else model.logit_scale.device
        if backend == "torch" and precision == "fp32":
            return ModelBackend(model, place)
        return GraphBackend(model, backend, precision, place)
    require(PACKAGES[backend][0], backend)
    names = InferenceGraph.names(model)[1]
    if backend == "onnx":
        with tempfile.TemporaryDirectory(prefix="hoiclip-") as temporary:
            write_onnx(model, Path(temporary) / "model.onnx")
            return OnnxBackend(Path(temporary) / "model.onnx", precision, _device(device), names)
    return OpenVinoBackend(openvino_graph(model, precision, calibration), precision, _device(device), names)


def check_combination(backend: str, precision: str) -> None:
    """Raises HoiError if there is no such backend, precision, or not both together."""
    if backend not in BACKENDS:
        raise HoiError(f"--backend {backend}: unknown; choose one of {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise HoiError(f"--precision {precision}: unknown; choose one of {', '.join(PRECISIONS)}")
    if precision not in SUPPORTED[backend]:
        raise HoiError(
            f"--precision {precision}: the {backend} backend has {' and '.join(SUPPORTED[backend])} only; "
            "use --backend openvino"
        )


def _device(device: str | torch.device | None) -> torch.device:
    return torch.device("cpu" if device is None else device)


def _complete(inputs: Mapping[str, Tensor | None], names: Iterable[str]) -> dict[str, Tensor]:
    """Only what the graph takes; without a mask there is no padding."""
    pixel_values = inputs["pixel_values"]
    assert pixel_values is not None
    given = {}
    for name in names:
        value = inputs.get(name)
        if value is None and name == "pixel_mask":
            value = torch.ones(
                len(pixel_values), *pixel_values.shape[2:], dtype=torch.int64, device=pixel_values.device
            )
        if value is None:
            raise ValueError(f"{name} is missing: pass what HoiClipProcessor returns")
        given[name] = value.to(torch.int64) if name == "pixel_mask" else value
    return given


def _as_arrays(inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(tensor.cpu().numpy()) for name, tensor in inputs.items()}
