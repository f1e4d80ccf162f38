"""A table of names whose checkpoints are tiny, for this process and for those that tests start.

    python zoo_world.py TABLE detect photo.jpg --model tiny-hoi     # hoiclip, with that table

Downloads, locks, the cache and the checks are the real ones.  Only the layout of the official files,
which fixes full sizes, is replaced by that of the tiny model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

COLUMNS = ("name", "kind", "vocabulary", "backbone", "layers", "figures", "licence", "page", "address")
DRIVE = "https://drive.google.com/file/d/"
IDS = {"tiny-hoi": "tiny_hoi_id_0001", "tiny-six-layers": "tiny_six_id_0002", "tiny-start": "tiny_detr_id_003"}


def write_table(path: Path) -> Path:
    shared = "figures 1/2/3", "none stated", "github.com/nobody/tiny"
    rows = [
        COLUMNS,
        ("tiny-hoi", "hoiclip", "tiny", "R-tiny", "2", *shared, DRIVE + IDS["tiny-hoi"]),
        ("tiny-six-layers", "hoiclip", "tiny", "R-tiny", "6", *shared, DRIVE + IDS["tiny-six-layers"]),
        ("tiny-start", "detr", "-", "R-tiny", "2", *shared, DRIVE + IDS["tiny-start"]),
        ("playground", "hoiclip", "playground", "-", "3", *shared, "-"),
        ("training-free", "training-free", "any", "-", "-", *shared, "-"),
        ("hicodet-images", "data", "-", "-", "-", *shared, DRIVE + "images_id_000000"),
        ("hicodet-annotations", "data", "-", "-", "-", *shared, DRIVE + "annotations_id_0"),
        ("hicodet-annotations-fractions", "data", "-", "-", "-", *shared, DRIVE + "fractions_id_000"),
    ]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def tiny_checkpoint(path: Path, **changes: Any) -> Path:
    """A file as ``convert_tiny`` wants it; ``changes`` replace weights."""
    from tiny import tiny_model

    torch.save({"model": {**tiny_model().state_dict(), **changes}}, path)
    return path


def convert_tiny(source: Path, vocabulary: str, weights: str | None = None) -> Any:
    """In the place of ``convert_hoiclip``: the same reading and the same account of keys."""
    from tiny import tiny_model, tiny_vocabulary

    from hoiclip.checkpoints.reading import fill_weights, open_checkpoint

    assert vocabulary == "tiny"
    model = tiny_model(seed=1)
    fill_weights(model, open_checkpoint(source, weights).weights, str(source), "this is not a tiny checkpoint")
    model.vocabulary = tiny_vocabulary()
    return model


def load_tiny_detr(source: Path, weights: str | None = None) -> Any:
    from tiny import tiny_detector

    from hoiclip.checkpoints.reading import read_weights

    return read_weights(source, weights), tiny_detector()


def use(table: Path, patch: pytest.MonkeyPatch) -> None:
    from hoiclip import checkpoints
    from hoiclip.models import configuration

    # the package keeps what it has given out: the real ones, before they are replaced where they are made
    assert checkpoints.convert_hoiclip is not convert_tiny
    assert checkpoints.load_detr is not load_tiny_detr
    patch.setattr("hoiclip.model_zoo.TABLE", table)
    patch.setattr("hoiclip.checkpoints.convert.convert_hoiclip", convert_tiny)
    patch.setitem(configuration.RESNETS, "resnet-tiny", [1, 1, 1, 1])


if __name__ == "__main__":
    from hoiclip.cli import main

    use(Path(sys.argv[1]), pytest.MonkeyPatch())
    sys.exit(main(sys.argv[2:]))
