"""The description file of an exported folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hoiclip.errors import HoiError

INPUTS = ("pixel_values", "pixel_mask", "clip_pixel_values")
OUTPUTS = ("human_boxes", "object_boxes", "object_logits", "interaction_logits", "zero_shot_logits")
FORMATS = ("onnx", "openvino")
MANIFEST = "export.json"


# --- what an exported folder says of itself ----------------------------------------------------------


@dataclass
class Manifest:
    """The content of ``export.json``.

    Attributes:
        format: ``onnx`` or ``openvino``.
        precision: ``fp32``, ``bf16`` or ``int8``.
        graph: file name of the graph, in the same folder.
        inputs: shape by name; a word stands for a size that is free.
        outputs: names, in the graph's order.
        calibration: number of images that int8 was calibrated with.
    """

    format: str
    precision: str
    graph: str
    inputs: dict[str, list[int | str]]
    outputs: list[str]
    calibration: int | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """Read it from an exported folder.  Raises HoiError if it is none."""
        path = Path(folder) / MANIFEST
        try:
            manifest = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise HoiError(f"{path}: cannot be read as hoiclip wrote it; export the model again") from error
        if manifest.outputs not in (list(OUTPUTS), list(OUTPUTS[:4])):  # without CLIP there is no fifth
            raise HoiError(f"{path}: its outputs are not those of a hoiclip model; export the model again")
        if manifest.format not in FORMATS or not os.path.isfile(path.parent / str(manifest.graph)):
            raise HoiError(f"{path}: names a graph that is not there; export the model again")
        return manifest


def is_exported(folder: str | Path) -> bool:
    """Whether a folder was written by :func:`export`."""
    return (Path(folder) / MANIFEST).is_file()
