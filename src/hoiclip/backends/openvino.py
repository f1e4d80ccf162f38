"""The model as an OpenVINO graph, in float32, with the ResNet in bfloat16, or quantised to int8."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoiclip.backends.base import Backend, complete_inputs
from hoiclip.backends.inference_graph import INPUTS, InferenceGraph, as_output
from hoiclip.backends.manifest import input_shapes
from hoiclip.backends.onnx import as_arrays
from hoiclip.backends.optional_packages import require, suppress_warnings
from hoiclip.errors import HoiError, first_line
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.outputs import HoiClipOutput


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
        self.request = compiled.create_infer_request()
        self.lock = threading.Lock()  # the request holds one image's tensors: no thread may see another's

    def __call__(self, **inputs: Tensor | None) -> HoiClipOutput:
        given = as_arrays(complete_inputs(inputs, self.input_names))
        try:
            with self.lock:
                found = self.request.infer(given, share_inputs=True, share_outputs=True)
                copies = [np.array(found[name], dtype=np.float32) for name in self.output_names]
        except (RuntimeError, KeyError, ValueError) as error:
            raise HoiError(
                f"the OpenVINO graph does not take these images ({first_line(error)}); export the model again"
            ) from error
        return as_output(self.output_names, [torch.from_numpy(copy) for copy in copies])


# Where the multiplications are and 8 bits do little harm.  The decoders and heads, 5 % of the work,
# decide what is found and stay in float32, and so does CLIP, whose features they compare.
EIGHT_BIT_PARTS = r"^__module\.detector\.(backbone|encoder)"


# --- openvino --------------------------------------------------------------------------------------


@torch.no_grad()
def openvino_graph(
    model: HoiClipModel, precision: str = "fp32", calibration: Iterable[Mapping[str, Tensor]] | None = None
) -> Any:
    """The model as an ``openvino.Model`` with named inputs and outputs and free sizes.

    Args:
        model: read, not changed.
        precision: where bf16 and int8 are used the graph itself says so; a runtime need not be told.
        calibration: the processor's outputs for some images, for int8.

    Raises:
        HoiError: if openvino, or nncf for int8, is not installed, or int8 lacks images.
    """
    openvino = require("openvino", "openvino")
    if precision == "int8":
        require("nncf", "openvino")
        if calibration is None:
            raise HoiError("--precision int8 needs images to calibrate with: give --calibration FOLDER")
    function = InferenceGraph(model, half=precision == "bf16").cpu()
    example = function.example()
    with suppress_warnings():
        traced = torch.jit.trace(function, example_kwarg_inputs=example, check_trace=False)
        # shared, the weights would be gone with ``function``: openvino does not hold on to it
        graph = openvino.convert_model(traced, share_weights=False)
    for port, name in zip(graph.inputs, function.input_names, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(graph.outputs, function.output_names, strict=True):
        port.get_tensor().set_names({name})
    graph.reshape({n: [s if isinstance(s, int) else -1 for s in shape] for n, shape in input_shapes(model).items()})
    if precision == "int8":
        assert calibration is not None
        graph = quantized(graph, list(calibration))
    return graph


def quantized(graph: Any, calibration: Sequence[Mapping[str, Tensor]]) -> Any:
    """Quantise convolutions and matrix products of ResNet and encoder to 8 bits (NNCF, post-training).

    Args:
        graph: a float32 ``openvino.Model``.
        calibration: the processor's outputs, from which the range of each activation is read.
    """
    nncf = require("nncf", "openvino")
    names = [
        o.get_friendly_name() for o in graph.get_ops() if o.get_type_name() not in ("Constant", "Parameter", "Result")
    ]
    kept = [name for name in names if not re.match(EIGHT_BIT_PARTS, name)]
    wanted = {port.get_any_name() for port in graph.inputs}
    images = [{n: np.asarray(t) for n, t in inputs.items() if n in wanted} for inputs in calibration]
    with suppress_warnings():
        return nncf.quantize(
            graph,
            nncf.Dataset(images),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        )
