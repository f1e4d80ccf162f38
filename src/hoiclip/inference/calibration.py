"""Calibration images, from which int8 reads the range of every activation."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor

from hoiclip.images import find_images, load_image
from hoiclip.processing import HoiClipProcessor

CALIBRATION_IMAGES = 100


def calibration_inputs(
    processor: HoiClipProcessor, source: str | Path | None = None, limit: int = CALIBRATION_IMAGES
) -> list[dict[str, Tensor]]:
    """The processor's outputs for some images.

    Args:
        processor: of the model.
        source: folder of images; None draws scenes of the playground, and says so if the model
            is made for something else.
        limit: so many images at most.

    Raises:
        HoiError: if there are no images or one cannot be read.
    """
    if source is not None:
        images = [load_image(path) for path in find_images([source])[:limit]]
    else:
        from hoiclip.playground.dataset import PlaygroundDataset

        if not processor.vocabulary.name.startswith("playground"):
            print(
                "hoiclip: int8 is calibrated with drawn scenes; for photographs give a folder of some (--calibration)",
                file=sys.stderr,
            )
        scenes = PlaygroundDataset(seed=1, length=limit, split="train")
        images = [scenes[i][0] for i in range(limit)]
    return [dict(processor([image])) for image in images]
