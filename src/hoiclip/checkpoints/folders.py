"""Model folders, as ``hoiclip train`` and ``hoiclip convert`` write them and ``hoiclip.load`` reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from transformers.initialization import no_init_weights

from hoiclip.checkpoints.by_name import called, find_folder
from hoiclip.checkpoints.key_mapping import refuse_no_numbers
from hoiclip.errors import HoiError, first_line
from hoiclip.files import atomic_folder
from hoiclip.models.configuration import HoiClipConfig, dropout_everywhere
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.text_embedder import TextEmbedder
from hoiclip.processing import HoiClipProcessor


def save_model(model: HoiClipModel, folder: str | Path, tokenizer: str | None = None) -> None:
    """Write a model folder that :func:`hoiclip.load` opens: weights, vocabulary, settings, tokenizer.

    Raises:
        HoiError: if the folder cannot be written, or the tokenizer cannot be found or does not fit the model.
    """
    vocabulary = model.vocabulary
    if vocabulary is None:
        raise HoiError("the model has no vocabulary yet: call set_vocabulary before saving it")
    if tokenizer is not None:
        embedder = TextEmbedder(tokenizer)
        embedder.check((*vocabulary.interaction_prompts, *vocabulary.object_prompts))
        model.text_embedder = embedder
    processor = HoiClipProcessor(
        vocabulary,
        clip_size=model.config.clip.vision_config.image_size,
        zero_shot_top_k=model.config.zero_shot_top_k,
    )
    try:
        with atomic_folder(folder) as unfinished:
            model.save_pretrained(unfinished)
            processor.save_pretrained(unfinished)
    except SafetensorError as error:
        raise HoiError(
            f"{folder}: cannot be written ({first_line(error)}); free some space or choose another folder"
        ) from error


def load_model(
    source: str | Path, *, dropout: float | None = None, revision: str | None = None, token: str | None = None
) -> HoiClipModel:
    """Load a model folder or hub id, and make sure that every weight came from there.

    Args:
        source: folder or hub id.
        dropout: of attention, hidden layers and residual branches in further training; None keeps what was saved.
        revision, token: of a hub id.

    Raises:
        HoiError: if there is no whole hoiclip model.
    """
    folder = find_folder(source, revision, token)
    with called(source, folder):
        return _load_folder(folder, dropout)


def _load_folder(source: str, dropout: float | None) -> HoiClipModel:
    if not os.path.isfile(os.path.join(source, "config.json")):
        # transformers would take the default sizes
        raise HoiError(f"{source}: no config.json there; give a folder that hoiclip wrote")
    try:
        changes: dict[str, Any] = {}
        if dropout is not None:
            changes["config"] = HoiClipConfig.from_pretrained(source)
            changes["config"].detector.update(dropout_everywhere(dropout))
        _check_sizes(source)
        loaded = HoiClipModel.from_pretrained(source, output_loading_info=True, ignore_mismatched_sizes=True, **changes)
        model, account = cast(Any, loaded)
    except HoiError as error:
        raise error if source in str(error) else HoiError(f"{source}: {error}") from error
    except Exception as error:  # transformers and safetensors raise many kinds for broken folders
        reason = first_line(error).rstrip(".")
        raise HoiError(f"{source}: no model can be loaded from there ({reason}); save it again") from error
    refuse_no_numbers(model.state_dict(), f"{source}: in model.safetensors")
    for what in ("missing", "unexpected", "mismatched"):
        names = sorted(key if isinstance(key, str) else key[0] for key in account[f"{what}_keys"])
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise HoiError(f"{source}: {what} weights in model.safetensors ({names[0]}{more}); save the model again")
    return model


def _check_sizes(folder: str | Path) -> None:
    """Compare a model folder's config.json with the shapes in its weights, before anything of that size is made.

    Raises:
        HoiError: if they do not fit.
        Exception: of many kinds, if the folder is broken.
    """
    weights = Path(folder) / "model.safetensors"
    if not weights.is_file():
        return  # told by those who load it
    with torch.device("meta"), no_init_weights():
        expected = HoiClipModel(HoiClipConfig.from_pretrained(folder)).state_dict()
    with safe_open(weights, framework="pt") as file:
        held = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wrong = [name for name in held if name in expected and tuple(expected[name].shape) != held[name]]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise HoiError(
            f"{folder}: mismatched weights in model.safetensors ({wrong[0]}{more}): config.json has other sizes; "
            "save the model again"
        )
