"""What is where in one image: groups of persons and things, placed before a background.

:func:`sample_scene` draws a scene with interactions, :func:`sample_still_life` one without (random
poses, scattered things) for a detector that must not know relations yet.  A :class:`Scene` knows
the exact boxes; :mod:`hoiclip.playground.renderer` only paints it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hoiclip.playground.backgrounds import Background, sample_background, sample_foreground
from hoiclip.playground.body_poses import stand, walk
from hoiclip.playground.composition import compose
from hoiclip.playground.groups import Group, Pair, Thing
from hoiclip.playground.objects import KINDS, Primitive
from hoiclip.playground.palettes import Colour, person_colours, thing_colours
from hoiclip.playground.people import Person
from hoiclip.playground.random_stream import RandomStream

Box = tuple[float, float, float, float]
Palette = Mapping[str, Colour]
NAMES = tuple(KINDS)
HIDDEN = 0.5  # no labelled box is covered more than this by another group
LONELY_MARGIN = 1.1  # an idle person's own thing is nearer than any other by this factor


@dataclass
class Part:
    """One person's layer or one thing, ready to paint.

    Attributes:
        primitives: in the group's frame.
        palette: colour names to RGB.
        owner: row of the scene's boxes, -1 for ropes.
    """

    primitives: Sequence[Primitive]
    palette: Palette
    owner: int


@dataclass
class Placement:
    """A group on the image: pixel x = ``x + mirror * scale * gx``, pixel y = ``y - scale * gy``."""

    parts: list[Part]
    x: float
    y: float
    scale: float
    mirror: int


@dataclass
class Scene:
    """One image, before it is painted.

    Attributes:
        size: width and height in pixels.
        background: what lies behind.
        placements: in painting order.
        foreground: primitives in pixels that are painted last.
        boxes: xyxy pixels inside the image, of what is drawn of each person or thing, hidden or not.
        names: "person" or the name of the object, one per box.
        pairs: (human row, object row, verbs).
    """

    size: int
    background: Background
    placements: list[Placement] = field(default_factory=list)
    foreground: list[Primitive] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int, tuple[str, ...]]] = field(default_factory=list)


# --- groups become parts -----------------------------------------------------------------------------


@dataclass
class Cutout:
    """A group flattened to parts, with the extent of each owner in the group's frame (y upwards)."""

    parts: list[Part]
    names: list[str]
    extents: list[list[float]]  # x0, y0, x1, y1
    pairs: list[tuple[int, int, tuple[str, ...]]]

    @property
    def extent(self) -> Box:
        return (
            min(e[0] for e in self.extents),
            min(e[1] for e in self.extents),
            max(e[2] for e in self.extents),
            max(e[3] for e in self.extents),
        )


def _grow(extent: list[float], primitives: Sequence[Primitive]) -> None:
    for primitive in primitives:
        if primitive[0] == "disc":
            _, x, y, half, _ = primitive
            xs, ys = (x,), (y,)
        else:
            half = primitive[2] / 2 if primitive[0] == "line" else 0.0
            xs, ys = zip(*primitive[1], strict=True)
        extent[0] = min(extent[0], min(xs) - half)
        extent[1] = min(extent[1], min(ys) - half)
        extent[2] = max(extent[2], max(xs) + half)
        extent[3] = max(extent[3], max(ys) + half)


def cut_out(group: Group) -> Cutout:
    """Flatten a group; persons come first among the owners, then things."""
    persons = len(group.persons)
    layers = [person.layers() for person in group.persons]
    names = ["person"] * persons + [thing.kind.name for thing in group.things]
    extents = [[math.inf, math.inf, -math.inf, -math.inf] for _ in names]
    parts = []
    for what, i in group.order:
        if what == "rope":
            points, width, colour = group.ropes[i]
            parts.append(Part([("line", points, width, "rope")], {"rope": colour}, -1))
            continue
        if what == "thing":
            part = Part(group.things[i].primitives(), group.things[i].colours, persons + i)
        else:
            part = Part(layers[i][("far", "body", "near").index(what)], group.persons[i].colours, i)
        _grow(extents[part.owner], part.primitives)
        parts.append(part)
    pairs = [(h, persons + o, tuple(sorted(verbs))) for (h, o), verbs in group.pairs.items()]
    return Cutout(parts, names, extents, pairs)


def pixel_boxes(cutout: Cutout, place: Placement, size: int) -> list[Box]:
    """The box of each owner, xyxy pixels, cut to an image of ``size`` by ``size``."""
    boxes = []
    for x0, y0, x1, y1 in cutout.extents:
        a, b = place.x + place.mirror * place.scale * x0, place.x + place.mirror * place.scale * x1
        left, right = (a, b) if a < b else (b, a)
        boxes.append(
            (
                min(max(left, 0.0), size - 1.0),
                min(max(place.y - place.scale * y1, 0.0), size - 1.0),
                max(min(right, float(size)), 1.0),
                max(min(place.y - place.scale * y0, float(size)), 1.0),
            )
        )
    return boxes


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _distance(a: Box, b: Box) -> float:
    """Between the centres."""
    return math.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2)


# --- scenes with interactions --------------------------------------------------------------------------


def sample_scene(
    stream: RandomStream,
    wanted: Sequence[Pair],
    weights: Mapping[Pair, float],
    size: int = 128,
    extras: float = 0.45,
    distractors: int = 3,
) -> Scene:
    """A scene that shows the wanted interactions.

    Args:
        stream: draws.
        wanted: (verb, object) of each group; the first is never dropped for lack of room.
        weights: how gladly other interactions are added (see :func:`compose`); empty for none.
        size: width and height in pixels.
        extras: chance that a group gets more than was wanted.
        distractors: at most so many things nobody has to do with.
    """
    scene = Scene(size, sample_background(stream, size))
    cutouts = [cut_out(compose(stream, pair, weights, extras)) for pair in wanted]
    chosen: list[tuple[Cutout, Placement, list[Box]]] = []
    for cutout in cutouts:
        best = None
        for _ in range(10):
            place = _place(stream, cutout, size, scene.background.horizon, len(cutouts))
            boxes = pixel_boxes(cutout, place, size)
            crowding = sum(_overlap(b, c) for b in boxes for _, _, others in chosen for c in others)
            if best is None or crowding < best[0]:
                best = (crowding, place, boxes)
            if crowding == 0:
                break
        assert best is not None
        candidate = [*chosen, (cutout, best[1], best[2])]
        if len(candidate) == 1 or _legible(candidate):
            chosen = candidate
    chosen.sort(key=lambda item: item[1].y)
    for cutout, place, boxes in chosen:
        add_group(scene, cutout, place, boxes)
    for _ in range(stream.integer(0, distractors + 1)):
        _add_distractor(stream, scene)
    scene.placements.sort(key=lambda place: place.y)
    scene.foreground = sample_foreground(stream, size)
    return scene


def _place(stream: RandomStream, cutout: Cutout, size: int, horizon: float, crowd: int) -> Placement:
    x0, y0, x1, y1 = cutout.extent
    low, high = ((0.4, 0.78), (0.33, 0.52), (0.3, 0.42))[min(crowd, 3) - 1]
    scale = size * stream.uniform(low, high)
    scale = min(scale, 0.96 * size / (x1 - x0), 0.94 * size / (y1 - y0))
    mirror = stream.choice((-1, 1))
    lowest = max(y1 * scale + 0.02 * size, horizon + 0.04 * size)
    highest = size - 1.5 + min(y0, 0.0) * scale
    ground = stream.uniform(min(lowest, highest), highest)
    left, right = (x0, x1) if mirror > 0 else (-x1, -x0)
    margin = 0.01 * size
    x = stream.uniform(margin - left * scale, size - margin - right * scale)
    return Placement(cutout.parts, x, ground, scale, mirror)


def _legible(candidate: Sequence[tuple[Cutout, Placement, list[Box]]]) -> bool:
    """Whether no labelled box is mostly hidden and every idle person is nearest to their own thing."""
    for cutout, place, boxes in candidate:
        others = [(p, bs) for c, p, bs in candidate if c is not cutout]
        for human, thing, verbs in cutout.pairs:
            for row in (human, thing):
                box = boxes[row]
                for other, covers in others:
                    if other.y >= place.y and sum(_overlap(box, c) for c in covers) > HIDDEN * _area(box):
                        return False
            if "no_interaction" in verbs:
                near = _distance(boxes[human], boxes[thing]) * LONELY_MARGIN
                for c, _, bs in candidate:
                    for name, box in zip(c.names, bs, strict=True):
                        if name != "person" and box is not boxes[thing] and _distance(boxes[human], box) < near:
                            return False
    return True


def add_group(scene: Scene, cutout: Cutout, place: Placement, boxes: Sequence[Box]) -> None:
    """Put a group with its boxes and pairs into a scene."""
    start = len(scene.boxes)
    for part in cutout.parts:
        if part.owner >= 0:
            part.owner += start
    scene.placements.append(place)
    scene.boxes += boxes
    scene.names += cutout.names
    scene.pairs += [(start + h, start + o, verbs) for h, o, verbs in cutout.pairs]


def _add_distractor(stream: RandomStream, scene: Scene) -> None:
    """A thing on the ground that nobody uses, if there is room for one."""
    size = scene.size
    idle = [(h, o) for h, o, verbs in scene.pairs if "no_interaction" in verbs]
    cutout = cut_out(_lone_thing(stream, tumble=0.0))
    for _ in range(5):
        place = _place(stream, cutout, size, scene.background.horizon, 2)
        (box,) = pixel_boxes(cutout, place, size)
        clear = all(_overlap(box, b) < 0.15 * min(_area(box), _area(b)) for b in scene.boxes)
        if clear and all(
            _distance(scene.boxes[h], box) > LONELY_MARGIN * _distance(scene.boxes[h], scene.boxes[o]) for h, o in idle
        ):
            add_group(scene, cutout, place, [box])
            return


# --- scenes without ---------------------------------------------------------------------------------------


def _lone_thing(stream: RandomStream, tumble: float) -> Group:
    group = Group(stream)
    name = stream.choice(NAMES)
    thing = Thing(
        KINDS[name],
        0.0,
        size=stream.uniform(0.85, 1.2),
        flip=stream.choice((-1, 1)),
        colours=thing_colours(stream, name),
    )
    thing.angle = stream.uniform(-tumble, tumble) * (1.0 if not thing.kind.upright else 0.2)
    group.things.append(thing)
    group.order.append(("thing", 0))
    return group


def _lone_person(stream: RandomStream) -> Group:
    """Somebody idle, or in a pose that means nothing: every joint anywhere it can go."""
    group = Group(stream)
    if stream.chance(0.35):
        group.add_person(facing=stream.choice((-1, 1)))
        (walk if stream.chance(0.5) else stand)(stream, group.persons[0])
        return group
    person = Person(size=stream.uniform(0.86, 1.06), facing=stream.choice((-1, 1)), colours=person_colours(stream))
    person.hips = (stream.uniform(-0.1, 0.1), stream.uniform(0.18, 0.5))
    person.lean = stream.uniform(-0.6, 0.8)
    person.nod = stream.uniform(-0.4, 0.4)
    for side in (0, 1):
        angle, reach = stream.uniform(-2.6, 1.9), stream.uniform(0.14, 0.33)
        person.hands[side] = person.from_shoulder(reach * math.cos(angle), reach * math.sin(angle))
        angle, reach = stream.uniform(-2.7, -0.1), stream.uniform(0.24, 0.5)
        person.feet[side] = (person.hips[0] + reach * math.cos(angle), person.hips[1] + reach * math.sin(angle) - 0.03)
    person.finger = stream.chance(0.1)
    group.persons.append(person)
    group.order += [("far", 0), ("body", 0), ("near", 0)]
    return group


def sample_still_life(stream: RandomStream, size: int = 128) -> Scene:
    """Persons in random poses and scattered things that have nothing to do with one another."""
    scene = Scene(size, sample_background(stream, size))
    makers = ["person"] * stream.integer(1, 4) + ["thing"] * stream.integer(1, 6)
    for maker in stream.shuffled(makers):
        cutout = cut_out(
            _lone_person(stream) if maker == "person" else _lone_thing(stream, tumble=stream.choice((0.1, 1.4)))
        )
        x0, y0, x1, y1 = cutout.extent
        for _ in range(6):
            scale = size * math.exp(stream.uniform(math.log(0.3), math.log(0.75)))
            scale = min(scale, 0.96 * size / (x1 - x0), 0.94 * size / (y1 - y0))
            mirror = stream.choice((-1, 1))
            left, right = (x0, x1) if mirror > 0 else (-x1, -x0)
            x = stream.uniform(-left * scale, size - right * scale)
            y = stream.uniform(y1 * scale, size + y0 * scale)
            place = Placement(cutout.parts, x, y, scale, mirror)
            (box,) = pixel_boxes(cutout, place, size)
            if all(_overlap(box, b) < HIDDEN * min(_area(box), _area(b)) for b in scene.boxes):
                add_group(scene, cutout, place, [box])
                break
    scene.foreground = sample_foreground(stream, size)
    return scene
