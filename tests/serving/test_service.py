"""One detector for many: in turn, bounded, and nobody's words or image reach another."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import encode_video

import hoiclip
from hoiclip.errors import HoiError
from hoiclip.serving.service import Busy, DetectionService, ServiceLimits, TooLarge

pytestmark = pytest.mark.usefixtures("one_thread")


def png(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def service(model_folder: Path) -> DetectionService:
    return DetectionService(hoiclip.load(model_folder, device="cpu"), ServiceLimits(), "tiny")


def test_an_answer_is_the_detectors(service: DetectionService, model_folder: Path) -> None:
    image = service.open(png())
    found = service.detect(image, threshold=0.0, top_k=7)
    alone = hoiclip.load(model_folder, device="cpu")(image, threshold=0.0, top_k=7)
    np.testing.assert_array_equal(found.scores, alone.scores)
    np.testing.assert_array_equal(found.human_boxes, alone.human_boxes)


def test_words_are_the_visitors_own(service: DetectionService) -> None:
    """Many at once, some with words: each gets the answer that it would get alone."""
    asked = [None, "ride horse, feed horse", "hold umbrella", ""]
    images = [service.open(png(seed=i)) for i in range(4)]

    def answer(i: int) -> tuple[list[str], list[float]]:
        found = service.detect(images[i % 4], asked[(i // 4) % 4], threshold=0.0, top_k=5)
        return [triplet.name for triplet in found], found.scores.tolist()

    alone = [answer(i) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, [*range(16), *range(16)]))
    assert [names for names, _ in together] == [names for names, _ in alone] * 2
    for (_, scores), (_, wanted) in zip(together, alone * 2, strict=True):
        np.testing.assert_allclose(scores, wanted, atol=1e-5)  # another thread may round in another way
    assert set(alone[4][0]) <= {"ride horse", "feed horse"}
    assert service.waiting == 0


def test_a_full_queue_says_busy_and_lets_nobody_wait_for_ever(model_folder: Path) -> None:
    limits = ServiceLimits(waiting=1, seconds=0.2)
    service = DetectionService(hoiclip.load(model_folder, device="cpu"), limits, "tiny")
    image, inside, go_on = service.open(png()), threading.Event(), threading.Event()

    def held(*_: object, **__: object) -> None:
        inside.set()
        go_on.wait(10)

    service.detector = _Held(service.detector, held)
    first = threading.Thread(target=service.detect, args=(image,))
    first.start()
    inside.wait(10)
    with pytest.raises(Busy, match="no turn within 0 seconds"):
        service.detect(image)

    def refused() -> None:
        with contextlib.suppress(Busy):
            service.detect(image)

    waiting = threading.Thread(target=refused)
    waiting.start()
    while service.waiting < 2:
        pass
    with pytest.raises(Busy, match="2 calls are waiting"):
        service.detect(image)
    waiting.join()
    go_on.set()
    first.join()
    assert service.waiting == 0


class _Held:
    """A detector that computes for as long as a test wants."""

    def __init__(self, detector: object, call: object) -> None:
        self.vocabulary, self._call = detector.vocabulary, call

    def __call__(self, *args: object, **options: object) -> None:
        self._call()


def test_a_published_vocabulary_goes_by_its_name(service: DetectionService) -> None:
    assert service.vocabulary(" vcoco ").name == "vcoco"
    assert service.detect(service.open(png()), "playground", threshold=0.0).vocabulary.num_interactions == 90


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threshold": 1.5}, "give a probability, 0 to 1"),
        ({"top_k": 0}, "give 1 to 100"),
        ({"top_k": 101}, "give 1 to 100"),
        ({"words": "ride horse, " * 2000}, "more than 10,000 letters"),
        ({"words": ", ".join(f"ride thing{i}" for i in range(300))}, "more than 200 interactions"),
        ({"words": "ride"}, "'ride'"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(service: DetectionService, options: dict, told: str) -> None:
    with pytest.raises(HoiError, match=told):
        service.detect(service.open(png()), **options)
    assert service.waiting == 0


def test_bytes_and_pixels_are_bounded(service: DetectionService) -> None:
    small = DetectionService(service.detector, ServiceLimits(megabytes=0.01, megapixels=0.001), "tiny")
    with pytest.raises(TooLarge, match=r"larger than 0\.01 MB"):
        small.open(b"0" * 20_000)
    with pytest.raises(TooLarge, match=r"more than 0\.001 million pixels"):
        small.open(png(40, 40))
    with pytest.raises(HoiError, match="is no image that can be read"):
        service.open(b"hello")


def test_a_film_is_drawn_with_the_callers_words_while_others_go_on(service: DetectionService, tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = encode_video(tmp_path / "clip.mp4", 20)
    service.limits = ServiceLimits(video_seconds=0.6, video_frames=8)
    image, before = service.open(png()), service.detect(service.open(png()), threshold=0.0).scores
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(service.film, clip, tmp_path, "ride horse, feed horse", 0.0)
        others = [service.detect(image, threshold=0.0).scores for _ in range(5)]
        drawing, lines = coming.result(timeout=120)
    for scores in others:
        np.testing.assert_allclose(scores, before, atol=1e-5)
    shown = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line["frame"] for line in shown] == [0, 2, 4, 6, 8, 10, 12, 14]  # 15 frames of 0.6 s, every second one
    assert {t["interaction"] for line in shown for t in line["triplets"]} <= {"ride horse", "feed horse"}
    assert drawing.stat().st_size > 0
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(HoiError, match="cannot be opened as a video"):
        service.film(tmp_path / "no.mp4", tmp_path)
    assert service.waiting == 0


def test_a_bad_vocabulary_leaves_the_service_as_it_was(service: DetectionService) -> None:
    image = service.open(png())
    before = service.detect(image, threshold=0.0).scores
    with pytest.raises(HoiError):
        service.detect(image, "ride " + "very " * 200 + "long horse")
    np.testing.assert_allclose(service.detect(image, threshold=0.0).scores, before, atol=1e-5)
