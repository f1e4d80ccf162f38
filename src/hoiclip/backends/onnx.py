"""The model as an ONNX graph, computed by onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hoiclip.backends.base import Backend, complete_inputs
from hoiclip.backends.inference_graph import InferenceGraph, as_output
from hoiclip.backends.optional_packages import require, suppress_warnings
from hoiclip.errors import HoiError, first_line
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.outputs import HoiClipOutput


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
        try:
            self.session = onnxruntime.InferenceSession(str(graph), options, providers=[wanted])
        except Exception as error:  # onnxruntime has a kind of its own for every status
            raise HoiError(
                f"{graph}: is damaged or no ONNX graph ({first_line(error)}); export the model again"
            ) from error
        sizes = {o.name: o.shape[-1] for o in self.session.get_outputs() if o.shape}
        self.output_sizes = {n: s if isinstance(s, int) else None for n, s in sizes.items()}
        self.input_names = tuple(i.name for i in self.session.get_inputs())

    def __call__(self, **inputs: Tensor | None) -> HoiClipOutput:
        given = as_arrays(complete_inputs(inputs, self.input_names))
        try:
            found = self.session.run(self.output_names, given)
        except Exception as error:  # a kind of its own for every status
            raise HoiError(
                f"the ONNX graph does not take these images ({first_line(error)}); export the model again"
            ) from error
        return as_output(self.output_names, [torch.from_numpy(a).to(self.device) for a in found])


def as_arrays(inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(tensor.cpu().numpy()) for name, tensor in inputs.items()}


# --- onnx ------------------------------------------------------------------------------------------


@torch.no_grad()
def write_onnx(model: HoiClipModel, path: Path) -> None:
    """Write the model as ONNX, opset 18, weights in a second file beside it.

    Raises:
        HoiError: if onnxscript is not installed.
    """
    require("onnxscript", "onnx")
    graph = InferenceGraph(model).cpu()
    free = torch.export.Dim.DYNAMIC
    axes = {"pixel_values": (0, 2, 3), "pixel_mask": (0, 1, 2), "clip_pixel_values": (0,)}
    with suppress_warnings():
        program = torch.onnx.export(
            graph,
            (),
            kwargs=graph.example(),
            dynamo=True,
            dynamic_shapes={name: dict.fromkeys(axes[name], free) for name in graph.input_names},
            input_names=list(graph.input_names),
            output_names=list(graph.output_names),
            opset_version=18,
        )
        assert program is not None
        program.save(str(path), external_data=True)
