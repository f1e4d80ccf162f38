"""Make an ONNX graph of a model."""

from __future__ import annotations

from pathlib import Path

import torch

from hoiclip.backends.inference_graph import InferenceGraph
from hoiclip.backends.optional_packages import require, suppress_warnings
from hoiclip.models.modeling import HoiClipModel


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
