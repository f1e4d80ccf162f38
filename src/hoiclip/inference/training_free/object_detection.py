"""People and things in images, by any object detector of transformers.

One with classes of its own (DETR, RT-DETR, D-FINE, ...) is asked for those that the vocabulary names;
one that takes words (OWL-ViT, OWLv2, Grounding DINO) is asked for the vocabulary's objects themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hoiclip.boxes import box_iou
from hoiclip.errors import HoiError, first_line
from hoiclip.hub import prepare
from hoiclip.inference.training_free.object_names import match_names, meaning
from hoiclip.vocabulary import NOTHING, HoiVocabulary

PERSON = -1  # object id of people where the vocabulary has no such object
PEOPLE = frozenset(["person", "man", "woman", "boy", "girl", "child", "baby"])  # classes that are people
LEAST_SCORE = 0.1  # of a box
SAME_BOX = 0.7  # IoU above which the weaker of two boxes of one class goes
COUNTERS = ("num_batches_tracked", "position_ids")  # that old files lack and nothing depends on
NO_TIMM = "no_timm"  # revision of facebook/detr-*: the same weights, in a form that needs no timm


@dataclass(frozen=True)
class FoundObjects:
    """What a detector found in one image, n boxes.

    Attributes:
        boxes: (n, 4) float64 xyxy in pixels of the image, inside it.
        object_ids: (n,) objects of the vocabulary; :data:`PERSON` for people that it has no object for.
        people: (n,) bool.
        scores: (n,) float64 probabilities.
    """

    boxes: np.ndarray
    object_ids: np.ndarray
    people: np.ndarray
    scores: np.ndarray


class ObjectDetector(Protocol):
    """Finds the people and the vocabulary's objects."""

    def set_vocabulary(self, vocabulary: HoiVocabulary) -> list[str]:
        """Look for these objects from now on; returns those that it has no class for."""

    def set_size(self, shorter: int) -> None:
        """Resize images to so many pixels on the shorter side; HoiError if it takes its own size only."""

    def inputs(self, image: Image.Image) -> dict[str, Tensor]:
        """One image, ready for the network."""

    def __call__(self, inputs: Sequence[dict[str, Tensor]], sizes: Sequence[tuple[int, int]]) -> list[FoundObjects]:
        """One forward pass over images of equal input size; ``sizes`` are their (height, width) in pixels."""


def open_object_detector(source: str | Path, device: torch.device) -> ObjectDetector:
    """Load a detector from a folder or hub id.

    Raises:
        HoiError: if there is none, or it is of a kind that is not known.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES,
    )

    options = {"revision": NO_TIMM} if str(source).startswith("facebook/detr-") else {}
    if (reason := prepare(source, revision=options.get("revision"))) is not None:
        raise HoiError(f"{source}: no object detector can be loaded from there ({reason}); give a folder")
    try:
        kind = AutoConfig.from_pretrained(source, trust_remote_code=False, **options).model_type
        if kind in MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES:
            return ClassDetector(source, device, **options)
        if kind in ("owlvit", "owlv2"):
            return OwlDetector(source, device)
        if kind in ("grounding-dino", "mm-grounding-dino"):
            return GroundingDetector(source, device)
    except HoiError:
        raise
    except Exception as error:  # transformers and the hub client raise many kinds
        raise HoiError(f"{source}: no object detector can be loaded from there ({first_line(error)})") from error
    known = sorted({*MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES, *MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES})
    raise HoiError(f"{source}: is a {kind}, no object detector that can be asked; give one of {', '.join(known)}")


class ClassDetector:
    """A detector with classes of its own.

    Args:
        source: folder or hub id of transformers.
        device: where it computes.
        options: of ``from_pretrained``.
    """

    def __init__(self, source: str | Path, device: torch.device, **options: Any) -> None:
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        self.device = device
        self.processor = AutoImageProcessor.from_pretrained(source, backend="pil", **options)
        self.model = _whole_model(AutoModelForObjectDetection, source, **options).to(device).eval()
        self.labels: dict[int, str] = dict(self.model.config.id2label)
        self.human = {label for label, name in self.labels.items() if meaning(name) in PEOPLE}
        if not self.human:
            raise HoiError(f"{source}: has no class for people; give a detector that finds them")

    def set_vocabulary(self, vocabulary: HoiVocabulary) -> list[str]:
        self.object_of = match_names(self.labels, vocabulary.objects)
        found = set(self.object_of.values())
        return [name for i, name in enumerate(vocabulary.objects) if i not in found and name != NOTHING]

    def set_size(self, shorter: int) -> None:
        resize(self.processor, shorter)

    def inputs(self, image: Image.Image) -> dict[str, Tensor]:
        return dict(self.processor(images=image, return_tensors="pt"))

    def __call__(self, inputs: Sequence[dict[str, Tensor]], sizes: Sequence[tuple[int, int]]) -> list[FoundObjects]:
        outputs = self.model(**_together(inputs, self.device))
        found = self.processor.post_process_object_detection(outputs, threshold=LEAST_SCORE, target_sizes=list(sizes))
        return [self._found(one, size) for one, size in zip(found, sizes, strict=True)]

    def _found(self, found: dict[str, Tensor], size: tuple[int, int]) -> FoundObjects:
        labels = found["labels"].tolist()
        people = np.array([label in self.human for label in labels], dtype=bool)
        ids = np.array([self.object_of.get(label, PERSON) for label in labels], dtype=np.int64)
        boxes, scores = (found[name].double().cpu().numpy() for name in ("boxes", "scores"))
        asked = people | (ids != PERSON)
        return _tidy(boxes[asked], ids[asked], people[asked], scores[asked], size)


class OwlDetector:
    """OWL-ViT or OWLv2, which finds what a sentence names."""

    def __init__(self, source: str | Path, device: torch.device) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.device = device
        self.processor = AutoProcessor.from_pretrained(source, backend="pil")
        self.model = _whole_model(AutoModelForZeroShotObjectDetection, source).to(device).eval()

    def set_vocabulary(self, vocabulary: HoiVocabulary) -> list[str]:
        self.asked = asked_objects(vocabulary)
        sentences = [f"a photo of {name}" for name, _ in self.asked]
        self.text = dict(self.processor(text=[sentences], return_tensors="pt"))  # (Q, tokens)
        return []

    def set_size(self, shorter: int) -> None:
        resize(self.processor.image_processor, shorter)

    def inputs(self, image: Image.Image) -> dict[str, Tensor]:
        return {"pixel_values": self.processor(images=image, return_tensors="pt")["pixel_values"]}

    def __call__(self, inputs: Sequence[dict[str, Tensor]], sizes: Sequence[tuple[int, int]]) -> list[FoundObjects]:
        text = {name: value.repeat(len(inputs), 1).to(self.device) for name, value in self.text.items()}
        outputs = self.model(**_together(inputs, self.device), **text)
        found = self.processor.post_process_grounded_object_detection(
            outputs, threshold=LEAST_SCORE, target_sizes=list(sizes)
        )
        results = []
        for one, size in zip(found, sizes, strict=True):
            boxes, scores = (one[name].double().cpu().numpy() for name in ("boxes", "scores"))
            results.append(found_words(boxes, one["labels"].cpu().numpy(), scores, self.asked, size))
        return results


class GroundingDetector:
    """Grounding DINO, which finds what the words of one text name."""

    def __init__(self, source: str | Path, device: torch.device) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.source, self.device = source, device
        self.processor = AutoProcessor.from_pretrained(source, backend="pil")
        self.model = _whole_model(AutoModelForZeroShotObjectDetection, source).to(device).eval()

    def set_vocabulary(self, vocabulary: HoiVocabulary) -> list[str]:
        self.asked = asked_objects(vocabulary)
        text, spans = "", []
        for name, _ in self.asked:
            noun = name.split(" ", 1)[-1] if name.startswith(("a ", "an ")) else name
            spans.append((len(text), len(text) + len(noun)))
            text += f"{noun}. "
        tokens = self.processor.tokenizer(text.strip(), return_tensors="pt", return_offsets_mapping=True)
        offsets = tokens.pop("offset_mapping")[0]  # (T, 2) first letter and the one behind the last, of each token
        if len(offsets) > self.model.config.max_text_len:
            raise HoiError(
                f"{self.source}: can be asked for {self.model.config.max_text_len} pieces of words at once, and "
                f"{len(spans)} objects have {len(offsets)}; ask for fewer, or take OWLv2"
            )
        self.text = dict(tokens)
        inside = [(offsets[:, 0] >= a) & (offsets[:, 1] <= b) & (offsets[:, 1] > offsets[:, 0]) for a, b in spans]
        words = torch.stack(inside).double()  # (Q, T)
        self.words = words / words.sum(1, keepdim=True)
        return []

    def set_size(self, shorter: int) -> None:
        resize(self.processor.image_processor, shorter)

    def inputs(self, image: Image.Image) -> dict[str, Tensor]:
        return dict(self.processor.image_processor(images=image, return_tensors="pt"))

    def __call__(self, inputs: Sequence[dict[str, Tensor]], sizes: Sequence[tuple[int, int]]) -> list[FoundObjects]:
        text = {name: value.repeat(len(inputs), 1).to(self.device) for name, value in self.text.items()}
        outputs = self.model(**_together(inputs, self.device), **text)
        # (B, queries, T): a name of several pieces scores their mean, so that "dog" is not "hot dog"
        pieces = outputs.logits[..., : self.words.shape[1]].sigmoid().double().cpu()
        scores = pieces @ self.words.T  # (B, queries, Q)
        boxes = outputs.pred_boxes.double().cpu()
        results = []
        for of_image, box, size in zip(scores, boxes, sizes, strict=True):
            best, which = of_image.max(-1)
            keep = best >= LEAST_SCORE
            centre, half = box[keep, :2], box[keep, 2:] / 2
            corners = torch.cat([centre - half, centre + half], 1) * torch.tensor([size[1], size[0]] * 2)
            results.append(found_words(corners.numpy(), which[keep].numpy(), best[keep].numpy(), self.asked, size))
        return results


def resize(processor: Any, shorter: int) -> None:
    """Have an image processor of transformers resize the shorter side to so many pixels.

    Raises:
        HoiError: if it stretches every image to one size, which its network is made for.
    """
    size = dict(processor.size)
    if "shortest_edge" not in size:
        raise HoiError(f"--size {shorter}: this object detector takes images of its own size only; leave it out")
    longest = size.get("longest_edge")
    if longest is not None:
        size["longest_edge"] = round(longest * shorter / size["shortest_edge"])
    processor.size = type(processor.size)(**{**size, "shortest_edge": shorter})


def asked_objects(vocabulary: HoiVocabulary) -> list[tuple[str, int]]:
    """What a detector that takes words is asked for: ("an apple", object id), people first or besides."""
    names = [
        (" ".join(filter(None, (vocabulary.articles[i], name.replace("_", " ")))), i)
        for i, name in enumerate(vocabulary.objects)
        if name != NOTHING
    ]
    return names if vocabulary.person_id is not None else [("a person", PERSON), *names]


def found_words(
    boxes: np.ndarray, which: np.ndarray, scores: np.ndarray, asked: list[tuple[str, int]], size: tuple[int, int]
) -> FoundObjects:
    """What was found of what was asked for; arguments as of :class:`FoundObjects`, ``which`` by number of the word."""
    ids = np.array([number for _, number in asked], dtype=np.int64)
    human = np.array([meaning(name.removeprefix("a ")) in PEOPLE for name, _ in asked])
    return _tidy(boxes, ids[which], human[which], scores, size)


def tell_unknown(source: str | Path, unknown: Sequence[str]) -> None:
    """Say on stderr which objects cannot be found."""
    if unknown:
        shown = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        print(
            f"hoiclip: {source} knows no {shown}; to find these too, add --detector google/owlv2-base-patch16-ensemble",
            file=sys.stderr,
        )


def _whole_model(kind: Any, source: str | Path, **options: Any) -> Any:
    """A model with all its weights; transformers would make up what a file lacks."""
    model, found = kind.from_pretrained(source, trust_remote_code=False, output_loading_info=True, **options)
    lost = [str(name) for name in (*found["missing_keys"], *found["mismatched_keys"])]
    lost = sorted(name for name in lost if not name.endswith(COUNTERS))
    if lost:
        raise HoiError(f"{source}: does not hold all of its weights ({', '.join(lost[:3])}, ...); download it again")
    return model


def _together(inputs: Sequence[dict[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.cat([one[name] for one in inputs]).to(device) for name in inputs[0]}


def _tidy(
    boxes: np.ndarray, ids: np.ndarray, people: np.ndarray, scores: np.ndarray, size: tuple[int, int]
) -> FoundObjects:
    """Boxes inside the image and at least a pixel wide, best first, near copies of one class dropped."""
    order = np.argsort(-scores, kind="stable")
    boxes, ids, people, scores = boxes[order], ids[order], people[order], scores[order]
    height, width = size
    boxes = np.clip(boxes, 0, [width, height, width, height]).reshape(-1, 4)
    keep = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    for i in range(len(boxes)):  # greedy: a box goes if a better one that stayed covers it
        better = keep[:i] & (ids[:i] == ids[i]) & (people[:i] == people[i])
        if keep[i] and better.any():
            overlap = box_iou(np.repeat(boxes[i : i + 1], i, axis=0), boxes[:i])
            keep[i] = not (better & (overlap > SAME_BOX)).any()
    return FoundObjects(boxes[keep], ids[keep], people[keep], scores[keep])
