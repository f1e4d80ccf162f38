"""Verbs of the arms: pushing, pulling, lifting, holding, throwing, pointing, balancing."""

from __future__ import annotations

import math

from hoiclip.playground.body_poses import Allowed, ride, sit_on, stand, walk
from hoiclip.playground.groups import Group
from hoiclip.playground.objects import KINDS


def push(group: Group, name: str, allowed: Allowed) -> None:
    t = group.add_thing(name)
    group.things[t].flip = 1
    lean_into(group, t)


def lean_into(group: Group, t: int) -> None:
    """A new person leans into the left side of a thing on the ground."""
    stream, thing = group.stream, group.things[t]
    p = group.add_person()
    person = group.persons[p]
    edge = thing.kind.anchors["edge"]
    if edge[0] == 0 or thing.flip < 0:
        contact = (thing.x - thing.half, thing.y + edge[1] * thing.size)
    else:
        contact = thing.anchor("edge")
    person.hips = (-0.05, 0.43)
    person.lean = stream.uniform(0.6, 0.8)
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


def pull(group: Group, name: str, allowed: Allowed) -> None:
    t = group.add_thing(name)
    thing = group.things[t]
    thing.flip = 1 if thing.kind.anchors["rope"][0] > 0 else -1
    tow(group, t)


def tow(group: Group, t: int) -> None:
    """A new person tows a thing on the ground to the right, or tugs at it facing it."""
    stream, thing = group.stream, group.things[t]
    knot = thing.anchor("rope")
    p = group.add_person()
    person = group.persons[p]
    tug = stream.chance(0.4) and thing.kind.name not in ("dog", "horse")
    distance = stream.uniform(0.28, 0.42)
    if tug:
        person.facing = -1
        person.lean = stream.uniform(-0.5, -0.36)
        person.hips = (-0.14, 0.42)
        person.feet = [(0.2, 0.0), (0.02, 0.0)]
        person.x = max(knot[0], thing.x + thing.half) + distance + 0.36
        hand = person.from_shoulder(0.3, -0.06)
        person.reach(0, hand)
        person.reach(1, hand)
    else:
        person.lean = stream.uniform(0.3, 0.45)
        person.hips = (0.05, 0.455)
        person.feet = [(0.26, 0.0), (-0.22, 0.01)]
        person.x = max(knot[0], thing.x + thing.half) + distance + 0.12
        person.reach(1, person.from_shoulder(-0.24, -0.2))
        person.hands[0] = person.from_shoulder(-0.22, -0.22)
    colour = stream.choice(((70, 45, 25), (30, 30, 35), (225, 205, 160), (160, 30, 30)))
    group.add_rope([person.to_group(person.hand(1)), knot], 0.03, colour)
    group.sides.add(1)
    group.relate(p, t, "pull")


def lift(group: Group, name: str, allowed: Allowed) -> None:
    p = group.add_person()
    stand(group.stream, group.persons[p])
    group.persons[p].feet = [(0.09, 0.0), (-0.09, 0.0)]
    raise_up(group, p, name)


def raise_up(group: Group, p: int, name: str) -> None:
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


def hold(group: Group, name: str, allowed: Allowed) -> None:
    stream = group.stream
    if name in ("bicycle", "horse"):
        if allowed("ride") and stream.chance(0.3):
            ride(group, name, lambda verb: verb == "hold", grip=1.0)
        else:
            _hold_beside(group, name)
        return
    if name in ("ball", "box", "skateboard") and allowed("sit_on") and stream.chance(0.1):
        sit_on(group, name, lambda verb: verb == "hold", grip=1.0)
        return
    if allowed("throw") and stream.chance(0.25):
        _wind_up(group, name)
        return
    p = group.add_person()
    (walk if stream.chance(0.35) else stand)(stream, group.persons[p])
    take_hold(group, p, name)


def take_hold(group: Group, p: int, name: str) -> None:
    """Something in one hand, or in both arms if it takes two."""
    stream, person = group.stream, group.persons[p]
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
        person.reach(side, person.from_shoulder(stream.uniform(0.23, 0.28), stream.uniform(-0.16, -0.06) - 0.06 * low))
        t = group.add_thing(name, before=("near", p) if side == 0 else ("body", p))
        thing = group.things[t]
        thing.flip = person.facing
        if name == "skateboard":
            thing.angle = stream.uniform(1.2, 1.7)
        elif name == "frisbee":
            thing.angle = stream.uniform(-0.15, 0.45)
        elif name == "bottle":
            thing.angle = stream.uniform(-0.25, 0.25)
        thing.hang("grip", person.to_group(person.hand(side)))
    group.relate(p, t, "hold")


def _hold_beside(group: Group, name: str) -> None:
    """Stands at the front of a bicycle or horse with a hand on it."""
    stream = group.stream
    t = group.add_thing(name)
    thing = group.things[t]
    thing.flip = 1
    point = thing.anchor("bar" if name == "bicycle" else "mouth")
    p = group.add_person(facing=-1)
    person = group.persons[p]
    stand(stream, person)
    person.lean = 0.1 if name == "bicycle" else 0.0
    person.x = point[0] + person.size * (0.28 + person.shoulder[0])
    target = person.to_local(point)
    person.reach(0, target)
    if name == "bicycle":
        person.reach(1, target)
    group.sides.add(1)
    group.relate(p, t, "hold")


def throw(group: Group, name: str, allowed: Allowed) -> None:
    stream = group.stream
    if allowed("hold") and stream.chance(0.4):
        _wind_up(group, name)
        return
    p = group.add_person()
    person = group.persons[p]
    person.hips = (0.05, 0.46)
    person.lean = stream.uniform(0.22, 0.4)
    person.feet = [(-0.2, 0.02), (0.24, 0.0)]
    rise = stream.uniform(0.08, 0.2)
    person.reach(0, person.from_shoulder(0.27, rise))
    person.hands[1] = person.from_shoulder(-0.2, -0.2)
    t = group.add_thing(name)
    thing = group.things[t]
    hand = person.to_group(person.hand(0))
    distance = stream.uniform(0.1, 0.26)
    thing.angle = stream.uniform(-1.0, 1.0)
    thing.hang("centre", (hand[0] + distance + 0.16 + 0.5 * thing.half, hand[1] + rise * 0.9 + 0.06))
    colour = stream.choice(((250, 250, 250), (40, 40, 40)))
    for off in (-0.07, 0.0, 0.07):
        group.add_rope(
            [(hand[0] + 0.05, hand[1] + off), (hand[0] + 0.05 + distance * 0.8, hand[1] + off + rise * 0.4)],
            0.018,
            colour,
            False,
        )
    group.relate(p, t, "throw")


def _wind_up(group: Group, name: str) -> None:
    """The thing still in the hand, far behind the head: thrown and held."""
    stream = group.stream
    p = group.add_person()
    person = group.persons[p]
    person.hips = (-0.03, 0.46)
    person.lean = stream.uniform(-0.42, -0.28)
    person.feet = [(-0.16, 0.0), (0.3, 0.07)]
    person.reach(0, person.from_shoulder(-0.22, 0.2))
    person.reach(1, person.from_shoulder(0.31, 0.1))
    t = group.add_thing(name, before=("near", p))
    thing = group.things[t]
    thing.flip = -1
    thing.angle = stream.uniform(-0.3, 0.3)
    thing.hang("grip" if name != "box" else "centre", person.to_group(person.hand(0)))
    group.relate(p, t, "throw")
    group.relate(p, t, "hold")


def point_at(group: Group, name: str, allowed: Allowed) -> None:
    p = group.add_person()
    stand(group.stream, group.persons[p])
    point_at_new(group, p, name)


def point_at_new(group: Group, p: int, name: str) -> None:
    person = group.persons[p]
    right = max(t.x + t.half for t in group.things) if group.things else person.x + 0.2
    t = group.add_thing(name)
    thing = group.things[t]
    right = max(right, person.x + 0.35)
    thing.x = right + thing.half + group.stream.uniform(0.12, 0.4)
    point(group, p, t)


def point(group: Group, p: int, t: int) -> None:
    person, thing = group.persons[p], group.things[t]
    sx, sy = person.shoulder
    tx, ty = person.to_local(thing.anchor("centre"))
    angle = min(max(math.atan2(ty - sy, tx - sx), -0.42), 0.7)
    person.reach(0, (sx + 0.36 * math.cos(angle), sy + 0.36 * math.sin(angle)))
    if person.hands[1] is None:
        person.hands[1] = (person.hips[0] + 0.03, person.hips[1] + 0.07)
    person.finger = True
    group.relate(p, t, "point_at")


def balance(group: Group, name: str, allowed: Allowed) -> None:
    p = group.add_person()
    person = group.persons[p]
    stand(group.stream, person)
    if group.stream.chance(0.4):
        person.feet[0] = (0.12, 0.16)
    put_on_head(group, p, name)


def put_on_head(group: Group, p: int, name: str) -> None:
    person = group.persons[p]
    person.lean = 0.0
    for side, sign in ((0, 1), (1, -1)):
        if not person.busy[side]:
            person.hands[side] = person.from_shoulder(sign * 0.32, group.stream.uniform(-0.06, 0.06))
    hx, hy = person.head
    t = group.add_thing(name)
    thing = group.things[t]
    thing.angle = group.stream.uniform(-0.1, 0.1)
    thing.x, thing.y = person.to_group((hx, hy + 0.09))
    thing.y -= 0.01
    thing.grounded = False
    group.relate(p, t, "balance")


def no_interaction(group: Group, name: str, allowed: Allowed) -> None:
    stream = group.stream
    t = group.add_thing(name)
    thing = group.things[t]
    side = stream.choice((-1, 1))
    p = group.add_person(facing=stream.choice((-1, 1)))
    person = group.persons[p]
    (walk if stream.chance(0.5) else stand)(stream, person)
    person.x = thing.x + side * (thing.half + stream.uniform(0.16, 0.42))
    group.relate(p, t, "no_interaction")
