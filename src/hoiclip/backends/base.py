"""The interface of a backend, and which backends and precisions there are.

    torch      the model itself, as trained; the only one that can hand out attention maps
    compile    torch.compile; needs a C++ compiler, and minutes at the first image
    onnx       onnxruntime
    openvino   OpenVINO: the fastest on CPUs

``fp32`` gives the numbers of the model itself to about 1e-4, in every backend.  ``bf16`` and
``int8`` are faster and differ more; docs/speed.md says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hoiclip.errors import HoiError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hoiclip.models.outputs import HoiClipOutput

PRECISIONS = ("fp32", "bf16", "int8")


@dataclass(frozen=True)
class BackendKind:
    """What there is to know of a backend before it is opened.

    Attributes:
        precisions: those it has.
        package: to be installed with the extra of the backend's name; None where torch is enough.
        on_cpu: computes on the CPU unless a device is named.
    """

    precisions: tuple[str, ...]
    package: str | None = None
    on_cpu: bool = False


BACKENDS = {
    "torch": BackendKind(("fp32", "bf16")),
    "compile": BackendKind(("fp32", "bf16")),
    "onnx": BackendKind(("fp32",), "onnxruntime", on_cpu=True),
    "openvino": BackendKind(("fp32", "bf16", "int8"), "openvino", on_cpu=True),
}


class Backend:
    """Compute a model's outputs from its inputs.

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
        """Whether the model has the zero-shot logits that the training-free enhancement needs."""
        return "zero_shot_logits" in self.output_names


def check_combination(backend: str, precision: str) -> None:
    """Raise HoiError if there is no such backend or precision, or not both together."""
    if backend not in BACKENDS:
        raise HoiError(f"--backend {backend}: unknown; choose one of {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise HoiError(f"--precision {precision}: unknown; choose one of {', '.join(PRECISIONS)}")
    own = BACKENDS[backend].precisions
    if precision not in own:
        others = " or ".join(name for name, kind in BACKENDS.items() if precision in kind.precisions)
        raise HoiError(
            f"--precision {precision}: the {backend} backend has {' and '.join(own)} only; use --backend {others}"
        )
