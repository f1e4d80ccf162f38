"""Make an OpenVINO graph of a model: in float32, with the ResNet in bfloat16, or quantised to int8."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoiclip.backends.inference_graph import InferenceGraph, input_shapes
from hoiclip.backends.optional_packages import require, suppress_warnings
from hoiclip.errors import HoiError
from hoiclip.models.modeling import HoiClipModel

# Where the multiplications are and 8 bits do little harm: the ResNet and the feed-forward layers of DETR's encoder.
# The sums of residual branches in the last two stages, whose maps are small, stay in float32: rounded once a block,
# their errors add up.  So do the decoders and heads, which decide what is found.  Of the rest, InferenceGraph computes
# in bfloat16 what bears that, and 8 bits would not make faster.  benchmarks/int8.py measures each part.
EIGHT_BIT_PARTS = r"^(?!.*(stages\.[23]|encoder).*aten::add)__module\.detector\.(backbone|encoder\..*(fc1|fc2))"


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
    function = InferenceGraph(model, precision=precision).cpu()
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


def quantized(graph: Any, calibration: Sequence[Mapping[str, Any]], parts: str = EIGHT_BIT_PARTS) -> Any:
    """Quantise convolutions and matrix products to 8 bits (NNCF, post-training).

    Args:
        graph: an ``openvino.Model`` in float32 or bfloat16.
        calibration: the processor's outputs, from which the range of each activation is read.
        parts: regular expression of the names of what is quantised.
    """
    nncf = require("nncf", "openvino")
    names = [
        o.get_friendly_name() for o in graph.get_ops() if o.get_type_name() not in ("Constant", "Parameter", "Result")
    ]
    kept = [name for name in names if not re.match(parts, name)]
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
