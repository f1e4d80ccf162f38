"""Images with their annotations, by index: what training, evaluation and reports read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeAlias

from PIL import Image
from tqdm import tqdm

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.errors import HoiError
from hoiclip.images import check_annotated_image, load_annotated_image

CHECKED_AT_ONCE = 4  # images; most of the time goes into waiting for the disk

Sample: TypeAlias = tuple[Image.Image, AnnotatedImage]  # boxes in the pixels of the image


class Samples(Protocol):
    """Anything indexed by 0..len-1 that gives an image and its annotation."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class ImageFolder(Sequence[Sample]):
    """Annotated images with their images in a folder.

    Args:
        annotations: what is in the images.
        folders: where ``file_name`` is found; of several folders the first that has it.
        stored: boxes belong to the pixels as stored where an EXIF tag turns an image and the annotated
            size does not tell; see :func:`hoiclip.images.load_annotated_image`.
    """

    def __init__(
        self,
        annotations: Sequence[AnnotatedImage],
        folders: str | Path | Sequence[str | Path],
        *,
        stored: bool = True,
    ) -> None:
        self.annotations, self.stored = list(annotations), stored
        self.folders = [Path(f) for f in ([folders] if isinstance(folders, str | Path) else folders)]

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """The image (RGB, in the frame of its boxes) and its annotation.

        Raises:
            HoiError: missing or damaged image, or an unknown frame.
        """
        annotation = self.annotations[index]
        return load_annotated_image(self._path(annotation), annotation.size, stored=self.stored), annotation

    def complaint(self, index: int) -> HoiError | None:
        """What is wrong with an image, quickly; see :func:`hoiclip.images.check_annotated_image`."""
        annotation = self.annotations[index]
        try:
            check_annotated_image(self._path(annotation), annotation.size, stored=self.stored)
        except HoiError as error:
            return error
        return None

    def _path(self, annotation: AnnotatedImage) -> Path:
        paths = [folder / annotation.file_name for folder in self.folders]
        return next((path for path in paths if os.path.exists(path)), paths[0])


def check_images(samples: Samples, *, progress: bool = True) -> None:
    """Look at all image files before hours go into some of them; drawn images have none.

    Args:
        samples: an :class:`ImageFolder` or a :class:`Subset` of one; of anything else nothing is checked.
        progress: show a bar.

    Raises:
        HoiError: names the first image that cannot be used, and how many there are.
    """
    indices: Sequence[int] = range(len(samples))
    while isinstance(samples, Subset):
        chosen = samples.indices
        samples, indices = samples.samples, [chosen[index] for index in indices]
    if not isinstance(samples, ImageFolder):
        return
    with ThreadPoolExecutor(CHECKED_AT_ONCE) as pool:
        looked_at = tqdm(
            pool.map(samples.complaint, indices), desc="checking images", total=len(indices), unit="img",
            disable=None if progress else True, leave=False,
        )  # fmt: skip
        wrong = [error for error in looked_at if error]
    if wrong:
        raise HoiError(
            f"{wrong[0]} ({len(wrong):,} of {len(indices):,} images cannot be used; nothing was started: mend them, "
            "or take them out of the annotations; hoiclip data check names all)"
        )


def annotation_of(samples: Samples, index: int) -> AnnotatedImage:
    """One annotation, without opening its image where that can be avoided."""
    if isinstance(samples, Subset):
        return annotation_of(samples.samples, samples.indices[index])
    if isinstance(samples, ImageFolder):
        return samples.annotations[index]
    alone = getattr(samples, "annotation", None)  # the playground describes a scene without painting it
    return alone(index) if alone is not None else samples[index][1]


class Subset(Sequence[tuple[Image.Image, AnnotatedImage]]):
    """Some of the samples, by index."""

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image.Image, AnnotatedImage]:  # type: ignore[override]
        return self.samples[self.indices[index]]
