"""The detector whose model torch computes, or a graph made of it just now.

The only module that knows devices and batches; no maths.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hoiclip.backends.base import BACKENDS, Backend, check_combination
from hoiclip.backends.devices import choose_device
from hoiclip.backends.manifest import is_exported
from hoiclip.backends.precision import AUTO, fastest_precision
from hoiclip.backends.registry import open_backend
from hoiclip.backends.torch_backend import ModelBackend
from hoiclip.checkpoints.by_name import called, find_folder
from hoiclip.checkpoints.folders import load_model
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.inference.calibration import calibration_inputs
from hoiclip.inference.loaded_detector import LoadedDetector
from hoiclip.inference.prefetch import PreparedImage
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.vocabulary import HoiVocabulary


class HoiDetector(LoadedDetector):
    """A model and its processor on one device.

    Args:
        model: a trained model; put into evaluation mode.
        processor: its processor.
        device: ``"cpu"``, ``"cuda"``, ...; by default the best one there is, for onnx and openvino
            the CPU.
        batch_size: how many images of equal resized size share a forward pass; by default 1 on a
            CPU, where batches bring nothing, and 8 elsewhere.
        backend, precision: what computes the forward pass, see :mod:`hoiclip.backends.base`; precision "auto" is
            what :func:`~hoiclip.backends.precision.fastest_precision` chooses.
        calibration: folder of images that int8 is calibrated with.

    Attributes:
        backend: takes the processor's outputs, gives a :class:`HoiClipOutput`.
        model: what was given, on the device.
        folder: what the detector was loaded from, on this machine; None if it was made of parts.

    Raises:
        HoiError: an impossible combination, or a package that is not installed.
    """

    device: torch.device
    preparation: HoiClipProcessor

    def __init__(
        self,
        model: HoiClipModel,
        processor: HoiClipProcessor,
        *,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        backend: str = "torch",
        precision: str = "fp32",
        calibration: str | Path | None = None,
    ) -> None:
        on_cpu = backend in BACKENDS and BACKENDS[backend].on_cpu
        self.device = choose_device("cpu" if on_cpu and device in (None, "auto") else device)
        self.preparation = processor
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 8)
        self.model: HoiClipModel = model.to(torch.device("cpu") if on_cpu else self.device).eval()  # type: ignore[arg-type]
        self.folder: Path | None = None
        self._calibration, self._process = calibration, os.getpid()
        if precision == AUTO and backend in BACKENDS:
            precision = fastest_precision(backend, self.device, calibrated=calibration is not None)
        self.backend = self._open(backend, precision)

    @property
    def processor(self) -> HoiClipProcessor:
        """As given."""
        return self.preparation

    def _open(self, backend: str, precision: str) -> Backend:
        examples = None
        if backend == "openvino" and precision == "int8":
            examples = calibration_inputs(self.processor, self._calibration)
        return open_backend(self.model, backend=backend, precision=precision, device=self.device, calibration=examples)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        vocabulary: HoiVocabulary | str | Path | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        backend: str | None = None,
        precision: str | None = None,
        calibration: str | Path | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> HoiDetector:
        """Load a model folder or hub id.

        Args:
            source: where it is.
            vocabulary: ask for these interactions instead of what was trained.
            device, batch_size, calibration: as in the constructor.
            backend, precision: as in the constructor.
            revision, token: of a hub id, see :func:`hoiclip.hub.local_folder`.

        Raises:
            HoiError: if there is no such folder or no whole hoiclip model in it, or an exported one, no tokenizer
                for another vocabulary, or as the constructor.
        """
        folder = find_folder(source, revision, token)
        with called(source, folder):
            return cls.from_folder(
                folder,
                vocabulary=vocabulary,
                device=device,
                batch_size=batch_size,
                backend=backend,
                precision=precision,
                calibration=calibration,
            )

    @classmethod
    def from_folder(
        cls,
        source: str,
        *,
        vocabulary: HoiVocabulary | str | Path | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        backend: str | None = None,
        precision: str | None = None,
        calibration: str | Path | None = None,
    ) -> HoiDetector:
        """:meth:`from_pretrained` for a folder of this machine."""
        if is_exported(source):
            raise HoiError(f"{source}: is exported already, without the model it was made of; hoiclip.load opens it")
        processor = HoiClipProcessor.from_pretrained(source)
        backend, precision = backend or "torch", precision or "fp32"
        check_combination(backend, "fp32" if precision == AUTO else precision)  # before minutes of loading
        model = load_model(source)
        image_size = model.config.clip.vision_config.image_size
        if model.clip is not None and processor.clip_size != image_size:
            raise HoiError(
                f"{source}: clip_size in processor_config.json is {processor.clip_size}, but this CLIP looks at "
                f"{image_size} pixels; save the model again"
            )
        if vocabulary is not None:
            model.set_vocabulary(vocabulary)
            assert model.vocabulary is not None
            processor.vocabulary = model.vocabulary
        detector = cls(
            model,
            processor,
            device=device,
            batch_size=batch_size,
            backend=backend,
            precision=precision,
            calibration=calibration,
        )
        detector.folder = Path(source)
        detector._calibrate(source)
        return detector

    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> HoiDetector:
        """Ask for other interactions, trained on or not.

        Raises:
            HoiError: without a tokenizer.
        """
        self.model.set_vocabulary(vocabulary, tokenizer)
        assert self.model.vocabulary is not None
        self.processor.vocabulary = self.model.vocabulary
        if not isinstance(self.backend, ModelBackend):  # it holds a copy with the old vocabulary
            self.backend = self._open(self.backend.name, self.backend.precision)
        return self

    @torch.inference_mode()
    def _detect_batch(
        self,
        batch: Sequence[PreparedImage],
        *,
        top_k: int,
        threshold: float | None,
        zero_shot_top_k: int | None,
        nms: bool,
    ) -> list[Detections]:
        """One forward pass over images whose views have one size."""
        self._same_process(self._process)
        inputs = self.processor.together([(prepared.views[0], prepared.views[1]) for prepared in batch]).to(self.device)
        try:
            outputs = self.backend(**inputs)
        except torch.OutOfMemoryError:
            raise HoiError(
                f"{self.device}: does not have enough memory for a batch of {len(batch)}; use --device cpu"
            ) from None
        sizes = [prepared.size for prepared in batch]
        found = self.processor.post_process(outputs, sizes, zero_shot_top_k=zero_shot_top_k, nms=nms)
        return [self._shown(one, threshold)[:top_k].clipped() for one in found]
