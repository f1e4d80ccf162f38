"""What the twelve objects of the playground look like, and where a person touches them.

Every object is drawn in its own frame: origin at the middle of its base, x forwards, y upwards,
one unit = the height of a grown person.  A drawing is a list of primitives, in painting order:

    ("line", [(x, y), ...], width, colour)      open polyline with round ends
    ("poly", [(x, y), ...], colour)             filled polygon
    ("disc", x, y, radius, colour)              filled circle

``colour`` is a key of the thing's palette: "main", "second", "dark", "light", "fur", "wood".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Point = tuple[float, float]
Primitive = tuple


@dataclass(frozen=True)
class Kind:
    """One object class.

    Attributes:
        name: its name in the vocabulary.
        width, height: extent of the upright drawing, in person heights.
        drawing: primitives, see the module.
        anchors: named points in the object's frame, such as the middle of the seat.
        upright: False for things that may lie, fly or tumble at any angle.
    """

    name: str
    width: float
    height: float
    drawing: tuple[Primitive, ...]
    anchors: dict[str, Point] = field(default_factory=dict)
    upright: bool = True


def _ellipse(
    cx: float, cy: float, rx: float, ry: float, start: float = 0, end: float = 360, n: int = 22
) -> list[Point]:
    angles = [math.radians(start + (end - start) * i / n) for i in range(n + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _wheel(x: float, y: float, radius: float, rim: float) -> list[Primitive]:
    return [
        ("line", _ellipse(x, y, radius - rim / 2, radius - rim / 2), rim, "dark"),
        ("line", [(x - radius * 0.6, y), (x + radius * 0.6, y)], 0.012, "light"),
        ("line", [(x, y - radius * 0.6), (x, y + radius * 0.6)], 0.012, "light"),
        ("disc", x, y, 0.03, "dark"),
    ]


def _ball() -> Kind:
    r = 0.16
    return Kind(
        "ball",
        2 * r,
        2 * r,
        (
            ("disc", 0, r, r, "dark"),
            ("disc", 0, r, r * 0.92, "main"),
            ("poly", _ellipse(0, r, r * 0.92, r * 0.36), "second"),
            ("poly", _ellipse(0, r, r * 0.34, r * 0.92), "light"),
        ),
        {"seat": (0, 2 * r - 0.02), "top": (0, 2 * r), "grip": (0, 0.02), "centre": (0, r)},
        upright=False,
    )


def _frisbee() -> Kind:
    rx, ry = 0.2, 0.065
    return Kind(
        "frisbee",
        2 * rx,
        2 * ry,
        (
            ("poly", _ellipse(0, ry, rx, ry), "dark"),
            ("poly", _ellipse(0, ry + 0.012, rx * 0.97, ry * 0.8), "main"),
            ("poly", _ellipse(0, ry + 0.018, rx * 0.55, ry * 0.42), "light"),
        ),
        {"top": (0, 2 * ry - 0.02), "grip": (-rx * 0.85, ry), "centre": (0, ry)},
        upright=False,
    )


def _box() -> Kind:
    w = 0.36
    h = w / 2
    return Kind(
        "box",
        w,
        w,
        (
            ("poly", [(-h, 0), (h, 0), (h, w), (-h, w)], "dark"),
            ("poly", [(-h + 0.02, 0.02), (h - 0.02, 0.02), (h - 0.02, w - 0.02), (-h + 0.02, w - 0.02)], "main"),
            ("line", [(-h + 0.03, 0.03), (h - 0.03, w - 0.03)], 0.03, "second"),
            ("line", [(-h + 0.03, w - 0.03), (h - 0.03, 0.03)], 0.03, "second"),
        ),
        {
            "seat": (0, w),
            "top": (0, w),
            "grip": (-0.06, 0.02),
            "centre": (0, h),
            "rope": (-h, h * 0.8),
            "edge": (0, 0.3),
        },
        upright=False,
    )


def _chair() -> Kind:
    return Kind(
        "chair",
        0.4,
        0.66,
        (
            ("line", [(-0.17, 0.02), (-0.17, 0.64)], 0.045, "main"),
            ("line", [(0.17, 0.02), (0.17, 0.28)], 0.045, "main"),
            ("line", [(-0.08, 0.02), (-0.08, 0.28)], 0.03, "dark"),
            ("line", [(0.09, 0.02), (0.09, 0.28)], 0.03, "dark"),
            ("line", [(-0.17, 0.3), (0.18, 0.3)], 0.06, "main"),
            ("line", [(-0.17, 0.5), (-0.17, 0.63)], 0.075, "second"),
        ),
        {"seat": (0.04, 0.33), "top": (0.03, 0.33), "grip": (0, 0), "centre": (0, 0.3), "edge": (-0.17, 0.55)},
    )


def _bench() -> Kind:
    return Kind(
        "bench",
        1.04,
        0.34,
        (
            ("line", [(-0.4, 0.02), (-0.4, 0.28)], 0.055, "dark"),
            ("line", [(0.4, 0.02), (0.4, 0.28)], 0.055, "dark"),
            ("line", [(-0.4, 0.12), (0.4, 0.12)], 0.03, "dark"),
            ("poly", [(-0.52, 0.25), (0.52, 0.25), (0.52, 0.34), (-0.52, 0.34)], "main"),
            ("line", [(-0.5, 0.295), (0.5, 0.295)], 0.018, "second"),
        ),
        {
            "seat": (0, 0.34),
            "top": (0, 0.34),
            "grip": (0, 0),
            "centre": (0, 0.25),
            "rope": (-0.5, 0.29),
            "edge": (0, 0.3),
        },
    )


def _bicycle() -> Kind:
    r = 0.21
    return Kind(
        "bicycle",
        1.06,
        0.68,
        (
            *_wheel(-0.32, r, r, 0.05),
            *_wheel(0.32, r, r, 0.05),
            ("line", [(-0.32, r), (-0.02, 0.2), (0.22, 0.5), (-0.11, 0.48), (-0.32, r)], 0.042, "main"),
            ("line", [(-0.02, 0.2), (-0.13, 0.54)], 0.042, "main"),
            ("line", [(0.32, r), (0.2, 0.62), (0.3, 0.65)], 0.042, "main"),
            ("line", [(-0.21, 0.56), (-0.06, 0.56)], 0.06, "dark"),
            ("line", [(-0.07, 0.13), (0.03, 0.27)], 0.03, "dark"),
        ),
        {
            "seat": (-0.13, 0.58),
            "bar": (0.29, 0.65),
            "pedal": (-0.02, 0.2),
            "grip": (0, 0),
            "centre": (0, 0.35),
            "rope": (0.34, 0.6),
            "edge": (-0.2, 0.57),
        },
    )


def _skateboard() -> Kind:
    return Kind(
        "skateboard",
        0.7,
        0.17,
        (
            ("disc", -0.2, 0.055, 0.055, "dark"),
            ("disc", 0.2, 0.055, 0.055, "dark"),
            ("disc", -0.2, 0.055, 0.022, "light"),
            ("disc", 0.2, 0.055, 0.022, "light"),
            ("line", [(-0.32, 0.15), (-0.24, 0.115), (0.24, 0.115), (0.32, 0.15)], 0.055, "main"),
        ),
        {"seat": (0, 0.14), "top": (0, 0.14), "grip": (-0.1, 0.11), "centre": (0, 0.1), "rope": (-0.33, 0.13)},
        upright=False,
    )


def _horse() -> Kind:
    return Kind(
        "horse",
        1.2,
        1.0,
        (
            ("line", [(0.18, 0.5), (0.24, 0.25), (0.2, 0.03)], 0.075, "dark"),
            ("line", [(-0.28, 0.5), (-0.36, 0.27), (-0.3, 0.03)], 0.075, "dark"),
            ("line", [(-0.36, 0.6), (-0.5, 0.5), (-0.53, 0.3)], 0.07, "second"),
            ("poly", _ellipse(-0.06, 0.56, 0.36, 0.17), "main"),
            ("line", [(0.1, 0.5), (0.13, 0.27), (0.1, 0.035)], 0.08, "main"),
            ("line", [(-0.3, 0.5), (-0.26, 0.27), (-0.22, 0.035)], 0.08, "main"),
            ("poly", [(0.1, 0.52), (0.32, 0.62), (0.46, 0.92), (0.34, 0.96), (0.2, 0.78), (0.04, 0.71)], "main"),
            ("line", [(0.4, 0.9), (0.56, 0.77)], 0.12, "main"),
            ("line", [(0.1, 0.72), (0.24, 0.84), (0.36, 0.95)], 0.06, "second"),
            ("line", [(0.37, 0.93), (0.38, 0.99)], 0.035, "main"),
            ("disc", 0.44, 0.89, 0.018, "dark"),
        ),
        {
            "seat": (-0.08, 0.71),
            "top": (-0.12, 0.71),
            "grip": (0, 0),
            "centre": (0, 0.6),
            "mouth": (0.55, 0.78),
            "rope": (0.5, 0.78),
            "edge": (-0.36, 0.58),
        },
    )


def _dog() -> Kind:
    return Kind(
        "dog",
        0.66,
        0.48,
        (
            ("line", [(0.12, 0.22), (0.15, 0.03)], 0.055, "dark"),
            ("line", [(-0.14, 0.22), (-0.19, 0.03)], 0.055, "dark"),
            ("line", [(-0.18, 0.27), (-0.27, 0.34), (-0.29, 0.42)], 0.045, "main"),
            ("line", [(-0.13, 0.25), (0.1, 0.25)], 0.17, "main"),
            ("line", [(0.09, 0.22), (0.08, 0.03)], 0.06, "main"),
            ("line", [(-0.15, 0.22), (-0.12, 0.03)], 0.06, "main"),
            ("disc", 0.2, 0.37, 0.09, "main"),
            ("line", [(0.24, 0.34), (0.31, 0.33)], 0.06, "main"),
            ("line", [(0.16, 0.42), (0.13, 0.32)], 0.06, "second"),
            ("disc", 0.33, 0.345, 0.022, "dark"),
            ("disc", 0.24, 0.4, 0.016, "dark"),
            ("line", [(0.12, 0.29), (0.19, 0.27)], 0.03, "light"),
        ),
        {"grip": (0, 0.16), "centre": (0, 0.26), "rope": (0.12, 0.3), "top": (-0.05, 0.34), "edge": (-0.2, 0.26)},
    )


def _cart() -> Kind:
    return Kind(
        "cart",
        0.92,
        0.5,
        (
            ("line", [(-0.33, 0.4), (-0.45, 0.47)], 0.035, "dark"),
            ("poly", [(-0.36, 0.46), (0.44, 0.46), (0.34, 0.15), (-0.26, 0.15)], "main"),
            ("line", [(-0.36, 0.46), (0.44, 0.46)], 0.05, "second"),
            ("line", [(-0.05, 0.42), (-0.03, 0.18)], 0.02, "second"),
            ("line", [(0.15, 0.42), (0.12, 0.18)], 0.02, "second"),
            *_wheel(-0.16, 0.13, 0.13, 0.045),
            *_wheel(0.24, 0.13, 0.13, 0.045),
        ),
        {
            "seat": (0.02, 0.28),
            "top": (0.04, 0.48),
            "grip": (0, 0.1),
            "centre": (0, 0.3),
            "rope": (-0.45, 0.47),
            "edge": (-0.45, 0.47),
        },
    )


def _umbrella() -> Kind:
    rim = 0.42
    return Kind(
        "umbrella",
        0.72,
        0.68,
        (
            ("line", [(0, rim), (0, 0.05), (0.025, 0.02), (0.06, 0.03), (0.07, 0.07)], 0.035, "dark"),
            ("poly", _ellipse(0, rim, 0.36, 0.24, 0, 180), "main"),
            ("poly", [(-0.12, rim), *_ellipse(0, rim, 0.12, 0.24, 180, 0, 10), (0.12, rim)], "second"),
            ("line", [(0, rim + 0.22), (0, rim + 0.26)], 0.025, "dark"),
        ),
        {"grip": (0, 0.12), "centre": (0, 0.45), "top": (0, 0.66)},
        upright=False,
    )


def _bottle() -> Kind:
    body = [
        (-0.075, 0),
        (0.075, 0),
        (0.075, 0.22),
        (0.03, 0.29),
        (0.03, 0.37),
        (-0.03, 0.37),
        (-0.03, 0.29),
        (-0.075, 0.22),
    ]
    return Kind(
        "bottle",
        0.15,
        0.42,
        (
            ("poly", body, "main"),
            ("poly", [(-0.075, 0.06), (0.075, 0.06), (0.075, 0.17), (-0.075, 0.17)], "light"),
            ("line", [(-0.015, 0.39), (0.015, 0.39)], 0.05, "second"),
        ),
        {"grip": (0, 0.15), "centre": (0, 0.2), "top": (0, 0.41)},
        upright=False,
    )


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _ball(),
        _frisbee(),
        _box(),
        _chair(),
        _bench(),
        _bicycle(),
        _skateboard(),
        _horse(),
        _dog(),
        _cart(),
        _umbrella(),
        _bottle(),
    )
}
