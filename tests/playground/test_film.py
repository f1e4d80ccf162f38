"""Films of the playground: the same world in motion, with its truth."""

from __future__ import annotations

import numpy as np
import pytest

from hoiclip.errors import HoiError
from hoiclip.playground.film import TURN, Film


def test_seed_and_index_determine_a_film_whatever_frame_is_asked_for_first() -> None:
    forwards, backwards = Film(3, 5, 40), Film(3, 5, 40)
    late = np.asarray(backwards[30][0])
    assert np.array_equal(np.asarray(forwards[0][0]), np.asarray(backwards[0][0]))
    assert np.array_equal(np.asarray(forwards[30][0]), late)
    assert not np.array_equal(np.asarray(Film(3, 6, 40)[30][0]), late)


@pytest.mark.parametrize("index", range(6))
def test_boxes_keep_their_rows_and_move_smoothly(index: int) -> None:
    film = Film(11, index, 120)
    truths = [film.annotation(t) for t in range(len(film))]
    changes = {change for actor in film.actors for change in actor.changes}
    for before, after, t in zip(truths, truths[1:], range(1, 120), strict=False):
        assert (before.object_ids == after.object_ids).all()
        step = np.abs(after.boxes - before.boxes).max()
        turning = any(abs(t - change) <= TURN for change in changes)
        assert step < (30 if turning else 8), (t, step)  # somebody who turns round does so at once
        assert (after.boxes[:, 2:] > after.boxes[:, :2]).all()
        assert 0 <= after.boxes.min() <= after.boxes.max() <= film.size


def test_verbs_begin_and_end_at_the_frames_that_the_actors_know() -> None:
    changed = 0
    for index in range(8):
        film = Film(2, index, 120)
        labels = [set(zip(map(tuple, a.pairs), a.hoi_ids, strict=True)) for a in map(film.annotation, range(120))]
        expected = {change for actor in film.actors for change in actor.changes}
        found = {t for t in range(1, 120) if labels[t] != labels[t - 1]}
        assert found == expected
        changed += len(found)
    assert changed >= 8


def test_groups_pass_over_one_another() -> None:
    film = Film(500, 12, 120)
    assert len(film.actors) == 3
    shared = 0
    for t in range(120):
        people = film.annotation(t).boxes[::2]
        shared += bool(min(people[0][2], people[1][2]) - max(people[0][0], people[1][0]) > 0)
    assert 0 < shared < 120


@pytest.mark.parametrize("wrong", [(-1, 0, 5), (0, -1, 5), (0, 0, 0)])
def test_a_film_of_nothing_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(HoiError, match="a film needs a seed"):
        Film(*wrong)
    with pytest.raises(IndexError):
        Film(0, 0, 5)[5]
