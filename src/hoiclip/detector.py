"""The façade: images, files and folders in, detections out.

    detector = hoiclip.load("model/")
    for triplet in detector("photo.jpg"):
        print(triplet.name, triplet.score)

The only room that knows devices and batches; no maths.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch
from PIL import Image

from hoiclip.backends import Backend, ModelBackend, check_combination, open_backend
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.files import write_text
from hoiclip.graphs import Manifest, is_exported
from hoiclip.modeling import HoiClipModel
from hoiclip.pictures import as_picture, load_image, to_rgb
from hoiclip.pipeline import Prepared, detect_in_order, prepare
from hoiclip.processing import HoiClipProcessor
from hoiclip.vocabulary import HoiVocabulary

SHIPPED_MODEL = Path(__file__).parent / "assets" / "playground" / "model"

READERS = 8  # threads that decode and resize while the model works, on at most half of the cores

Picture = str | Path | Image.Image | np.ndarray


class HoiDetector:
    """A model and its processor on one device; the only face that keeps state.

    Args:
        model: a trained model; put into evaluation mode.  None if ``exported`` is given.
        processor: its processor.
        device: ``"cpu"``, ``"cuda"``, ...; by default the best one there is, for onnx and openvino
            the CPU.
        batch_size: how many pictures of equal resized size share a forward pass; by default 1 on a
            CPU, where batches bring nothing, and 8 elsewhere.
        backend, precision: what computes the forward pass, see :mod:`hoiclip.backends`.
        calibration: folder of pictures that int8 is calibrated with.
        exported: folder of :func:`hoiclip.export.export` that takes the place of a model.

    Attributes:
        backend: takes the processor's outputs, gives a :class:`HoiClipOutput`.
        model: None where an exported graph does the work.

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
        on_cpu = exported is not None or backend in ("onnx", "openvino")
        self.device = choose_device("cpu" if on_cpu and device in (None, "auto") else device)
        self.processor = processor
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 8)
        if model is not None:
            place = torch.device("cpu") if on_cpu else self.device
            model = model.to(place).eval()  # type: ignore[arg-type]
        self.model = model
        self._calibration = calibration
        if exported is not None:
            self.backend: Backend = open_backend(None, device=self.device, folder=exported)
        else:
            self.backend = self._open(backend, precision)

    def _open(self, backend: str, precision: str) -> Backend:
        pictures = None
        if backend == "openvino" and precision == "int8":
            from hoiclip.calibration import calibration_inputs

            pictures = calibration_inputs(self.processor, self._calibration)
        return open_backend(self.model, backend=backend, precision=precision, device=self.device, calibration=pictures)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, vocabulary: HoiVocabulary | str | Path | None = None, **options: Any
    ) -> HoiDetector:
        """A detector from a model folder, an exported folder or a hub id.

        Args:
            source: where it is.  An exported folder says itself which backend and precision it is for.
            vocabulary: ask for these interactions instead of what was trained.
            options: as in the constructor.

        Raises:
            HoiError: if there is no such folder or no whole hoiclip model in it, no tokenizer for
                other words, or as the constructor.
        """
        is_folder, may_be_id = os.path.isdir(source), str(source).count("/") == 1 and not os.path.exists(source)
        if not (is_folder or (may_be_id and not os.path.isabs(source))):
            raise HoiError(f"{source}: no such model folder; give one that hoiclip wrote, or a hub id owner/name")
        processor = HoiClipProcessor.from_pretrained(source)
        if is_folder and is_exported(source):
            options = _without_choice(source, options)
            detector = cls(None, processor, exported=Path(source), **options)
            return detector if vocabulary is None else detector.set_vocabulary(vocabulary)
        check_combination(options.get("backend", "torch"), options.get("precision", "fp32"))
        if is_folder and not os.path.isfile(os.path.join(source, "config.json")):  # transformers would take defaults
            raise HoiError(f"{source}: no config.json there; give a folder that hoiclip wrote")
        try:
            loaded = HoiClipModel.from_pretrained(source, output_loading_info=True, ignore_mismatched_sizes=True)
            model, account = cast(Any, loaded)
        except HoiError as error:
            raise error if str(source) in str(error) else HoiError(f"{source}: {error}") from error
        except Exception as error:  # transformers and safetensors raise many kinds for broken folders
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise HoiError(f"{source}: no model can be loaded from there ({reason}); save it again") from error
        for what in ("missing", "unexpected", "mismatched"):
            names = sorted(key if isinstance(key, str) else key[0] for key in account[f"{what}_keys"])
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise HoiError(
                    f"{source}: {what} weights in model.safetensors ({names[0]}{more}); save the model again"
                )
        if vocabulary is not None:
            model.set_vocabulary(vocabulary)
            processor.vocabulary = model.vocabulary
        return cls(model, processor, **options)

    @property
    def vocabulary(self) -> HoiVocabulary:
        """What the detector is asked for."""
        return self.processor.vocabulary

    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> HoiDetector:
        """Ask for other interactions, trained on or not.

        Raises:
            HoiError: without a tokenizer, or if an exported graph does the work: its words are fixed.
        """
        if self.model is None:
            raise HoiError(
                "an exported model keeps its words: export it again with them "
                '(hoiclip export MODEL --interactions "ride unicycle, ...")'
            )
        self.model.set_vocabulary(vocabulary, tokenizer)
        assert self.model.vocabulary is not None
        self.processor.vocabulary = self.model.vocabulary
        if not isinstance(self.backend, ModelBackend):  # it holds a copy with the old words
            self.backend = self._open(self.backend.name, self.backend.precision)
        return self

    @overload
    def __call__(self, images: Picture, **options: Any) -> Detections: ...
    @overload
    def __call__(self, images: Sequence[Picture], **options: Any) -> list[Detections]: ...
    def __call__(self, images: Any, **options: Any) -> Detections | list[Detections]:
        """Triplets of one picture, or of each in a list.

        A result never depends on what else is in the call: only pictures of equal resized size
        share a batch, so none is padded.

        Args:
            images: path, Pillow image or (h, w, 3) uint8 array, or a list of them.
            options: ``top_k`` (10), ``threshold`` (0.3, of the interaction's probability),
                ``zero_shot_top_k`` (None; a number switches the training-free enhancement on),
                ``nms`` (True).

        Raises:
            HoiError: if a file is no readable picture.
        """
        if not isinstance(images, (list, tuple)):
            return self._detect([_picture(images)], **options)[0]
        return self._detect([_picture(image) for image in images], **options)

    def _detect(self, pictures: Sequence[Image.Image], **options: Any) -> list[Detections]:
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, picture in enumerate(pictures):
            by_size[self.processor.resized_size(picture)].append(i)
        results: dict[int, Detections] = {}
        for members in by_size.values():
            for start in range(0, len(members), self.batch_size):
                rows = members[start : start + self.batch_size]
                chosen = [pictures[i] for i in rows]
                batch = [Prepared(self.processor.views(p), (p.height, p.width)) for p in chosen]
                results |= zip(rows, self._detect_batch(batch, **options), strict=True)
        return [results[i] for i in range(len(pictures))]

    @torch.inference_mode()
    def _detect_batch(
        self,
        batch: Sequence[Prepared],
        top_k: int = 10,
        threshold: float = 0.3,
        zero_shot_top_k: int | None = None,
        nms: bool = True,
    ) -> list[Detections]:
        """One forward pass over pictures whose views have one size."""
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
            certain = detections.interaction_scores
            assert certain is not None
            kept.append(detections[certain >= threshold][:top_k].clipped())
        return kept

    def detect_files(
        self,
        paths: Iterable[str | Path],
        *,
        keep_pictures: bool = True,
        draft: bool = False,
        **options: Any,
    ) -> Iterator[tuple[Path, Image.Image | None, Detections | HoiError]]:
        """Go through files; the next ones are read while the model works, a few at a time.

        Args:
            paths: picture files, see :func:`hoiclip.pictures.find_images`; taken one by one, so there may
                be any number.
            keep_pictures: hand out the decoded pictures too.
            draft: decode JPEGs of more than twice the detector's size at reduced scale.  Faster;
                scores move a little, and the pictures are not handed out.
            options: as for calling the detector.

        Yields:
            In order: the path, the picture (None if not kept) and its detections; or the path, None
            and what is wrong with it.
        """
        return detect_in_order(
            paths,
            partial(prepare, processor=self.processor, keep_picture=keep_pictures, draft=draft),
            partial(self._detect_batch, **options),
            batch_size=self.batch_size,
            readers=max(1, min(READERS, (os.cpu_count() or 1) // 2)),
        )


def load(source: str | Path | None = None, **options: Any) -> HoiDetector:
    """A detector, ready to be called with pictures.

    Args:
        source: a model folder, a folder written by ``hoiclip export``, or a hub id.  Without one,
            the model that is shipped: it knows the playground's drawn world only, and says so.
        options: as for :class:`HoiDetector`, among them ``backend`` ("torch", "compile", "onnx",
            "openvino") and ``precision`` ("fp32", "bf16", "int8").  An exported folder says itself
            which it is for.

    Raises:
        HoiError: if there is no model there.
    """
    if source is not None:
        return HoiDetector.from_pretrained(source, **options)
    if not (SHIPPED_MODEL / "config.json").is_file():
        raise HoiError("no model is shipped with this version: name a model folder (see 'hoiclip convert --help')")
    print(
        "hoiclip: this is the playground model, it knows drawn scenes only; "
        "for photographs name a model folder ('hoiclip convert --help' makes one)",
        file=sys.stderr,
    )
    return HoiDetector.from_pretrained(SHIPPED_MODEL, **options)


def _without_choice(source: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    """Options for an exported folder.  Raises HoiError if they ask for what it does not hold."""
    manifest = Manifest.read(source)
    for what, held in (("backend", manifest.format), ("precision", manifest.precision)):
        if options.get(what, held) != held:
            raise HoiError(
                f"--{what} {options[what]}: {source} was exported for {manifest.format} {manifest.precision}; "
                f"leave --{what} out or export again"
            )
    return {name: value for name, value in options.items() if name not in ("backend", "precision", "calibration")}


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else CUDA, else Apple's, else the CPU.

    Raises:
        HoiError: if the device asked for is not there.
    """
    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise HoiError(f"device {device!s} is not available here; use --device cpu") from error
    return chosen


def _picture(image: Picture) -> Image.Image:
    return load_image(image) if isinstance(image, (str, Path)) else to_rgb(as_picture(image))


# --- results on disk -------------------------------------------------------------------------------


class DetectionLog:
    """``detections.jsonl``: one line per image, on disk as soon as it is known.

    What an earlier run wrote is kept until the first new result, and for good with ``resume``.

    Args:
        path: the file.
        resume: keep the lines that are there and do not detect their images again.

    Raises:
        HoiError: if there is something to resume that cannot be read.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        self.done: set[str] = set()
        self._started = resume
        if resume and self.path.exists():
            try:
                self._repair()
            except OSError as error:
                raise HoiError(f"{self.path}: cannot be read ({error.strerror}); use another --out") from error

    def _repair(self) -> None:
        """Read what is there; a last line cut off by a crash is taken away."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                self.done.add(json.loads(line)["file_name"])
            except (ValueError, KeyError, TypeError):
                raise HoiError(
                    f"{self.path}: line {number} is no result of hoiclip detect; use another --out"
                ) from None
        if len(whole) != len(content):
            os.truncate(self.path, len(whole))

    def add(self, file_name: str, detections: Detections) -> None:
        """Append one image's result.

        Raises:
            HoiError: if it cannot be written; earlier lines stay whole.
        """
        line = json.dumps({"file_name": file_name, **detections.to_dict()}) + "\n"
        if self._started and self.path.exists():
            self._append(line.encode())
        else:  # an earlier run's lines go in one step with the coming of the first new one
            write_text(self.path, line)
        self._started = True
        self.done.add(file_name)

    def _append(self, line: bytes) -> None:
        size = self.path.stat().st_size
        try:
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            os.truncate(self.path, size)
            raise HoiError(
                f"{self.path}: cannot be written ({error.strerror}); free some space or use another --out"
            ) from error
