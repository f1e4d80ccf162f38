"""Shared by all tests: where reference material lies, and a tokenizer made once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HOICLIP_DRIVE_ORIGIN"] = "http://127.0.0.1:9"  # nobody answers there: no test asks Google
sys.path.insert(0, str(Path(__file__).parent))

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CLIP tokenizer that knows every byte and no merges."""
    from tiny import tiny_tokenizer

    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The full-size reference material; tests that need it are marked slow."""
    if not SHARED.is_dir():
        pytest.skip("the full-size reference material is not here")
    return SHARED


@pytest.fixture(scope="session")
def model_folder(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny model that looks at pictures of 64 pixels.  Read only: copy it to change it."""
    from tiny import tiny_model

    from hoiclip import HoiClipProcessor
    from hoiclip.checkpoints.folders import save_model

    folder = tmp_path_factory.mktemp("model")
    model = tiny_model(tokenizer)
    save_model(model, folder, tokenizer=str(tokenizer))
    HoiClipProcessor(model.vocabulary, shortest_edge=64, longest_edge=112, clip_size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny models: more threads only wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
