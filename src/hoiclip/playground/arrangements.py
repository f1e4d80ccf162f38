"""Who does what with what: a verb and an object become a posed person and a placed thing.

A :class:`Group` is a handful of persons and things that belong together, in its own frame (x right,
y upwards from the ground, one unit = the height of a grown person).  :func:`compose` builds one for
a wanted interaction and may add others that fit: a second verb on the same object (ride + hold),
a second object (hold an umbrella while sitting), a second person (push the cart somebody rides).
Nothing is added that the caller does not allow, so that rare and unseen classes stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hoiclip.playground.dice import Dice
from hoiclip.playground.figures import STANDING, Person
from hoiclip.playground.palettes import person_colours, thing_colours
from hoiclip.playground.shapes import KINDS, Kind, Point, Primitive

Pair = tuple[str, str]  # verb, object
ONLOOKERS = 0.35  # how often somebody who points at what others do may be an extra at all
IN_ONE_HAND = ("ball", "frisbee", "umbrella", "bottle")


@dataclass
class Thing:
    """One object: where the origin of its drawing lies in the group's frame, and how it is turned."""

    kind: Kind
    x: float
    y: float = 0.0
    size: float = 1.0
    flip: int = 1
    angle: float = 0.0
    colours: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    grounded: bool = True

    def to_group(self, point: Point) -> Point:
        """Drawing to group coordinates; turns about the middle of the drawing."""
        middle = self.kind.height / 2
        px, py = point[0], point[1] - middle
        if self.angle:
            cos, sin = math.cos(self.angle), math.sin(self.angle)
            px, py = cos * px - sin * py, sin * px + cos * py
        return (self.x + self.flip * self.size * px, self.y + self.size * (py + middle))

    def anchor(self, name: str) -> Point:
        return self.to_group(self.kind.anchors[name])

    def hang(self, anchor: str, point: Point) -> None:
        """Moves the thing so that ``anchor`` lies on a group point."""
        x, y = self.anchor(anchor)
        self.x += point[0] - x
        self.y += point[1] - y
        self.grounded = False

    @property
    def half(self) -> float:
        return self.kind.width * self.size / 2

    def primitives(self) -> list[Primitive]:
        """The drawing in group coordinates."""
        placed: list[Primitive] = []
        for primitive in self.kind.drawing:
            if primitive[0] == "disc":
                _, x, y, radius, colour = primitive
                placed.append(("disc", *self.to_group((x, y)), radius * self.size, colour))
            elif primitive[0] == "line":
                _, points, width, colour = primitive
                placed.append(("line", [self.to_group(p) for p in points], width * self.size, colour))
            else:
                _, points, colour = primitive
                placed.append(("poly", [self.to_group(p) for p in points], colour))
        return placed


@dataclass
class Group:
    """Persons, things and what binds them.

    Attributes:
        order: painting order; ("far" | "body" | "near", person), ("thing", i) or ("rope", i).
        pairs: (person, thing) -> verbs.
        ropes: lines in group coordinates with a width and a colour; they belong to no box.
    """

    dice: Dice
    persons: list[Person] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    order: list[tuple[str, int]] = field(default_factory=list)
    pairs: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    ropes: list[tuple[list[Point], float, tuple[int, int, int]]] = field(default_factory=list)
    sides: set[int] = field(default_factory=set)  # -1 left, +1 right of the ground thing: taken

    def add_person(self, x: float = 0.0, facing: int = 1, behind: bool = False) -> int:
        person = Person(x=x, facing=facing, size=self.dice.uniform(0.86, 1.06), colours=person_colours(self.dice))
        self.persons.append(person)
        i = len(self.persons) - 1
        parts = [("far", i), ("body", i), ("near", i)]
        self.order = parts + self.order if behind else self.order + parts
        return i

    def add_thing(self, name: str, x: float = 0.0, y: float = 0.0, before: tuple[str, int] | None = None) -> int:
        flip = 1 if self.dice.chance(0.5) else -1
        size = self.dice.uniform(0.88, 1.14)
        self.things.append(Thing(KINDS[name], x, y, size, flip, 0.0, thing_colours(self.dice, name)))
        i = len(self.things) - 1
        at = self.order.index(before) if before in self.order else len(self.order)
        self.order.insert(at, ("thing", i))
        return i

    def add_rope(self, points: list[Point], width: float, colour: tuple[int, int, int], front: bool = True) -> None:
        self.ropes.append((points, width, colour))
        self.order.insert(len(self.order) if front else 0, ("rope", len(self.ropes) - 1))

    def relate(self, person: int, thing: int, verb: str) -> None:
        self.pairs.setdefault((person, thing), set()).add(verb)
        self.persons[person].doing.add(verb)


# --- what the body does ---------------------------------------------------------------------------


def _stand(dice: Dice, person: Person) -> None:
    person.feet = [(dice.uniform(0.03, 0.08), 0.0), (dice.uniform(-0.08, -0.02), 0.0)]
    person.swing = dice.uniform(0.01, 0.06)
    person.lean = dice.uniform(-0.04, 0.06)


def _walk(dice: Dice, person: Person) -> None:
    stride = dice.uniform(0.12, 0.19)
    person.hips = (0.0, STANDING - 0.025)
    person.feet = [(stride, 0.0), (-stride, 0.03)] if dice.chance(0.5) else [(-stride, 0.03), (stride, 0.0)]
    person.swing = dice.uniform(-0.16, 0.16)
    person.lean = dice.uniform(0.02, 0.1)


def _sit(dice: Dice, person: Person, seat: Point) -> None:
    person.x = seat[0]
    height = seat[1] / person.size + 0.055
    person.hips = (0.0, height)
    feet = max(0.0, height - 0.3)
    person.feet = [(0.29 if height > 0.25 else 0.38, feet), (0.24 if height > 0.25 else 0.34, feet)]
    person.lean = dice.uniform(-0.12, 0.02)
    knees = (0.2, height + 0.09)
    person.hands = [knees, knees]


def _stand_on(dice: Dice, person: Person, top: Point) -> None:
    person.x, person.y = top
    person.feet = [(0.055, 0.0), (-0.055, 0.0)]
    person.lean = dice.uniform(-0.05, 0.05)
    spread = dice.uniform(0.1, 0.2)
    person.hands = [person.from_shoulder(spread, -0.25), person.from_shoulder(-spread, -0.25)]


def sit_on(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    dice = group.dice
    t = group.add_thing(name)
    thing = group.things[t]
    p = group.add_person()
    person = group.persons[p]
    if name == "chair":
        thing.flip = 1
    seat = thing.anchor("seat")
    off = dice.choice((-0.24, 0.24)) * thing.size if name == "bench" else 0.0
    _sit(dice, person, (seat[0] + off, seat[1]))
    group.relate(p, t, "sit_on")
    if allowed("hold") and dice.chance(0.4):  # leans back with straight arms and grips the seat
        person.lean = dice.uniform(-0.34, -0.22)
        grip = (-0.14, person.hips[1] - 0.06)
        person.reach(0, grip)
        person.reach(1, (0.08, grip[1]))
        group.relate(p, t, "hold")


def stand_on(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    t = group.add_thing(name)
    p = group.add_person()
    top = group.things[t].anchor("top")
    off = group.dice.choice((-0.22, 0.0, 0.22)) if name == "bench" else 0.0
    _stand_on(group.dice, group.persons[p], (top[0] + off, top[1] - 0.01))
    group.relate(p, t, "stand_on")


def ride(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    dice = group.dice
    t = group.add_thing(name)
    thing = group.things[t]
    thing.flip = 1
    p = group.add_person()
    person = group.persons[p]
    hold = allowed("hold") and dice.chance(0.55)
    if name == "skateboard":
        person.x, person.y = thing.x, thing.anchor("top")[1]
        person.hips = (-0.05, 0.34)
        person.feet = [(0.17, 0.0), (-0.2, 0.0)]
        person.lean = dice.uniform(0.35, 0.6)
        person.hands = [person.from_shoulder(0.29, 0.06), person.from_shoulder(-0.3, 0.1)]
        hold = False
        thing.angle = dice.uniform(-0.05, 0.16)
        _streaks(group, thing.x - thing.half - 0.06, (0.06, 0.3, 0.6))
    elif name == "cart":
        seat = thing.anchor("seat")
        person.x = seat[0] - 0.05
        person.hips = (0.0, seat[1] / person.size + 0.05)
        person.feet = [(0.3, person.hips[1] - 0.1), (0.26, person.hips[1] - 0.1)]
        person.lean = dice.uniform(-0.1, 0.1)
        up = dice.uniform(0.12, 0.26)
        person.hands = [person.from_shoulder(0.22, up), person.from_shoulder(-0.2, up)]
        hold = False
        group.order.remove(("thing", t))
        group.order.insert(group.order.index(("near", p)), ("thing", t))
        _streaks(group, thing.x - thing.half - 0.06, (0.12, 0.3))
    elif name == "bicycle":
        seat = thing.anchor("seat")
        person.x = seat[0]
        person.hips = (0.0, seat[1] / person.size + 0.04)
        pedal = thing.anchor("pedal")
        turn = dice.uniform(0, 2 * math.pi)
        for side in (0, 1):
            angle = turn + math.pi * side
            person.feet[side] = person.to_local((pedal[0] + 0.09 * math.cos(angle), pedal[1] + 0.09 * math.sin(angle) - 0.03))
        if hold:
            person.lean = dice.uniform(0.4, 0.55)
            bar = person.to_local(thing.anchor("bar"))
            person.reach(0, bar)
            person.reach(1, bar)
        else:
            person.lean = dice.uniform(-0.05, 0.12)
            person.hands = [person.from_shoulder(0.26, 0.16), person.from_shoulder(-0.26, 0.16)]
        group.order.remove(("thing", t))
        group.order.insert(group.order.index(("body", p)), ("thing", t))
    else:  # horse
        seat = thing.anchor("seat")
        _astride(dice, person, seat)
        group.order.remove(("thing", t))
        group.order.insert(group.order.index(("body", p)), ("thing", t))
        if hold:
            rein = person.from_shoulder(0.22, -0.16)
            person.reach(0, rein)
            person.reach(1, rein)
            group.add_rope([person.to_group(person.hand(0)), thing.anchor("mouth")], 0.025, (60, 40, 30))
    group.relate(p, t, "ride")
    if hold:
        group.relate(p, t, "hold")


def _astride(dice: Dice, person: Person, seat: Point) -> None:
    person.x = seat[0]
    height = seat[1] / person.size + 0.03
    person.hips = (0.0, height)
    person.feet = [(0.14, height - 0.42), (0.2, height - 0.4)]
    person.lean = dice.uniform(-0.05, 0.12)
    person.hands = [person.from_shoulder(0.16, 0.26), person.from_shoulder(0.1, -0.28)]


def _streaks(group: Group, x: float, heights: tuple[float, ...]) -> None:
    """Lines that say: moving to the right."""
    if group.dice.chance(0.75):
        colour = group.dice.choice(((250, 250, 250), (40, 40, 40)))
        for y in heights:
            start = x + group.dice.uniform(-0.05, 0.05)
            group.add_rope([(start - group.dice.uniform(0.12, 0.24), y), (start, y)], 0.018, colour, front=False)


def kick(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    dice = group.dice
    p = group.add_person()
    person = group.persons[p]
    high = dice.uniform(0.1, 0.24) if name not in ("chair", "box") else 0.13
    person.lean = dice.uniform(-0.34, -0.2)
    person.feet = [(0.42, high), (-0.03, 0.0)]
    person.hands = [person.from_shoulder(-0.24, -0.14), person.from_shoulder(0.27, -0.06)]
    t = group.add_thing(name)
    thing = group.things[t]
    toe = person.to_group((0.42, high))
    thing.x = toe[0] + 0.07 + thing.half + dice.uniform(0.0, 0.08)
    if name in ("chair", "box"):
        thing.flip, thing.angle = -1, dice.uniform(0.05, 0.25)
        thing.y = 0.03
    else:
        thing.y = max(0.0, toe[1] - thing.kind.height * 0.35)
        thing.angle = dice.uniform(-0.7, 0.7)
    thing.grounded = False
    group.relate(p, t, "kick")


def jump_over(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    dice = group.dice
    t = group.add_thing(name)
    thing = group.things[t]
    p = group.add_person()
    person = group.persons[p]
    clear = thing.kind.height * thing.size + dice.uniform(0.05, 0.12)
    person.y = clear
    person.hips = (0.0, 0.26)
    person.feet = [(0.38, 0.12), (-0.4, 0.1)]
    person.lean = dice.uniform(0.05, 0.25)
    person.hands = [person.from_shoulder(0.22, 0.22), person.from_shoulder(-0.22, 0.2)]
    person.x = thing.x + dice.uniform(-0.08, 0.08)
    group.relate(p, t, "jump_over")


# --- both arms and the body ------------------------------------------------------------------------


def push(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    t = group.add_thing(name)
    group.things[t].flip = 1
    _push(group, t)


def _push(group: Group, t: int) -> None:
    """A new person leans into the left side of a thing on the ground."""
    dice, thing = group.dice, group.things[t]
    p = group.add_person()
    person = group.persons[p]
    edge = thing.kind.anchors["edge"]
    if edge[0] == 0 or thing.flip < 0:
        contact = (thing.x - thing.half, thing.y + edge[1] * thing.size)
    else:
        contact = thing.anchor("edge")
    person.hips = (-0.05, 0.43)
    person.lean = dice.uniform(0.6, 0.8)
    person.nod = -0.35
    person.feet = [(-0.12, 0.0), (-0.4, 0.0)]
    shoulder = person.shoulder
    drop = contact[1] / person.size - shoulder[1]
    ahead = math.sqrt(max(0.31**2 - drop * drop, 0.02))
    person.x = contact[0] - person.size * (shoulder[0] + ahead)
    target = person.to_local(contact)
    person.reach(0, target)
    person.reach(1, (target[0], target[1] + 0.03))
    group.sides.add(-1)
    group.relate(p, t, "push")


def pull(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    t = group.add_thing(name)
    thing = group.things[t]
    thing.flip = 1 if thing.kind.anchors["rope"][0] > 0 else -1
    _pull(group, t)


def _pull(group: Group, t: int) -> None:
    """A new person tows a thing on the ground to the right, or tugs at it facing it."""
    dice, thing = group.dice, group.things[t]
    knot = thing.anchor("rope")
    p = group.add_person()
    person = group.persons[p]
    tug = dice.chance(0.4) and thing.kind.name not in ("dog", "horse")
    distance = dice.uniform(0.28, 0.42)
    if tug:
        person.facing = -1
        person.lean = dice.uniform(-0.5, -0.36)
        person.hips = (-0.14, 0.42)
        person.feet = [(0.2, 0.0), (0.02, 0.0)]
        person.x = max(knot[0], thing.x + thing.half) + distance + 0.36
        hand = person.from_shoulder(0.3, -0.06)
        person.reach(0, hand)
        person.reach(1, hand)
    else:
        person.lean = dice.uniform(0.3, 0.45)
        person.hips = (0.05, 0.455)
        person.feet = [(0.26, 0.0), (-0.22, 0.01)]
        person.x = max(knot[0], thing.x + thing.half) + distance + 0.12
        person.reach(1, person.from_shoulder(-0.24, -0.2))
        person.hands[0] = person.from_shoulder(-0.22, -0.22)
    colour = dice.choice(((70, 45, 25), (30, 30, 35), (225, 205, 160), (160, 30, 30)))
    group.add_rope([person.to_group(person.hand(1)), knot], 0.03, colour)
    group.sides.add(1)
    group.relate(p, t, "pull")


def lift(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    p = group.add_person()
    _stand(group.dice, group.persons[p])
    group.persons[p].feet = [(0.09, 0.0), (-0.09, 0.0)]
    _lift(group, p, name)


def _lift(group: Group, p: int, name: str) -> None:
    person = group.persons[p]
    wide = 0.1 if KINDS[name].width < 0.5 else 0.14
    person.reach(0, person.from_shoulder(wide, 0.3))
    person.reach(1, person.from_shoulder(-wide, 0.3))
    t = group.add_thing(name, before=("near", p))
    thing = group.things[t]
    hands = [person.to_group(person.hand(side)) for side in (0, 1)]
    thing.x = (hands[0][0] + hands[1][0]) / 2
    thing.y = hands[0][1] - 0.01
    thing.grounded = False
    group.relate(p, t, "lift")


# --- one arm ---------------------------------------------------------------------------------------


def hold(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    dice = group.dice
    if name in ("bicycle", "horse"):
        if allowed("ride") and dice.chance(0.5):
            ride(group, name, lambda verb: verb == "hold")
            if any("hold" in verbs for verbs in group.pairs.values()):
                return
            group.__init__(dice)  # type: ignore[misc]
        _hold_beside(group, name)
        return
    if name in ("ball", "box", "skateboard") and allowed("sit_on") and dice.chance(0.2):
        sit_on(group, name, lambda verb: verb == "hold")
        if any("hold" in verbs for verbs in group.pairs.values()):
            return
        group.__init__(dice)  # type: ignore[misc]
    if allowed("throw") and dice.chance(0.25):
        _wind_up(group, name)
        return
    p = group.add_person()
    (_walk if dice.chance(0.35) else _stand)(dice, group.persons[p])
    _hold(group, p, name)


def _hold(group: Group, p: int, name: str) -> None:
    """Something in one hand, or in both arms if it takes two."""
    dice, person = group.dice, group.persons[p]
    if name in ("box", "dog"):
        hand = person.from_shoulder(0.24, -0.22)
        person.reach(0, hand)
        person.reach(1, (hand[0] + 0.03, hand[1] + 0.01))
        t = group.add_thing(name, before=("near", p))
        thing = group.things[t]
        thing.flip = person.facing
        x, y = person.to_group((hand[0] + 0.03, hand[1]))
        thing.x, thing.y, thing.grounded = x, y - 0.03, False
        if name == "dog":
            thing.y -= 0.14 * thing.size
    else:
        side = 0 if not person.busy[0] else 1
        low = name in ("umbrella",)
        person.reach(side, person.from_shoulder(dice.uniform(0.23, 0.28), dice.uniform(-0.16, -0.06) - 0.06 * low))
        t = group.add_thing(name, before=("near", p) if side == 0 else ("body", p))
        thing = group.things[t]
        thing.flip = person.facing
        if name == "skateboard":
            thing.angle = dice.uniform(1.2, 1.7)
        elif name == "frisbee":
            thing.angle = dice.uniform(-0.15, 0.45)
        elif name == "bottle":
            thing.angle = dice.uniform(-0.25, 0.25)
        thing.hang("grip", person.to_group(person.hand(side)))
    group.relate(p, t, "hold")


def _hold_beside(group: Group, name: str) -> None:
    """Stands at the front of a bicycle or horse with a hand on it."""
    dice = group.dice
    t = group.add_thing(name)
    thing = group.things[t]
    thing.flip = 1
    point = thing.anchor("bar" if name == "bicycle" else "mouth")
    p = group.add_person(facing=-1)
    person = group.persons[p]
    _stand(dice, person)
    person.lean = 0.1 if name == "bicycle" else 0.0
    person.x = point[0] + person.size * (0.28 + person.shoulder[0])
    target = person.to_local(point)
    person.reach(0, target)
    if name == "bicycle":
        person.reach(1, target)
    group.sides.add(1)
    group.relate(p, t, "hold")


def throw(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    dice = group.dice
    if allowed("hold") and dice.chance(0.4):
        _wind_up(group, name)
        return
    p = group.add_person()
    person = group.persons[p]
    person.hips = (0.05, 0.46)
    person.lean = dice.uniform(0.22, 0.4)
    person.feet = [(-0.2, 0.02), (0.24, 0.0)]
    rise = dice.uniform(0.08, 0.2)
    person.reach(0, person.from_shoulder(0.27, rise))
    person.hands[1] = person.from_shoulder(-0.2, -0.2)
    t = group.add_thing(name)
    thing = group.things[t]
    hand = person.to_group(person.hand(0))
    distance = dice.uniform(0.1, 0.26)
    thing.angle = dice.uniform(-1.0, 1.0)
    thing.hang("centre", (hand[0] + distance + 0.16 + 0.5 * thing.half, hand[1] + rise * 0.9 + 0.06))
    colour = dice.choice(((250, 250, 250), (40, 40, 40)))
    for off in (-0.07, 0.0, 0.07):
        group.add_rope(
            [(hand[0] + 0.05, hand[1] + off), (hand[0] + 0.05 + distance * 0.8, hand[1] + off + rise * 0.4)], 0.018, colour, False
        )
    group.relate(p, t, "throw")


def _wind_up(group: Group, name: str) -> None:
    """The thing still in the hand, far behind the head: thrown and held."""
    dice = group.dice
    p = group.add_person()
    person = group.persons[p]
    person.hips = (-0.03, 0.46)
    person.lean = dice.uniform(-0.42, -0.28)
    person.feet = [(-0.16, 0.0), (0.3, 0.07)]
    person.reach(0, person.from_shoulder(-0.22, 0.2))
    person.reach(1, person.from_shoulder(0.31, 0.1))
    t = group.add_thing(name, before=("near", p))
    thing = group.things[t]
    thing.flip = -1
    thing.angle = dice.uniform(-0.3, 0.3)
    thing.hang("grip" if name != "box" else "centre", person.to_group(person.hand(0)))
    group.relate(p, t, "throw")
    group.relate(p, t, "hold")


def point_at(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    p = group.add_person()
    _stand(group.dice, group.persons[p])
    _point_at_new(group, p, name)


def _point_at_new(group: Group, p: int, name: str) -> None:
    person = group.persons[p]
    right = max(t.x + t.half for t in group.things) if group.things else person.x + 0.2
    t = group.add_thing(name)
    thing = group.things[t]
    right = max(right, person.x + 0.35)
    thing.x = right + thing.half + group.dice.uniform(0.12, 0.4)
    _point(group, p, t)


def _point(group: Group, p: int, t: int) -> None:
    person, thing = group.persons[p], group.things[t]
    sx, sy = person.shoulder
    tx, ty = person.to_local(thing.anchor("centre"))
    angle = min(max(math.atan2(ty - sy, tx - sx), -0.42), 0.7)
    person.reach(0, (sx + 0.36 * math.cos(angle), sy + 0.36 * math.sin(angle)))
    if person.hands[1] is None:
        person.hands[1] = (person.hips[0] + 0.03, person.hips[1] + 0.07)
    person.finger = True
    group.relate(p, t, "point_at")


def _join_pointer(group: Group, t: int, side: int) -> None:
    """A new person points at a thing that is already there."""
    edges = [q.x for q in group.persons] + [u.x + side * u.half for u in group.things]
    edge = max(edges) if side > 0 else min(edges)
    p = group.add_person(x=edge + side * group.dice.uniform(0.5, 0.7), facing=-side)
    _stand(group.dice, group.persons[p])
    _point(group, p, t)
    group.sides.add(side)


def balance(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    p = group.add_person()
    person = group.persons[p]
    _stand(group.dice, person)
    if group.dice.chance(0.4):
        person.feet[0] = (0.12, 0.16)
    _balance(group, p, name)


def _balance(group: Group, p: int, name: str) -> None:
    person = group.persons[p]
    person.lean = 0.0
    for side, sign in ((0, 1), (1, -1)):
        if not person.busy[side]:
            person.hands[side] = person.from_shoulder(sign * 0.32, group.dice.uniform(-0.06, 0.06))
    hx, hy = person.head
    t = group.add_thing(name)
    thing = group.things[t]
    thing.angle = group.dice.uniform(-0.1, 0.1)
    thing.x, thing.y = person.to_group((hx, hy + 0.09))
    thing.y -= 0.01
    thing.grounded = False
    group.relate(p, t, "balance")


def no_interaction(group: Group, name: str, allowed: Callable[[str], bool]) -> None:
    dice = group.dice
    t = group.add_thing(name)
    thing = group.things[t]
    side = dice.choice((-1, 1))
    p = group.add_person(facing=dice.choice((-1, 1)))
    person = group.persons[p]
    (_walk if dice.chance(0.5) else _stand)(dice, person)
    person.x = thing.x + side * (thing.half + dice.uniform(0.16, 0.42))
    group.relate(p, t, "no_interaction")


ARRANGE: dict[str, Callable[[Group, str, Callable[[str], bool]], None]] = {
    "hold": hold,
    "lift": lift,
    "ride": ride,
    "sit_on": sit_on,
    "stand_on": stand_on,
    "kick": kick,
    "throw": throw,
    "push": push,
    "pull": pull,
    "point_at": point_at,
    "jump_over": jump_over,
    "balance": balance,
    "no_interaction": no_interaction,
}


# --- compositions ----------------------------------------------------------------------------------


def compose(dice: Dice, wanted: Pair, weights: Mapping[Pair, float], extras: float = 0.45) -> Group:
    """A group that shows ``wanted``, perhaps with more.

    Args:
        dice: draws.
        wanted: (verb, object) that must be there.
        weights: how gladly another interaction is added; those missing or at 0 never are.
        extras: chance of a further object or person, and of another one after it.
    """
    verb, name = wanted
    group = Group(dice)
    ARRANGE[verb](group, name, lambda other: weights.get((other, name), 0.0) > 0)
    while extras > 0 and dice.chance(extras) and _add_extra(group, weights):
        extras *= 0.4
    return group


def _add_extra(group: Group, weights: Mapping[Pair, float]) -> bool:
    """Adds one interaction that fits; False if none does."""
    options: list[tuple[Callable[[], None], float]] = []

    def offer(pair: Pair, act: Callable[[], None]) -> None:
        weight = weights.get(pair, 0.0)
        if weight > 0:
            options.append((act, weight))

    for p, person in enumerate(group.persons):
        doing = person.doing
        if doing & {"no_interaction", "throw", "push", "lift", "jump_over"}:
            continue
        if not any(person.busy) or ("pull" in doing and not person.busy[0]):
            for name in IN_ONE_HAND:
                offer(("hold", name), lambda p=p, name=name: _hold(group, p, name))
        if not any(person.busy) and "balance" not in doing and "kick" not in doing:
            for name in ("ball", "frisbee", "box", "bottle"):
                offer(("balance", name), lambda p=p, name=name: _balance(group, p, name))
            if doing & {"sit_on", "stand_on"}:
                for name in ("ball", "box"):
                    offer(("lift", name), lambda p=p, name=name: _lift(group, p, name))
        if not any(person.busy) and doing & {"sit_on", "stand_on"} and 1 not in group.sides and len(group.persons) == 1:
            for name in ("ball", "chair", "dog", "box", "bottle", "umbrella", "cart"):
                offer(("point_at", name), lambda p=p, name=name: _point_at_new(group, p, name))

    for t, thing in enumerate(group.things):
        name, used = thing.kind.name, {v for (_, u), verbs in group.pairs.items() if u == t for v in verbs}
        if "no_interaction" in used or len(group.persons) > 2:
            continue
        for side in (-1, 1) if group.dice.chance(ONLOOKERS) else ():
            if side not in group.sides and not used & {"throw", "kick"}:
                offer(("point_at", name), lambda t=t, side=side: _join_pointer(group, t, side))
        if thing.grounded and used & {"ride", "sit_on", "stand_on", "pull"} and -1 not in group.sides and _edgy(thing):
            offer(("push", name), lambda t=t: _push(group, t))
        if thing.grounded and used & {"ride", "sit_on", "stand_on", "push"} and 1 not in group.sides and _knotty(thing):
            offer(("pull", name), lambda t=t: _pull(group, t))
        if name == "bench" and used & {"sit_on", "stand_on"} and len(group.persons) == 1 and len(group.things) == 1:
            taken = group.persons[0].x - thing.x
            seat = thing.anchor("seat")
            spot = (seat[0] + (-0.27 if taken > 0 else 0.27), seat[1])
            for verb, place in (("sit_on", _sit), ("stand_on", _stand_on)):
                offer((verb, name), lambda t=t, verb=verb, place=place, spot=spot: _join_on(group, t, verb, place, spot))
        if name == "horse" and used == {"ride", "hold"} and len(group.persons) == 1:
            offer(("ride", name), lambda t=t: _join_rider(group, t))
    if not options:
        return False
    group.dice.weighted([act for act, _ in options], [weight for _, weight in options])()
    return True


def _edgy(thing: Thing) -> bool:
    return "edge" in thing.kind.anchors and thing.kind.name != "dog"


def _knotty(thing: Thing) -> bool:
    return "rope" in thing.kind.anchors and thing.anchor("rope")[0] > thing.x


def _join_on(group: Group, t: int, verb: str, place: Callable[[Dice, Person, Point], None], spot: Point) -> None:
    p = group.add_person(facing=group.dice.choice((-1, 1)))
    place(group.dice, group.persons[p], spot)
    group.relate(p, t, verb)


def _join_rider(group: Group, t: int) -> None:
    """Somebody behind the rider who holds the reins."""
    seat = group.things[t].anchor("seat")
    p = group.add_person()
    person = group.persons[p]
    _astride(group.dice, person, (seat[0] - 0.2, seat[1]))
    person.hands = [person.from_shoulder(0.18, -0.14), person.from_shoulder(0.18, -0.12)]
    group.relate(p, t, "ride")
