"""Jointed persons, seen from the side.

A person lives in their own frame: origin on the ground below the hips, x forwards (the way they
face), y upwards, one unit = their height.  A pose is where hips, hands and feet are; elbows and
knees follow from two-link inverse kinematics, so that a hand put on a handlebar is exactly there.
Index 0 is the limb near the viewer, 1 the far one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hoiclip.playground.objects import Point, Primitive

TORSO, NECK, HEAD = 0.30, 0.115, 0.088
ARM, LEG = 0.165, 0.25  # each of the two links
STANDING = 0.52  # hip height


def bend(root: Point, target: Point, link: float, sign: float) -> tuple[Point, Point]:
    """The joint and the end of a two-link limb that reaches for ``target``.

    Args:
        root: shoulder or hip.
        target: where hand or foot should be; pulled in if out of reach.
        link: length of each link.
        sign: +1 bends the joint forwards of the line root-target (seen going down), -1 backwards.
    """
    dx, dy = target[0] - root[0], target[1] - root[1]
    distance = math.hypot(dx, dy) or 1e-6
    reach = min(distance, 2 * link * 0.999)
    ux, uy = dx / distance, dy / distance
    side = math.sqrt(max(link * link - reach * reach / 4, 0.0)) * sign
    end = (root[0] + ux * reach, root[1] + uy * reach)
    joint = (root[0] + ux * reach / 2 - uy * side, root[1] + uy * reach / 2 + ux * side)
    return joint, end


@dataclass
class Person:
    """One person: where they stand in the group's frame, and their pose.

    Attributes:
        x, y: group coordinates of the point of ground below the hips.
        size: height relative to a grown person.
        facing: +1 right, -1 left.
        hips: local coordinates.
        lean: angle of the torso in radians, forwards positive.
        hands: local targets (near, far); None hangs at rest.
        feet: local targets (near, far).
        busy: whether each hand has something to do.
        colours: palette of skin, hair, shirt, trousers, shoe and their shaded variants.
        doing: names of the verbs, for whoever composes scenes.
    """

    x: float = 0.0
    y: float = 0.0
    size: float = 1.0
    facing: int = 1
    hips: Point = (0.0, STANDING)
    lean: float = 0.0
    hands: list[Point | None] = field(default_factory=lambda: [None, None])
    feet: list[Point] = field(default_factory=lambda: [(0.06, 0.0), (-0.05, 0.0)])
    busy: list[bool] = field(default_factory=lambda: [False, False])
    finger: bool = False
    swing: float = 0.06
    nod: float = 0.0
    knees: float = 1.0
    colours: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    doing: set[str] = field(default_factory=set)

    @property
    def shoulder(self) -> Point:
        """Local coordinates."""
        return (self.hips[0] + TORSO * math.sin(self.lean), self.hips[1] + TORSO * math.cos(self.lean))

    @property
    def head(self) -> Point:
        """Local coordinates of the middle of the head."""
        angle = self.lean * 0.6 + self.nod
        sx, sy = self.shoulder
        return (sx + NECK * math.sin(angle), sy + NECK * math.cos(angle))

    def to_group(self, point: Point) -> Point:
        """Local to group coordinates."""
        return (self.x + self.facing * self.size * point[0], self.y + self.size * point[1])

    def to_local(self, point: Point) -> Point:
        """Group to local coordinates."""
        return (self.facing * (point[0] - self.x) / self.size, (point[1] - self.y) / self.size)

    def from_shoulder(self, dx: float, dy: float) -> Point:
        """A local point relative to the shoulder."""
        sx, sy = self.shoulder
        return (sx + dx, sy + dy)

    def reach(self, hand: int, point: Point) -> None:
        """Puts a hand on a local point."""
        self.hands[hand] = point
        self.busy[hand] = True

    def hand(self, hand: int) -> Point:
        """Local point where the hand ends up."""
        return bend(self.shoulder, self._hand_target(hand), ARM, -1.0)[1]

    def _hand_target(self, hand: int) -> Point:
        target = self.hands[hand]
        if target is not None:
            return target
        return self.from_shoulder(self.swing if hand == 0 else -self.swing, -0.31)

    # --- drawing ------------------------------------------------------------------------------------

    def layers(self) -> tuple[list[Primitive], list[Primitive], list[Primitive]]:
        """Primitives in group coordinates: far limbs; near leg, torso and head; near arm."""
        far = [*self._leg(1, "trousers_far", "shoe"), *self._arm(1, "shirt_far", "skin_far")]
        body = [*self._leg(0, "trousers", "shoe"), *self._torso()]
        return far, body, self._arm(0, "shirt", "skin")

    def _line(self, points: list[Point], width: float, colour: str) -> Primitive:
        return ("line", [self.to_group(p) for p in points], width * self.size, colour)

    def _disc(self, point: Point, radius: float, colour: str) -> Primitive:
        return ("disc", *self.to_group(point), radius * self.size, colour)

    def _leg(self, side: int, cloth: str, shoe: str) -> list[Primitive]:
        hip = self.hips
        fx, fy = self.feet[side]
        knee, ankle = bend(hip, (fx, fy + 0.035), LEG, self.knees)
        toe = (ankle[0] + 0.065, ankle[1] - 0.012)
        return [
            self._line([hip, knee, ankle], 0.095 if side == 0 else 0.088, cloth),
            self._line([ankle, toe], 0.052, shoe),
        ]

    def _arm(self, side: int, cloth: str, skin: str) -> list[Primitive]:
        shoulder = self.shoulder
        elbow, hand = bend(shoulder, self._hand_target(side), ARM, -1.0)
        parts = [
            self._line([elbow, hand], 0.052, skin),
            self._line([shoulder, elbow], 0.07, cloth),
            self._disc(hand, 0.036, skin),
        ]
        if self.finger and side == 0:
            dx, dy = hand[0] - shoulder[0], hand[1] - shoulder[1]
            length = math.hypot(dx, dy) or 1.0
            parts.append(self._line([hand, (hand[0] + 0.1 * dx / length, hand[1] + 0.1 * dy / length)], 0.028, skin))
        return parts

    def _torso(self) -> list[Primitive]:
        hx, hy = self.head
        up = (math.sin(self.lean * 0.6 + self.nod), math.cos(self.lean * 0.6 + self.nod))
        forward = (up[1], -up[0])

        def at(ahead: float, above: float) -> Point:
            return (hx + forward[0] * ahead + up[0] * above, hy + forward[1] * ahead + up[1] * above)

        return [
            self._line([self.shoulder, (hx, hy)], 0.06, "skin"),
            self._line([self.hips, self.shoulder], 0.15, "shirt"),
            self._disc(at(-0.012, 0.012), HEAD + 0.006, "hair"),
            self._disc(at(0.02, -0.014), HEAD * 0.86, "skin"),
            self._disc(at(0.085, -0.015), 0.018, "skin"),
            self._line([at(-0.05, 0.06), at(0.055, 0.062)], 0.04, "hair"),
            self._disc(at(0.045, 0.008), 0.014, "dark"),
        ]
