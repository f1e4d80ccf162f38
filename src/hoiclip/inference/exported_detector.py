"""The detector of an exported folder: its runtime, numpy and Pillow, no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hoiclip.backends.manifest import Manifest
from hoiclip.backends.runtimes import open_graph
from hoiclip.detections import Detections
from hoiclip.errors import HoiError, whole_number
from hoiclip.image_preparation import ImagePreparation
from hoiclip.inference.loaded_detector import LoadedDetector
from hoiclip.inference.prefetch import PreparedImage
from hoiclip.postprocessing import rank_outputs
from hoiclip.vocabulary import HoiVocabulary

if TYPE_CHECKING:
    import torch

    from hoiclip.backends.base import Backend
    from hoiclip.processing import HoiClipProcessor


class ExportedDetector(LoadedDetector):
    """What ``hoiclip export`` wrote.

    Args:
        folder: where it is.
        device: "cpu", or for onnx also "cuda".
        batch_size: how many images of equal resized size share a forward pass; by default 1.
        streams: how many images are computed at once, each with its share of the cores. 1 answers soonest; as
            many as there are cores go through folders and videos at the highest rate.

    Attributes:
        model: None, as there is none.
        manifest: what the folder says of itself.

    Raises:
        HoiError: a damaged folder, a runtime that is not installed or cannot use the device, streams of batches.
    """

    model: None = None

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        streams: int = 1,
    ) -> None:
        whole_number("streams", streams, 1, 256)
        if streams > 1 and (batch_size or 1) > 1:
            raise HoiError(f"streams {streams}, batch_size {batch_size}: give one of them; streams take single images")
        self.manifest = Manifest.read(folder)
        self.folder: Path = Path(folder)
        self.preparation = ImagePreparation.read(folder)
        self.device = "cpu" if device in (None, "auto") else str(device)
        self.batch_size = batch_size or 1
        self.streams = streams
        self.runtime = open_graph(folder, self.device.partition(":")[0], streams)
        self._process = os.getpid()
        self._refuse_other_vocabulary()
        self._calibrate(folder)

    def _refuse_other_vocabulary(self) -> None:
        """Raise HoiError if the graph scores other classes than the vocabulary beside it names."""
        words = self.vocabulary
        named = {"interaction_logits": words.num_interactions, "object_logits": len(words.objects) + 1}
        for name, size in named.items():
            held = self.runtime.output_sizes.get(name)
            if held not in (None, size):
                raise HoiError(
                    f"{self.folder}: its vocabulary has {size} classes where the graph has {held} in {name}; "
                    "export the model again"
                )

    @property
    def processor(self) -> HoiClipProcessor:
        """As of :class:`LoadedDetector`; the first use of it loads torch."""
        from hoiclip.processing import HoiClipProcessor

        self.preparation = HoiClipProcessor.like(self.preparation)
        return self.preparation

    @cached_property
    def backend(self) -> Backend:
        """The graph as a backend that takes and gives torch tensors, for evaluation."""
        from hoiclip.backends.runtime_backend import RuntimeBackend

        return RuntimeBackend(self.manifest.format, self.manifest.precision, self.runtime, self.device)

    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> ExportedDetector:
        """Refuse: an exported graph has but one vocabulary.

        Raises:
            HoiError: always.
        """
        raise HoiError(
            "an exported model keeps its vocabulary: export it again with another "
            '(hoiclip export MODEL --interactions "ride unicycle, ...")'
        )

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
        views = zip(*(prepared.views for prepared in batch), strict=True)
        detector, clip = (np.stack(view) if len(batch) > 1 else np.asarray(view[0])[None] for view in views)
        outputs = self.runtime.compute({"pixel_values": detector, "clip_pixel_values": clip})
        found = rank_outputs(
            outputs,
            [prepared.size for prepared in batch],
            self.vocabulary,
            zero_shot_top_k=zero_shot_top_k,
            nms=nms,
        )
        return [self._shown(one, threshold)[:top_k].clipped() for one in found]
