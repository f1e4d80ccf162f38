"""Training on remembered looks is training on pictures, without looking again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from training_world import losses, tiny_options, write_custom, write_parts

from hoiclip.errors import HoiError
from hoiclip.training.run import train

FROZEN = ["detector.backbone", "detector.input_projection", "detector.encoder"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_parts(folder / "parts")
    write_custom(folder / "data")
    return folder


def run(world: Path, out: Path, **changes: object) -> dict[int, float]:
    options = {
        "data__root": world / "data",
        "data__augment": False,
        "train__freeze": FROZEN,
        "train__epochs": 2,
        "train__checkpoint_every": 0,
        "evaluation__every": 0,
        "verbs__method": "text",
        "model__dropout": 0.0,
    }
    return losses(train("custom", tiny_options(world / "parts", out, **{**options, **changes})))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("variant", ["hoiclip", "gen-vlkt"])
def test_losses_are_those_of_a_run_that_looks_every_time(world: Path, tmp_path: Path, variant: str) -> None:
    options = {"model__variant": variant, "model__verb_classifier": variant == "hoiclip"}
    looking = run(world, tmp_path / "looking", **options)
    cached = run(world, tmp_path / "cached", train__cache_features=True, **options)
    assert list(cached) == list(looking) == list(range(1, 9))
    assert cached == pytest.approx(looking, rel=1e-5)
    assert looking[8] < looking[1]


def test_what_changes_while_training_is_not_remembered(world: Path, tmp_path: Path) -> None:
    with pytest.raises(HoiError, match=r"set data\.augment false"):
        run(world, tmp_path / "a", train__cache_features=True, data__augment=True)
    with pytest.raises(HoiError, match=r"detector\.encoder\.0.* changes while training; freeze it"):
        run(world, tmp_path / "b", train__cache_features=True, train__freeze=FROZEN[:2])
    with pytest.raises(HoiError, match=r"dropout changes .* set model\.dropout 0"):
        run(world, tmp_path / "c", train__cache_features=True, model__dropout=0.1)


def test_pictures_of_several_sizes_are_not_remembered(tmp_path: Path) -> None:
    write_parts(tmp_path / "parts")
    data = write_custom(tmp_path / "data")
    picture = sorted((data / "images").glob("train*"))[0]
    Image.new("RGB", (60, 48)).save(picture)
    with pytest.raises(HoiError, match="differ in size"):
        run(tmp_path, tmp_path / "run", train__cache_features=True)


@pytest.mark.usefixtures("one_thread")
def test_a_learned_classifier_is_trained_and_keeps_its_words(world: Path, tmp_path: Path) -> None:
    from hoiclip import HoiClipModel

    options = {"model__interaction_classifier": "learned", "model__verb_classifier": False}
    run(world, tmp_path / "run", train__max_steps=3, **options)
    model = HoiClipModel.from_pretrained(tmp_path / "run")
    rows = model.interactions.weight
    assert rows.requires_grad
    assert not torch.allclose(rows.norm(dim=-1), torch.ones(len(rows)), atol=1e-6)  # it has moved off its unit start
    with pytest.raises(HoiError, match="keeps its vocabulary"):
        model.set_vocabulary("hico")
