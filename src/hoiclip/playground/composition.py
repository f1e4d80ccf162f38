"""Who does what with what, and who joins in.

:func:`compose` builds a group for a wanted interaction and may add others that fit: a second verb
on the same object (ride + hold), a second object (an umbrella held while sitting), a second person
(somebody who pushes the cart another rides).  Nothing is added that the caller does not allow, so
that rare and unseen classes stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hoiclip.playground.arm_poses import lean_into, point, point_at_new, put_on_head, raise_up, take_hold, tow
from hoiclip.playground.body_poses import sit_astride, stand, take_seat, take_stand
from hoiclip.playground.groups import Group, Pair, Thing
from hoiclip.playground.objects import Point
from hoiclip.playground.people import Person
from hoiclip.playground.poses import ARRANGE
from hoiclip.playground.random_stream import RandomStream

ONLOOKERS = 0.35  # how often somebody who points at what others do may be an extra at all
IN_ONE_HAND = ("ball", "frisbee", "umbrella", "bottle")


def compose(stream: RandomStream, wanted: Pair, weights: Mapping[Pair, float], extras: float = 0.45) -> Group:
    """A group that shows ``wanted``, perhaps with more.

    Args:
        stream: draws.
        wanted: (verb, object) that must be there.
        weights: how gladly another interaction is added; those missing or at 0 never are.
        extras: chance of a further object or person, and of another one after it.
    """
    verb, name = wanted
    group = Group(stream)
    ARRANGE[verb](group, name, lambda other: weights.get((other, name), 0.0) > 0)
    while extras > 0 and stream.chance(extras) and _add_extra(group, weights):
        extras *= 0.4
    return group


def _add_extra(group: Group, weights: Mapping[Pair, float]) -> bool:
    """Adds one interaction that fits; False if none does."""
    options: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def offer(pair: Pair, act: Callable[..., None], *arguments: Any) -> None:
        weight = weights.get(pair, 0.0)
        if weight > 0:
            options.append((weight, act, arguments))

    for p, person in enumerate(group.persons):
        doing = person.doing
        if doing & {"no_interaction", "throw", "push", "lift", "jump_over"}:
            continue
        if not any(person.busy) or ("pull" in doing and not person.busy[0]):
            for name in IN_ONE_HAND:
                offer(("hold", name), take_hold, group, p, name)
        if not any(person.busy) and "balance" not in doing and "kick" not in doing:
            for name in ("ball", "frisbee", "box", "bottle"):
                offer(("balance", name), put_on_head, group, p, name)
            if doing & {"sit_on", "stand_on"}:
                for name in ("ball", "box"):
                    offer(("lift", name), raise_up, group, p, name)
        if not any(person.busy) and doing & {"sit_on", "stand_on"} and 1 not in group.sides and len(group.persons) == 1:
            for name in ("ball", "chair", "dog", "box", "bottle", "umbrella", "cart"):
                offer(("point_at", name), point_at_new, group, p, name)

    for t, thing in enumerate(group.things):
        name, used = thing.kind.name, {v for (_, u), verbs in group.pairs.items() if u == t for v in verbs}
        if "no_interaction" in used or len(group.persons) > 2:
            continue
        for side in (-1, 1) if group.stream.chance(ONLOOKERS) else ():
            if side not in group.sides and not used & {"throw", "kick"}:
                offer(("point_at", name), _join_pointer, group, t, side)
        if thing.grounded and used & {"ride", "sit_on", "stand_on", "pull"} and -1 not in group.sides and _edgy(thing):
            offer(("push", name), lean_into, group, t)
        if thing.grounded and used & {"ride", "sit_on", "stand_on", "push"} and 1 not in group.sides and _knotty(thing):
            offer(("pull", name), tow, group, t)
        if name == "bench" and used & {"sit_on", "stand_on"} and len(group.persons) == 1 and len(group.things) == 1:
            taken = group.persons[0].x - thing.x
            seat = thing.anchor("seat")
            spot = (seat[0] + (-0.27 if taken > 0 else 0.27), seat[1])
            for verb, place in (("sit_on", take_seat), ("stand_on", take_stand)):
                offer((verb, name), _join_on, group, t, verb, place, spot)
        if name == "horse" and used == {"ride", "hold"} and len(group.persons) == 1:
            offer(("ride", name), _join_rider, group, t)
    if not options:
        return False
    _, act, arguments = group.stream.weighted(options, [weight for weight, _, _ in options])
    act(*arguments)
    return True


def _edgy(thing: Thing) -> bool:
    return "edge" in thing.kind.anchors and thing.kind.name != "dog"


def _knotty(thing: Thing) -> bool:
    return "rope" in thing.kind.anchors and thing.anchor("rope")[0] > thing.x


def _join_on(
    group: Group, t: int, verb: str, place: Callable[[RandomStream, Person, Point], None], spot: Point
) -> None:
    p = group.add_person(facing=group.stream.choice((-1, 1)))
    place(group.stream, group.persons[p], spot)
    group.relate(p, t, verb)


def _join_rider(group: Group, t: int) -> None:
    """Somebody behind the rider who holds the reins."""
    seat = group.things[t].anchor("seat")
    p = group.add_person()
    person = group.persons[p]
    sit_astride(group.stream, person, (seat[0] - 0.2, seat[1]))
    person.hands = [person.from_shoulder(0.18, -0.14), person.from_shoulder(0.18, -0.12)]
    group.relate(p, t, "ride")


def _join_pointer(group: Group, t: int, side: int) -> None:
    """A new person points at a thing that is already there."""
    edges = [q.x for q in group.persons] + [u.x + side * u.half for u in group.things]
    edge = max(edges) if side > 0 else min(edges)
    p = group.add_person(x=edge + side * group.stream.uniform(0.5, 0.7), facing=-side)
    stand(group.stream, group.persons[p])
    point(group, p, t)
    group.sides.add(side)
