"""What the numbers of somebody's file mean: every program counts verbs and objects in its own way.

A pair that no interaction of the vocabulary has is rare in a file that is read in its own numbering, and the
rule (about 6 in 100 of HICO-DET's verbs fit an object) in one that is read in another.  So each numbering that
the numbers allow is tried, and the scores of the pairs that exist under it are added up.  Interactions say
themselves what their object is, and count whatever class the box has; numbers of interactions are told apart by the
first and the last of them, or by the classes of the boxes if these fit all of them in one numbering only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoiclip.errors import HoiError
from hoiclip.vocabulary import NOTHING, HoiVocabulary

NO_OBJECT = -1  # in a column of objects: the interaction has none (V-COCO)
LEAST = 0.5  # share of the scores that must lie on pairs that exist
AHEAD = 2  # times the share of any other numbering


@dataclass(frozen=True, eq=False)
class Numbered:
    """N predictions in the numbers of their file.

    Attributes:
        labels: (N,) int64, verbs or interactions.
        objects: (N,) int64, NO_OBJECT for none; None where the file has no column of objects.
        people: int64, the numbers that stand for subjects; empty where the file names none.
        scores: (N,) float64.
    """

    labels: np.ndarray
    objects: np.ndarray | None
    people: np.ndarray
    scores: np.ndarray


def interactions_of(found: Numbered, vocabulary: HoiVocabulary) -> tuple[np.ndarray, str]:
    """Find out how the numbers count, and translate them.

    Args:
        found: all predictions of a file.
        vocabulary: what they can mean.

    Returns:
        (N,) int64 interactions, -1 for a pair of verb and object that is none; and the numbering in words.

    Raises:
        HoiError: numbers that fit no numbering, or several; it does not name the file.
    """
    if not len(found.labels):
        return np.zeros(0, dtype=np.int64), ""
    meanings: list[_Meaning] = []
    total = found.scores.sum()
    weights = found.scores / total if total > 0 else np.full(len(found.scores), 1 / len(found.scores))
    for said_of_objects, objects in _object_columns(found, vocabulary):
        for said_of_labels, hoi_ids, exists in _labelled(found, objects, vocabulary):
            said = f"{said_of_labels}{said_of_objects}"
            meanings.append(_Meaning(float(weights[exists].sum()), bool(exists.all()), said, hoi_ids))
    meanings.sort(key=lambda meaning: (-meaning.share, not meaning.complete))
    distinct: list[_Meaning] = []
    for meaning in meanings:
        if not any(np.array_equal(meaning.hoi_ids, other.hoi_ids) for other in distinct):
            distinct.append(meaning)
    return _chosen(distinct, found, vocabulary)


@dataclass(frozen=True, eq=False)
class _Meaning:
    """One numbering: which share of the scores lies on pairs that exist, whether all pairs do, and its interactions."""

    share: float
    complete: bool
    said: str
    hoi_ids: np.ndarray


def _chosen(meanings: list[_Meaning], found: Numbered, vocabulary: HoiVocabulary) -> tuple[np.ndarray, str]:
    """The one that is meant, of those sorted by share.  Raises HoiError where it is none, or any of several."""
    least, most = int(found.labels.min()), int(found.labels.max())
    numbers = f"labels are {least} to {most}"
    if found.objects is not None:
        seen = found.objects[found.objects != NO_OBJECT]
        numbers += f" and objects {int(seen.min())} to {int(seen.max())}" if len(seen) else ""
    if len(found.people):
        numbers += f", people {', '.join(map(str, np.unique(found.people)[:3].tolist()))}"
    if not meanings or meanings[0].share < LEAST:
        raise HoiError(
            f"its numbers ({numbers}) are in no numbering that is known of vocabulary {vocabulary.name!r} "
            "(docs/compare.md lists them); write names instead of numbers"
        )
    only_complete = meanings[0].complete and not any(meaning.complete for meaning in meanings[1:])
    if len(meanings) > 1 and not only_complete and meanings[0].share < AHEAD * meanings[1].share:
        raise HoiError(
            f"its numbers ({numbers}) can be {meanings[0].said}, or {meanings[1].said}, and nothing in it tells which; "
            "write names instead of numbers, or more images"
        )
    return meanings[0].hoi_ids, meanings[0].said


def _object_columns(found: Numbered, vocabulary: HoiVocabulary) -> list[tuple[str, np.ndarray | None]]:
    """(N,) positions in ``vocabulary.objects`` under each numbering that the numbers allow."""
    if found.objects is None:
        return [("", None)]
    nothing = vocabulary.objects.index(NOTHING) if NOTHING in vocabulary.objects else None
    count = len(vocabulary.objects)
    alphabetical = sorted(range(count), key=lambda i: vocabulary.objects[i])
    tables = [
        ("objects by COCO's ids", {number: i for i, number in enumerate(vocabulary.category_ids)}),
        ("objects counted from 0 in COCO's order", {i: i for i in range(count)}),
        ("objects counted from 0 in the order of the alphabet", dict(enumerate(alphabetical))),
    ]
    columns: list[tuple[str, np.ndarray | None]] = []
    for said, table in tables:
        known = table if nothing is None else table | {NO_OBJECT: nothing}
        numbers, where = np.unique(found.objects, return_inverse=True)
        people = {table.get(int(number)) for number in np.unique(found.people)}
        if all(int(number) in known for number in numbers) and people <= {vocabulary.person_id}:
            translated = np.array([known[int(number)] for number in numbers], dtype=np.int64)
            columns.append((f", {said}", translated[where.reshape(-1)]))
    return columns


def _labelled(
    found: Numbered, objects: np.ndarray | None, vocabulary: HoiVocabulary
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(N,) interactions, -1 for none, and whether each fits its object, under each numbering the labels allow."""
    least, most = int(found.labels.min()), int(found.labels.max())
    readings: list[tuple[str, np.ndarray, np.ndarray]] = []
    for first in (0, 1):
        labels = found.labels - first
        if objects is not None and least >= first and most < len(vocabulary.verbs) + first:
            table = np.full((len(vocabulary.verbs), len(vocabulary.objects)), -1, dtype=np.int64)
            table[vocabulary.verb_ids, vocabulary.object_ids] = np.arange(vocabulary.num_interactions)
            hoi_ids = table[labels, objects]
            readings.append((f"verbs counted from {first}", hoi_ids, hoi_ids >= 0))
        told = objects is not None or most >= len(vocabulary.verbs)  # else they may be verbs of unknown objects
        if told and least >= first and most < vocabulary.num_interactions + first:
            fits = vocabulary.object_ids[labels] == objects if objects is not None else labels >= 0
            readings.append((f"interactions counted from {first}", labels, fits))
    return readings
