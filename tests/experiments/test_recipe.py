"""docs/recipe.md says what the code does: its defaults are the code's, and every line has a test."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hoiclip import HoiClipConfig
from hoiclip.experiments.loading import load_experiment

ROOT = Path(__file__).parents[2]


def recipe_lines() -> list[list[str]]:
    """The cells of every line: item, published, ours, option, test."""
    lines = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] != "item" and not set(row[0]) <= set("-")]


LINES = recipe_lines()
#: options that say where things lie, what is made how fast, or that leave the recipe at one's own wish
NOT_OF_THE_RECIPE = {
    "data": "augment evaluation_images evaluation_split fraction hold_out root seed source train_images train_split "
    "workers",
    "model": "published start tokenizer variant",
    "verbs": "batch_size file images",
    "train": "accumulate cache_features checkpoint_every checkpoint_every_steps compile cpu freeze "
    "gradient_checkpointing keep_checkpoints log_every max_steps progress report_to resume",
}


def default_of(option: str) -> Any:
    if option.startswith("HoiClipConfig."):
        return getattr(HoiClipConfig(), option.partition(".")[2])
    if option.startswith("hoiclip."):
        module, _, name = option.rpartition(".")
        return getattr(importlib.import_module(module), name)
    config, _, path = option.rpartition(": ")
    group, name = path.split(".")
    return getattr(getattr(load_experiment(config or "hicodet"), group), name)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_ours_is_the_default_in_code(line: list[str]) -> None:
    _, published, ours, option, _ = line
    assert published
    assert ours
    if not option:
        return
    (value,) = re.findall(r"`([^`]*)`", ours)
    assert yaml.safe_load(value) == default_of(option.strip("`"))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_every_line_has_a_test(line: list[str]) -> None:
    file, _, name = line[-1].strip("`").partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), line[-1]


@pytest.mark.parametrize("group", ["data", "model", "verbs", "train"])
def test_every_option_that_decides_what_is_learned_has_a_line(group: str) -> None:
    named = {line[3].strip("`").rpartition(": ")[2] for line in LINES}
    options = vars(getattr(load_experiment("hicodet"), group))
    unnamed = {option for option in options if f"{group}.{option}" not in named}
    assert unnamed == set(NOT_OF_THE_RECIPE[group].split())
