"""What each verb looks like: posed persons and the things they touch.

``ARRANGE[verb](group, name, allowed)`` adds a person and an object to an empty group.  Where the
picture would show another verb on the same object too (ride + hold), it does so only if
``allowed(verb)``, and says so in the group's pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hoiclip.playground.groups import Group
from hoiclip.playground.objects import KINDS, Point
from hoiclip.playground.people import STANDING, Person
from hoiclip.playground.random_stream import RandomStream

Allowed = Callable[[str], bool]


# --- what the body does ---------------------------------------------------------------------------


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
    stream = group.stream
    t = group.add_thing(name)
    thing = group.things[t]
    thing.flip = 1
    p = group.add_person()
    person = group.persons[p]
    hold = allowed("hold") and stream.chance(grip)
    if name == "skateboard":
        person.x, person.y = thing.x, thing.anchor("top")[1]
        person.hips = (-0.05, 0.34)
        person.feet = [(0.17, 0.0), (-0.2, 0.0)]
        person.lean = stream.uniform(0.35, 0.6)
        person.hands = [person.from_shoulder(0.29, 0.06), person.from_shoulder(-0.3, 0.1)]
        hold = False
        thing.angle = stream.uniform(-0.05, 0.16)
        _streaks(group, thing.x - thing.half - 0.06, (0.06, 0.3, 0.6))
    elif name == "cart":
        seat = thing.anchor("seat")
        person.x = seat[0] - 0.05
        person.hips = (0.0, seat[1] / person.size + 0.05)
        person.feet = [(0.3, person.hips[1] - 0.1), (0.26, person.hips[1] - 0.1)]
        person.lean = stream.uniform(-0.1, 0.1)
        up = stream.uniform(0.12, 0.26)
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
    else:  # horse
        seat = thing.anchor("seat")
        sit_astride(stream, person, seat)
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


# --- both arms and the body ------------------------------------------------------------------------


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


ARRANGE: dict[str, Callable[[Group, str, Allowed], None]] = {
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
