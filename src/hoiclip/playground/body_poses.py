"""Verbs of the whole body: standing, sitting, riding, kicking, jumping."""

from __future__ import annotations

import math
from collections.abc import Callable

from hoiclip.playground.groups import Group
from hoiclip.playground.objects import Point
from hoiclip.playground.people import STANDING, Person
from hoiclip.playground.random_stream import RandomStream

Allowed = Callable[[str], bool]


def stand(stream: RandomStream, person: Person) -> None:
    person.feet = [(stream.uniform(0.03, 0.08), 0.0), (stream.uniform(-0.08, -0.02), 0.0)]
    person.swing = stream.uniform(0.01, 0.06)
    person.lean = stream.uniform(-0.04, 0.06)


def walk(stream: RandomStream, person: Person) -> None:
    stride = stream.uniform(0.12, 0.19)
    person.hips = (0.0, STANDING - 0.025)
    person.feet = [(stride, 0.0), (-stride, 0.03)] if stream.chance(0.5) else [(-stride, 0.03), (stride, 0.0)]
    person.swing = stream.uniform(-0.16, 0.16)
    person.lean = stream.uniform(0.02, 0.1)


def take_seat(stream: RandomStream, person: Person, seat: Point) -> None:
    person.x = seat[0]
    height = seat[1] / person.size + 0.055
    person.hips = (0.0, height)
    feet = max(0.0, height - 0.3)
    person.feet = [(0.29 if height > 0.25 else 0.38, feet), (0.24 if height > 0.25 else 0.34, feet)]
    person.lean = stream.uniform(-0.12, 0.02)
    knees = (0.2, height + 0.09)
    person.hands = [knees, knees]


def take_stand(stream: RandomStream, person: Person, top: Point) -> None:
    person.x, person.y = top
    person.feet = [(0.055, 0.0), (-0.055, 0.0)]
    person.lean = stream.uniform(-0.05, 0.05)
    spread = stream.uniform(0.1, 0.2)
    person.hands = [person.from_shoulder(spread, -0.25), person.from_shoulder(-spread, -0.25)]


def sit_on(group: Group, name: str, allowed: Allowed, grip: float = 0.4) -> None:
    stream = group.stream
    t = group.add_thing(name)
    thing = group.things[t]
    p = group.add_person()
    person = group.persons[p]
    if name == "chair":
        thing.flip = 1
    seat = thing.anchor("seat")
    off = stream.choice((-0.24, 0.24)) * thing.size if name == "bench" else 0.0
    take_seat(stream, person, (seat[0] + off, seat[1]))
    group.relate(p, t, "sit_on")
    if allowed("hold") and stream.chance(grip):  # leans back with straight arms and grips the seat
        person.lean = stream.uniform(-0.34, -0.22)
        edge = person.hips[1] - 0.06
        person.reach(0, (-0.14, edge))
        person.reach(1, (0.08, edge))
        group.relate(p, t, "hold")


def stand_on(group: Group, name: str, allowed: Allowed) -> None:
    t = group.add_thing(name)
    p = group.add_person()
    top = group.things[t].anchor("top")
    off = group.stream.choice((-0.22, 0.0, 0.22)) if name == "bench" else 0.0
    take_stand(group.stream, group.persons[p], (top[0] + off, top[1] - 0.01))
    group.relate(p, t, "stand_on")


def ride(group: Group, name: str, allowed: Allowed, grip: float = 0.55) -> None:
    t = group.add_thing(name)
    group.things[t].flip = 1
    p = group.add_person()
    hold = allowed("hold") and group.stream.chance(grip)
    if name == "skateboard":
        _ride_skateboard(group, p, t)
    elif name == "cart":
        _ride_cart(group, p, t)
    elif name == "bicycle":
        _ride_bicycle(group, p, t, hold)
    else:
        _ride_horse(group, p, t, hold)
    group.relate(p, t, "ride")
    if hold and name not in ("skateboard", "cart"):
        group.relate(p, t, "hold")


def _ride_skateboard(group: Group, p: int, t: int) -> None:
    stream, person, thing = group.stream, group.persons[p], group.things[t]
    person.x, person.y = thing.x, thing.anchor("top")[1]
    person.hips = (-0.05, 0.34)
    person.feet = [(0.17, 0.0), (-0.2, 0.0)]
    person.lean = stream.uniform(0.35, 0.6)
    person.hands = [person.from_shoulder(0.29, 0.06), person.from_shoulder(-0.3, 0.1)]
    thing.angle = stream.uniform(-0.05, 0.16)
    _streaks(group, thing.x - thing.half - 0.06, (0.06, 0.3, 0.6))


def _ride_cart(group: Group, p: int, t: int) -> None:
    stream, person, thing = group.stream, group.persons[p], group.things[t]
    seat = thing.anchor("seat")
    person.x = seat[0] - 0.05
    person.hips = (0.0, seat[1] / person.size + 0.05)
    person.feet = [(0.3, person.hips[1] - 0.1), (0.26, person.hips[1] - 0.1)]
    person.lean = stream.uniform(-0.1, 0.1)
    up = stream.uniform(0.12, 0.26)
    person.hands = [person.from_shoulder(0.22, up), person.from_shoulder(-0.2, up)]
    group.order.remove(("thing", t))
    group.order.insert(group.order.index(("near", p)), ("thing", t))
    _streaks(group, thing.x - thing.half - 0.06, (0.12, 0.3))


def _ride_bicycle(group: Group, p: int, t: int, hold: bool) -> None:
    stream, person, thing = group.stream, group.persons[p], group.things[t]
    seat = thing.anchor("seat")
    person.x = seat[0]
    person.hips = (0.0, seat[1] / person.size + 0.04)
    pedal = thing.anchor("pedal")
    turn = stream.uniform(0, 2 * math.pi)
    for side in (0, 1):
        angle = turn + math.pi * side
        person.feet[side] = person.to_local(
            (pedal[0] + 0.09 * math.cos(angle), pedal[1] + 0.09 * math.sin(angle) - 0.03)
        )
    if hold:
        person.lean = stream.uniform(0.4, 0.55)
        bar = person.to_local(thing.anchor("bar"))
        person.reach(0, bar)
        person.reach(1, bar)
    else:
        person.lean = stream.uniform(-0.05, 0.12)
        person.hands = [person.from_shoulder(0.26, 0.16), person.from_shoulder(-0.26, 0.16)]
    group.order.remove(("thing", t))
    group.order.insert(group.order.index(("body", p)), ("thing", t))


def _ride_horse(group: Group, p: int, t: int, hold: bool) -> None:
    person, thing = group.persons[p], group.things[t]
    sit_astride(group.stream, person, thing.anchor("seat"))
    group.order.remove(("thing", t))
    group.order.insert(group.order.index(("body", p)), ("thing", t))
    if hold:
        rein = person.from_shoulder(0.22, -0.16)
        person.reach(0, rein)
        person.reach(1, rein)
        group.add_rope([person.to_group(person.hand(0)), thing.anchor("mouth")], 0.025, (60, 40, 30))


def sit_astride(stream: RandomStream, person: Person, seat: Point) -> None:
    person.x = seat[0]
    height = seat[1] / person.size + 0.03
    person.hips = (0.0, height)
    person.feet = [(0.14, height - 0.42), (0.2, height - 0.4)]
    person.lean = stream.uniform(-0.05, 0.12)
    person.hands = [person.from_shoulder(0.16, 0.26), person.from_shoulder(0.1, -0.28)]


def _streaks(group: Group, x: float, heights: tuple[float, ...]) -> None:
    """Lines that say: moving to the right."""
    if group.stream.chance(0.75):
        colour = group.stream.choice(((250, 250, 250), (40, 40, 40)))
        for y in heights:
            start = x + group.stream.uniform(-0.05, 0.05)
            group.add_rope([(start - group.stream.uniform(0.12, 0.24), y), (start, y)], 0.018, colour, front=False)


def kick(group: Group, name: str, allowed: Allowed) -> None:
    stream = group.stream
    p = group.add_person()
    person = group.persons[p]
    high = stream.uniform(0.1, 0.24) if name not in ("chair", "box") else 0.13
    person.lean = stream.uniform(-0.34, -0.2)
    person.feet = [(0.42, high), (-0.03, 0.0)]
    person.hands = [person.from_shoulder(-0.24, -0.14), person.from_shoulder(0.27, -0.06)]
    t = group.add_thing(name)
    thing = group.things[t]
    toe = person.to_group((0.42, high))
    thing.x = toe[0] + 0.07 + thing.half + stream.uniform(0.0, 0.08)
    if name in ("chair", "box"):
        thing.flip, thing.angle = -1, stream.uniform(0.05, 0.25)
        thing.y = 0.03
    else:
        thing.y = max(0.0, toe[1] - thing.kind.height * 0.35)
        thing.angle = stream.uniform(-0.7, 0.7)
    thing.grounded = False
    group.relate(p, t, "kick")


def jump_over(group: Group, name: str, allowed: Allowed) -> None:
    stream = group.stream
    t = group.add_thing(name)
    thing = group.things[t]
    p = group.add_person()
    person = group.persons[p]
    clear = thing.kind.height * thing.size + stream.uniform(0.05, 0.12)
    person.y = clear
    person.hips = (0.0, 0.26)
    person.feet = [(0.38, 0.12), (-0.4, 0.1)]
    person.lean = stream.uniform(0.05, 0.25)
    person.hands = [person.from_shoulder(0.22, 0.22), person.from_shoulder(-0.22, 0.2)]
    person.x = thing.x + stream.uniform(-0.08, 0.08)
    group.relate(p, t, "jump_over")
