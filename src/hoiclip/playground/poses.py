"""What each verb looks like: posed persons and the things they touch.

``ARRANGE[verb](group, name, allowed)`` adds a person and an object to an empty group.  Where the
image would show another verb on the same object too (ride + hold), it does so only if
``allowed(verb)``, and says so in the group's pairs.
"""

from __future__ import annotations

from collections.abc import Callable

from hoiclip.playground.arm_poses import balance, hold, lift, no_interaction, point_at, pull, push, throw
from hoiclip.playground.body_poses import Allowed, jump_over, kick, ride, sit_on, stand_on
from hoiclip.playground.groups import Group

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
