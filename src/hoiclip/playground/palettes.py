"""Colours of persons, things and places."""

from __future__ import annotations

import colorsys

from hoiclip.playground.random_stream import RandomStream

Colour = tuple[int, int, int]
SKIN = ((247, 208, 178), (233, 182, 146), (205, 148, 108), (160, 105, 68), (110, 70, 45), (82, 52, 36))
HAIR = ((25, 20, 18), (60, 38, 22), (120, 72, 32), (214, 174, 92), (165, 60, 30), (150, 150, 150), (235, 235, 230))
SHOES = ((25, 25, 28), (245, 245, 245), (120, 70, 40), (180, 30, 30))
FUR = {
    "horse": ((120, 72, 38), (72, 46, 30), (205, 190, 170), (60, 56, 58), (178, 122, 66)),
    "dog": ((190, 140, 84), (236, 228, 215), (92, 62, 42), (48, 44, 44), (205, 165, 105)),
}
DARK: Colour = (32, 30, 34)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """All in 0..1 to 0..255 RGB."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (int(255 * r), int(255 * g), int(255 * b))


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter above."""
    if factor <= 1:
        return (int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor))
    mix = min(factor - 1, 1.0)
    return tuple(int(c + (255 - c) * mix) for c in colour)  # type: ignore[return-value]


def vivid(stream: RandomStream) -> Colour:
    """A colour that stands out."""
    return hsv(stream(), stream.uniform(0.45, 1.0), stream.uniform(0.5, 1.0))


def muted(stream: RandomStream) -> Colour:
    """A colour for the background."""
    return hsv(stream(), stream.uniform(0.05, 0.45), stream.uniform(0.45, 0.95))


def person_colours(stream: RandomStream) -> dict[str, Colour]:
    skin, shirt = stream.choice(SKIN), vivid(stream)
    trousers = vivid(stream) if stream.chance(0.6) else hsv(stream.uniform(0.55, 0.7), 0.5, stream.uniform(0.2, 0.5))
    return {
        "skin": skin,
        "skin_far": shade(skin, 0.8),
        "hair": stream.choice(HAIR),
        "shirt": shirt,
        "shirt_far": shade(shirt, 0.7),
        "trousers": trousers,
        "trousers_far": shade(trousers, 0.68),
        "shoe": stream.choice(SHOES),
        "dark": DARK,
    }


def thing_colours(stream: RandomStream, name: str) -> dict[str, Colour]:
    main = stream.choice(FUR[name]) if name in FUR else vivid(stream)
    if name in FUR:
        second, light = shade(main, 0.55), hsv(stream(), 0.9, 0.8)
        return {"main": main, "second": second, "light": light, "dark": shade(main, 0.72)}
    second = vivid(stream) if name in ("ball", "umbrella") else shade(main, 0.55)
    light = (245, 245, 240) if stream.chance(0.6) else shade(main, 1.6)
    return {"main": main, "second": second, "light": light, "dark": DARK}
