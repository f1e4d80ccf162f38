"""A model as a graph for another runtime: ONNX or OpenVINO, batch, height and width free."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoiclip.errors import HoiError
from hoiclip.inference import InferenceGraph
from hoiclip.modeling import HoiClipModel

FORMATS = ("onnx", "openvino")
MANIFEST = "export.json"

# Where the multiplications are and 8 bits do little harm.  The decoders and heads, 5 % of the work,
# decide what is found and stay in float32, and so does CLIP, whose features they compare.
EIGHT_BIT_PARTS = r"^__module\.detector\.(backbone|encoder)"


# --- what an exported folder says of itself ----------------------------------------------------------


@dataclass
class Manifest:
    """What ``export.json`` says.

    Attributes:
        format: ``onnx`` or ``openvino``.
        precision: ``fp32``, ``bf16`` or ``int8``.
        graph: file name of the graph, in the same folder.
        inputs: shape by name; a word stands for a size that is free.
        outputs: names, in the graph's order.
        calibration: number of pictures that int8 was calibrated with.
    """

    format: str
    precision: str
    graph: str
    inputs: dict[str, list[int | str]]
    outputs: list[str]
    calibration: int | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """From an exported folder.  Raises HoiError if that is not what it is."""
        path = Path(folder) / MANIFEST
        try:
            manifest = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise HoiError(f"{path}: cannot be read as hoiclip wrote it; export the model again") from error
        if manifest.format not in FORMATS or not (path.parent / manifest.graph).is_file():
            raise HoiError(f"{path}: names a graph that is not there; export the model again")
        return manifest


def is_exported(folder: str | Path) -> bool:
    """Whether a folder was written by :func:`export`."""
    return (Path(folder) / MANIFEST).is_file()


def input_shapes(model: HoiClipModel) -> dict[str, list[int | str]]:
    """Of each input of the model's graph; a word stands for a size that is free."""
    side = model.config.clip.vision_config.image_size
    shapes: dict[str, list[int | str]] = {
        "pixel_values": ["batch", 3, "height", "width"],
        "pixel_mask": ["batch", "height", "width"],
        "clip_pixel_values": ["batch", 3, side, side],
    }
    return {name: shapes[name] for name in InferenceGraph.names(model)[0]}


# --- onnx ------------------------------------------------------------------------------------------


@torch.no_grad()
def write_onnx(model: HoiClipModel, path: Path) -> None:
    """The model as ONNX, opset 18, weights in a second file beside it.

    Raises:
        HoiError: if onnxscript is not installed.
    """
    require("onnxscript", "onnx")
    graph = InferenceGraph(model).cpu()
    free = torch.export.Dim.DYNAMIC
    axes = {"pixel_values": (0, 2, 3), "pixel_mask": (0, 1, 2), "clip_pixel_values": (0,)}
    with quietly():
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


# --- openvino --------------------------------------------------------------------------------------


@torch.no_grad()
def openvino_graph(
    model: HoiClipModel, precision: str = "fp32", calibration: Iterable[Mapping[str, Tensor]] | None = None
) -> Any:
    """The model as an ``openvino.Model`` with named inputs and outputs and free sizes.

    Args:
        model: read, not changed.
        precision: where bf16 and int8 are used the graph itself says so; a runtime need not be told.
        calibration: the processor's outputs for some pictures, for int8.

    Raises:
        HoiError: if openvino, or nncf for int8, is not installed, or int8 lacks pictures.
    """
    openvino = require("openvino", "openvino")
    if precision == "int8":
        require("nncf", "openvino")
        if calibration is None:
            raise HoiError("--precision int8 needs pictures to calibrate with: give --calibration FOLDER")
    function = InferenceGraph(model, half=precision == "bf16").cpu()
    example = function.example()
    with quietly():
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
    """Convolutions and matrix products of ResNet and encoder in 8 bits (NNCF post-training quantisation).

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
    pictures = [{n: np.asarray(t) for n, t in inputs.items() if n in wanted} for inputs in calibration]
    with quietly():
        return nncf.quantize(
            graph,
            nncf.Dataset(pictures),
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        )


# --- packages that not everybody needs ---------------------------------------------------------------


def require(package: str, extra: str) -> Any:
    """A package that not everybody needs.

    Raises:
        HoiError: if it is not installed, with the command that installs it.
    """
    try:
        with unreported():
            return importlib.import_module(package)
    except ImportError as error:
        raise HoiError(f"--backend {extra} needs {package}: pip install 'hoiclip[{extra}]'") from error


@contextlib.contextmanager
def unreported() -> Iterator[None]:
    """Without telling the makers: OpenVINO and NNCF send over the network what they are used for.

    They do so from forks of this process, which with a model in memory is not even cheap.
    """
    try:
        from openvino_telemetry.utils.sender import TelemetrySender
    except ImportError:
        yield
        return
    send = TelemetrySender.send
    TelemetrySender.send = lambda *args, **kwargs: None
    try:
        yield
    finally:
        TelemetrySender.send = send


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings and progress of tracers and quantisers; their errors still come through."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), unreported():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
