"""Cheap random draws from one numpy Generator.

Scenes ask for hundreds of single numbers; a Generator charges microseconds for each.  Drawing them
in blocks keeps the stream deterministic and the renderer fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class RandomStream:
    """Uniform draws in blocks.

    Args:
        rng: the generator; nobody else should draw from it meanwhile.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._block: list[float] = []

    def __call__(self) -> float:
        """A float in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(256).tolist()
        return self._block.pop()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self()

    def integer(self, low: int, high: int) -> int:
        """An integer in low, …, high - 1."""
        return low + int(self() * (high - low))

    def chance(self, probability: float) -> bool:
        return self() < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[int(self() * len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One item with probability proportional to its weight."""
        left = self() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return items[-1]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        rest = list(items)
        return [rest.pop(int(self() * len(rest))) for _ in range(len(rest))]
