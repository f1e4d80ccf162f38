"""torch: the model itself, or its inference form, compiled if asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from hoiclip.backends.base import Backend
from hoiclip.backends.inference_graph import InferenceGraph, as_output
from hoiclip.errors import HoiError
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.outputs import HoiClipOutput


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
        if self.device.type == "cpu":  # the order convolutions like best there
            inputs["pixel_values"] = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
        return self.model(**inputs)


class GraphBackend(Backend):
    """torch with the work of training left out (:class:`InferenceGraph`), compiled if asked for.

    Compiled for every size at once (``dynamic``), so that images of new sizes bring no new compilation.
    """

    def __init__(self, model: HoiClipModel, name: str, precision: str, device: torch.device) -> None:
        self.name, self.precision, self.device = name, precision, device
        graph = InferenceGraph(model, precision=precision).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.input_names, self.output_names = graph.input_names, graph.output_names
        self.run = torch.compile(graph, dynamic=True) if name == "compile" else graph

    def __call__(self, **inputs: Tensor | None) -> HoiClipOutput:
        given = _complete_inputs(inputs, self.input_names)
        with torch.no_grad():
            try:
                return as_output(self.output_names, self.run(**given))
            except torch._dynamo.exc.BackendCompilerFailed as error:
                reason = str(error).strip().splitlines()[0]
                raise HoiError(
                    f"--backend compile: torch.compile failed here ({reason}); install a C++ compiler or use openvino"
                ) from error


def device_or_cpu(device: str | torch.device | None) -> torch.device:
    return torch.device("cpu" if device is None else device)


def _complete_inputs(inputs: Mapping[str, Tensor | None], names: Iterable[str]) -> dict[str, Tensor]:
    """Keep only what the graph takes; without a mask there is no padding."""
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
