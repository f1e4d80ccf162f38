"""The triplets detected in one image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hoiclip.boxes import box_iou
from hoiclip.errors import HoiError
from hoiclip.files import write_text_atomic
from hoiclip.image_inputs import open_image
from hoiclip.images import save_image
from hoiclip.optional_modules import optional_module
from hoiclip.visualization.html import html_summary
from hoiclip.visualization.pairs import DrawnPair, draw_pairs, pair_colour, pair_colours
from hoiclip.vocabulary import NOTHING, HoiVocabulary

NEAR_COPY = 0.7  # IoU above which two boxes are drawn as one


@dataclass(frozen=True)
class Triplet:
    """One human - verb - object triplet; boxes xyxy in pixels, score 0..2 (see Detections)."""

    human_box: tuple[float, float, float, float]
    verb: str
    object: str
    object_box: tuple[float, float, float, float]
    score: float
    name: str


@dataclass(frozen=True, eq=False)
class Detections:
    """M ranked triplets of one image, best first.

    Attributes:
        human_boxes, object_boxes: (M, 4) xyxy in pixels of the original image.
        object_ids, verb_ids, hoi_ids: (M,) int64, rows of the vocabulary's lists.
        scores: (M,) fused score of Eq. 20-21: interaction probability plus the squared object
            probability, hence between 0 and 2 (up to 3 with the training-free enhancement).
        vocabulary: what the ids mean.
        image_size: (height, width) in pixels, or None.
        interaction_scores: (M,) probability of the interaction alone, 0..1, or None.
        source: what was given to the detector, to draw on later; None where that is not known.
        calibration: temperature and bias that made ``interaction_scores`` probabilities of being correct, or None.
    """

    human_boxes: np.ndarray
    object_boxes: np.ndarray
    object_ids: np.ndarray
    verb_ids: np.ndarray
    hoi_ids: np.ndarray
    scores: np.ndarray
    vocabulary: HoiVocabulary
    image_size: tuple[int, int] | None = None
    interaction_scores: np.ndarray | None = None
    source: Any = None
    calibration: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Any) -> Detections:
        """The triplets that a slice, index array or boolean mask picks, in that order."""
        rows = np.atleast_1d(np.arange(len(self))[rows])
        return Detections(
            self.human_boxes[rows],
            self.object_boxes[rows],
            self.object_ids[rows],
            self.verb_ids[rows],
            self.hoi_ids[rows],
            self.scores[rows],
            self.vocabulary,
            self.image_size,
            None if self.interaction_scores is None else self.interaction_scores[rows],
            self.source,
            self.calibration,
        )

    def most_probable(self, count: int) -> Detections:
        """The triplets of the highest :attr:`confidence`, the number that is shown, in its order."""
        return self[np.argsort(-self.confidence, kind="stable")[:count]]

    def __repr__(self) -> str:
        best = self.most_probable(3)
        named = ", ".join(f"{t.name} {s:.2f}" for t, s in zip(best, best.confidence, strict=True))
        more = ", ..." if len(self) > 3 else ""
        size = "" if self.image_size is None else f" in {self.image_size[1]} x {self.image_size[0]} pixels"
        return f"Detections({len(self)} triplets{size}{': ' if named else ''}{named}{more})"

    def clipped(self) -> Detections:
        """The same with boxes cut to the image; needs ``image_size``."""
        if self.image_size is None:
            raise ValueError("the size of the image is not known")
        height, width = self.image_size
        limit = np.array([width, height, width, height], dtype=self.human_boxes.dtype)
        boxes = {name: np.clip(getattr(self, name), 0, limit) for name in ("human_boxes", "object_boxes")}
        return replace(self, **boxes)

    @property
    def confidence(self) -> np.ndarray:
        """(M,) the number that is shown: the interaction's probability, else the fused score."""
        return self.scores if self.interaction_scores is None else self.interaction_scores

    def above(self, threshold: float) -> Detections:
        """The triplets whose score reaches ``threshold``."""
        return self[self.scores >= threshold]

    def __iter__(self) -> Iterator[Triplet]:
        for i in range(len(self)):
            yield Triplet(
                tuple(float(x) for x in self.human_boxes[i]),  # type: ignore[arg-type]
                self.vocabulary.verbs[self.verb_ids[i]],
                self.vocabulary.objects[self.object_ids[i]],
                tuple(float(x) for x in self.object_boxes[i]),  # type: ignore[arg-type]
                float(self.scores[i]),
                self.vocabulary.interaction_name(int(self.hoi_ids[i])),
            )

    @classmethod
    def empty(cls, vocabulary: HoiVocabulary, image_size: tuple[int, int] | None = None) -> Detections:
        """Nothing found."""
        boxes, ids = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
        return cls(boxes, boxes, ids, ids, ids, np.zeros(0, dtype=np.float32), vocabulary, image_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: ``image_size`` and one entry per triplet, names and ids both."""
        return {
            "image_size": list(self.image_size) if self.image_size else None,
            **({} if self.calibration is None else {"calibration": list(self.calibration)}),
            "triplets": [
                {
                    "human_box": [round(x, 2) for x in t.human_box],
                    "object_box": [round(x, 2) for x in t.object_box],
                    "verb": t.verb,
                    "object": t.object,
                    "interaction": t.name,
                    "score": round(t.score, 5),
                    **self._interaction_score(i),
                    "hoi_id": int(self.hoi_ids[i]),
                }
                for i, t in enumerate(self)
            ],
        }

    def _interaction_score(self, i: int) -> dict[str, float]:
        return (
            {}
            if self.interaction_scores is None
            else {"interaction_score": round(float(self.interaction_scores[i]), 5)}
        )

    def to_json(self) -> str:
        """:meth:`to_dict` on one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    # --- for people and for other programs --------------------------------------------------------

    def draw(
        self, image: Image.Image | None = None, *, max_labels: int = 3, line_width: int | None = None
    ) -> Image.Image:
        """Draw boxes, links and labels on a copy of the image, see :func:`draw_triplets`.

        Args:
            image: by default the one that was detected in.
            max_labels: interactions named per pair.
            line_width: of boxes, in pixels of the drawing; by default what suits its size.

        Raises:
            HoiError: if the image is not at hand, or cannot be read any more.
        """
        return draw_triplets(self._image(image), self, max_labels=max_labels, line_width=line_width)

    def show(self, image: Image.Image | None = None) -> None:
        """Open the drawing in the system's image viewer."""
        self.draw(image).show()

    def save(self, path: str | Path, image: Image.Image | None = None) -> None:
        """Write the drawing, or with a name that ends in ``.json`` the triplets."""
        if str(path).lower().endswith(".json"):
            write_text_atomic(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")
        else:
            save_image(self.draw(image), Path(path))

    def crop(self, image: Image.Image | None = None, *, margin: float = 0.0) -> list[Image.Image]:
        """The smallest region around each triplet's two boxes, cut out of the image.

        Args:
            image: by default the one that was detected in.
            margin: added on each side, as a fraction of the region's width and height.
        """
        whole = self._image(image)
        low = np.minimum(self.human_boxes[:, :2], np.where(self._alone[:, None], np.inf, self.object_boxes[:, :2]))
        high = np.maximum(self.human_boxes[:, 2:], np.where(self._alone[:, None], -np.inf, self.object_boxes[:, 2:]))
        more = margin * (high - low)
        regions = np.concatenate([np.floor(low - more), np.ceil(high + more)], axis=1)
        limit = [whole.width, whole.height, whole.width, whole.height]
        return [whole.crop((x1, y1, x2, y2)) for x1, y1, x2, y2 in np.clip(regions, 0, limit).astype(int).tolist()]

    def to_pandas(self) -> Any:
        """One row a triplet: names, ids, scores, both boxes xyxy in pixels.

        Raises:
            HoiError: if pandas is not installed.
        """
        pandas = optional_module("pandas", "results")
        rows = [
            {
                "interaction": t.name,
                "verb": t.verb,
                "object": t.object,
                "score": t.score,
                "interaction_score": float(self.confidence[i]) if self.interaction_scores is not None else None,
                **dict(zip(("human_x1", "human_y1", "human_x2", "human_y2"), t.human_box, strict=True)),
                **dict(zip(("object_x1", "object_y1", "object_x2", "object_y2"), t.object_box, strict=True)),
                "hoi_id": int(self.hoi_ids[i]),
            }
            for i, t in enumerate(self)
        ]
        return pandas.DataFrame(rows, columns=None if rows else _COLUMNS)

    def to_supervision(self) -> Any:
        """People and objects as one ``supervision.Detections``: two boxes a triplet, the person's first.

        ``class_id`` is the object's id, one past the last object for people that the vocabulary has no object for;
        ``data`` holds ``class_name``, ``interaction`` and ``triplet``, the number of the triplet.

        Raises:
            HoiError: if supervision is not installed.
        """
        supervision = optional_module("supervision", "results")
        person = self.vocabulary.person_id
        human = np.full(len(self), len(self.vocabulary.objects) if person is None else person)
        names = [*self.vocabulary.objects, "person"]
        has_object = np.stack([np.ones(len(self), dtype=bool), ~self._alone], axis=1).reshape(-1)
        ids = np.stack([human, self.object_ids], axis=1).reshape(-1)[has_object]
        triplet = np.repeat(np.arange(len(self)), 2)[has_object]
        interactions = np.array([t.name for t in self], dtype=object)
        return supervision.Detections(
            xyxy=np.stack([self.human_boxes, self.object_boxes], axis=1).reshape(-1, 4)[has_object].astype(np.float32),
            confidence=np.repeat(self.confidence, 2)[has_object].astype(np.float32),
            class_id=ids.astype(int),
            data={
                "class_name": np.array([names[i] for i in ids], dtype=str),
                "interaction": interactions[triplet].astype(str),
                "triplet": triplet,
            },
        )

    def to_coco(self, image_id: int = 0, first_id: int = 1) -> dict[str, list[dict[str, Any]]]:
        """COCO's form: ``annotations`` of people and objects, boxes xywh in pixels, and ``relations`` between them.

        Args:
            image_id: of the image.
            first_id: of the first annotation.
        """
        annotations: list[dict[str, Any]] = []
        relations: list[dict[str, Any]] = []
        known: dict[tuple[Any, ...], int] = {}
        numbers = self.vocabulary.category_ids or tuple(range(1, len(self.vocabulary.objects) + 1))
        person = self.vocabulary.person_id

        def annotation(box: tuple[float, ...], category: int, score: float) -> int:
            key = (*box, category)
            if key not in known:
                known[key] = first_id + len(annotations)
                xywh = [round(v, 2) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
                annotations.append(
                    {"id": known[key], "image_id": image_id, "category_id": category, "bbox": xywh, "score": score,
                     "area": round(xywh[2] * xywh[3], 2), "iscrowd": 0}
                )  # fmt: skip
            return known[key]

        for i, t in enumerate(self):
            score = round(float(self.confidence[i]), 5)
            subject = annotation(t.human_box, numbers[person] if person is not None else 0, score)
            thing = None if self._alone[i] else annotation(t.object_box, numbers[self.object_ids[i]], score)
            relations.append(
                {"image_id": image_id, "subject_id": subject, "object_id": thing, "verb": t.verb,
                 "interaction": t.name, "score": score}
            )  # fmt: skip
        return {"annotations": annotations, "relations": relations}

    def _repr_html_(self) -> str:
        """For notebooks: the drawing, where the image is at hand, and a table of the triplets."""
        drawing = None
        if self.source is not None:
            with suppress(HoiError):  # the image has gone since
                drawing = self.draw()
        best = self.most_probable(20)
        rows = [(t.name, float(score)) for t, score in zip(best, best.confidence, strict=True)]
        return html_summary(repr(self).split(":")[0], rows, len(self), drawing)

    @property
    def _alone(self) -> np.ndarray:
        """(M,) triplets without an object."""
        nothing = self.vocabulary.objects.index(NOTHING) if NOTHING in self.vocabulary.objects else -1
        return self.object_ids == nothing

    def _image(self, image: Image.Image | None) -> Image.Image:
        if image is not None:
            return image
        if self.source is None:
            raise HoiError("these detections do not know their image: give it, detections.draw(image)")
        return open_image(self.source)


_COLUMNS = ["interaction", "verb", "object", "score", "interaction_score"]
_COLUMNS += [f"{what}_{side}" for what in ("human", "object") for side in ("x1", "y1", "x2", "y2")] + ["hoi_id"]


def draw_triplets(
    image: Image.Image,
    detections: Detections,
    *,
    max_labels: int = 3,
    line_width: int | None = None,
    human_tracks: np.ndarray | None = None,
) -> Image.Image:
    """Draw on a copy, one colour a person: both boxes, a link, the object's name and the best interactions.

    Near copies of a person, and of an object, are drawn once.  Small images come back enlarged by a
    whole number, so that the labels can be read.

    Args:
        image: the image the detections belong to.
        detections: boxes xyxy in pixels of ``image``.
        max_labels: interactions named per pair.
        line_width: of boxes, in pixels of the drawing; by default what suits its size.
        human_tracks: (M,) numbers of the people in a film, each of which keeps its colour.
    """
    order = np.argsort(-detections.confidence, kind="stable")
    shown = detections[order]
    people = first_alike(shown.human_boxes, np.zeros(len(shown), dtype=np.int64))
    things = first_alike(shown.object_boxes, shown.object_ids)
    if human_tracks is not None:
        colours = {person: pair_colour(int(human_tracks[order[person]])) for person in people.tolist()}
    else:
        colours = dict(zip(dict.fromkeys(people.tolist()), pair_colours(len(set(people.tolist()))), strict=True))
    pairs: dict[tuple[int, int], DrawnPair] = {}
    for i, (triplet, score) in enumerate(zip(shown, shown.confidence, strict=True)):
        key = int(people[i]), int(things[i])
        if key not in pairs:
            human = tuple(float(x) for x in shown.human_boxes[key[0]])
            thing = tuple(float(x) for x in shown.object_boxes[key[1]])
            none = triplet.object == NOTHING
            name = "" if none else triplet.object.replace("_", " ")
            pairs[key] = DrawnPair(human, None if none else thing, [], name)  # type: ignore[arg-type]
        labels = pairs[key].labels
        if len(labels) < max_labels and not any(label.rpartition(" ")[0] == triplet.name for label in labels):
            labels.append(f"{triplet.name} {score:.2f}")
    return draw_pairs(image, list(pairs.values()), [colours[person] for person, _ in pairs], line_width)


def first_alike(boxes: np.ndarray, group: np.ndarray, overlap: float = NEAR_COPY) -> np.ndarray:
    """(M,) for each box the first one of its group that it covers by more than this IoU, itself if there is none."""
    first = np.arange(len(boxes))
    for i in range(len(boxes)):
        earlier = np.flatnonzero((first[:i] == np.arange(i)) & (group[:i] == group[i]))
        if len(earlier):
            covered = box_iou(boxes[i], boxes[earlier])
            if covered.max() > overlap:
                first[i] = earlier[covered.argmax()]
    return first
