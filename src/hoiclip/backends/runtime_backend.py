"""A graph's runtime behind the interface of a backend: torch tensors in and out."""

from __future__ import annotations

import torch
from torch import Tensor

from hoiclip.backends.base import Backend
from hoiclip.backends.inference_graph import as_output
from hoiclip.backends.runtimes import GraphRuntime
from hoiclip.models.outputs import HoiClipOutput


class RuntimeBackend(Backend):
    """An opened graph as a backend; arguments are attributes of :class:`Backend`."""

    def __init__(self, name: str, precision: str, runtime: GraphRuntime, device: str | torch.device) -> None:
        self.name, self.precision, self.device = name, precision, torch.device(device)
        self.output_names = runtime.output_names
        self._runtime = runtime

    def __call__(self, **inputs: Tensor | None) -> HoiClipOutput:
        given = {name: None if tensor is None else tensor.cpu().numpy() for name, tensor in inputs.items()}
        found = self._runtime.compute(given)
        return as_output(self.output_names, [torch.from_numpy(found[n]).to(self.device) for n in self.output_names])
