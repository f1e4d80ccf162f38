"""``hoiclip export``: a folder that runs without the original weights, and without hoiclip.

    hoiclip export model/ --to openvino --precision bf16 --out model-fast/

The folder holds the graph (``model.xml`` and ``model.bin``, or ``model.onnx`` and its data),
``processor_config.json``, ``vocabulary.json`` and the ``calibration.json`` of a calibrated model as every
model folder, and ``export.json``, which names format, precision, inputs and outputs.  Batch, height and
width are free.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from hoiclip.backends.base import check_combination
from hoiclip.backends.inference_graph import InferenceGraph, input_shapes
from hoiclip.backends.manifest import FORMATS, MANIFEST, Manifest, is_exported
from hoiclip.backends.onnx import write_onnx
from hoiclip.backends.openvino import openvino_graph
from hoiclip.backends.optional_packages import require
from hoiclip.backends.precision import AUTO, fastest_precision
from hoiclip.checkpoints.by_name import find_folder
from hoiclip.errors import HoiError
from hoiclip.files import atomic_folder
from hoiclip.inference.calibration import calibration_inputs
from hoiclip.inference.detector import HoiDetector
from hoiclip.vocabulary import HoiVocabulary

GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}


def export(
    model_folder: str | Path,
    out: str | Path,
    to: str = "openvino",
    precision: str = "fp32",
    *,
    calibration: str | Path | None = None,
    vocabulary: HoiVocabulary | str | None = None,
    size: int | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """Write a model as a graph for another runtime.

    Args:
        model_folder: model folder or hub id.
        out: folder to write.
        to: ``onnx`` or ``openvino``.
        precision: ``fp32``, or for openvino also ``bf16`` and ``int8``; or ``auto``, see
            :func:`~hoiclip.backends.precision.fastest_precision`.
        calibration: folder of images for int8, of the kind that will come; the first 100 are
            read.  Without it scenes of the playground are drawn, which suits its model only.
        vocabulary: ask for these interactions instead; needs CLIP's tokenizer.
        size: the shorter side that images are resized to; by default as in training.
        revision, token: of a hub id.

    Returns:
        The folder.

    Raises:
        HoiError: no model there, no such format or combination, a missing package, a folder that
            cannot be written.
    """
    if to not in FORMATS:
        raise HoiError(f"--to {to}: unknown; choose one of {', '.join(FORMATS)}")
    if precision == AUTO:
        precision = fastest_precision(to, torch.device("cpu"), calibrated=calibration is not None)
    check_combination(to, precision)
    require("onnxscript" if to == "onnx" else "openvino", to)
    folder = find_folder(model_folder, revision, token)
    if is_exported(folder):
        raise HoiError(f"{model_folder}: is exported already; export from the model folder it was made of")
    detector = HoiDetector.from_pretrained(model_folder, device="cpu", revision=revision, token=token)
    if vocabulary is not None:
        detector.set_vocabulary(vocabulary)
    if size is not None:
        detector.set_size(size)
    images = calibration_inputs(detector.processor, calibration) if precision == "int8" else None
    with atomic_folder(out) as unfinished:
        _write(detector, unfinished, to, precision, images)
    return Path(out)


def _write(
    detector: HoiDetector, folder: Path, to: str, precision: str, images: list[dict[str, Tensor]] | None
) -> None:
    """Write all that an exported folder holds; ``images`` are those that int8 is calibrated with."""
    model, processor = detector.model, detector.processor
    outputs = list(InferenceGraph.names(model)[1])
    manifest = Manifest(to, precision, GRAPHS[to], input_shapes(model), outputs, len(images) if images else None)
    if to == "onnx":
        write_onnx(model, folder / manifest.graph)
    else:
        graph = openvino_graph(model, precision, images)
        require("openvino", to).save_model(graph, folder / manifest.graph, compress_to_fp16=False)
    processor.save_pretrained(folder)
    if detector.probabilities is not None:
        detector.probabilities.for_vocabulary(processor.vocabulary).save(folder)
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
