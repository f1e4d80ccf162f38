"""The classes that annotation files name by number or by word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from hoiclip.data.content import is_int


def ids_by_number_and_name(numbers: Iterable[int], names: Sequence[str]) -> dict[int | str | None, int]:
    """The position of each class by its number in a file, and by its name."""
    table: dict[int | str | None, int] = {number: i for i, number in enumerate(numbers)}
    return table | {category_key(name): i for i, name in enumerate(names)}


def category_key(category: Any) -> int | str | None:
    """Numbers as they are, also when a file writes them as text; names as :func:`word_key`."""
    if is_int(category):
        return category
    if not isinstance(category, str):
        return None
    category = category.strip()
    return int(category) if category.isdecimal() and len(category) < 10 else word_key(category)


def word_key(word: str) -> str:
    """A name without regard to spaces, underscores, and upper or lower case."""
    return re.sub(r"[\s_]+", "_", word.strip()).lower()
