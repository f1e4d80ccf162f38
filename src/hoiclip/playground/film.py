"""The playground in motion: (seed, index) -> a film and its truth, nothing on disk.

    film = Film(seed=0, index=3)
    image, annotation = film[40]

One to three groups of a person and a thing move along smooth paths, pass over one another, and change
what they do: at known frames the next pose takes the place of the last one, limbs and things going from
one to the other within :data:`TURN` frames.  The truth changes halfway.  Row i of ``annotation.boxes`` is the
same person or thing in every frame, so rows are the true tracks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.errors import HoiError
from hoiclip.playground.backgrounds import sample_background, sample_foreground
from hoiclip.playground.composition import compose
from hoiclip.playground.dataset import GROUPS, SIZE, drawable_pairs
from hoiclip.playground.groups import Group, Pair, Thing
from hoiclip.playground.objects import Point
from hoiclip.playground.people import Person
from hoiclip.playground.random_stream import RandomStream
from hoiclip.playground.renderer import render
from hoiclip.playground.scenes import Placement, Scene, add_group, cut_out, pixel_boxes
from hoiclip.vocabulary import HoiVocabulary

FRAMES = 120
RATE = 25  # frames a second
TURN = 8  # frames from one pose to the next
SHORTEST = 30  # frames that a pose lasts at least
FILMS = 7  # keeps the draws of films apart from those of scenes


@dataclass
class Actor:
    """One group in motion.

    Attributes:
        poses: one after the other, a person and a thing each, always of the same looks.
        changes: frames at which the next pose begins, ascending, one fewer than poses.
        mirror: as in :class:`Placement`.
        middle, reach, period, phase: of the path, x = middle + reach * sin(2 pi (frame / period + phase)), pixels.
        ground, scale: pixels.
        growth: by this share the scale swings, as if nearer and farther.
    """

    poses: list[Group]
    changes: list[int]
    mirror: int
    middle: float
    reach: float
    period: float
    phase: float
    ground: float
    scale: float
    growth: float

    def group(self, frame: int) -> Group:
        """The pose of a frame."""
        current = sum(frame >= change for change in self.changes)
        for i, change in enumerate(self.changes):
            along = (frame - change + TURN / 2) / TURN
            if 0 < along < 1:
                return _between(self.poses[i], self.poses[i + 1], along * along * (3 - 2 * along), current > i)
        return self.poses[current]

    def place(self, frame: int) -> Placement:
        """Where it is in a frame; the parts are still missing."""
        turn = 2 * math.pi * (frame / self.period + self.phase)
        scale = self.scale * (1 + self.growth * math.sin(0.7 * turn))
        return Placement([], self.middle + self.reach * math.sin(turn), self.ground, scale, self.mirror)


class Film(Sequence[tuple[Image.Image, AnnotatedImage]]):
    """The frames of one film, drawn when they are asked for.

    Args:
        seed, index: which film; frame i does not depend on how many there are, but changes of verbs do.
        frames: how many.
        size: width and height in pixels.
        vocabulary: of drawable verbs and objects, or its name.

    Raises:
        HoiError: on negative numbers, or what the playground cannot draw.
    """

    def __init__(
        self,
        seed: int,
        index: int,
        frames: int = FRAMES,
        size: int = SIZE,
        vocabulary: HoiVocabulary | str = "playground",
    ) -> None:
        if min(seed, index) < 0 or frames < 1:
            raise HoiError(f"a film needs a seed and an index of at least 0 and a frame, not {seed}, {index}, {frames}")
        self.seed, self.number, self.frames, self.size = seed, index, frames, size
        self.vocabulary = HoiVocabulary.coerce(vocabulary)
        pairs = drawable_pairs(self.vocabulary)
        self._ids = {pair: k for k, pair in enumerate(pairs)}
        stream = RandomStream(np.random.default_rng([seed, FILMS, index]))
        self._background = sample_background(stream, size)
        crowd = stream.weighted(*GROUPS)
        self.actors = [self._actor(stream, pairs, crowd) for _ in range(crowd)]
        self.actors.sort(key=lambda actor: actor.ground)  # the nearer ones are painted later
        self._foreground = sample_foreground(stream, size)

    def _actor(self, stream: RandomStream, pairs: list[Pair], crowd: int) -> Actor:
        pair = stream.choice(pairs)
        changes: list[int] = []
        free = self.frames - SHORTEST
        while (change := (changes[-1] if changes else 0) + stream.integer(SHORTEST, 3 * SHORTEST)) <= free:
            changes.append(change)
        poses = [compose(stream, pair, dict.fromkeys(pairs, 1.0), extras=0.0)]
        for _ in changes:
            others = [other for other in pairs if other[1] == pair[1] and other[0] != pair[0]]
            pair = stream.choice(others or [pair])
            poses.append(_dressed_as(compose(stream, pair, dict.fromkeys(pairs, 1.0), extras=0.0), poses[0]))
        extents = [cut_out(pose).extent for pose in poses]
        x0, x1 = min(e[0] for e in extents), max(e[2] for e in extents)
        y0, y1 = min(e[1] for e in extents), max(e[3] for e in extents)
        growth = stream.uniform(0.0, 0.1)
        low, high = ((0.4, 0.7), (0.33, 0.5), (0.3, 0.4))[crowd - 1]
        scale = min(self.size * stream.uniform(low, high), 0.9 * self.size / (x1 - x0), 0.85 * self.size / (y1 - y0))
        largest = scale * (1 + growth)
        mirror = stream.choice((-1, 1))
        left, right = (x0, x1) if mirror > 0 else (-x1, -x0)
        lowest = max(y1 * largest + 0.02 * self.size, self._background.horizon + 0.04 * self.size)
        highest = self.size - 1.5 + min(y0, 0.0) * largest
        ground = stream.uniform(min(lowest, highest), highest)
        start, end = -left * largest, self.size - right * largest
        reach = max(0.0, (end - start) / 2) * stream.uniform(0.6, 1.0)
        return Actor(
            poses, changes, mirror, (start + end) / 2, reach, stream.uniform(90, 220), stream(), ground, scale, growth
        )  # fmt: skip

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frame: int) -> tuple[Image.Image, AnnotatedImage]:  # type: ignore[override]
        scene = self.scene(frame)
        return render(scene), self._annotate(scene, frame)

    def annotation(self, frame: int) -> AnnotatedImage:
        """The truth of one frame without painting; boxes also of what is hidden."""
        return self._annotate(self.scene(frame), frame)

    def scene(self, frame: int) -> Scene:
        """The description that image and annotation come from."""
        if not 0 <= frame < self.frames:
            raise IndexError(f"frame {frame} of {self.frames}")
        scene = Scene(self.size, self._background, foreground=self._foreground)
        for actor in self.actors:
            cutout, place = cut_out(actor.group(frame)), actor.place(frame)
            place.parts = cutout.parts
            add_group(scene, cutout, place, pixel_boxes(cutout, place, self.size))
        return scene

    def _annotate(self, scene: Scene, frame: int) -> AnnotatedImage:
        labels = [(h, o, self._ids[verb, scene.names[o]]) for h, o, verbs in scene.pairs for verb in verbs]
        return AnnotatedImage(
            file_name=f"film_{self.seed}_{self.number:06d}_{frame:06d}.png",
            boxes=np.array(scene.boxes),
            object_ids=np.array([self.vocabulary.objects.index(name) for name in scene.names]),
            pairs=np.array([(h, o) for h, o, _ in labels]),
            hoi_ids=np.array([k for _, _, k in labels]),
            size=(self.size, self.size),
        )


# --- from pose to pose -----------------------------------------------------------------------------


def _dressed_as(group: Group, first: Group) -> Group:
    """The same person and thing in another pose."""
    for person, model in zip(group.persons, first.persons, strict=True):
        person.colours = model.colours
    for thing, model_thing in zip(group.things, first.things, strict=True):
        thing.colours = model_thing.colours
    return group


def _between(a: Group, b: Group, along: float, later: bool) -> Group:
    """A pose on the way from one to the other; ropes and streaks, which belong to a pose, are missing."""
    near = b if later else a
    group = Group(near.stream, order=[part for part in near.order if part[0] != "rope"], pairs=near.pairs)
    group.persons = [_person(p, q, along, later) for p, q in zip(a.persons, b.persons, strict=True)]
    group.things = [_thing(p, q, along, later) for p, q in zip(a.things, b.things, strict=True)]
    return group


def _mix(a: float, b: float, along: float) -> float:
    return a + (b - a) * along


def _mix_points(a: Point, b: Point, along: float) -> Point:
    return (_mix(a[0], b[0], along), _mix(a[1], b[1], along))


def _person(a: Person, b: Person, along: float, later: bool) -> Person:
    person = copy(b if later else a)
    person.x, person.y, person.size = _mix(a.x, b.x, along), _mix(a.y, b.y, along), _mix(a.size, b.size, along)
    if a.facing == b.facing:  # somebody who turns round does so at once
        person.hips = _mix_points(a.hips, b.hips, along)
        person.lean, person.nod = _mix(a.lean, b.lean, along), _mix(a.nod, b.nod, along)
        person.hands = [_mix_points(a.hand(side), b.hand(side), along) for side in (0, 1)]
        person.feet = [_mix_points(a.feet[side], b.feet[side], along) for side in (0, 1)]
    return person


def _thing(a: Thing, b: Thing, along: float, later: bool) -> Thing:
    thing = copy(b if later else a)
    thing.x, thing.y, thing.size = _mix(a.x, b.x, along), _mix(a.y, b.y, along), _mix(a.size, b.size, along)
    if a.flip == b.flip:
        thing.angle = _mix(a.angle, b.angle, along)
    return thing
