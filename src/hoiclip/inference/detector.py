"""Images, files and folders in, detections out.

    detector = hoiclip.load("model/")
    for triplet in detector("photo.jpg"):
        print(triplet.name, triplet.score)

The only module that knows devices and batches; no maths.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image

from hoiclip.backends.base import BACKENDS, Backend, check_combination
from hoiclip.backends.devices import choose_device
from hoiclip.backends.manifest import Manifest, is_exported
from hoiclip.backends.registry import open_backend
from hoiclip.backends.torch_backend import ModelBackend
from hoiclip.batching import equal_size_batches
from hoiclip.checkpoints.folders import called, find_folder, load_model
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.files import ASSETS
from hoiclip.images import as_image, load_image, to_rgb
from hoiclip.inference.calibration import calibration_inputs
from hoiclip.inference.prefetch import BATCHES_TO_CHOOSE_FROM, PreparedImage, detect_stream, prepare
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.vocabulary import HoiVocabulary

SHIPPED_MODEL = ASSETS / "playground" / "model"
READERS = 8  # threads that decode and resize while the model works, on at most half of the cores
ImageLike = str | Path | Image.Image | np.ndarray


class HoiDetector:
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
        if is_exported(source):
            _refuse_other_choice(source, backend, precision)
            detector = cls(None, processor, exported=Path(source), device=device, batch_size=batch_size)
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
        return cls(
            model,
            processor,
            device=device,
            batch_size=batch_size,
            backend=backend,
            precision=precision,
            calibration=calibration,
        )

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

    @overload  # a path is a sequence of letters too, but never taken for one
    def __call__(  # type: ignore[overload-overlap]
        self,
        images: ImageLike,
        *,
        top_k: int = 10,
        threshold: float = 0.3,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> Detections: ...
    @overload
    def __call__(
        self,
        images: Sequence[ImageLike],
        *,
        top_k: int = 10,
        threshold: float = 0.3,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> list[Detections]: ...
    def __call__(
        self,
        images: Any,
        *,
        top_k: int = 10,
        threshold: float = 0.3,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> Detections | list[Detections]:
        """Detect the triplets of one image, or of each in a list.

        A result never depends on what else is in the call: only images of equal resized size
        share a batch, so none is padded.  A list is read a few images at a time.

        Args:
            images: path, Pillow image or (h, w, 3) uint8 array, or a list of them.
            top_k: the most triplets of an image.
            threshold: least probability of the interaction, 0..1.
            zero_shot_top_k: K of the training-free enhancement (paper: 10); None for none.
            nms: drop near copies.

        Raises:
            HoiError: if a file is no readable image.
        """
        one = not isinstance(images, (list, tuple))
        given = [images] if one else images
        options: dict[str, Any] = {
            "top_k": top_k,
            "threshold": threshold,
            "zero_shot_top_k": zero_shot_top_k,
            "nms": nms,
        }
        results: dict[int, Detections] = {}
        at_once = BATCHES_TO_CHOOSE_FROM * self.batch_size  # a long list is not in memory as a whole
        for start in range(0, len(given), at_once):
            prepared = ((i, self._prepare(given[i])) for i in range(start, min(start + at_once, len(given))))
            for batch in equal_size_batches(prepared, lambda item: item[1].views[0].shape, self.batch_size):
                found = self._detect_batch([image for _, image in batch], **options)
                results |= zip((i for i, _ in batch), found, strict=True)
        found = [results[i] for i in range(len(given))]
        return found[0] if one else found

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

    def _prepare(self, image: ImageLike) -> PreparedImage:
        upright = load_image(image) if isinstance(image, (str, Path)) else to_rgb(as_image(image))
        return PreparedImage(self.processor.views(upright), (upright.height, upright.width))

    @torch.inference_mode()
    def _detect_batch(
        self,
        batch: Sequence[PreparedImage],
        *,
        top_k: int,
        threshold: float,
        zero_shot_top_k: int | None,
        nms: bool,
    ) -> list[Detections]:
        """One forward pass over images whose views have one size."""
        if os.getpid() != self._process:  # the threads that compute were not copied: it would wait for ever
            raise HoiError(
                "this detector was made before the process was forked: make one in each process, or start them with "
                'multiprocessing.get_context("spawn")'
            )
        inputs = self.processor.together([prepared.views for prepared in batch]).to(self.device)
        try:
            outputs = self.backend(**inputs)
        except torch.OutOfMemoryError:
            raise HoiError(
                f"{self.device}: does not have enough memory for a batch of {len(batch)}; use --device cpu"
            ) from None
        sizes = [prepared.size for prepared in batch]
        found = self.processor.post_process(outputs, sizes, zero_shot_top_k=zero_shot_top_k, nms=nms)
        kept = []
        for detections in found:
            probabilities = detections.interaction_scores
            assert probabilities is not None
            kept.append(detections[probabilities >= threshold][:top_k].clipped())
        return kept

    def detect_files(
        self,
        paths: Iterable[str | Path],
        *,
        keep_images: bool = True,
        draft: bool = False,
        top_k: int = 10,
        threshold: float = 0.3,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> Iterator[tuple[Path, Image.Image | None, Detections | HoiError]]:
        """Go through files; the next ones are read while the model works, a few at a time.

        Args:
            paths: image files, see :func:`hoiclip.images.find_images`; taken one by one, so there may
                be any number.
            keep_images: hand out the decoded images too.
            draft: decode JPEGs of more than twice the detector's size at reduced scale.  Faster;
                scores move a little, and the images are not handed out.
            top_k, threshold, zero_shot_top_k, nms: as for calling the detector.

        Yields:
            In order: the path, the image (None if not kept) and its detections; or the path, None
            and what is wrong with it.
        """
        detect = partial(self._detect_batch, top_k=top_k, threshold=threshold, zero_shot_top_k=zero_shot_top_k, nms=nms)
        return detect_stream(
            paths,
            partial(prepare, processor=self.processor, keep_image=keep_images, draft=draft),
            detect,
            batch_size=self.batch_size,
            readers=max(1, min(READERS, (os.cpu_count() or 1) // 2)),
        )


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
) -> HoiDetector:
    """Load a detector, ready to be called with images.

    Args:
        source: a model folder, a folder written by ``hoiclip export``, or a hub id.  Without one,
            the model that is shipped: it knows the playground's drawn world only, and says so.
        vocabulary: ask for these interactions instead of what was trained.
        device, batch_size, calibration: as for :class:`HoiDetector`.
        backend: "torch", "compile", "onnx" or "openvino"; an exported folder says itself.
        precision: "fp32", "bf16" or "int8"; an exported folder says itself.
        revision: branch, tag or commit of a hub id.
        token: that may read a private hub id; by default the one of ``hf auth login`` or ``HF_TOKEN``.

    Raises:
        HoiError: if there is no model there.
    """
    if source is None:
        if not (SHIPPED_MODEL / "config.json").is_file():
            raise HoiError("no model is shipped with this version: name a model folder (see 'hoiclip convert --help')")
        print(
            "hoiclip: this is the playground model, it knows drawn scenes only; "
            "for photographs name a model folder ('hoiclip convert --help' makes one)",
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
