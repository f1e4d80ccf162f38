"""Detect in a Ray dataset, for those who have a pipeline of their own.

    found = detect(ray.data.read_binary_files("s3://bucket/photos", include_paths=True), "model/", num_cpus=4)
    found.write_parquet("s3://bucket/found")

``hoiclip detect --ray`` is :mod:`hoiclip.inference.ray_job`, which also skips what is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hoiclip.backends.runtimes import use_threads
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.image_inputs import is_address
from hoiclip.inference.image_detector import ImageDetector, Source
from hoiclip.object_stores import is_uri, read_bytes
from hoiclip.optional_modules import optional_module
from hoiclip.parquet_rows import row, schema

KEY_COLUMNS = ("file_name", "path", "uri", "image_path")
IMAGE_COLUMNS = ("image", "bytes")
BATCH_ROWS = 32  # images that a worker takes at once
#: a model's folder, name or hub id, or a function that opens a detector, called once in each worker
Model: TypeAlias = "str | Path | Callable[[], ImageDetector] | None"


def detect(
    dataset: Any,
    model: Model = None,
    *,
    image_column: str | None = None,
    key_column: str | None = None,
    top_k: int = 10,
    threshold: float | None = None,
    zero_shot_top_k: int | None = None,
    draft: bool = False,
    num_cpus: float = 1,
    num_gpus: float = 0,
    concurrency: int | tuple[int, int] = 1,
    **load_options: Any,
) -> Any:
    """Detect in each row of a dataset, in worker processes that hold one model each.

    Lazy, as everything of Ray Data: nothing happens before the result is written or looked at.  Ray starts a worker
    that dies again, and gives its batch to it once more.

    Args:
        dataset: a ``ray.data.Dataset``.
        model: folder, name or hub id that every node can read, or a function that opens a detector.
        image_column: paths, addresses, URIs, encoded bytes, arrays (h, w, 3), or structs of ``bytes`` and ``path``; by
            default the first of ``image`` and ``bytes`` that there is, else the key column.
        key_column: names of the images; by default the first of ``file_name``, ``path``, ``uri``, ``image_path``.
        top_k, threshold, zero_shot_top_k, draft: as for :meth:`ImageDetector.detect_files`.
        num_cpus: cores of each worker; its model computes with so many threads.
        num_gpus: accelerators of each worker.
        concurrency: how many workers, or the least and the most.
        load_options: as for :func:`hoiclip.load`, such as ``backend`` or ``vocabulary``.

    Returns:
        A ``ray.data.Dataset`` of :func:`hoiclip.parquet_rows.schema`, one row an image in the dataset's own order
        of blocks; what is wrong with an image that cannot be read is in ``error``.

    Raises:
        HoiError: if ray is not installed, or the dataset has no such columns.
    """
    optional_module("ray.data", "ray")
    names = dataset.schema().names
    key_column, image_column = find_columns(names, key_column, image_column)
    options = {"top_k": top_k, "threshold": threshold, "zero_shot_top_k": zero_shot_top_k, "draft": draft}
    return dataset.select_columns(list(dict.fromkeys([key_column, image_column]))).map_batches(
        _BatchDetector,
        fn_constructor_args=(opener(model, **load_options), max(1, int(num_cpus)), options, key_column, image_column),
        batch_size=BATCH_ROWS,
        batch_format="numpy",
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        concurrency=concurrency,
    )


def find_columns(names: Collection[str], key: str | None, image: str | None) -> tuple[str, str]:
    """The columns of a table that hold keys and images, those that were named or those usually named so.

    Raises:
        HoiError: if there are none.
    """
    for option, given in (("key_column", key), ("image_column", image)):
        if given is not None and given not in names:
            raise HoiError(f"{option} {given!r}: there is no such column; there are {', '.join(names)}")
    key = key or next((name for name in KEY_COLUMNS if name in names), None)
    image = image or next((name for name in IMAGE_COLUMNS if name in names), key)
    if key is None or image is None:
        raise HoiError(
            f"no column {' or '.join(KEY_COLUMNS)} that names the images, only {', '.join(names)}; "
            "say which one does (key_column)"
        )
    return key, image


def opener(model: Model, **options: Any) -> Callable[[], ImageDetector]:
    """What opens a detector in a worker; a folder that lies here is named in full, for others have another folder."""
    if callable(model):
        return model
    from hoiclip.inference.loading import load

    return partial(load, os.path.abspath(model) if model is not None and os.path.isdir(model) else model, **options)


class RowDetector:
    """The model of one worker: named images in, rows of :mod:`hoiclip.parquet_rows` out.

    Args:
        open_detector: called once.
        threads: that the model computes with.
        options: of :meth:`ImageDetector.detect_named`.
    """

    def __init__(self, open_detector: Callable[[], ImageDetector], threads: int, options: dict[str, Any]) -> None:
        from hoiclip.backends.allocator import keep_freed_memory

        keep_freed_memory()
        use_threads(threads)
        self._detector, self._options = open_detector(), options
        self._readers = max(1, min(8, threads // 2))

    def rows(self, images: Iterable[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
        """One row for each image, in order; images are taken a few ahead.

        Args:
            images: key, and what :func:`source_of` takes.
        """
        given, ahead = tee(images)
        named = ((key, source_of(image, key)) for key, image in ahead)
        found = self._detector.detect_named(named, readers=self._readers, **self._options)
        for (key, image), (_, result) in zip(given, found, strict=True):
            if isinstance(result, Detections):
                yield row(key, result.to_dict())
            else:  # told as the image was named, wherever it lies
                yield row(key, None, str(result).replace(image, key) if isinstance(image, str) else str(result))


def source_of(image: Any, key: str) -> Source:
    """A path or address as it is; what else a table holds as a function that gives bytes or an array."""
    if isinstance(image, dict):  # Hugging Face datasets store both
        image = image.get("bytes") or image.get("path")
    if isinstance(image, str):
        return partial(read_bytes, image) if is_uri(image) and not is_address(image) else image
    if isinstance(image, (bytes, np.ndarray)):
        return partial(_given, image)
    return partial(_nothing, key)


def _given(image: Any) -> Any:
    return image


def _nothing(key: str) -> Any:
    raise HoiError(f"{key}: has neither bytes nor a path in its row; fill the image's column")


class _BatchDetector:
    """A worker of :func:`detect`."""

    def __init__(
        self, open_detector: Callable[[], ImageDetector], threads: int, options: dict[str, Any], key: str, image: str
    ) -> None:
        self._rows, self._key, self._image = RowDetector(open_detector, threads, options), key, image

    def __call__(self, batch: dict[str, Any]) -> Any:
        images = ((str(key), image) for key, image in zip(batch[self._key], batch[self._image], strict=True))
        return optional_module("pyarrow", "ray").Table.from_pylist(list(self._rows.rows(images)), schema())
