"""``hoiclip export``: a folder that runs without the original weights, and without hoiclip.

    hoiclip export model/ --to openvino --precision bf16 --out model-fast/

The folder holds the graph (``model.xml`` and ``model.bin``, or ``model.onnx`` and its data),
``processor_config.json`` and ``vocabulary.json`` as every model folder, and ``export.json``, which
names format, precision, inputs and outputs.  Batch, height and width are free.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoiclip.backends import check_combination, require, unreported
from hoiclip.errors import HoiError
from hoiclip.files import filling
from hoiclip.inference import InferenceGraph
from hoiclip.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.vocabulary import HoiVocabulary

FORMATS = ("onnx", "openvino")
GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}
MANIFEST = "export.json"
CALIBRATION_IMAGES = 100

# Where the multiplications are and 8 bits do little harm.  The decoders and heads, 5 % of the work,
# decide what is found and stay in float32, and so does CLIP, whose features they compare.
EIGHT_BIT_PARTS = r"^__module\.detector\.(backbone|encoder)"


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


def export(
    model_folder: str | Path,
    out: str | Path,
    to: str = "openvino",
    precision: str = "fp32",
    *,
    calibration: str | Path | None = None,
    vocabulary: HoiVocabulary | str | None = None,
) -> Path:
    """Write a model as a graph for another runtime.

    Args:
        model_folder: model folder or hub id.
        out: folder to write.
        to: ``onnx`` or ``openvino``.
        precision: ``fp32``, or for openvino also ``bf16`` and ``int8``.
        calibration: folder of pictures for int8, of the kind that will come; the first 100 are
            read.  Without it scenes of the playground are drawn, which suits its model only.
        vocabulary: ask for these interactions instead; needs CLIP's tokenizer.

    Returns:
        The folder.

    Raises:
        HoiError: no model there, no such format or combination, a missing package, a folder that
            cannot be written.
    """
    from hoiclip.detector import HoiDetector

    if to not in FORMATS:
        raise HoiError(f"--to {to}: unknown; choose one of {', '.join(FORMATS)}")
    check_combination(to, precision)
    require("onnxscript" if to == "onnx" else "openvino", to)
    if is_exported(model_folder):
        raise HoiError(f"{model_folder}: is exported already; export from the model folder it was made of")
    detector = HoiDetector.from_pretrained(model_folder, device="cpu")
    if vocabulary is not None:
        detector.set_vocabulary(vocabulary)
    assert detector.model is not None
    model, processor = detector.model, detector.processor
    pictures = calibration_inputs(processor, calibration) if precision == "int8" else None
    inputs, outputs = InferenceGraph.names(model)
    shapes = {name: _SHAPES[name](model) for name in inputs}
    manifest = Manifest(to, precision, GRAPHS[to], shapes, list(outputs), len(pictures) if pictures else None)
    with filling(out) as unfinished:
        if to == "onnx":
            write_onnx(model, unfinished / manifest.graph)
        else:
            graph = openvino_graph(model, precision, pictures)
            require("openvino", to).save_model(graph, unfinished / manifest.graph, compress_to_fp16=False)
        processor.save_pretrained(unfinished)
        (unfinished / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    return Path(out)


_SHAPES: dict[str, Any] = {
    "pixel_values": lambda model: ["batch", 3, "height", "width"],
    "pixel_mask": lambda model: ["batch", "height", "width"],
    "clip_pixel_values": lambda model: ["batch", 3, *[model.config.clip.vision_config.image_size] * 2],
}


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
    graph.reshape({n: [s if isinstance(s, int) else -1 for s in _SHAPES[n](model)] for n in function.input_names})
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


def calibration_inputs(
    processor: HoiClipProcessor, source: str | Path | None = None, limit: int = CALIBRATION_IMAGES
) -> list[dict[str, Tensor]]:
    """The processor's outputs for some pictures.

    Args:
        processor: of the model.
        source: folder of pictures; None draws scenes of the playground, and says so if the model
            is made for something else.
        limit: so many pictures at most.

    Raises:
        HoiError: if there are no pictures or one cannot be read.
    """
    from hoiclip.detector import find_images
    from hoiclip.processing import load_image

    if source is not None:
        pictures = [load_image(path) for path in find_images([source])[:limit]]
    else:
        from hoiclip.playground.dataset import PlaygroundDataset

        if not processor.vocabulary.name.startswith("playground"):
            print(
                "hoiclip: int8 is calibrated with drawn scenes; for photographs give a folder of some (--calibration)",
                file=sys.stderr,
            )
        scenes = PlaygroundDataset(seed=1, length=limit, split="train")
        pictures = [scenes[i][0] for i in range(limit)]
    return [dict(processor([picture])) for picture in pictures]


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
