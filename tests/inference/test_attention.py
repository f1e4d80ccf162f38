"""Where the model looked: the right query's maps, over the right place, in pictures that can be repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hoiclip
from hoiclip import HoiDetector
from hoiclip.cli import BAD_INPUT, main
from hoiclip.errors import HoiError
from hoiclip.inference.attention import attention_maps, attention_panel, check_attention
from hoiclip.playground.dataset import PlaygroundDataset

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def detector() -> HoiDetector:
    return hoiclip.load(device="cpu")  # the playground's


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return PlaygroundDataset(12, 1, "test")[0][0]


def test_each_triplet_gets_the_maps_of_its_own_query(detector: HoiDetector, scene: Image.Image) -> None:
    found = detector(scene, threshold=0.0, top_k=30)
    maps = attention_maps(detector, scene, found)
    with torch.inference_mode():
        outputs = detector.model(**detector.processor(scene), output_attentions=True)
    human, thing = (boxes[0].numpy() for boxes in detector.processor.boxes_in_pixels(outputs, [scene.size[::-1]]))
    chosen = set()
    for i in range(len(found)):
        boxes = np.concatenate([human, thing], axis=1).clip(0, 128)
        distance = np.abs(boxes - np.concatenate([found.human_boxes[i], found.object_boxes[i]])).max(axis=1)
        query = int(distance.argmin())
        assert distance[query] < 1e-3
        chosen.add(query)
        features = outputs.detector_attentions[-1][0, :, query].mean(0).numpy()
        np.testing.assert_allclose(maps.detector[i].reshape(-1), features, atol=1e-6)
        patches = outputs.clip_attentions[-1][0, :, query].mean(0).numpy()[1:]
        np.testing.assert_allclose(maps.clip[i].reshape(-1), patches, atol=1e-6)
    assert len(chosen) > 1


def test_maps_cover_the_image_and_clips_square(detector: HoiDetector, scene: Image.Image) -> None:
    wide = Image.new("RGB", (200, 100), "grey")
    wide.paste(scene.resize((100, 100)), (50, 0))
    found = detector(wide, threshold=0.0, top_k=2)
    maps = attention_maps(detector, wide, found)
    assert maps.clip_region == (50, 0, 150, 100)
    assert maps.clip.shape == (2, 8, 8)
    rows, columns = maps.detector.shape[1:]
    assert columns == 2 * rows
    np.testing.assert_allclose(maps.detector.sum((1, 2)), 1, atol=1e-5)


def test_what_has_no_attention_says_so(tmp_path: Path) -> None:
    with pytest.raises(HoiError, match="not into exported ones, nor training-free"):
        check_attention(hoiclip.load("training-free", detector="playground", clip="playground", device="cpu"))


def test_the_command_draws_panels_that_can_be_repeated(
    scene: Image.Image, tmp_path: Path, detector: HoiDetector, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.save(tmp_path / "a.png")
    best = next(iter(detector(scene).most_probable(1))).name
    for kind, what in (("png", "2"), ("svg", best), ("pdf", best)):
        for out in ("one", "two"):
            options = ["--attention", what, "--attention-as", kind, "--device", "cpu", "--out", str(tmp_path / out)]
            assert main(["detect", str(tmp_path / "a.png"), *options]) == 0
        one, two = (tmp_path / out / f"a-attention.{kind}" for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    with Image.open(tmp_path / "one" / "a-attention.png") as panel:
        assert panel.width > 1500  # three columns, fit for a paper
    assert main(["detect", str(tmp_path / "a.png"), "--attention", "ride unicorn", "--out", str(tmp_path)]) == BAD_INPUT
    assert "'ride unicorn': is no interaction of this model" in capsys.readouterr().err
    assert (
        main(["detect", str(tmp_path / "a.png"), "--attention", "--no-pictures", "--out", str(tmp_path)]) == BAD_INPUT
    )


def test_a_panel_has_a_line_a_triplet_and_a_column_a_stream(detector: HoiDetector, scene: Image.Image) -> None:
    figure = attention_panel(detector, scene, detector(scene)[:2])
    assert [place.get_title() for place in figure.axes][1:3] == ["over the detector's features", "over CLIP's patches"]
    assert len(figure.axes) == 6
