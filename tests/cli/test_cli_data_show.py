"""``hoiclip data show --augmented``: a sheet of what training makes of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_world import write_custom

from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.data import AnnotatedImage, open_dataset
from hoiclip.data.training_dataset import HoiTrainingDataset
from hoiclip.data.transforms import TrainingAugmentation
from hoiclip.visualization.contact_sheet import draw_grid


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_custom(folder)
    return folder


def test_the_views_are_those_of_training() -> None:
    scene = Image.new("RGB", (80, 60), (10, 20, 30))
    boxes = np.array([[10.0, 10, 30, 50], [40, 20, 70, 50]])
    annotated = AnnotatedImage("a.jpg", boxes, np.array([0, 1]), np.array([[0, 1]]), np.array([0]), (60, 80))
    small = TrainingAugmentation(scales=(64, 96), crop_scales=(64,), crop_range=(40, 60))
    seen: list[Image.Image] = []

    def view(image: Image.Image, **_: int) -> torch.Tensor:
        seen.append(image)
        return torch.zeros(3, image.height, image.width)

    training = HoiTrainingDataset([(scene, annotated)], "hico", detector_view=view, clip_view=view, augmentation=small)
    sizes = set()
    for epoch in range(6):
        training.set_epoch(epoch)
        image, _ = training.augmented(0)
        _ = training[0]
        assert np.array_equal(np.asarray(image), np.asarray(seen[-1]))
        sizes.add(image.size)
    assert len(sizes) > 1


def test_one_image_is_shown_so_many_times_or_the_first_ones_once_each(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    assert main(["data", "show", str(scenes), "0", "--augmented", "6", "--out", str(out)]) == 0
    assert "6 views as custom trains on them" in capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.width == 4 * 330 + 10
        first = np.asarray(sheet)
    assert main(["data", "show", str(scenes), "0", "--augmented", "6", "--seed", "1", "--out", str(out)]) == 0
    assert not np.array_equal(first, np.asarray(Image.open(out)))
    count = len(open_dataset(scenes).load("train"))
    assert main(["data", "show", str(scenes), "--split", "train", "--augmented", "99", "--out", str(out)]) == 0
    assert f"{count} views" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "name an image, by its number or file name, or give --augmented 16"),
        (["0", "--augmented", "2", "--experiment", "finetune"], "takes its size from model.start"),
        (["999", "--augmented", "2"], "has no image '999'"),
    ],
)
def test_what_cannot_be_shown_is_told(
    scenes: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "show", str(scenes), *options]) == BAD_INPUT
    assert told in capsys.readouterr().err


def test_a_grid_distorts_no_image_and_wastes_no_row() -> None:
    red, blue = Image.new("RGB", (100, 50), "red"), Image.new("RGB", (20, 40), "blue")
    sheet = draw_grid([(red, "a"), (blue, "b"), (red, "c")], columns=2, side=80)
    assert sheet.size == (2 * 90 + 10, 10 + (80 + 25) + (40 + 25))
    pixels = np.asarray(sheet)
    assert (pixels == (255, 0, 0)).all(axis=2).sum() == 2 * 80 * 40
    assert (pixels == (0, 0, 255)).all(axis=2).sum() == 40 * 80
