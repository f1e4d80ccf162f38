"""Files past a detector: order, broken ones in between, batches of equal size, bounded memory."""

from __future__ import annotations

import threading
import tracemalloc
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_vocabulary

import hoiclip
from hoiclip import Detections, HoiError
from hoiclip.images import declared_pixels, load_image, load_reduced
from hoiclip.inference.prefetch import PreparedImage, detect_stream, images_in_flight, prepare
from hoiclip.processing import HoiClipProcessor, detector_view

WORDS = tiny_vocabulary()
SIZES = {"wide": (8, 12), "tall": (12, 8), "square": (8, 8)}


def read(path: Path) -> PreparedImage | HoiError:
    """No file: ``wide-7`` is a picture of that shape, ``broken-7`` is none."""
    kind = path.name.split("-")[0]
    if kind == "broken":
        return HoiError(f"{path}: is no image that can be read")
    height, width = SIZES[kind]
    views = torch.zeros(3, height, width), torch.zeros(3, 4, 4)
    return PreparedImage(views, (height, width), Image.new("RGB", (width, height)))


class Detect:
    """Remembers the shape and number of what it was asked for."""

    def __init__(self) -> None:
        self.batches: list[tuple[tuple[int, ...], int]] = []

    def __call__(self, batch: Sequence[PreparedImage]) -> list[Detections]:
        shapes = {tuple(p.views[0].shape[1:]) for p in batch}
        assert len(shapes) == 1
        self.batches.append((shapes.pop(), len(batch)))
        return [Detections.empty(WORDS, p.size) for p in batch]


@pytest.mark.parametrize(
    ("batch_size", "readers", "streams"), [(1, 1, 1), (2, 1, 1), (5, 1, 1), (1, 4, 1), (2, 4, 1), (5, 4, 1), (1, 2, 3)]
)
def test_results_come_in_order_with_the_broken_ones_in_their_places(
    batch_size: int, readers: int, streams: int
) -> None:
    kinds = ["broken", "wide", "tall", "broken", "broken", "wide", "wide", "square", "tall", "wide", "broken"] * 3
    names = [f"{kind}-{i}" for i, kind in enumerate(kinds)]
    options = {"batch_size": batch_size, "readers": readers, "streams": streams}
    found = list(detect_stream(names, read, Detect(), **options))
    assert [path for path, _, _ in found] == [Path(n) for n in names]
    for (path, picture, result), kind in zip(found, kinds, strict=True):
        if kind == "broken":
            assert picture is None
            assert str(result) == f"{path}: is no image that can be read"
        else:
            assert picture is not None
            assert isinstance(result, Detections)
            assert result.image_size == (picture.height, picture.width) == SIZES[kind]


def test_streams_detect_in_as_many_images_at_once() -> None:
    together = threading.Barrier(3)

    def detect(batch: Sequence[PreparedImage]) -> list[Detections]:
        together.wait(timeout=30)  # raises unless three are here at the same time
        return [Detections.empty(WORDS, p.size) for p in batch]

    names = [f"wide-{i}" for i in range(12)]
    assert [path.name for path, _, _ in detect_stream(names, read, detect, streams=3)] == names


def test_what_goes_wrong_in_a_stream_is_raised_in_its_turn() -> None:
    def detect(batch: Sequence[PreparedImage]) -> list[Detections]:
        if batch[0].size == SIZES["tall"]:
            raise HoiError("the graph does not take these images")
        return [Detections.empty(WORDS, p.size) for p in batch]

    run = detect_stream(["wide-0", "tall-1", "wide-2"], read, detect, streams=2)
    assert next(run)[0] == Path("wide-0")
    with pytest.raises(HoiError, match="does not take these"):
        next(run)


def test_nothing_and_only_broken_files() -> None:
    detect = Detect()
    assert list(detect_stream([], read, detect)) == []
    results = [r for _, _, r in detect_stream([f"broken-{i}" for i in range(9)], read, detect, batch_size=2)]
    assert all(isinstance(r, HoiError) for r in results)
    assert len(results) == 9
    assert detect.batches == []


def test_batches_hold_one_size_and_fill_up_from_further_back() -> None:
    names = [f"{kind}-{i}" for i, kind in enumerate(["wide", "tall"] * 8)]
    for readers in (1, 3, 8):  # who is read first does not matter
        detect = Detect()
        list(detect_stream(names, read, detect, batch_size=4, readers=readers))
        assert detect.batches == [((8, 12), 4), ((12, 8), 4)] * 2
    detect = Detect()
    list(detect_stream(["wide-0", *[f"tall-{i}" for i in range(20)]], read, detect, batch_size=4))
    assert detect.batches == [((8, 12), 1), *[((12, 8), 4)] * 5]


@pytest.mark.parametrize(("batch_size", "readers", "streams"), [(1, 1, 1), (1, 4, 1), (4, 2, 1), (1, 1, 3)])
def test_the_pictures_in_memory_are_bounded(batch_size: int, readers: int, streams: int) -> None:
    alive: set[int] = set()
    most = 0
    taken = 0

    def counting(path: Path) -> PreparedImage | HoiError:
        prepared = read(path)
        assert isinstance(prepared, PreparedImage)
        assert prepared.image is not None
        alive.add(i := int(path.name.split("-")[1]))
        weakref.finalize(prepared.image, alive.discard, i)
        return prepared

    def names() -> Iterator[str]:
        nonlocal taken
        for i in range(200):
            taken = i + 1
            yield f"{['wide', 'tall', 'square'][i % 3]}-{i}"

    bound = images_in_flight(batch_size, readers if streams == 1 else 4)  # of three streams, four threads read
    given = 0
    options = {"batch_size": batch_size, "readers": readers, "streams": streams}
    for _, picture, _ in detect_stream(names(), counting, Detect(), **options):
        given += 1
        assert picture is not None
        most = max(most, len(alive))
        assert taken - given < bound  # paths are not taken before they are needed
    assert given == 200
    assert 1 < most <= bound


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_pixels_in_memory_are_bounded(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip.inference.prefetch.MOST_PIXELS", 200)
    sizes = [90, 90, 90, 500, 1, 199, 1, 1, *[40] * 20]  # one alone may have more
    names = [f"wide-{i}" for i in range(len(sizes))]
    reading: set[int] = set()
    most: dict[int, int] = {}

    def counting(path: Path) -> PreparedImage | HoiError:
        reading.add(int(path.name.split("-")[1]))
        most[max(reading)] = sum(sizes[i] for i in tuple(reading))
        return read(path)

    detect = Detect()
    run = detect_stream(
        names, counting, detect, batch_size=batch_size, readers=8, pixels=lambda p: sizes[int(p.name.split("-")[1])]
    )
    given = 0
    for path, _, result in run:
        assert (path.name, type(result)) == (names[given], Detections)
        reading.discard(given)
        given += 1
    assert given == len(sizes)
    assert max(size for i, size in most.items() if i != 3) <= 200
    assert most[3] == 500
    assert detect.batches[:2] == ([((8, 12), 1)] * 2 if batch_size == 1 else [((8, 12), 2), ((8, 12), 1)])


def test_a_files_pixels_are_known_from_its_first_bytes(tmp_path: Path) -> None:
    Image.new("RGB", (120, 80)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert declared_pixels(tmp_path / "a.png") == declared_pixels(tmp_path / "cut.png") == 9600
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert declared_pixels(tmp_path / "b.jpg") == declared_pixels(tmp_path / "none") == 0


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    processor = HoiClipProcessor(WORDS, shortest_edge=64, longest_edge=112, clip_size=32)
    random = np.random.default_rng(0)
    for i, (width, height) in enumerate([(400, 300), (300, 400), (320, 320), (640, 200)]):
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")

    def peak(files: int) -> int:
        names = [tmp_path / f"{i % 4}.png" for i in range(files)]
        run = detect_stream(names, partial(prepare, processor=processor), Detect(), batch_size=2, readers=2)
        tracemalloc.start()
        assert sum(1 for _ in run) == files
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(8)
    few, many = peak(20), peak(200)
    views = 4 * 3 * (64 * 112 + 32 * 32)
    assert few > views  # numpy tells tracemalloc what it takes
    assert many < few + 3 * views


def test_stopping_early_leaves_no_reader_behind() -> None:
    run = detect_stream((f"wide-{i}" for i in range(10**9)), read, Detect(), readers=3)
    assert next(run)[0] == Path("wide-0")
    run.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("hoiclip-reader")]


def test_a_fault_in_the_program_is_not_taken_for_a_broken_file() -> None:
    def faulty(path: Path) -> PreparedImage | HoiError:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(detect_stream(["wide-0"], faulty, Detect()))


# --- decoding at reduced scale ---------------------------------------------------------------------


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth blobs: photographs have little at the highest frequency."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_reduced_jpeg_keeps_its_size_and_looks_the_same(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    photo(1000, 640).save(tmp_path / "a.jpg", quality=95, exif=exif)
    whole = load_image(tmp_path / "a.jpg")
    reduced, size = load_reduced(tmp_path / "a.jpg", 150, 300)
    assert size == (whole.height, whole.width)
    assert sorted(reduced.size) == [160, 250]  # a quarter; an eighth would be less than the detector wants
    assert (reduced.width > reduced.height) == (whole.width > whole.height)
    expected, got = detector_view(whole, 150, 300), detector_view(reduced, 150, 300)
    assert expected.shape == got.shape
    # of about 4.7 from black to white; a view that lacks two columns of pixels is off by 1.1 and 0.14 on average
    assert (expected - got).abs().max() < 0.25
    assert (expected - got).abs().mean() < 0.03


@pytest.mark.parametrize("name", ["a.png", "small.jpg"])
def test_what_cannot_be_reduced_is_read_whole(tmp_path: Path, name: str) -> None:
    photo(1000, 640).save(tmp_path / name) if name == "a.png" else photo(280, 200).save(tmp_path / name)
    whole = load_image(tmp_path / name)
    reduced, size = load_reduced(tmp_path / name, 150, 300)
    assert size == (whole.height, whole.width)
    np.testing.assert_array_equal(np.asarray(reduced), np.asarray(whole))


def test_the_detector_on_reduced_files_speaks_of_the_whole_picture(tmp_path: Path, model_folder: Path) -> None:
    photo(1200, 800).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    detector = hoiclip.load(model_folder, device="cpu")
    options: dict[str, Any] = {"threshold": 0.0, "top_k": 20}
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    (_, picture, found), (_, nothing, trouble) = detector.detect_files(files, draft=True, **options)
    assert picture is nothing is None
    assert isinstance(trouble, HoiError)
    assert isinstance(found, Detections)
    assert found.image_size == (800, 1200)
    whole = detector(tmp_path / "a.jpg", **options)
    assert found.scores == pytest.approx(whole.scores, abs=0.05)  # other pictures' scores are off by 0.6 or more


def test_pictures_are_kept_only_if_wanted(tmp_path: Path, model_folder: Path) -> None:
    photo(120, 80).save(tmp_path / "a.png")
    detector = hoiclip.load(model_folder, device="cpu")
    ((_, kept, a),) = detector.detect_files([tmp_path / "a.png"], threshold=0.0)
    ((_, dropped, b),) = detector.detect_files([tmp_path / "a.png"], threshold=0.0, keep_images=False)
    assert kept is not None
    assert kept.size == (120, 80)
    assert dropped is None
    assert isinstance(a, Detections)
    assert isinstance(b, Detections)
    np.testing.assert_array_equal(a.scores, b.scores)  # bit for bit: same machine, same number of threads
