"""A fresh start: DETR and CLIP, from the hub or from their authors' files, become a model to train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, CLIPModel, DetrConfig, DetrForObjectDetection, PreTrainedConfig
from transformers.initialization import no_init_weights

from hoiclip import published
from hoiclip.checkpoints.architecture import check_detr_config, detector_changes
from hoiclip.checkpoints.by_name import detr_by_name
from hoiclip.checkpoints.key_mapping import (
    KeyMapper,
    Weights,
    clip_sizes,
    listing,
    map_clip,
    map_decoder_layer,
    map_encoder_layer,
    map_resnet,
    refuse_no_numbers,
    resnet_name,
)
from hoiclip.checkpoints.reading import Checkpoint, fill_weights, open_checkpoint, read_weights, shapes_told
from hoiclip.errors import HoiError, first_line
from hoiclip.hub import prepare
from hoiclip.model_zoo import did_you_mean
from hoiclip.models.configuration import HoiClipConfig, detector_config, dropout_everywhere
from hoiclip.models.interaction_decoder import GenVlktDecoder
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.text_embedder import TextEmbedder
from hoiclip.vocabulary import HoiVocabulary

OPENAI_ONLY = ("input_resolution", "context_length", "vocab_size")  # no other CLIP with these names holds them


def load_clip(source: str | Path) -> CLIPModel:
    """Load CLIP from a folder or hub id of transformers, or from OpenAI's own archive (``ViT-B-32.pt``).

    Raises:
        HoiError: if it cannot be read, or is a file that does not say which activation it was trained with.
    """
    if not os.path.isfile(source):
        return _from_hub(CLIPModel, source, "a CLIP")
    weights = read_weights(source)
    if "visual.conv1.weight" in weights and not all(name in weights for name in OPENAI_ONLY):
        # open_clip's files have the same names, and mostly another activation (GELU)
        raise HoiError(
            f"{source}: does not say which activation it was trained with, as OpenAI's archives do by their "
            f"{', '.join(OPENAI_ONLY)}; give a transformers folder or hub id of this CLIP, whose config.json says it"
        )
    with shapes_told(str(source)):
        return _openai_clip(weights, source)


def _openai_clip(weights: Weights, source: str | Path) -> CLIPModel:
    config = clip_sizes(weights, "")
    names = KeyMapper(weights, str(source))
    map_clip(names, "", "", config)
    with no_init_weights():
        model = CLIPModel(config)
    hint = "this is not one of OpenAI's CLIP vision transformers"
    fill_weights(model, names.finish(hint), str(source), hint)
    return model.eval()


def load_detr(source: str | Path, weights: str | None = None) -> tuple[Weights, DetrConfig]:
    """Load DETR weights under transformers' names, from a folder or hub id or the official ``.pth``.

    Files of the same layout with fewer decoder layers are read too: DP-HOI's pretrained start has three.

    Args:
        source: where it is, or a name that ``hoiclip models`` lists.
        weights: ``raw`` or ``ema`` where a file holds both; by default raw, which is told.

    Raises:
        HoiError: if it cannot be read, or was trained with an architecture that is not supported.
    """
    source = detr_by_name(source)
    if not os.path.isfile(source):
        model = _from_hub(DetrForObjectDetection, source, "a DETR", revision=_detr_revision(source))
        check_detr_config(model.config, source)
        return model.state_dict(), model.config
    checkpoint = open_checkpoint(source, weights)
    with shapes_told(checkpoint.origin):
        return _official_detr(checkpoint)


def _official_detr(checkpoint: Checkpoint) -> tuple[Weights, DetrConfig]:
    found = checkpoint.weights
    layers = {name.split(".")[3] for name in found if name.startswith("transformer.decoder.layers.")}
    changes = detector_changes(checkpoint, only_relu=False, only_eight_heads=False)
    backbone = resnet_name(found, "backbone.0.body")
    config = detector_config(backbone, **{**changes, "decoder_layers": max(len(layers), 1)})
    names = KeyMapper(found, checkpoint.origin)
    map_resnet(names, "backbone.0.body", "model.backbone.model", config.backbone_config.depths)
    names.linear("input_proj", "model.input_projection")
    for i in range(config.encoder_layers):
        map_encoder_layer(names, f"transformer.encoder.layers.{i}", f"model.encoder.layers.{i}")
    for i in range(config.decoder_layers):
        map_decoder_layer(names, f"transformer.decoder.layers.{i}", f"model.decoder.layers.{i}")
    names.linear("transformer.decoder.norm", "model.decoder.layernorm")
    names.move("query_embed.weight", "model.query_position_embeddings.weight")
    for i in range(3):
        names.linear(f"bbox_embed.layers.{i}", f"bbox_predictor.layers.{i}")
    names.linear("class_embed", "class_labels_classifier")
    return names.finish("this is not the official DETR checkpoint"), config


def _detr_revision(source: str | Path) -> str:
    return "no_timm" if str(source).startswith("facebook/detr-") else "main"


def _from_hub(kind: Any, source: str | Path, what: str, **options: Any) -> Any:
    reason = prepare(source, revision=options.get("revision"))
    if reason is not None:
        raise HoiError(f"{source}: {what} cannot be loaded from there ({reason}); give a folder{did_you_mean(source)}")
    try:
        found_config = PreTrainedConfig.get_config_dict(source, **options)[0]
        if "auto_map" in found_config:  # what is computed is in code beside the weights, which is not run
            raise HoiError(f"{source}: wants to run code of its own (auto_map in config.json), which is never done; "
                           f"give {what} that transformers knows")  # fmt: skip
        AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
        model, found = kind.from_pretrained(source, output_loading_info=True, **options)
    except HoiError:
        raise
    except Exception as error:  # the hub client raises many kinds
        raise HoiError(f"{source}: {what} cannot be loaded from there ({first_line(error)})") from error
    if found["missing_keys"] or found["unexpected_keys"] or found["mismatched_keys"]:
        lists = listing("missing", found["missing_keys"]) + listing("unexpected", found["unexpected_keys"])
        raise HoiError(f"{source}: is not {what}{lists}{listing('wrongly shaped', map(str, found['mismatched_keys']))}")
    refuse_no_numbers(model.state_dict(), str(source))
    return model.eval()


def initialise_from(
    detr: str | Path,
    clip: str | Path,
    vocabulary: str | HoiVocabulary = "hico",
    *,
    seed: int = 0,
    tokenizer: Any = None,
    weights: str | None = None,
    queries: str = "fresh",
    dropout: float = published.DROPOUT,
    **config: Any,
) -> HoiClipModel:
    """Build a model ready for training: DETR's detector, CLIP frozen, classifiers from sentences.

    Backbone, input projection, encoder and box head (twice) are DETR's; its first decoder layers
    and their norm become the instance decoder, and in the GEN-VLKT variant the interaction decoder
    too.  Queries and HOICLIP's interaction half start fresh (:mod:`hoiclip.models.initialization`); DETR's
    object classifier (92 classes of COCO) is not taken over, since objects are classified by text:
    81 rows for HICO-DET, 82 for V-COCO (paper section 4.1).

    Args:
        detr: folder or hub id of a transformers DETR, or the official ``.pth``.
        clip: folder or hub id of a transformers CLIP, or OpenAI's archive.
        vocabulary: what to train.
        seed: of the fresh half.
        tokenizer: CLIP's tokenizer; by default the one beside ``clip``.
        weights: ``raw`` or ``ema`` where a DETR file holds both; by default raw, which is told.
        queries: ``fresh`` as published, or ``detr``: each pair begins where one of DETR's queries
            looks, which finds pairs sooner.
        dropout: of attention, hidden layers and residual branches of encoder and decoders, while training.
        config: further options of :class:`HoiClipConfig`.

    Raises:
        HoiError: if a part cannot be read or does not fit, or DETR has fewer queries than are wanted.
    """
    known, detr_config = load_detr(detr, weights)
    clip_model = load_clip(clip)
    vocabulary = HoiVocabulary.coerce(vocabulary)
    layers = min(config.pop("decoder_layers", published.INTERACTION_LAYERS), detr_config.decoder_layers)
    kept = {k: v for k, v in detr_config.to_dict().items() if k not in ("id2label", "label2id", "architectures")}
    detector = DetrConfig(**{**kept, "decoder_layers": layers, **dropout_everywhere(dropout)})
    if tokenizer is None and os.path.isdir(clip):
        tokenizer = str(clip)
    if isinstance(tokenizer, (str, Path)):
        config["tokenizer"] = str(tokenizer)
        sentences = (*vocabulary.interaction_prompts, *vocabulary.object_prompts)
        TextEmbedder(str(tokenizer)).check(sentences, clip_model.config.text_config)  # before a model is made in vain
    full = HoiClipConfig(detector=detector, clip=clip_model.config, vocabulary=vocabulary, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HoiClipModel(full)
    taken = _detector_weights(known, model)
    taken |= {f"clip.{name}": tensor for name, tensor in clip_model.state_dict().items()}
    fill_weights(model, taken, str(detr), "its sizes do not fit the model", complete=False)
    if queries == "detr":
        _begin_at_detr_queries(model, known["model.query_position_embeddings.weight"], str(detr))
    return model.set_vocabulary(vocabulary, tokenizer).eval()


def _detector_weights(detr: Weights, model: HoiClipModel) -> Weights:
    """The weights taken over from DETR, under the model's names."""
    prefixes = {
        "model.backbone.": ["detector.backbone."],
        "model.input_projection.": ["detector.input_projection."],
        "model.encoder.layers.": ["detector.encoder."],
        "model.decoder.layernorm.": ["detector.decoder_norm."],
        **{f"model.decoder.layers.{i}.": [f"detector.decoder.{i}."] for i in range(len(model.detector.decoder))},
        **{f"bbox_predictor.layers.{i}.": _box_head_names(2 * i) for i in range(3)},
    }
    for name, part in model.named_modules():
        if isinstance(part, GenVlktDecoder):  # the baseline's own, or what HOICLIP inherited from it and never reaches
            prefixes["model.decoder.layernorm."].append(f"{name}.norm.")
            for i in range(min(len(part.layers), len(model.detector.decoder))):
                prefixes[f"model.decoder.layers.{i}."].append(f"{name}.layers.{i}.")
    return {
        new + name[len(old) :]: tensor
        for name, tensor in detr.items()
        for old, names in prefixes.items()
        if name.startswith(old)
        for new in names
    }


def _box_head_names(layer: int) -> list[str]:
    return [f"detector.{head}.{layer}." for head in ("human_box_head", "object_box_head")]


@torch.no_grad()
def _begin_at_detr_queries(model: HoiClipModel, known: torch.Tensor, source: str) -> None:
    """Start pair positions at DETR's query positions, and human and object queries at small values."""
    detector, wanted = model.detector, model.config.num_queries
    if len(known) < wanted:
        raise HoiError(f"{source}: has {len(known)} queries, fewer than the {wanted} of num_queries")
    detector.pair_positions.weight.copy_(known[:wanted])
    detector.human_queries.weight.mul_(0.1)
    detector.object_queries.weight.mul_(0.1)
