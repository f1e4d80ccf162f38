"""The worst images of an evaluation, drawn where they are at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hoiclip.data.annotations import AnnotatedImage, draw_annotations
from hoiclip.data.samples import Samples
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.breakdowns import ImageFigures, worst_images
from hoiclip.evaluation.error_kinds import CORRECT, KINDS, ErrorKinds
from hoiclip.files import atomic_path
from hoiclip.visualization.pairs import DrawnPair, draw_pairs, pair_colours

WORST = 24
BEST_DETECTIONS = 5
FOLDER = "images"
HEIGHT = 480  # pixels of a drawing
GAP = 8


@dataclass(frozen=True)
class WorstImage:
    """An image of the list.

    Attributes:
        name: as the annotations name it.
        figures: of it.
        not_found: interactions of the annotated pairs that were not found, in words.
        best: the best detections: interaction, score, kind of error.
        drawing: relative to the folder of the report; None where there is none.
    """

    name: str
    figures: ImageFigures
    not_found: list[str]
    best: list[tuple[str, float, str]]
    drawing: str | None


def draw_worst(
    folder: Path,
    detections: Mapping[str, Detections],
    annotations: Sequence[AnnotatedImage],
    errors: ErrorKinds,
    open_samples: Callable[[], Samples] | None,
) -> tuple[list[WorstImage], str]:
    """Find the worst images and draw them: on the left what is annotated, on the right the best detections.

    Args:
        folder: of the report.
        detections, annotations, errors: the evaluation.
        open_samples: the images in the order of the annotations, or None.

    Returns:
        The images, and why some are not drawn; empty where all are.

    """
    samples, reason = None, "the images are not at hand"
    if open_samples is not None:
        try:
            samples, reason = open_samples(), ""
        except HoiError as error:
            reason = str(error)
    first = np.searchsorted(errors.image, np.arange(len(annotations) + 1))
    listed = []
    for number, figures in enumerate(worst_images(errors, WORST)):
        annotated = annotations[figures.image]
        kinds = errors.kind[first[figures.image] : first[figures.image + 1]]
        found = detections.get(annotated.file_name)
        drawing = None
        if samples is not None:
            try:
                image, framed = samples[figures.image]
                if framed.file_name != annotated.file_name:
                    raise HoiError(f"{annotated.file_name}: is not among the images where the annotations have it")
                drawing = f"{FOLDER}/{number:02}.jpg"
                _draw(folder / drawing, image, framed, found, kinds, errors)
            except HoiError as error:
                drawing, reason = None, str(error)
        names = errors.vocabulary.interaction_name
        lost = errors.truth_hoi_ids[(errors.truth_image == figures.image) & ~errors.found]
        listed.append(WorstImage(annotated.file_name, figures, [names(k) for k in lost], _best(found, kinds), drawing))
    return listed, reason


def _best(found: Detections | None, kinds: np.ndarray) -> list[tuple[str, float, str]]:
    """The best detections of an image in words."""
    if found is None:
        return []
    rows = np.argsort(-found.scores, kind="stable")[:BEST_DETECTIONS]
    name = found.vocabulary.interaction_name
    return [(name(found.hoi_ids[r]), float(found.scores[r]), KINDS[kinds[r]]) for r in rows]


def _draw(
    path: Path,
    image: Image.Image,
    annotated: AnnotatedImage,
    found: Detections | None,
    kinds: np.ndarray,
    errors: ErrorKinds,
) -> None:
    """Annotated pairs beside the best detections; those of one pair of boxes share a link and its labels."""
    pairs: dict[tuple[float, ...], DrawnPair] = {}
    if found is not None:
        for r in np.argsort(-found.scores, kind="stable")[:BEST_DETECTIONS]:
            human, thing = tuple(map(float, found.human_boxes[r])), tuple(map(float, found.object_boxes[r]))
            pair = pairs.setdefault((*human, *thing), DrawnPair(human, thing, []))  # type: ignore[arg-type]
            kind = "" if kinds[r] == CORRECT else f" ({KINDS[kinds[r]]})"
            pair.labels.append(f"{errors.vocabulary.interaction_name(found.hoi_ids[r])} {found.scores[r]:.2f}{kind}")
    colours = pair_colours(len(pairs))
    both = [draw_annotations(image, annotated, errors.vocabulary), draw_pairs(image, list(pairs.values()), colours)]
    for drawing in both:
        drawing.thumbnail((2 * HEIGHT, HEIGHT))
    sheet = Image.new("RGB", (sum(d.width for d in both) + GAP, max(d.height for d in both)), "white")
    sheet.paste(both[0], (0, 0))
    sheet.paste(both[1], (both[0].width + GAP, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        sheet.save(unfinished, "JPEG", quality=85)
