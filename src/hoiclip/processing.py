"""From images to model inputs, and from model outputs to triplets, as torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from hoiclip.batching import pad_together
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.hub import hub_keywords, take_folder, telling
from hoiclip.image_preparation import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    PROCESSOR_FILE,
    ImagePreparation,
    clip_image,
    detector_image,
    normalised,
)
from hoiclip.images import as_image
from hoiclip.losses import cxcywh_to_xyxy
from hoiclip.models.configuration import HoiClipConfig
from hoiclip.models.outputs import HoiClipOutput
from hoiclip.postprocessing import rank_batch, training_free_enhancement
from hoiclip.published import CLIP_SIZE, LONGEST_EDGE, SHORTEST_EDGE, ZERO_SHOT_TOP_K
from hoiclip.vocabulary import VOCABULARY_FILE, HoiVocabulary

# --- two views of one image ----------------------------------------------------------------------


def detector_view(
    image: Image.Image, shortest_edge: int = SHORTEST_EDGE, longest_edge: int = LONGEST_EDGE
) -> torch.Tensor:
    """(3, h, w) float32: resized to the detector's size and ImageNet-normalised."""
    resized = detector_image(image, shortest_edge, longest_edge)
    return torch.from_numpy(normalised(resized, IMAGENET_MEAN, IMAGENET_STD))


def clip_view(image: Image.Image, size: int = CLIP_SIZE) -> torch.Tensor:
    """(3, size, size) float32: :func:`~hoiclip.image_preparation.clip_image`, CLIP-normalised."""
    return torch.from_numpy(normalised(clip_image(image, size), CLIP_MEAN, CLIP_STD))


# --- both ways -------------------------------------------------------------------------------------


class HoiClipProcessor(ImagePreparation, ProcessorMixin):
    """Images to model inputs, model outputs to :class:`Detections`; arguments as of :class:`ImagePreparation`."""

    @classmethod
    def like(cls, other: ImagePreparation) -> HoiClipProcessor:
        """One of the same sizes and vocabulary; ``other`` itself where it is one."""
        if isinstance(other, cls):
            return other
        return cls(other.vocabulary, other.shortest_edge, other.longest_edge, other.clip_size, other.zero_shot_top_k)

    def views(self, image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        """One image to the detector's view (3, h, w) and CLIP's (3, s, s)."""
        detector, clip = super().views(image)
        return torch.from_numpy(detector), torch.from_numpy(clip)

    def __call__(self, images: Any, return_tensors: str | None = "pt", **kwargs: Any) -> BatchFeature:
        """Model inputs of one or more images.

        Args:
            images: a Pillow image, an (h, w, 3) uint8 array, or a list of them.
            return_tensors: ``"pt"`` or ``"np"``.

        Returns:
            ``pixel_values`` (B, 3, H, W), ``pixel_mask`` (B, H, W), ``clip_pixel_values`` (B, 3, s, s).
        """
        listed = list(images) if isinstance(images, (list, tuple)) else [images]
        if not listed:
            raise HoiError("no image given: pass at least one")
        data = self.together([self.views(as_image(image)) for image in listed])
        return BatchFeature({name: tensor.numpy() for name, tensor in data.items()}) if return_tensors == "np" else data

    def together(self, views: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> BatchFeature:
        """Batch the :meth:`views` of several images as the model's inputs, see :meth:`__call__`."""
        detector, clip = zip(*views, strict=True)
        pixel_values, pixel_mask = pad_together(detector)
        return BatchFeature(
            {"pixel_values": pixel_values, "pixel_mask": pixel_mask, "clip_pixel_values": torch.stack(clip)}
        )

    def post_process(
        self,
        outputs: HoiClipOutput,
        target_sizes: Sequence[tuple[int, int]],
        top_k: int = 100,
        threshold: float = 0.0,
        zero_shot_top_k: int | None = ZERO_SHOT_TOP_K,
        nms: bool = True,
        vocabulary: HoiVocabulary | None = None,
        object_exponent: float = 2.0,
    ) -> list[Detections]:
        """Score fusion (Eq. 20-21), the best ``top_k`` triplets, triplet NMS; one result per image.

        Args:
            outputs: of the model, in evaluation mode.
            target_sizes: (height, width) of each original image, in pixels.
            top_k: how many triplets to keep before NMS.
            threshold: least fused score.
            zero_shot_top_k: K of Eq. 17, or None to leave the training-free enhancement out.
            nms: drop near copies (threshold 0.7).
            vocabulary: if other than the processor's own.
            object_exponent: of the object score in the fusion; 2 as published.

        Raises:
            ValueError: if sizes and outputs do not match.
        """
        vocabulary = vocabulary or self.vocabulary
        human_boxes, object_boxes = _floats(outputs.human_boxes), _floats(outputs.object_boxes)
        interaction_logits = _floats(outputs.interaction_logits)
        if len(target_sizes) != len(human_boxes):
            raise ValueError(f"{len(target_sizes)} target sizes for {len(human_boxes)} images")
        if interaction_logits.shape[-1] != vocabulary.num_interactions:
            raise ValueError(
                f"the model scores {interaction_logits.shape[-1]} interactions but the vocabulary "
                f"{vocabulary.name!r} has {vocabulary.num_interactions}: pass the model's vocabulary"
            )
        enhancement = None
        if zero_shot_top_k is not None and outputs.zero_shot_logits is not None:
            enhancement = training_free_enhancement(outputs.zero_shot_logits.float(), zero_shot_top_k)
        human_boxes, object_boxes = self.boxes_in_pixels(outputs, target_sizes)
        found = rank_batch(
            human_boxes,
            object_boxes,
            _floats(outputs.object_logits).sigmoid(),
            interaction_logits.sigmoid(),
            vocabulary,
            top_k=top_k,
            nms_threshold=0.7 if nms else None,
            image_sizes=[(int(h), int(w)) for h, w in target_sizes],
            enhancement=enhancement,
            object_exponent=object_exponent,
        )
        return [d.above(threshold) if threshold > 0 else d for d in found]

    def boxes_in_pixels(
        self, outputs: HoiClipOutput, target_sizes: Sequence[tuple[int, int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Human and object boxes (B, N, 4), xyxy in pixels of images of these (height, width).

        Raises:
            ValueError: if sizes and outputs do not match.
        """
        assert outputs.human_boxes is not None
        assert outputs.object_boxes is not None
        if len(target_sizes) != len(outputs.human_boxes):
            raise ValueError(f"{len(target_sizes)} target sizes for {len(outputs.human_boxes)} images")
        scale = torch.tensor([(w, h, w, h) for h, w in target_sizes])[:, None]  # (B, 1, 4)
        human, objects = outputs.human_boxes.float(), outputs.object_boxes.float()
        return cxcywh_to_xyxy(human) * scale.to(human), cxcywh_to_xyxy(objects) * scale.to(objects)

    # --- files -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types; the vocabulary has its own file."""
        names = ("shortest_edge", "longest_edge", "clip_size", "zero_shot_top_k")
        return {"processor_class": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write processor_config.json and vocabulary.json; with ``push_to_hub=True`` push both then."""
        to_hub = hub_keywords(save_directory, {"push_to_hub": push_to_hub, **kwargs})
        files = super().save_pretrained(save_directory)
        self.vocabulary.save(save_directory)
        if to_hub is not None:
            with telling(to_hub["repo_id"], to_hub.get("token"), to_hub.get("revision")):
                self.push_to_hub(**to_hub)
        return files

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> HoiClipProcessor:
        """Load what :meth:`save_pretrained` wrote, from a folder or hub id.

        Raises:
            HoiError: if there is no processor or vocabulary there, or the hub does not give the id.
        """
        source = pretrained_model_name_or_path
        folder = take_folder(source, kwargs, (PROCESSOR_FILE, VOCABULARY_FILE))
        return cls.read(folder, source)  # type: ignore[return-value]


def _floats(tensor: torch.Tensor | None) -> torch.Tensor:
    if tensor is None:
        raise ValueError("the outputs lack boxes or logits: pass what the model returned")
    return tensor.float()


AutoProcessor.register(HoiClipConfig, HoiClipProcessor)
