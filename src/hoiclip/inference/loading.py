"""Open a detector, of whatever kind.

    detector = hoiclip.load("model/")
    for triplet in detector("photo.jpg"):
        print(triplet.name, triplet.score)

An exported folder is opened without torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from hoiclip.backends.manifest import Manifest, is_exported
from hoiclip.checkpoints.by_name import called, find_folder
from hoiclip.errors import HoiError
from hoiclip.files import ASSETS
from hoiclip.inference.exported_detector import ExportedDetector
from hoiclip.vocabulary import HoiVocabulary

if TYPE_CHECKING:
    import torch

    from hoiclip.inference.detector import HoiDetector
    from hoiclip.inference.training_free.detector import TrainingFreeDetector

TRAINING_FREE = "training-free"  # as a model's name
SHIPPED_MODEL = ASSETS / "playground" / "model"
SHIPPED = (
    "hoiclip: this is the playground model, it knows drawn scenes only; "
    "for photographs name another ('hoiclip models' lists those that can be had by name)"
)


@overload  # the one name that gives another kind of detector
def load(  # type: ignore[overload-overlap]
    source: Literal["training-free"],
    *,
    vocabulary: HoiVocabulary | str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    backend: str | None = None,
    precision: str | None = None,
    calibration: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    detector: str | Path | None = None,
    clip: str | Path | None = None,
) -> TrainingFreeDetector: ...
@overload
def load(
    source: str | Path | None = None,
    *,
    vocabulary: HoiVocabulary | str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    backend: str | None = None,
    precision: str | None = None,
    calibration: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    detector: str | Path | None = None,
    clip: str | Path | None = None,
    streams: int = 1,
) -> HoiDetector | ExportedDetector: ...
def load(
    source: str | Path | None = None,
    *,
    vocabulary: HoiVocabulary | str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    backend: str | None = None,
    precision: str | None = None,
    calibration: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    detector: str | Path | None = None,
    clip: str | Path | None = None,
    streams: int = 1,
) -> HoiDetector | ExportedDetector | TrainingFreeDetector:
    """Load a detector, ready to be called with images.

    Args:
        source: a model folder, a folder written by ``hoiclip export``, a hub id, or a name that
            ``hoiclip models`` lists, which is fetched once; ``training-free`` takes an object detector and
            CLIP, and needs no training on interactions.  Without one, the
            model that is shipped: it knows the playground's drawn world only, and says so.
        vocabulary: ask for these interactions instead of what was trained.
        device, batch_size, calibration: as for :class:`HoiDetector`.
        backend: "torch", "compile", "onnx" or "openvino"; an exported folder says itself.
        precision: "fp32", "bf16", "int8" or "auto", what this processor does fastest; an exported folder says itself.
        revision: branch, tag or commit of a hub id.
        token: that may read a private hub id; by default the one of ``hf auth login`` or ``HF_TOKEN``.
        detector, clip: the parts of ``training-free``, see :meth:`TrainingFreeDetector.from_parts`.
        streams: of an exported folder, see :class:`ExportedDetector`.

    Raises:
        HoiError: if there is no model there.
    """
    if source == TRAINING_FREE:
        return _training_free(backend, vocabulary, detector, clip, device, batch_size, precision)
    _refuse_parts(detector, clip)
    source = _shipped() if source is None else source
    folder = find_folder(source, revision, token)
    if is_exported(folder):
        _refuse_other_choice(source, folder, backend, precision)
        with called(source, folder):
            exported = ExportedDetector(folder, device=device, batch_size=batch_size, streams=streams)
        return exported if vocabulary is None else exported.set_vocabulary(vocabulary)
    if streams != 1:
        raise HoiError(f"streams {streams}: only exported models have them; run hoiclip export first")
    from hoiclip.inference.detector import HoiDetector  # loads torch and transformers

    with called(source, folder):
        return HoiDetector.from_folder(
            folder,
            vocabulary=vocabulary,
            device=device,
            batch_size=batch_size,
            backend=backend,
            precision=precision,
            calibration=calibration,
        )


def _shipped() -> Path:
    """The shipped model's folder; says on stderr what it is for.  Raises HoiError if there is none."""
    if not (SHIPPED_MODEL / "config.json").is_file():
        raise HoiError("no model is shipped with this version: name another ('hoiclip models' lists some)")
    print(SHIPPED, file=sys.stderr)
    return SHIPPED_MODEL


def _training_free(
    backend: str | None,
    vocabulary: HoiVocabulary | str | Path | None,
    detector: str | Path | None,
    clip: str | Path | None,
    device: str | torch.device | None,
    batch_size: int | None,
    precision: str | None,
) -> TrainingFreeDetector:
    from hoiclip.inference.training_free.detector import TrainingFreeDetector  # loads more of transformers

    if backend not in (None, "torch"):
        raise HoiError(f"backend {backend!r}: {TRAINING_FREE} computes with torch; leave it out")
    return TrainingFreeDetector.from_parts(
        vocabulary, detector=detector, clip=clip, device=device, batch_size=batch_size, precision=precision
    )


def _refuse_parts(detector: str | Path | None, clip: str | Path | None) -> None:
    """Raise HoiError if the parts of another detector are named."""
    for option, given in (("detector", detector), ("clip", clip)):
        if given is not None:
            raise HoiError(f"{option} {given}: is a part of {TRAINING_FREE}; name that as the model, or leave it out")


def _refuse_other_choice(source: str | Path, folder: str, backend: str | None, precision: str | None) -> None:
    """Raise HoiError if an exported folder is asked for what it does not hold."""
    manifest = Manifest.read(folder)
    for option, given, held in (
        ("backend", backend, manifest.format),
        ("precision", precision, manifest.precision),
    ):
        if given not in (None, held) and (option, given) != ("precision", "auto"):
            raise HoiError(
                f"--{option} {given}: {source} was exported for {manifest.format} {manifest.precision}; "
                f"leave --{option} out or export again"
            )
