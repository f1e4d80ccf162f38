"""Places: sky and ground or wall and floor, with trees, houses, fences and other clutter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hoiclip.playground.objects import Primitive
from hoiclip.playground.palettes import Colour, hsv, muted, shade
from hoiclip.playground.random_stream import RandomStream


@dataclass
class Background:
    """What lies behind a scene.

    Attributes:
        grid: rows of RGB colours; smoothly interpolated over the whole image.
        horizon: pixel y where the ground begins.
        ground: colour and shade of the ground, painted from the horizon down; None keeps the grid.
        clutter: primitives in pixels with RGB colours.
    """

    grid: list[list[Colour]]
    horizon: float
    ground: tuple[Colour, Colour] | None
    clutter: list[Primitive] = field(default_factory=list)


def _jitter(stream: RandomStream, colour: Colour, amount: int) -> Colour:
    return tuple(min(255, max(0, c + stream.integer(-amount, amount + 1))) for c in colour)  # type: ignore[return-value]


def sample_background(stream: RandomStream, size: int) -> Background:
    """A random place for an image of ``size`` pixels."""
    horizon = size * stream.uniform(0.35, 0.72)
    far, near = muted(stream), muted(stream)
    if stream.chance(0.4):  # blue sky over something green or sandy
        far = hsv(stream.uniform(0.52, 0.62), stream.uniform(0.1, 0.5), stream.uniform(0.75, 1.0))
        near = hsv(stream.uniform(0.08, 0.4), stream.uniform(0.2, 0.6), stream.uniform(0.4, 0.8))
    rough = stream.integer(6, 46)
    rows, columns = stream.integer(3, 7), stream.integer(3, 7)
    grid = []
    for row in range(rows):
        base = far if (row + 0.5) / rows * size < horizon else near
        grid.append([_jitter(stream, base, rough) for _ in range(columns)])
    hard = stream.chance(0.5)
    background = Background(grid, horizon, (near, shade(near, 0.75)) if hard else None)
    for _ in range(stream.integer(0, 5)):
        stream.choice(CLUTTER)(stream, size, background)
    return background


def _tree(stream: RandomStream, size: int, place: Background) -> None:
    x, y = stream.uniform(0, size), place.horizon + stream.uniform(-2, 8)
    height = size * stream.uniform(0.12, 0.4)
    crown = (
        hsv(stream.uniform(0.2, 0.45), stream.uniform(0.3, 0.8), stream.uniform(0.3, 0.8))
        if stream.chance(0.7)
        else muted(stream)
    )
    place.clutter.append(("line", [(x, y), (x, y - height)], height * 0.12, (92, 66, 46)))
    if stream.chance(0.5):
        place.clutter.append(("disc", x, y - height, height * 0.36, crown))
        place.clutter.append(("disc", x + height * 0.15, y - height * 0.8, height * 0.26, shade(crown, 0.85)))
    else:
        half = height * 0.35
        place.clutter.append(
            ("poly", [(x - half, y - height * 0.4), (x + half, y - height * 0.4), (x, y - height * 1.4)], crown)
        )


def _house(stream: RandomStream, size: int, place: Background) -> None:
    x, y = stream.uniform(-0.1, 0.9) * size, place.horizon + stream.uniform(0, 6)
    width, height = size * stream.uniform(0.1, 0.3), size * stream.uniform(0.1, 0.45)
    wall = muted(stream)
    place.clutter.append(("poly", [(x, y), (x + width, y), (x + width, y - height), (x, y - height)], wall))
    if stream.chance(0.5):
        roof = [(x - 2, y - height), (x + width + 2, y - height), (x + width / 2, y - height * 1.35)]
        place.clutter.append(("poly", roof, shade(wall, 0.6)))
    pane = shade(wall, stream.choice((0.6, 1.5)))
    for column in (0.2, 0.6):
        for row in (0.2, 0.6):
            left, top = x + column * width, y - height + row * height
            w, h = width * 0.2, height * 0.2
            place.clutter.append(("poly", [(left, top), (left + w, top), (left + w, top + h), (left, top + h)], pane))


def _hill(stream: RandomStream, size: int, place: Background) -> None:
    x, half, rise = stream.uniform(0, size), size * stream.uniform(0.2, 0.5), size * stream.uniform(0.08, 0.25)
    y = place.horizon + 1
    outline = [
        (x - half, y),
        (x - half * 0.4, y - rise * 0.8),
        (x, y - rise),
        (x + half * 0.5, y - rise * 0.7),
        (x + half, y),
    ]
    place.clutter.append(("poly", outline, muted(stream)))


def _cloud(stream: RandomStream, size: int, place: Background) -> None:
    x, y, r = stream.uniform(0, size), stream.uniform(0, place.horizon * 0.6), size * stream.uniform(0.03, 0.08)
    colour = shade(place.grid[0][0], 1.6)
    for dx, dy in ((-1.1, 0.2), (0, -0.2), (1.1, 0.2)):
        place.clutter.append(("disc", x + dx * r, y + dy * r, r, colour))


def _fence(stream: RandomStream, size: int, place: Background) -> None:
    colour, y, height = muted(stream), place.horizon + 3, size * stream.uniform(0.07, 0.14)
    start, step = stream.uniform(0, 0.6) * size, size * 0.055
    count = stream.integer(3, 9)
    for i in range(count):
        place.clutter.append(("line", [(start + i * step, y), (start + i * step, y - height)], 2.2, colour))
    end = start + (count - 1) * step
    for level in (0.35, 0.75):
        place.clutter.append(("line", [(start, y - height * level), (end, y - height * level)], 1.6, colour))


def _patch(stream: RandomStream, size: int, place: Background) -> None:
    x, y = stream.uniform(0, size), stream.uniform(0, size)
    w, h = size * stream.uniform(0.03, 0.16), size * stream.uniform(0.03, 0.3)
    place.clutter.append(("poly", [(x, y), (x + w, y), (x + w, y + h), (x, y + h)], muted(stream)))


def _stick(stream: RandomStream, size: int, place: Background) -> None:
    x, y = stream.uniform(0, size), stream.uniform(place.horizon, size)
    dx, dy = size * stream.uniform(-0.2, 0.2), size * stream.uniform(-0.08, 0.08)
    place.clutter.append(("line", [(x, y), (x + dx, y + dy)], stream.uniform(1, 2.4), muted(stream)))


def _path(stream: RandomStream, size: int, place: Background) -> None:
    x = stream.uniform(0.1, 0.9) * size
    outline = [
        (x, place.horizon),
        (x + 3, place.horizon),
        (x + size * stream.uniform(0.1, 0.5), size),
        (x - size * 0.2, size),
    ]
    place.clutter.append(("poly", outline, muted(stream)))


CLUTTER: tuple[Callable[[RandomStream, int, Background], None], ...] = (
    _tree,
    _tree,
    _house,
    _hill,
    _cloud,
    _fence,
    _patch,
    _stick,
    _path,
)


def sample_foreground(stream: RandomStream, size: int) -> list[Primitive]:
    """Now and then grass, a post or a leafy corner in front of everything."""
    if not stream.chance(0.25):
        return []
    kind = stream.integer(0, 3)
    x = stream.uniform(0, size)
    if kind == 0:
        green = hsv(stream.uniform(0.2, 0.42), 0.6, stream.uniform(0.3, 0.7))
        blades: list[Primitive] = []
        for _ in range(9):
            root = x + stream.uniform(-9, 9)
            blades.append(
                ("line", [(root, size), (root + stream.uniform(-3, 3), size - stream.uniform(5, 15))], 1.4, green)
            )
        return blades
    if kind == 1:
        colour = muted(stream)
        return [("line", [(x, size), (x, size * stream.uniform(0.2, 0.6))], stream.uniform(2, 4), shade(colour, 0.7))]
    green = hsv(stream.uniform(0.2, 0.42), 0.6, stream.uniform(0.25, 0.6))
    corner = stream.choice((0, size))
    return [
        ("disc", corner + stream.uniform(-6, 6), stream.uniform(-4, 6), stream.uniform(5, 13), green) for _ in range(4)
    ]
