"""Which class of a detector is which object of a vocabulary: by name, and by a small table of synonyms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from hoiclip.data.categories import word_key
from hoiclip.files import ASSETS

SYNONYMS = ASSETS / "object_synonyms.tsv"  # a line of names for one thing each


@cache
def _meanings() -> dict[str, str]:
    """The first name of its line, by each name."""
    lines = [line.split("\t") for line in SYNONYMS.read_text("utf-8").splitlines() if line]
    return {word_key(name): word_key(names[0]) for names in lines for name in names}


def meaning(name: str) -> str:
    """One key for all names of a thing: ``"Mobile phone"`` and ``"cell_phone"`` have the same."""
    key = word_key(name)
    return _meanings().get(key, key)


def match_names(labels: Mapping[int, str], objects: Iterable[str]) -> dict[int, int]:
    """The object of each label that means one.

    Args:
        labels: a detector's names by number.
        objects: a vocabulary's names, in its order.
    """
    ids = {meaning(name): number for number, name in reversed(list(enumerate(objects)))}
    return {label: ids[meaning(name)] for label, name in labels.items() if meaning(name) in ids}
