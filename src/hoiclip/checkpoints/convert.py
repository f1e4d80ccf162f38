"""Convert the official HOICLIP and GEN-VLKT checkpoints.

    hoiclip convert hoiclip checkpoint.pth --vocabulary hico --out model/

Reads the official HOICLIP and GEN-VLKT files, the official DETR file, DETR and CLIP folders of the
hub, and OpenAI's CLIP archives.  A file is read as tensors only: one that wants to run code is
refused.  What is missing, unexpected or wrongly shaped is listed by name; nothing is skipped
silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize
from transformers import CLIPModel, DetrConfig
from transformers.initialization import no_init_weights

from hoiclip import published
from hoiclip.checkpoints.architecture import detector_changes
from hoiclip.checkpoints.initialise import load_clip
from hoiclip.checkpoints.key_mapping import (
    KeyMapper,
    Weights,
    clip_sizes,
    map_clip,
    map_decoder_layer,
    map_encoder_layer,
    map_knowledge_layer,
    map_resnet,
    resnet_name,
)
from hoiclip.checkpoints.reading import Checkpoint, fill_weights, open_checkpoint, shapes_told
from hoiclip.errors import HoiError
from hoiclip.models.configuration import HoiClipConfig, clip_config, detector_config
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.text_embedder import TextEmbedder
from hoiclip.vocabulary import SPLITS, HoiVocabulary


def convert_hoiclip(
    source: Mapping[str, Any] | str | Path, vocabulary: str | HoiVocabulary = "hico", weights: str | None = None
) -> HoiClipModel:
    """Convert the official HOICLIP checkpoint to a :class:`HoiClipModel`.

    It keeps what it was trained with: the frozen random bias of the text classifiers, V-COCO's
    verb-to-interaction matrix (which is indexed by object instead of class), attention to padded
    cells, and alpha = 0.5 (HICO-DET) or 0.1 (V-COCO).

    Args:
        source: a state dict, a training checkpoint, or the path of a ``.pth`` file.
        vocabulary: what it was trained on, ``hico``, ``hico_rf_uc``, ..., ``hico_uc4`` or ``vcoco``.
        weights: ``raw`` or ``ema`` where the file holds both; by default raw, which is told.

    Raises:
        HoiError: if the file cannot be read, does not belong to that vocabulary, or says beside its
            weights that it was trained with an architecture that is not supported.
    """
    checkpoint = open_checkpoint(source, weights)
    vocabulary = HoiVocabulary.coerce(vocabulary)
    with shapes_told(checkpoint.origin):
        return _hoiclip(checkpoint, vocabulary)


def _hoiclip(checkpoint: Checkpoint, vocabulary: HoiVocabulary) -> HoiClipModel:
    found, origin = checkpoint.weights, checkpoint.origin
    _check_rows(found, vocabulary, origin)
    config = HoiClipConfig(
        detector=_detector(checkpoint, only_relu=True, only_eight_heads=True),
        clip=clip_sizes(found, "clip_model."),
        vocabulary=vocabulary,
        verb_weight=0.1 if vocabulary.name == "vcoco" else 0.5,
        mask_padding=False,
        classifier_bias=True,
        unused_parameters=True,
    )
    names = KeyMapper(found, origin)
    _map_detector(names, config)
    map_clip(names, "clip_model.", "clip.", config.clip)
    old, new = "transformer", "interaction_decoder"
    names.linear(f"{old}.queries2spacial_proj", f"{new}.query_projection")
    names.linear(f"{old}.queries2spacial_proj_norm", f"{new}.query_norm")
    names.linear(f"{old}.obj_class_fc", f"{new}.memory_projection")
    names.linear(f"{old}.obj_class_ln", f"{new}.memory_norm")
    for i in range(config.interaction_layers):
        layer = f"{old}.clip_interaction_decoder.layers.{i}"
        map_knowledge_layer(names, layer, f"{new}.layers.{i}")
        names.linear(f"{layer}.norm4", f"unused.fourth_norms.{i}")
    names.linear(f"{old}.clip_interaction_decoder.norm", f"{new}.norm")
    _map_gen_vlkt_decoder(names, "unused.gen_vlkt", config)
    names.move(f"{old}.inter_guided_embedd.weight", "unused.interaction_queries.weight")
    for i in range(3):
        names.linear(f"inter2verb.layers.{i}", f"verbs.adapter.{2 * i}")
    names.move("verb_projection.weight", "verbs.weight")
    _map_classifiers(names, vocabulary)
    # all columns where the file has both; it is a weight of its own, since V-COCO's is not the true one
    for name in ("verb2hoi_proj", "verb2hoi_proj_eval"):
        if name in names.left:
            names.move(name, "verbs.verb_to_interaction")
    hint = f"this is not a HOICLIP checkpoint for the vocabulary {vocabulary.name!r}"
    return _filled(config, names.finish(hint), origin, hint, vocabulary)


def convert_gen_vlkt(
    source: Mapping[str, Any] | str | Path,
    vocabulary: str | HoiVocabulary = "hico",
    clip: str | Path | None = None,
    weights: str | None = None,
) -> HoiClipModel:
    """Convert the official GEN-VLKT checkpoint (the paper's baseline) to a :class:`HoiClipModel`.

    Args:
        source, vocabulary, weights: as in :func:`convert_hoiclip`.
        clip: CLIP folder, hub id or OpenAI archive.  Without it the model detects as published but
            can neither be trained further nor take another vocabulary.

    Raises:
        HoiError: as :func:`convert_hoiclip`.
    """
    checkpoint = open_checkpoint(source, weights)
    vocabulary = HoiVocabulary.coerce(vocabulary)
    with shapes_told(checkpoint.origin):
        _check_rows(checkpoint.weights, vocabulary, checkpoint.origin)
        detector = _detector(checkpoint, only_relu=False, only_eight_heads=False)
        clip_model = load_clip(clip) if clip else None
        return _gen_vlkt(checkpoint, vocabulary, detector, clip_model)


def _gen_vlkt(
    checkpoint: Checkpoint, vocabulary: HoiVocabulary, detector: DetrConfig, clip_model: CLIPModel | None
) -> HoiClipModel:
    origin = checkpoint.origin
    config = HoiClipConfig(
        variant="gen-vlkt",
        detector=detector,
        interaction_layers=detector.decoder_layers,
        clip=clip_model.config if clip_model else clip_config(),
        carries_clip=clip_model is not None,
        vocabulary=vocabulary,
    )
    names = KeyMapper(checkpoint.weights, origin)
    _map_detector(names, config)
    _map_gen_vlkt_decoder(names, "interaction_decoder", config)
    _map_classifiers(names, vocabulary)
    hint = f"this is not a GEN-VLKT checkpoint for the vocabulary {vocabulary.name!r}"
    converted = names.finish(hint)
    if clip_model is not None:
        converted |= {f"clip.{name}": tensor for name, tensor in clip_model.state_dict().items()}
    return _filled(config, converted, origin, hint, vocabulary)


def _filled(config: HoiClipConfig, weights: Weights, origin: str, hint: str, vocabulary: HoiVocabulary) -> HoiClipModel:
    """A model whose every weight comes from a file."""
    with no_init_weights():
        model = HoiClipModel(config)
    fill_weights(model, weights, origin, hint)
    model.vocabulary = vocabulary
    model.text_embedder = TextEmbedder(config.tokenizer)
    return model.eval()


def _detector(checkpoint: Checkpoint, **supported: bool) -> DetrConfig:
    """A file's detector.  It knows nothing of dropout, which is the matter of a run (``model.dropout``)."""
    changes = detector_changes(checkpoint, **supported)
    prefix = "transformer.instance_decoder.layers."
    layers = {name.split(".")[3] for name in checkpoint.weights if name.startswith(prefix)}
    changes["decoder_layers"] = max(len(layers), published.INTERACTION_LAYERS)  # GEN-VLKT's largest has six
    return detector_config(resnet_name(checkpoint.weights, "backbone.0.body"), dropout=0.0, **changes)


def _check_rows(weights: Weights, vocabulary: HoiVocabulary, origin: str) -> None:
    """Check by the rows of the classifiers which vocabulary a file belongs to."""
    for name, expected in (
        ("visual_projection.weight", len(vocabulary.seen)),
        ("obj_visual_projection.weight", len(vocabulary.objects) + 1),
        ("verb_projection.weight", len(vocabulary.verbs)),
    ):
        rows = weights[name].shape[:1].numel() if name in weights else expected
        if rows != expected:
            raise HoiError(
                f"{origin}: has {rows} rows in {name} where the vocabulary {vocabulary.name!r} "
                f"has {expected}; name the vocabulary it was trained on"
            )
    _check_seen(weights, vocabulary, origin)


def _check_seen(weights: Weights, vocabulary: HoiVocabulary, origin: str) -> None:
    """Tell zero-shot splits of one size apart (RF-UC and NF-UC): a trained row is nearest to its own class's row.

    Refused is only what clearly belongs to another split; rows that were never trained belong to none.
    """
    trained, rows = weights.get("visual_projection.weight"), weights.get("eval_visual_projection.weight")
    if trained is None or rows is None or len(rows) != vocabulary.num_interactions:
        return
    nearest = (normalize(trained.float(), dim=-1) @ normalize(rows.float(), dim=-1).T).argmax(dim=-1).numpy()
    others = [HoiVocabulary.from_name(f"hico_{split}") for split in SPLITS]
    for other in others:
        same_size = len(other.seen) == len(trained) and other.num_interactions == len(rows)
        if same_size and other.unseen != vocabulary.unseen and 2 * int((nearest == other.seen).sum()) > len(trained):
            fitting = int((nearest == vocabulary.seen).sum())
            if fitting < int((nearest == other.seen).sum()):
                raise HoiError(
                    f"{origin}: was trained on other interactions than the vocabulary {vocabulary.name!r} has as seen "
                    f"ones ({fitting} of its {len(trained)} rows belong to them); those of {other.name!r} fit"
                )


def _map_detector(names: KeyMapper, config: HoiClipConfig) -> None:
    map_resnet(names, "backbone.0.body", "detector.backbone.model", config.detector.backbone_config.depths)
    names.linear("input_proj", "detector.input_projection")
    for i in range(config.detector.encoder_layers):
        map_encoder_layer(names, f"transformer.encoder.layers.{i}", f"detector.encoder.{i}")
    for i in range(config.detector.decoder_layers):
        map_decoder_layer(names, f"transformer.instance_decoder.layers.{i}", f"detector.decoder.{i}")
    names.linear("transformer.instance_decoder.norm", "detector.decoder_norm")
    names.move("query_embed_h.weight", "detector.human_queries.weight")
    names.move("query_embed_o.weight", "detector.object_queries.weight")
    names.move("pos_guided_embedd.weight", "detector.pair_positions.weight")
    for i in range(3):
        names.linear(f"hum_bbox_embed.layers.{i}", f"detector.human_box_head.{2 * i}")
        names.linear(f"obj_bbox_embed.layers.{i}", f"detector.object_box_head.{2 * i}")
    names.linear("obj_class_fc.0", "detector.object_projection")
    names.linear("obj_class_fc.1", "detector.object_norm")
    names.move("logit_scale", "logit_scale")
    names.move("obj_logit_scale", "object_logit_scale")


def _map_gen_vlkt_decoder(names: KeyMapper, new: str, config: HoiClipConfig) -> None:
    for i in range(config.interaction_layers):
        map_decoder_layer(names, f"transformer.interaction_decoder.layers.{i}", f"{new}.layers.{i}")
    names.linear("transformer.interaction_decoder.norm", f"{new}.norm")
    names.linear("hoi_class_fc.0", f"{new}.projection")
    names.linear("hoi_class_fc.1", f"{new}.projection_norm")


def _map_classifiers(names: KeyMapper, vocabulary: HoiVocabulary) -> None:
    names.linear("obj_visual_projection", "objects")
    if "eval_visual_projection.weight" not in names.left:
        names.linear("visual_projection", "interactions")
        return
    # zero-shot files: training rows for the seen classes, evaluation rows for all
    rows = names.take("eval_visual_projection.weight")
    trained, bias = names.take("visual_projection.weight"), names.take("visual_projection.bias")
    if rows is None or trained is None or bias is None:
        return
    seen = torch.from_numpy(vocabulary.seen)
    full = torch.zeros(len(rows))
    full[seen] = bias
    names.drop(r"eval_visual_projection\.bias")
    names.result["interactions.weight"] = rows.index_copy(0, seen, trained)
    names.result["interactions.bias"] = full
