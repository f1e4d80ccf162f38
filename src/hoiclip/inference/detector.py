"""Images, files and folders in, detections out.

    detector = hoiclip.load("model/")
    for triplet in detector("photo.jpg"):
        print(triplet.name, triplet.score)

The only module that knows devices and batches; no maths.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from PIL import Image

from hoiclip.backends.base import BACKENDS, Backend, check_combination
from hoiclip.backends.devices import choose_device
from hoiclip.backends.manifest import Manifest, is_exported
from hoiclip.backends.registry import open_backend
from hoiclip.backends.torch_backend import ModelBackend
from hoiclip.checkpoints.folders import called, find_folder, load_model
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.calibration import Calibration
from hoiclip.files import ASSETS
from hoiclip.inference.calibration import calibration_inputs
from hoiclip.inference.image_detector import ImageDetector
from hoiclip.inference.prefetch import PreparedImage, prepare
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.vocabulary import HoiVocabulary

if TYPE_CHECKING:
    from hoiclip.inference.training_free.detector import TrainingFreeDetector

TRAINING_FREE = "training-free"  # as a model's name
SHIPPED_MODEL = ASSETS / "playground" / "model"
READERS = 8  # threads that decode and resize while the model works, on at most half of the cores
ImageLike = str | Path | Image.Image | np.ndarray


class HoiDetector(ImageDetector):
    """A model and its processor on one device.

    Args:
        model: a trained model; put into evaluation mode.  None if ``exported`` is given.
        processor: its processor.
        device: ``"cpu"``, ``"cuda"``, ...; by default the best one there is, for onnx and openvino
            the CPU.
        batch_size: how many images of equal resized size share a forward pass; by default 1 on a
            CPU, where batches bring nothing, and 8 elsewhere.
        backend, precision: what computes the forward pass, see :mod:`hoiclip.backends.base`.
        calibration: folder of images that int8 is calibrated with.
        exported: folder of :func:`hoiclip.inference.export.export` that takes the place of a model.

    Attributes:
        backend: takes the processor's outputs, gives a :class:`HoiClipOutput`.
        model: None where an exported graph does the work.
        folder: what the detector was loaded from, on this machine; None if it was made of parts.
        probabilities: what ``hoiclip calibrate`` made of the scores; None where it was not called.

    Raises:
        HoiError: an impossible combination, or a package that is not installed.
    """

    def __init__(
        self,
        model: HoiClipModel | None,
        processor: HoiClipProcessor,
        *,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        backend: str = "torch",
        precision: str = "fp32",
        calibration: str | Path | None = None,
        exported: Path | None = None,
    ) -> None:
        on_cpu = exported is not None or (backend in BACKENDS and BACKENDS[backend].on_cpu)
        self.device = choose_device("cpu" if on_cpu and device in (None, "auto") else device)
        self.processor = processor
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 8)
        if model is not None:
            place = torch.device("cpu") if on_cpu else self.device
            model = model.to(place).eval()  # type: ignore[arg-type]
        self.model = model
        self.folder = exported
        self.probabilities: Calibration | None = None
        self._calibration, self._process = calibration, os.getpid()
        if exported is not None:
            self.backend: Backend = open_backend(None, device=self.device, folder=exported)
            _refuse_other_vocabulary(self.backend, processor.vocabulary, exported)
        else:
            self.backend = self._open(backend, precision)

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
        """Load a model folder, an exported folder or a hub id.

        Args:
            source: where it is.
            vocabulary: ask for these interactions instead of what was trained.
            device, batch_size, calibration: as in the constructor.
            backend, precision: as in the constructor; an exported folder says itself which it is for.
            revision, token: of a hub id, see :func:`hoiclip.hub.local_folder`.

        Raises:
            HoiError: if there is no such folder or no whole hoiclip model in it, no tokenizer for
                another vocabulary, or as the constructor.
        """
        folder = find_folder(source, revision, token)
        with called(source, folder):
            detector = cls._from_folder(folder, vocabulary, device, batch_size, backend, precision, calibration)
        detector.folder = Path(folder)
        return detector

    @classmethod
    def _from_folder(
        cls,
        source: str,
        vocabulary: HoiVocabulary | str | Path | None,
        device: str | torch.device | None,
        batch_size: int | None,
        backend: str | None,
        precision: str | None,
        calibration: str | Path | None,
    ) -> HoiDetector:
        processor = HoiClipProcessor.from_pretrained(source)
        probabilities = Calibration.read(source, processor.vocabulary)
        if is_exported(source):
            _refuse_other_choice(source, backend, precision)
            detector = cls(None, processor, exported=Path(source), device=device, batch_size=batch_size)
            detector._calibrate(probabilities)
            return detector if vocabulary is None else detector.set_vocabulary(vocabulary)
        backend, precision = backend or "torch", precision or "fp32"
        check_combination(backend, precision)  # before minutes of loading
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
        detector._calibrate(probabilities)
        return detector

    def _calibrate(self, probabilities: Calibration | None) -> None:
        if probabilities is not None:
            self.probabilities, self.default_threshold = probabilities, probabilities.threshold

    def _shown(self, found: Detections, threshold: float | None) -> Detections:
        if self.probabilities is None:
            return super()._shown(found, threshold)
        assert found.interaction_scores is not None
        made = self.probabilities
        probabilities = made.probabilities(found.interaction_scores)
        found = replace(found, interaction_scores=probabilities, calibration=(made.temperature, made.bias))
        least = made.least(found.vocabulary)[found.hoi_ids] if threshold is None else threshold
        return found[found.confidence >= least]

    @property
    def vocabulary(self) -> HoiVocabulary:
        """What the detector is asked for."""
        return self.processor.vocabulary

    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> HoiDetector:
        """Ask for other interactions, trained on or not.

        Raises:
            HoiError: without a tokenizer, or if an exported graph does the work: its vocabulary is fixed.
        """
        if self.model is None:
            raise HoiError(
                "an exported model keeps its vocabulary: export it again with another "
                '(hoiclip export MODEL --interactions "ride unicycle, ...")'
            )
        self.model.set_vocabulary(vocabulary, tokenizer)
        assert self.model.vocabulary is not None
        self.processor.vocabulary = self.model.vocabulary
        if not isinstance(self.backend, ModelBackend):  # it holds a copy with the old vocabulary
            self.backend = self._open(self.backend.name, self.backend.precision)
        return self

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        license: str | None = None,
    ) -> str:
        """Push all that :func:`load` needs, and a model card, in one commit: ``hoiclip.load("owner/name")``.

        Args:
            repository: ``owner/name``; made if there is none.
            private, token, revision: as for :func:`hoiclip.hub.push_files`.
            commit_message: by default what is pushed.
            license: of the model, as the hub names it (``apache-2.0``); by default the one that a README.md
                in the folder states, or none.

        Returns:
            Address of the commit.

        Raises:
            HoiError: as :func:`hoiclip.hub.push_files`; what is on the hub then stays as it was.
        """
        from hoiclip.inference.push import push_detector  # knows detectors, as this module does not know the hub

        return push_detector(
            self,
            repository,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            license=license,
        )

    def set_size(self, shorter: int) -> HoiDetector:
        """Resize images to so many pixels on the shorter side from now on; the limit of the longer one follows.

        Smaller images are faster and cost accuracy.

        Raises:
            HoiError: outside 32..4096 pixels.
        """
        if not 32 <= shorter <= 4096:
            raise HoiError(f"size {shorter}: is no size for a detector; give 32 to 4096 pixels")
        self.processor.longest_edge = round(self.processor.longest_edge * shorter / self.processor.shortest_edge)
        self.processor.shortest_edge = shorter
        return self

    def _prepare(self, image: Image.Image) -> PreparedImage:
        return PreparedImage(self.processor.views(image), (image.height, image.width))

    def _read(self, path: Path | str, *, keep_image: bool, draft: bool) -> PreparedImage | HoiError:
        return prepare(path, self.processor, keep_image=keep_image, draft=draft)

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
        return [self._shown(detections, threshold)[:top_k].clipped() for detections in found]


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
) -> HoiDetector: ...
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
) -> HoiDetector | TrainingFreeDetector:
    """Load a detector, ready to be called with images.

    Args:
        source: a model folder, a folder written by ``hoiclip export``, a hub id, or a name that
            ``hoiclip models`` lists, which is fetched once; ``training-free`` takes an object detector and
            CLIP, and needs no training on interactions.  Without one,
            the model that is shipped: it knows the playground's drawn world only, and says so.
        vocabulary: ask for these interactions instead of what was trained.
        device, batch_size, calibration: as for :class:`HoiDetector`.
        backend: "torch", "compile", "onnx" or "openvino"; an exported folder says itself.
        precision: "fp32", "bf16" or "int8"; an exported folder says itself.
        revision: branch, tag or commit of a hub id.
        token: that may read a private hub id; by default the one of ``hf auth login`` or ``HF_TOKEN``.

        detector, clip: the parts of ``training-free``, see :meth:`TrainingFreeDetector.from_parts`.

    Raises:
        HoiError: if there is no model there.
    """
    if source == TRAINING_FREE:
        return _training_free(backend, vocabulary, detector, clip, device, batch_size, precision)
    for option, given in (("detector", detector), ("clip", clip)):
        if given is not None:
            raise HoiError(f"{option} {given}: is a part of {TRAINING_FREE}; name that as the model, or leave it out")
    if source is None:
        if not (SHIPPED_MODEL / "config.json").is_file():
            raise HoiError("no model is shipped with this version: name another ('hoiclip models' lists some)")
        print(
            "hoiclip: this is the playground model, it knows drawn scenes only; "
            "for photographs name another ('hoiclip models' lists those that can be had by name)",
            file=sys.stderr,
        )
        source = SHIPPED_MODEL
    return HoiDetector.from_pretrained(
        source,
        vocabulary=vocabulary,
        device=device,
        batch_size=batch_size,
        backend=backend,
        precision=precision,
        calibration=calibration,
        revision=revision,
        token=token,
    )


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


def _refuse_other_vocabulary(backend: Backend, vocabulary: HoiVocabulary, folder: Path) -> None:
    """Raise HoiError if an exported graph scores other classes than the vocabulary beside it names."""
    named = {"interaction_logits": vocabulary.num_interactions, "object_logits": len(vocabulary.objects) + 1}
    for name, size in named.items():
        held = backend.output_sizes.get(name)
        if held not in (None, size):
            raise HoiError(
                f"{folder}: its vocabulary has {size} classes where the graph has {held} in {name}; "
                "export the model again"
            )


def _refuse_other_choice(source: str | Path, backend: str | None, precision: str | None) -> None:
    """Raise HoiError if an exported folder is asked for what it does not hold."""
    manifest = Manifest.read(source)
    for option, given, held in (
        ("backend", backend, manifest.format),
        ("precision", precision, manifest.precision),
    ):
        if given not in (None, held):
            raise HoiError(
                f"--{option} {given}: {source} was exported for {manifest.format} {manifest.precision}; "
                f"leave --{option} out or export again"
            )
