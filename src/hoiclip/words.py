"""Words as people type them: lists of interactions, verbs and objects, and likely slips in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from hoiclip.errors import HoiError

PREPOSITIONS = ("on", "at", "with", "in", "over", "to", "from", "under", "into", "off", "for", "around", "up", "down")
SEPARATORS = re.compile(r"[,;，；、،]")
LIKE = 0.75  # how alike two words are that may be one and a slip of it, 0..1


def split_words(text: str) -> list[str]:
    """The parts of a list: commas, semicolons and lines separate; empty lines do not count, empty parts do."""
    parts: list[str] = []
    for line in text.splitlines():
        found = [part.strip() for part in SEPARATORS.split(line)]
        if found[-1] == "":  # an empty line, or a comma at the end of one
            found.pop()
        parts += found
    return parts


def identifier(name: Any) -> str:
    """A name as vocabularies hold it: ``"Sit on"`` -> ``"sit_on"``; upper and lower case agree.

    Raises:
        HoiError: if it is no text, or empty.
    """
    if not isinstance(name, str):
        raise HoiError(f"a verb or object must be a word, not a {type(name).__name__}")
    found = re.sub(r"[\s_]+", "_", name.strip().lower())
    if not found:
        raise HoiError("a verb or object has an empty name")
    return found


def split_phrase(phrase: str, verbs: Iterable[str], objects: Sequence[str]) -> tuple[str, str]:
    """``"sit on park bench"`` -> ``("sit_on", "park_bench")``: the longest known verb, else the first word.

    Args:
        phrase: verb and object.
        verbs: those that are known.
        objects: those that there are; empty allows any.

    Raises:
        HoiError: if there is no object.
    """
    words = re.split(r"[\s_]+", phrase.strip().lower())
    known = set(verbs)
    for length in range(len(words) - 1, 0, -1):  # the longest verb that is known wins
        verb, rest = "_".join(words[:length]), "_".join(words[length:])
        if verb in known and (not objects or rest in objects):
            return verb, rest
    length = 2 if len(words) > 2 and words[1] in PREPOSITIONS else 1
    if len(words) <= length:
        raise HoiError(f"{phrase[:100]!r} needs a verb and an object, as in 'ride bicycle'")
    return "_".join(words[:length]), "_".join(words[length:])


def likely_slips(asked: Iterable[str], known: Sequence[str], real: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Words that are new but much like a known one: (word, known word).

    Args:
        asked: what somebody typed.
        known: what a model was trained with.
        real: words that are none of these but certainly no slips.
    """
    fine = {*known, *real}
    found = [(word, difflib.get_close_matches(word, known, n=1, cutoff=LIKE)) for word in asked if word not in fine]
    return [(word, near[0]) for word, near in found if near]
