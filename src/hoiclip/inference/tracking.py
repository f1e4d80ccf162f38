"""People, things and what they do, linked from frame to frame and made steady.

    steadier = Steadier(on=0.3)
    for steady in steadier.all_of(detections_of_each_frame):
        steady.shown(top_k=10).detections, steady.human_tracks, ...

Nothing here is random, and the order of a frame's triplets does not matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoiclip.boxes import box_iou
from hoiclip.detections import Detections, first_alike

PERSON = -1  # the class of people that act; a person acted upon is an object like others
MARGIN = 0.25  # of a box's sides, added all around: small fast things need not overlap themselves
OTHER = 0.6  # how much overlap counts with a thing of another class
LEAST_OVERLAP = 0.2  # IoU of grown boxes, below which nothing is the same thing
PATIENCE = 10  # frames that a track may miss
PACE = 0.5  # share of a new displacement in the velocity
SAME = 0.5  # IoU from which two boxes of one frame are the same person or thing
PLAIN = 0.5  # share of ``on`` that a triplet needs for its boxes to begin tracks
LOOK_AHEAD = 6  # frames that are known before one is answered
AROUND = 2  # a box is the mean of those seen so many frames before and after
FORGOTTEN = 0.01  # smoothed score below which an interaction is dropped


@dataclass
class Track:
    """One person or thing.

    Attributes:
        number: its own for good, from 1.
        kind: :data:`PERSON` or the object's id.
        box: (4,) xyxy pixels in the last frame, guessed where it was missed.
        velocity: (4,) pixels a frame.
        missed: frames since it was seen.
        seen: frames in which it was seen.
        age: frames since it began, the first one included.
    """

    number: int
    kind: int
    box: np.ndarray
    velocity: np.ndarray
    missed: int = 0
    seen: int = 1
    age: int = 1


class Tracker:
    """Links boxes across frames: the assignment of greatest total overlap, people to people and things to things.

    A thing whose class flickers stays one thing; overlap with one of another class counts :data:`OTHER` times as much.

    Args:
        patience: so many frames in a row a track may be missed before it ends.
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        self.patience = patience
        self.tracks: dict[int, Track] = {}
        self._next = 1

    def update(self, boxes: np.ndarray, kinds: np.ndarray, plain: np.ndarray | None = None) -> np.ndarray:
        """Go on by one frame.

        Args:
            boxes: (N, 4) xyxy pixels.
            kinds: (N,) :data:`PERSON` or the object's class.
            plain: (N,) bool, those that may begin a track; by default all.

        Returns:
            (N,) numbers of the tracks, all different, and never used again; 0 for none.
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        kinds = np.asarray(kinds, dtype=np.int64)
        for track in self.tracks.values():
            track.box = track.box + track.velocity
            track.missed += 1
            track.age += 1
        numbers = np.zeros(len(boxes), dtype=np.int64)
        order = np.lexsort((*boxes.T, kinds))  # whatever order they came in
        old = list(self.tracks.values())
        for row, column in self._links(boxes[order], kinds[order], old):
            numbers[order[row]] = old[column].number
            self._seen(old[column], boxes[order[row]])
        begins = numbers[order] == 0 if plain is None else (numbers[order] == 0) & plain[order]
        for row in order[begins]:
            numbers[row] = self._next
            self.tracks[self._next] = Track(self._next, int(kinds[row]), boxes[row], np.zeros(4))
            self._next += 1
        self.tracks = {n: track for n, track in self.tracks.items() if track.missed <= self.patience}
        return numbers

    @staticmethod
    def _links(boxes: np.ndarray, kinds: np.ndarray, old: Sequence[Track]) -> list[tuple[int, int]]:
        if not old or not len(boxes):
            return []
        overlap = box_iou(_grown(boxes)[:, None], _grown(np.stack([track.box for track in old]))[None])
        before = np.array([track.kind for track in old])[None]
        overlap[(kinds[:, None] == PERSON) != (before == PERSON)] = 0.0
        overlap[kinds[:, None] != before] *= OTHER
        overlap[overlap < LEAST_OVERLAP] = 0.0
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if overlap[r, c] > 0]

    @staticmethod
    def _seen(track: Track, box: np.ndarray) -> None:
        """Note where it is; a guess was made for each missed frame, and the last one made is off by this much."""
        off = (box - track.box) / track.missed
        track.velocity = track.velocity + (PACE if track.seen > 1 else 1.0) * off
        track.box, track.missed, track.seen = box, 0, track.seen + 1


def _grown(boxes: np.ndarray) -> np.ndarray:
    sides = MARGIN * np.tile(boxes[..., 2:] - boxes[..., :2], 2)
    return boxes + sides * np.array([-1.0, -1.0, 1.0, 1.0])


# --- interactions over time ----------------------------------------------------------------------


@dataclass
class Doing:
    """One interaction of one pair: its weighted sum and average, what is added in ranking, and whether it is shown."""

    verb_id: int
    object_id: int
    total: float = 0.0
    score: float = 0.0
    rest: float = 0.0
    on: bool = False


@dataclass(frozen=True, eq=False)
class SteadyDetections:
    """The steadied triplets of one frame.

    Attributes:
        detections: of all pairs that are followed, smoothed; best first.
        human_tracks, object_tracks: (M,) track numbers.
        on: (M,) bool, which of them are to be shown.
    """

    detections: Detections
    human_tracks: np.ndarray
    object_tracks: np.ndarray
    on: np.ndarray

    def shown(self, top_k: int) -> SteadyDetections:
        """At most ``top_k`` triplets that are on."""
        rows = np.flatnonzero(self.on)[:top_k]
        return SteadyDetections(self.detections[rows], self.human_tracks[rows], self.object_tracks[rows], self.on[rows])


@dataclass(frozen=True, eq=False)
class _Frame:
    """Detections without triplets, and of each track its box and whether it was seen there."""

    empty: Detections
    boxes: dict[int, tuple[np.ndarray, bool]]


class Steadier:
    """Follows the interactions of each pair over time.

    Scores are averaged over time with weights that fade; a label comes on when the average reaches ``on``, and goes
    off when it falls below ``off``.  What cannot be seen for a moment keeps its average, which then fades slowly.
    A frame's answer comes :data:`LOOK_AHEAD` frames later and uses those too, so that averaging does not make it late.

    Args:
        on: average at which a label is shown.
        off: below which it no longer is; by default a share of ``on`` that films chose, see ``docs/video.md``.
        memory: share of the average that is kept from frame to frame, 0..1.
        patience: as for :class:`Tracker`, at least ``look_ahead``.
        look_ahead: frames.
    """

    OFF, MEMORY, UNSEEN = 0.4, 0.88, 0.9

    def __init__(
        self,
        on: float = 0.3,
        off: float | None = None,
        *,
        memory: float = MEMORY,
        patience: int = PATIENCE,
        look_ahead: int = LOOK_AHEAD,
    ) -> None:
        self.on, self.off = on, self.OFF * on if off is None else off
        self.memory, self.look_ahead = memory, look_ahead
        self.tracker = Tracker(max(patience, look_ahead))
        self._doing: dict[tuple[int, int, int], Doing] = {}  # human track, object track, interaction
        self._frames: deque[_Frame] = deque()  # those that wait, behind a few that were answered
        self._answered = 0

    def update(self, found: Detections) -> SteadyDetections | None:
        """Go on by one frame.

        Args:
            found: all candidates of the frame, also the improbable ones.

        Returns:
            The answer to the frame ``look_ahead`` frames ago, None for the first ones.
        """
        found = found[_in_one_order(found)]
        humans, things, seen = self._track(found)
        now: dict[tuple[int, int, int], tuple[float, float]] = {}
        for i in range(len(found)):  # of near copies the first counts, which is the most probable one
            key = (int(humans[i]), int(things[i]), int(found.hoi_ids[i]))
            if key not in now and key[0] and key[1]:
                now[key] = float(found.confidence[i]), float(found.scores[i] - found.confidence[i])
                self._doing.setdefault(key, Doing(int(found.verb_ids[i]), int(found.object_ids[i])))
        tracks = self.tracker.tracks
        for key, doing in list(self._doing.items()):
            if key[0] not in tracks or key[1] not in tracks:
                del self._doing[key]
                continue
            age = min(tracks[key[0]].age, tracks[key[1]].age)
            self._follow(doing, now.get(key), age, hidden=not (key[0] in seen and key[1] in seen))
            if doing.total < FORGOTTEN and not doing.on:
                del self._doing[key]
        self._frames.append(_Frame(found[:0], {n: (track.box, track.missed == 0) for n, track in tracks.items()}))
        return self._answer() if len(self._frames) - self._answered > self.look_ahead else None

    def all_of(self, frames: Iterable[Detections]) -> Iterator[SteadyDetections]:
        """All frames, each answered as soon as it can be."""
        for found in frames:
            if (steady := self.update(found)) is not None:
                yield steady
        yield from self.finish()

    def finish(self) -> Iterator[SteadyDetections]:
        """The last frames, after which it knows nothing."""
        while self._answered < len(self._frames):
            yield self._answer()
        self._frames.clear()
        self._answered = 0
        self._doing.clear()
        self.tracker.tracks.clear()

    def _track(self, found: Detections) -> tuple[np.ndarray, np.ndarray, set[int]]:
        """Tracks of each triplet's person and thing, (M,) both, and all that were seen."""
        people = first_alike(found.human_boxes, np.zeros(len(found), dtype=np.int64), SAME)
        things = first_alike(found.object_boxes, np.zeros(len(found), dtype=np.int64), SAME)
        first_people, first_things = np.unique(people), np.unique(things)
        boxes = np.concatenate([found.human_boxes[first_people], found.object_boxes[first_things]])
        kinds = np.concatenate([np.full(len(first_people), PERSON), found.object_ids[first_things]])
        plain = found.confidence >= PLAIN * self.on
        numbers = self.tracker.update(boxes, kinds, np.concatenate([plain[first_people], plain[first_things]]))
        human = numbers[: len(first_people)][np.searchsorted(first_people, people)]
        thing = numbers[len(first_people) :][np.searchsorted(first_things, things)]
        return human, thing, set(numbers.tolist())

    def _follow(self, doing: Doing, now: tuple[float, float] | None, age: int, *, hidden: bool) -> None:
        if now is None and hidden:
            doing.total *= self.UNSEEN
        else:
            score, rest = now or (0.0, doing.rest)
            doing.total = self.memory * doing.total + (1 - self.memory) * score
            doing.rest = rest if doing.rest == 0.0 else self.memory * doing.rest + (1 - self.memory) * rest
        # a young pair's weights do not add up to 1 yet; a single frame still does not make an average
        doing.score = min(1.0, doing.total / (1 - self.memory ** max(age, self.look_ahead, 1)))
        doing.on = doing.score >= (self.off if doing.on else self.on)

    def _answer(self) -> SteadyDetections:
        """What was going on in the first frame that waits, by what is known now."""
        frames, at = self._frames, self._answered
        near = [frames[i].boxes for i in range(max(0, at - AROUND), min(len(frames), at + AROUND + 1))]
        boxes: dict[int, np.ndarray] = {}
        for number, (guess, _) in frames[at].boxes.items():
            seen = [box for boxes_of in near for box, is_seen in [boxes_of.get(number, (guess, False))] if is_seen]
            boxes[number] = np.mean(seen, axis=0) if seen else guess
        answer = self._triplets(frames[at].empty, boxes)
        self._answered += 1
        if self._answered > AROUND:
            frames.popleft()
            self._answered -= 1
        return answer

    def _triplets(self, empty: Detections, boxes: dict[int, np.ndarray]) -> SteadyDetections:
        """All that goes on between the tracks that have boxes; ``empty`` has the size and the vocabulary."""
        keys = [key for key in self._doing if key[0] in boxes and key[1] in boxes]
        keys.sort(key=lambda key: (-self._doing[key].score - self._doing[key].rest, key))
        doing = [self._doing[key] for key in keys]
        humans, things = (np.array([key[i] for key in keys], dtype=np.int64) for i in (0, 1))
        scores = np.array([d.score for d in doing], dtype=np.float32)
        detections = replace(
            empty,
            human_boxes=np.array([boxes[n] for n in humans.tolist()], dtype=np.float32).reshape(-1, 4),
            object_boxes=np.array([boxes[n] for n in things.tolist()], dtype=np.float32).reshape(-1, 4),
            object_ids=np.array([d.object_id for d in doing], dtype=np.int64),
            verb_ids=np.array([d.verb_id for d in doing], dtype=np.int64),
            hoi_ids=np.array([key[2] for key in keys], dtype=np.int64),
            scores=scores + np.array([d.rest for d in doing], dtype=np.float32),
            interaction_scores=scores,
        )
        if detections.image_size is not None:
            detections = detections.clipped()
        return SteadyDetections(detections, humans, things, np.array([d.on for d in doing], dtype=bool))


def _in_one_order(found: Detections) -> np.ndarray:
    """(M,) rows, the most probable first; ties are broken by what is found, not by where it stands."""
    return np.lexsort((*found.object_boxes.T, *found.human_boxes.T, found.hoi_ids, -found.confidence))
