"""How images of different sizes share a batch: grouped by size, or padded together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def equal_size_batches(items: Iterable[T], size: Callable[[T], Hashable], batch_size: int) -> Iterator[list[T]]:
    """Group items of equal size, so that no image is padded and no result depends on its batch mates.

    Args:
        items: taken one by one.
        size: of an item.
        batch_size: items of a full batch.

    Yields:
        Each batch as soon as it is full; at the end the incomplete ones, in the order of their first item.
    """
    waiting: dict[Hashable, list[T]] = {}
    for item in items:
        batch = waiting.setdefault(size(item), [])
        batch.append(item)
        if len(batch) == batch_size:
            yield list(batch)
            batch.clear()
    yield from (batch for batch in waiting.values() if batch)


def pad_together(views: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Views (3, h, w) to one batch, zeros at the bottom and right.

    Returns:
        pixel_values (B, 3, H, W) and pixel_mask (B, H, W) int64, 1 on the image and 0 on padding.
    """
    import torch  # here, because detectors without torch make batches too

    height, width = max(v.shape[1] for v in views), max(v.shape[2] for v in views)
    if len({v.shape for v in views}) == 1:
        pixel_values = torch.stack(list(views)) if len(views) > 1 else views[0][None]  # one is not copied
        return pixel_values, torch.ones(len(views), height, width, dtype=torch.int64)
    pixel_values = torch.zeros(len(views), 3, height, width)
    pixel_mask = torch.zeros(len(views), height, width, dtype=torch.int64)
    for values, mask, view in zip(pixel_values, pixel_mask, views, strict=True):
        values[:, : view.shape[1], : view.shape[2]] = view
        mask[: view.shape[1], : view.shape[2]] = 1
    return pixel_values, pixel_mask
