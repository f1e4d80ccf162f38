"""The façade: what a picture gets does not depend on how it is handed in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hoiclip
from hoiclip import Detections, HoiDetector, HoiError, HoiVocabulary
from hoiclip.backends.devices import choose_device
from hoiclip.detection_files import DetectionWriter
from hoiclip.images import find_images

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(96, 64), (64, 96), (96, 64), (50, 50), (192, 128), (120, 40), (96, 64), (7, 5)]
EVERYTHING: dict[str, Any] = {"threshold": 0.0, "top_k": 20}


@pytest.fixture(scope="module")
def detector(model_folder: Path) -> HoiDetector:
    return hoiclip.load(model_folder, device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def assert_same(a: Detections, b: Detections) -> None:
    """Within 1e-5; of the longer side, for boxes."""
    assert a.image_size is not None
    assert a.image_size == b.image_size
    np.testing.assert_array_equal(a.hoi_ids, b.hoi_ids)
    for name, unit in (
        ("human_boxes", max(a.image_size)),
        ("object_boxes", max(a.image_size)),
        ("scores", 1),
        ("interaction_scores", 1),
    ):
        np.testing.assert_allclose(getattr(a, name) / unit, getattr(b, name) / unit, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_result_does_not_depend_on_the_rest_of_the_call(
    model_folder: Path, detector: HoiDetector, pictures: list[Image.Image], batch_size: int
) -> None:
    alone = [detector(picture, **EVERYTHING) for picture in pictures]
    together = hoiclip.load(model_folder, device="cpu", batch_size=batch_size)
    for order in (range(len(pictures)), reversed(range(len(pictures))), (0, 2), (4, 0, 6)):
        chosen = list(order)
        for i, found in zip(chosen, together([pictures[i] for i in chosen], **EVERYTHING), strict=True):
            assert_same(found, alone[i])
    assert len({float(d.scores[0]) for d in alone}) > 1  # pictures do matter


def test_one_picture_gives_one_result_and_a_list_a_list(detector: HoiDetector, pictures: list[Image.Image]) -> None:
    assert isinstance(detector(pictures[0]), Detections)
    assert [type(d) for d in detector(pictures[:1])] == [Detections]
    assert detector([]) == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_list_is_read_a_few_images_at_a_time(
    model_folder: Path, pictures: list[Image.Image], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = hoiclip.load(model_folder, device="cpu", batch_size=batch_size)
    ahead = [0]
    prepare, detect = detector._prepare, detector._detect_batch

    def prepared(image: Any) -> Any:
        ahead.append(ahead[-1] + 1)
        return prepare(image)

    def detected(batch: Any, **options: Any) -> Any:
        ahead.append(ahead[-1] - len(batch))
        return detect(batch, **options)

    monkeypatch.setattr(detector, "_prepare", prepared)
    monkeypatch.setattr(detector, "_detect_batch", detected)
    found = detector(pictures[:3] * 10, **EVERYTHING)
    assert [d.image_size for d in found] == [(p.height, p.width) for p in pictures[:3]] * 10
    assert max(ahead) <= {1: 1, 2: 6}[batch_size]  # three batches to choose from
    assert ahead[-1] == 0


def test_path_array_and_picture_are_the_same(tmp_path: Path, detector: HoiDetector, pictures: list) -> None:
    pictures[0].save(tmp_path / "a.png")
    from_picture = detector(pictures[0], **EVERYTHING)
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), np.asarray(pictures[0]), pictures[0].convert("RGBA")):
        assert_same(detector(same, **EVERYTHING), from_picture)


def test_boxes_lie_in_the_picture_and_scores_descend(detector: HoiDetector, pictures: list[Image.Image]) -> None:
    for picture, found in zip(pictures, detector(pictures, **EVERYTHING), strict=True):
        assert 0 < len(found) <= 20
        assert found.image_size == (picture.height, picture.width)
        for boxes in (found.human_boxes, found.object_boxes):
            assert (boxes >= 0).all()
            assert (boxes[:, [0, 2]] <= picture.width).all()
            assert (boxes[:, [1, 3]] <= picture.height).all()
            assert (boxes[:, :2] <= boxes[:, 2:]).all()
        assert (np.diff(found.scores) <= 0).all()


def test_top_k_and_threshold(detector: HoiDetector, pictures: list[Image.Image]) -> None:
    everything = detector(pictures[0], threshold=0.0, top_k=100)
    assert len(detector(pictures[0], threshold=0.0, top_k=3)) == 3
    certain = everything.interaction_scores
    assert certain is not None
    middle = float(np.sort(certain)[len(certain) // 2])
    kept = detector(pictures[0], threshold=middle, top_k=100)
    assert len(kept) == (certain >= middle).sum() < len(everything)
    assert len(detector(pictures[0], threshold=1.0)) == 0


def test_zero_shot_enhancement_is_off_unless_asked_for(detector: HoiDetector, pictures: list[Image.Image]) -> None:
    plain = detector(pictures[0], **EVERYTHING)
    enhanced = detector(pictures[0], zero_shot_top_k=2, **EVERYTHING)
    assert enhanced.scores[0] > plain.scores[0] + 0.1


def test_other_words_can_be_asked_for(model_folder: Path, pictures: list[Image.Image]) -> None:
    detector = hoiclip.load(model_folder, device="cpu")
    assert detector.set_vocabulary(HoiVocabulary.from_words("fly kite, sit on bench")) is detector
    found = detector(pictures[0], **EVERYTHING)
    assert {t.name for t in found} == {"fly kite", "sit on bench"}
    assert found.vocabulary is detector.vocabulary


def test_files_come_back_in_order_with_their_troubles(
    tmp_path: Path, model_folder: Path, pictures: list[Image.Image]
) -> None:
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    paths = [tmp_path / f"{i}.png" for i in range(len(pictures) + 1)]
    for batch_size in (1, 3, 100):
        detector = hoiclip.load(model_folder, device="cpu", batch_size=batch_size)
        seen = list(detector.detect_files(paths, **EVERYTHING))
        assert [path for path, _, _ in seen] == paths
        for i, (path, picture, found) in enumerate(seen):
            if i in (3, len(pictures)):
                assert picture is None
                assert isinstance(found, HoiError)
                assert str(path) in str(found)
            else:
                assert picture is not None
                assert isinstance(found, Detections)
                assert_same(found, detector(pictures[i], **EVERYTHING))
    assert list(detector.detect_files([])) == []


def test_the_pictures_of_a_folder_a_pattern_and_a_name(tmp_path: Path) -> None:
    inside = tmp_path / "photos"
    (inside / "folder.jpg").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "c.webp"):
        (inside / name).touch()
    assert [p.name for p in find_images([inside])] == ["a.png", "b.JPG", "c.webp"]
    assert [p.name for p in find_images([str(inside / "*.png"), inside])] == ["a.png", "b.JPG", "c.webp"]
    assert find_images(["missing.jpg", inside / "a.png"]) == [Path("missing.jpg"), inside / "a.png"]
    odd = inside / "photo[1].jpg"
    odd.touch()
    assert find_images([odd]) == [odd]
    with pytest.raises(HoiError, match="nothing matches"):
        find_images([inside / "*.gif"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(HoiError, match="no images in this folder"):
        find_images([tmp_path / "empty"])


@pytest.mark.parametrize("device", ["banana", "cuda:99", "mps" if sys.platform != "darwin" else "xpu"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(HoiError, match=f"device {device} is not available"):
        choose_device(device)


def test_the_device_is_chosen_unless_named() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(None) == choose_device("auto")


def test_a_log_without_resume_replaces_the_old_one_at_the_first_result(tmp_path: Path, detector: HoiDetector) -> None:
    path = tmp_path / "out" / "detections.jsonl"
    path.parent.mkdir()
    path.write_text('{"file_name": "old.jpg"}\n')
    log = DetectionWriter(path)
    assert log.done == set()
    assert "old.jpg" in path.read_text()
    empty = Detections.empty(detector.vocabulary, (4, 5))
    log.add("new.jpg", empty)
    log.add("naïve.jpg", empty)
    assert DetectionWriter(path, resume=True).done == {"new.jpg", "naïve.jpg"}


def test_a_generator_is_answered_as_it_comes(detector: HoiDetector, pictures: list[Image.Image]) -> None:
    taken = []

    def coming() -> Iterator[Image.Image]:
        for picture in pictures:
            taken.append(picture)
            yield picture

    answers = detector(coming(), threshold=0.0)
    assert taken == []
    first = next(answers)
    assert len(taken) < len(pictures)
    assert first.source is pictures[0]
    for found, wanted in zip([first, *answers], detector(pictures, threshold=0.0), strict=True):
        np.testing.assert_array_equal(found.scores, wanted.scores)


def test_a_smaller_size_is_another_view_in_proportion(model_folder: Path, pictures: list[Image.Image]) -> None:
    small = hoiclip.load(model_folder)
    processor = small.processor
    shorter, longest = processor.shortest_edge, processor.longest_edge
    small.set_size(shorter // 2)
    assert (processor.shortest_edge, processor.longest_edge) == (shorter // 2, longest // 2)
    assert min(processor.views(pictures[0])[0].shape[1:]) <= shorter // 2
    assert len(small(pictures[0], threshold=0.0))
    with pytest.raises(HoiError, match="32 to 4096"):
        small.set_size(5)
