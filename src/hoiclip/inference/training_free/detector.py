"""A detector that was never trained on interactions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hoiclip.backends.devices import choose_device
from hoiclip.checkpoints.initialise import load_clip
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.files import ASSETS
from hoiclip.image_inputs import open_image
from hoiclip.inference.image_detector import PLAYGROUND, ImageDetector
from hoiclip.inference.prefetch import PreparedImage
from hoiclip.inference.training_free.object_detection import (
    FoundObjects,
    ObjectDetector,
    open_object_detector,
    tell_unknown,
)
from hoiclip.inference.training_free.pair_scoring import ClipPairScorer, Ingredients, PairScorer
from hoiclip.models.text_embedder import TextEmbedder
from hoiclip.postprocessing import top_k_pairs, triplet_nms
from hoiclip.vocabulary import HoiVocabulary

DETECTOR, CLIP = "facebook/detr-resnet-50", "openai/clip-vit-base-patch32"
OPEN_VOCABULARY_DETECTOR = "google/owlv2-base-patch16-ensemble"  # for objects that COCO has not
MOST_PAIRS = 100  # of an image, those of the surest boxes; each costs CLIP a crop
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingFreeDetector(ImageDetector):
    """Every person with every thing, scored by a frozen CLIP.

    A triplet's score is the product of both boxes' scores and the interaction's probability.

    Args:
        find: finds people and things.
        score: scores pairs.
        vocabulary: what is asked for.
        device: where both compute.
        batch_size: images that share a forward pass of the object detector.
        precision: ``fp32``; ``bf16`` or ``fp16`` by autocast.
        name: of the object detector, for what is told.
    """

    device: torch.device
    default_threshold = 0.1  # products of three probabilities are small

    def __init__(
        self,
        find: ObjectDetector,
        score: PairScorer,
        vocabulary: HoiVocabulary,
        *,
        device: torch.device,
        batch_size: int | None = None,
        precision: str = "fp32",
        name: str = DETECTOR,
    ) -> None:
        if precision not in PRECISIONS:
            raise HoiError(f"precision {precision!r}: training-free computes in {', '.join(PRECISIONS)}")
        self.find, self.score, self.device, self.name = find, score, device, name
        self.precision, self._process = precision, os.getpid()
        self.batch_size = batch_size or (1 if device.type == "cpu" else 8)
        self.set_vocabulary(vocabulary)

    @classmethod
    def from_parts(
        cls,
        vocabulary: HoiVocabulary | str | Path | None = None,
        *,
        detector: str | Path | None = None,
        clip: str | Path | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        precision: str | None = None,
        ingredients: Ingredients | None = None,
    ) -> TrainingFreeDetector:
        """Load both parts.

        Args:
            vocabulary: what is asked for; HICO-DET's 600 interactions by default.
            detector: folder or hub id of an object detector; by default DETR, or OWLv2 where the
                vocabulary has objects that COCO has not.  ``playground``: the shipped miniature.
            clip: folder or hub id of a CLIP with its tokenizer, or ``playground``.
            device, batch_size, precision: as in the constructor.
            ingredients: what scores are made of; by default what was chosen for the playground.

        Raises:
            HoiError: if a part cannot be loaded, or finds none of the vocabulary's objects.
        """
        both = PLAYGROUND in (detector, clip)
        vocabulary = HoiVocabulary.coerce(vocabulary or ("playground" if both else "hico"))
        chosen = choose_device(device)
        if detector is None:
            known = HoiVocabulary.from_name("hico").objects
            detector = DETECTOR if set(vocabulary.objects) <= {*known, "nothing"} else OPEN_VOCABULARY_DETECTOR
        clip = CLIP if clip is None else clip
        find = open_object_detector(_part(detector, "detector"), chosen)
        tower = load_clip(_part(clip, "clip"))
        score = ClipPairScorer(tower, TextEmbedder(str(_part(clip, "clip"))), chosen, ingredients or Ingredients())
        return cls(
            find, score, vocabulary, device=chosen, batch_size=batch_size, precision=precision or "fp32",
            name=str(detector),
        )  # fmt: skip

    @property
    def vocabulary(self) -> HoiVocabulary:
        return self._vocabulary

    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> TrainingFreeDetector:
        """Ask for other interactions; objects that cannot be found are told on stderr.

        Raises:
            HoiError: if none of the objects can be found, or CLIP's tokenizer cannot tell sentences apart.
        """
        asked = HoiVocabulary.coerce(vocabulary)
        unknown = self.find.set_vocabulary(asked)
        if len(unknown) == len([name for name in asked.objects if name != "nothing"]):
            raise HoiError(
                f"{self.name}: finds none of the objects asked for ({', '.join(unknown[:5])}); "
                f"take a detector that takes words, --detector {OPEN_VOCABULARY_DETECTOR}"
            )
        tell_unknown(self.name, unknown)
        self.score.set_vocabulary(asked)
        self._vocabulary = asked
        return self

    def set_size(self, shorter: int) -> TrainingFreeDetector:
        """Resize images for the object detector.

        Raises:
            HoiError: if the detector takes no other size than its own, or outside 32..4096 pixels.
        """
        if not 32 <= shorter <= 4096:
            raise HoiError(f"size {shorter}: is no size for a detector; give 32 to 4096 pixels")
        self.find.set_size(shorter)
        return self

    def _prepare(self, image: Image.Image) -> PreparedImage:
        inputs = self.find.inputs(image)
        first = inputs.pop("pixel_values")
        return PreparedImage((first, *inputs.values()), (image.height, image.width), image, tuple(inputs))

    def _read(self, path: Path | str, *, keep_image: bool, draft: bool) -> PreparedImage | HoiError:
        if draft:
            return HoiError("training-free looks at crops of whole images: leave --draft out")
        try:
            return self._prepare(open_image(path))
        except HoiError as error:
            return error

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
        self._same_process(self._process)
        inputs = [dict(zip(("pixel_values", *prepared.names), prepared.views, strict=True)) for prepared in batch]
        kind = PRECISIONS[self.precision]
        with torch.autocast(self.device.type, dtype=kind, enabled=kind is not None):
            found = self.find(inputs, [prepared.size for prepared in batch])
            results = [self._triplets(prepared, of_it, nms) for prepared, of_it in zip(batch, found, strict=True)]
        return [self._shown(triplets, threshold)[:top_k] for triplets in results]

    def _triplets(self, prepared: PreparedImage, found: FoundObjects, nms: bool) -> Detections:
        """The 100 best triplets of one image."""
        assert prepared.image is not None
        vocabulary = self.vocabulary
        pairs = pairs_of(found)
        boxes = found.scores[pairs].prod(axis=1)  # (P,)
        scores = boxes[:, None] * self.score(prepared.image, found, pairs)  # (P, K)
        _, pair, hoi_ids, best = top_k_pairs(scores[None], 100)
        real = best > 0  # zero: an interaction of another object
        pair, hoi_ids, best = pair[real], hoi_ids[real], best[real]
        human, thing = found.boxes[pairs[pair, 0]], found.boxes[pairs[pair, 1]]
        if nms:
            keep = triplet_nms(human, thing, hoi_ids)
            hoi_ids, best, human, thing = hoi_ids[keep], best[keep], human[keep], thing[keep]
        objects, verbs = vocabulary.object_ids[hoi_ids], vocabulary.verb_ids[hoi_ids]
        return Detections(human, thing, objects, verbs, hoi_ids, best, vocabulary, prepared.size, best)

    def detect_images(self, images: Sequence[Image.Image], zero_shot_top_k: int | None = None) -> list[Detections]:
        """The 100 best triplets of each image, without a threshold, as evaluation wants them."""
        return [
            self._detect_batch(
                [self._prepare(image)], top_k=100, threshold=0.0, zero_shot_top_k=zero_shot_top_k, nms=True
            )[0]
            for image in images
        ]


def pairs_of(found: FoundObjects) -> np.ndarray:
    """(P, 2) rows of a person and of something else that may have interactions, surest first."""
    rows = np.arange(len(found.scores))
    human, thing = (grid.reshape(-1) for grid in np.meshgrid(rows[found.people], rows, indexing="ij"))
    useful = (human != thing) & (found.object_ids[thing] >= 0)
    pairs = np.stack([human[useful], thing[useful]], axis=1)
    order = np.argsort(-found.scores[pairs].prod(axis=1), kind="stable")
    return pairs[order[:MOST_PAIRS]]


def _part(source: str | Path, name: str) -> str | Path:
    return ASSETS / "playground" / name if source == PLAYGROUND else source
