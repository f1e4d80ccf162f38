"""A handful of persons and things that belong together.

Groups have their own frame: x right, y upwards from the ground, one unit = the height of a grown
person.  :mod:`hoiclip.playground.poses` fills them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hoiclip.playground.objects import KINDS, Kind, Point, Primitive
from hoiclip.playground.palettes import person_colours, thing_colours
from hoiclip.playground.people import Person
from hoiclip.playground.random_stream import RandomStream

Pair = tuple[str, str]  # verb, object


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

    stream: RandomStream
    persons: list[Person] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    order: list[tuple[str, int]] = field(default_factory=list)
    pairs: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    ropes: list[tuple[list[Point], float, tuple[int, int, int]]] = field(default_factory=list)
    sides: set[int] = field(default_factory=set)  # -1 left, +1 right of the ground thing: taken

    def add_person(self, x: float = 0.0, facing: int = 1, behind: bool = False) -> int:
        person = Person(x=x, facing=facing, size=self.stream.uniform(0.86, 1.06), colours=person_colours(self.stream))
        self.persons.append(person)
        i = len(self.persons) - 1
        parts = [("far", i), ("body", i), ("near", i)]
        self.order = parts + self.order if behind else self.order + parts
        return i

    def add_thing(self, name: str, x: float = 0.0, y: float = 0.0, before: tuple[str, int] | None = None) -> int:
        flip = 1 if self.stream.chance(0.5) else -1
        size = self.stream.uniform(0.88, 1.14)
        self.things.append(Thing(KINDS[name], x, y, size, flip, 0.0, thing_colours(self.stream, name)))
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
