"""The model before its first step: DETR and CLIP put together, or a trained model to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hoiclip import published
from hoiclip.checkpoints.by_name import find_folder
from hoiclip.checkpoints.folders import load_model
from hoiclip.checkpoints.initialise import initialise_from
from hoiclip.errors import HoiError
from hoiclip.experiments.data import RunData, part_source
from hoiclip.experiments.options import Experiment, ModelOptions
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.training.verb_initialization import start_verbs
from hoiclip.vocabulary import HoiVocabulary

NEARBY = (0.875, 0.9375, 1.0)  # sizes to learn at, as shares of the start's


def initial_model(experiment: Experiment, data: RunData, out: Path) -> HoiClipModel:
    """Put DETR and CLIP together, verb classifier included.

    Raises:
        HoiError: if a part cannot be read.
    """
    options = experiment.model
    if options.start is not None:
        model = load_model(options.start, dropout=options.dropout)
        if model.vocabulary is None or model.vocabulary.to_dict() != data.vocabulary.to_dict():
            model.set_vocabulary(data.vocabulary)
        return model
    model = initialise_from(
        part_source(options.detr, "detector"),
        part_source(options.clip, "clip"),
        data.vocabulary,
        seed=experiment.seed,
        tokenizer=options.tokenizer,
        **_model_changes(options),
    )
    if model.verbs is not None:
        start_verbs(experiment, data, model, out)
        if options.published and data.vocabulary.name == "vcoco":
            model.verbs.verb_to_interaction.copy_(_by_object_index(data.vocabulary))
    return model


def settled_by_start(experiment: Experiment) -> Experiment:
    """The experiment with the image sizes that it leaves to the model it starts from.

    Where ``data.shorter`` is null, sizes to learn at that stand at their defaults, which are meant for the published
    800 pixels, become that size and a little less: a short training has no time to learn others.

    Raises:
        HoiError: ``model.start`` is missing where it is needed, or is no model folder.
    """
    start, data = experiment.model.start, experiment.data
    if start is not None and not start:
        raise HoiError("model.start is missing: give the folder of a trained model, --model.start MODEL")
    null = [name for name in ("shorter", "longest") if getattr(data, name) is None]
    if start is None and (null or experiment.model.dropout is None):
        name = f"data.{null[0]}" if null else "model.dropout"
        raise HoiError(f"{name} is null, which takes it from a model to start from: give a value or --model.start")
    if start is None or not null:
        return experiment
    size = HoiClipProcessor.from_pretrained(find_folder(start))
    changes: dict[str, Any] = {"longest": data.longest or size.longest_edge}
    if data.shorter is None:
        changes["shorter"] = size.shortest_edge
        if data.scales == list(published.SCALES):
            changes["scales"] = [round(size.shortest_edge * share) for share in NEARBY]
    return replace(experiment, data=replace(data, **changes))


def _model_changes(options: ModelOptions) -> dict[str, Any]:
    own = ("detr", "clip", "tokenizer", "start", "published", "classifier_bias")
    changes = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in own}
    return changes | {"classifier_bias": options.classifier_bias == "published"}


def _by_object_index(vocabulary: HoiVocabulary) -> Tensor:
    """V-COCO's published verb-to-interaction matrix (V, K): a one at (verb, object) where (verb, class) is meant."""
    matrix = torch.zeros(len(vocabulary.verbs), vocabulary.num_interactions)
    matrix[vocabulary.verb_ids, vocabulary.object_ids] = 1
    return matrix


def freeze(model: HoiClipModel, prefixes: Sequence[str]) -> None:
    """Keep parts of the model as they are.

    Raises:
        HoiError: if a prefix names no parameter.
    """
    for prefix in prefixes:
        found = [p for name, p in model.named_parameters() if name.startswith(prefix)]
        if not found:
            parts = sorted({".".join(name.split(".")[:2]) for name, _ in model.named_parameters()})
            raise HoiError(f"train.freeze: no parameter starts with {prefix!r}; parts are {', '.join(parts)}")
        for parameter in found:
            parameter.requires_grad_(False)
