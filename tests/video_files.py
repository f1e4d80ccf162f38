"""Videos that tests encode for themselves: a red quarter at the top left, of which a mark tells the frame."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

CLOCK = 90_000


def picture(number: int, size: tuple[int, int]) -> Image.Image:
    """White, red at the top left, grey elsewhere by the number of the frame."""
    image = Image.new("RGB", size, "white")
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1] // 2))
    level = 8 * (number % 30)
    image.paste((level, level, level), (size[0] // 2, size[1] // 2, size[0], size[1]))
    return image


def encode_video(
    path: Path,
    frames: int = 20,
    *,
    size: tuple[int, int] = (64, 48),
    rate: int = 25,
    times: Sequence[float] | None = None,
    turned: int = 0,
    sound: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video.

    Args:
        path: its suffix chooses the container.
        frames: how many.
        size: width and height.
        rate: frames a second.
        times: seconds of each frame; by default even steps.
        turned: degrees counter-clockwise that players are told to turn it.
        sound: codec of a tone as long as the video.
        options: of the container.
    """
    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream("libx264", rate=rate, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = Fraction(1, CLOCK)
        if turned:
            video.set_display_rotation(turned)
        tone = out.add_stream(sound, rate=16_000, layout="mono") if sound else None
        for i in range(frames):
            frame = av.VideoFrame.from_image(picture(i, size))
            frame.time_base = Fraction(1, CLOCK)
            frame.pts = round((times[i] if times else i / rate) * CLOCK)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if tone is not None:
            wave = (0.3 * np.sin(np.arange(16_000 * frames // rate) * 0.2)).astype(np.float32)
            if tone.format.name == "s16":
                wave = (wave * 32767).astype(np.int16)
            for start in range(0, len(wave), 1024):
                piece = np.ascontiguousarray(wave[None, start : start + 1024])
                samples = av.AudioFrame.from_ndarray(piece, format=tone.format.name, layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 16_000, start, Fraction(1, 16_000)
                out.mux(tone.encode(samples))
            out.mux(tone.encode())
    return path
