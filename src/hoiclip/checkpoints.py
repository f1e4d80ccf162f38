"""Other people's weights into ours.

    hoiclip convert hoiclip checkpoint.pth --vocabulary hico --out model/

Reads the official HOICLIP and GEN-VLKT files, the official DETR file, DETR and CLIP folders of the
hub, and OpenAI's CLIP archives.  A file is read as tensors only: one that wants to run code is
refused.  What is missing, unexpected or wrongly shaped is listed by name; nothing is skipped
silently.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, CLIPConfig, CLIPModel, DetrConfig, DetrForObjectDetection, PreTrainedModel
from transformers.initialization import no_init_weights

from hoiclip.classifiers import TextEmbedder
from hoiclip.configuration import HoiClipConfig, clip_config, detector_config
from hoiclip.errors import HoiError
from hoiclip.files import filling
from hoiclip.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.renaming import (
    Renamer,
    Weights,
    listing,
    rename_clip,
    rename_decoder_layer,
    rename_encoder_layer,
    rename_knowledge_layer,
    rename_resnet,
)
from hoiclip.vocabulary import HoiVocabulary

# What a training script stores beside its weights: its own options.  Plain data, no code.
ALLOWED_CLASSES: list[Any] = [argparse.Namespace]


# --- reading files ---------------------------------------------------------------------------------


def read_weights(path: str | Path) -> Weights:
    """Tensors by name from a ``.pth``, ``.pt``, ``.bin``, ``.safetensors`` file or a TorchScript archive.

    The entries ``model``, ``state_dict`` or ``model_state_dict`` of a training checkpoint are
    looked into.

    Raises:
        HoiError: if the file is missing, empty, no checkpoint, holds no tensors or wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise HoiError(f"{path}: no such file; give the path of a checkpoint")
    if path.stat().st_size == 0:
        raise HoiError(f"{path}: the file is empty; download the checkpoint again")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except HoiError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds for broken files
        raise HoiError(f"{path}: not a readable checkpoint ({_first_line(error)}); download it again") from error
    for entry in ("model", "state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        raise HoiError(f"{path}: holds a {type(content).__name__}, not weights by name; give a training checkpoint")
    weights = {re.sub(r"^module\.", "", str(k)): v for k, v in content.items() if isinstance(v, Tensor)}
    if not weights:
        raise HoiError(f"{path}: holds no tensors; give a training checkpoint")
    return weights


def _unpickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            scripted = any(name.endswith("constants.pkl") for name in archive.namelist())
        if scripted:  # OpenAI publishes CLIP as TorchScript: its code is loaded but never called
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.jit.load(str(path), map_location="cpu").state_dict()
    try:
        with torch.serialization.safe_globals(ALLOWED_CLASSES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported class ([\w.]+)|unrecognized function (\S+)", str(error))
        if unsafe:
            wanted = unsafe[1] or unsafe[2] or unsafe[3]
            raise HoiError(f"{path}: refused, since it wants to run code ({wanted}); only tensors are read") from error
        raise


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _as_weights(source: Mapping[str, Any] | str | Path) -> tuple[Weights, str]:
    if isinstance(source, Mapping):
        inner = source.get("model", source)
        return dict(inner), "the given state dict"
    return read_weights(source), str(source)


def _load(model: PreTrainedModel, weights: Weights, origin: str, hint: str, *, complete: bool = True) -> None:
    """Copy weights into a model; every shape must fit.

    Raises:
        HoiError: listing wrongly shaped, missing or unexpected names.
    """
    own = model.state_dict()
    wrong = [
        f"{n} {tuple(t.shape)} instead of {tuple(own[n].shape)}"
        for n, t in weights.items()
        if n in own and t.shape != own[n].shape
    ]
    unexpected = [n for n in weights if n not in own]
    missing = [n for n in own if n not in weights and "position_ids" not in n] if complete else []
    if wrong or unexpected or missing:
        lists = listing("wrongly shaped", wrong) + listing("missing", missing) + listing("unexpected", unexpected)
        raise HoiError(f"{origin}: {hint}{lists}")
    model.load_state_dict(weights, strict=False)


# --- which sizes a file has -------------------------------------------------------------------------


def _clip_sizes(weights: Weights, prefix: str) -> CLIPConfig:
    """Which CLIP a checkpoint holds, read off its shapes."""
    patches = weights.get(f"{prefix}visual.conv1.weight")
    positions = weights.get(f"{prefix}visual.positional_embedding")
    if patches is None or positions is None:
        return clip_config("ViT-B/32")
    by_shape = {(1024, 14, 257): "ViT-L/14", (1024, 14, 577): "ViT-L/14@336", (768, 16, 197): "ViT-B/16"}
    return clip_config(by_shape.get((patches.shape[0], patches.shape[-1], positions.shape[0]), "ViT-B/32"))


def _resnet_name(weights: Weights, prefix: str) -> str:
    return "resnet101" if f"{prefix}.layer3.22.conv1.weight" in weights else "resnet50"


# --- official HOICLIP and GEN-VLKT -----------------------------------------------------------------


def convert_hoiclip(source: Mapping[str, Any] | str | Path, vocabulary: str | HoiVocabulary = "hico") -> HoiClipModel:
    """The official HOICLIP checkpoint as a :class:`HoiClipModel`.

    It keeps what it was trained with: the frozen random bias of the text classifiers, V-COCO's
    verb-to-interaction matrix (which is indexed by object instead of class), attention to padded
    cells, and alpha = 0.5 (HICO-DET) or 0.1 (V-COCO).

    Args:
        source: a state dict, a training checkpoint, or the path of a ``.pth`` file.
        vocabulary: what it was trained on, ``hico``, ``hico_rf_uc``, ..., ``hico_uc4`` or ``vcoco``.

    Raises:
        HoiError: if the file cannot be read or does not belong to that vocabulary.
    """
    weights, origin = _as_weights(source)
    words = HoiVocabulary.coerce(vocabulary)
    _check_rows(weights, words, origin)
    depths = detector_config(_resnet_name(weights, "backbone.0.body"))
    config = HoiClipConfig(
        detector=depths,
        clip=_clip_sizes(weights, "clip_model."),
        vocabulary=words,
        verb_weight=0.1 if words.name == "vcoco" else 0.5,
        mask_padding=False,
        classifier_bias=True,
    )
    names = Renamer(weights, origin)
    _rename_detector(names, config)
    rename_clip(names, "clip_model.", "clip.", config.clip)
    old, new = "transformer", "interaction_decoder"
    names.linear(f"{old}.queries2spacial_proj", f"{new}.query_projection")
    names.linear(f"{old}.queries2spacial_proj_norm", f"{new}.query_norm")
    names.linear(f"{old}.obj_class_fc", f"{new}.memory_projection")
    names.linear(f"{old}.obj_class_ln", f"{new}.memory_norm")
    for i in range(config.interaction_layers):
        layer = f"{old}.clip_interaction_decoder.layers.{i}"
        rename_knowledge_layer(names, layer, f"{new}.layers.{i}")
        names.linear(f"{layer}.norm4", f"unused.fourth_norms.{i}")
    names.linear(f"{old}.clip_interaction_decoder.norm", f"{new}.norm")
    _rename_gen_vlkt_decoder(names, "unused.gen_vlkt", config)
    names.move(f"{old}.inter_guided_embedd.weight", "unused.interaction_queries.weight")
    for i in range(3):
        names.linear(f"inter2verb.layers.{i}", f"verbs.adapter.{2 * i}")
    names.move("verb_projection.weight", "verbs.weight")
    _rename_classifiers(names, words)
    # all columns where the file has both; it is a weight of its own, since V-COCO's is not the true one
    for name in ("verb2hoi_proj", "verb2hoi_proj_eval"):
        if name in names.left:
            names.move(name, "verbs.verb_to_interaction")
    hint = f"this is not a HOICLIP checkpoint for the vocabulary {words.name!r}"
    return _filled(config, names.finish(hint), origin, hint, words)


def convert_gen_vlkt(
    source: Mapping[str, Any] | str | Path, vocabulary: str | HoiVocabulary = "hico", clip: str | Path | None = None
) -> HoiClipModel:
    """The official GEN-VLKT checkpoint (the paper's baseline) as a :class:`HoiClipModel`.

    Args:
        source, vocabulary: as in :func:`convert_hoiclip`.
        clip: CLIP folder, hub id or OpenAI archive.  Without it the model detects as published but
            can neither be trained further nor take another vocabulary.

    Raises:
        HoiError: if the file cannot be read or does not belong to that vocabulary.
    """
    weights, origin = _as_weights(source)
    words = HoiVocabulary.coerce(vocabulary)
    _check_rows(weights, words, origin)
    clip_model = load_clip(clip) if clip else None
    config = HoiClipConfig(
        variant="gen-vlkt",
        detector=detector_config(_resnet_name(weights, "backbone.0.body")),
        clip=clip_model.config if clip_model else clip_config(),
        carries_clip=clip_model is not None,
        vocabulary=words,
    )
    names = Renamer(weights, origin)
    _rename_detector(names, config)
    _rename_gen_vlkt_decoder(names, "interaction_decoder", config)
    _rename_classifiers(names, words)
    hint = f"this is not a GEN-VLKT checkpoint for the vocabulary {words.name!r}"
    converted = names.finish(hint)
    if clip_model is not None:
        converted |= {f"clip.{name}": tensor for name, tensor in clip_model.state_dict().items()}
    return _filled(config, converted, origin, hint, words)


def _filled(config: HoiClipConfig, weights: Weights, origin: str, hint: str, words: HoiVocabulary) -> HoiClipModel:
    """A model whose every weight comes from a file."""
    with no_init_weights():
        model = HoiClipModel(config)
    _load(model, weights, origin, hint)
    model.vocabulary = words
    model.text_embedder = TextEmbedder(config.tokenizer)
    return model.eval()


def _check_rows(weights: Weights, words: HoiVocabulary, origin: str) -> None:
    """The classifiers tell which vocabulary a file belongs to."""
    for name, expected in (
        ("visual_projection.weight", len(words.seen)),
        ("obj_visual_projection.weight", len(words.objects) + 1),
        ("verb_projection.weight", len(words.verbs)),
    ):
        if name in weights and len(weights[name]) != expected:
            raise HoiError(
                f"{origin}: has {len(weights[name])} rows in {name} where the vocabulary {words.name!r} "
                f"has {expected}; name the vocabulary it was trained on"
            )


def _rename_detector(names: Renamer, config: HoiClipConfig) -> None:
    rename_resnet(names, "backbone.0.body", "detector.backbone.model", config.detector.backbone_config.depths)
    names.linear("input_proj", "detector.input_projection")
    for i in range(config.detector.encoder_layers):
        rename_encoder_layer(names, f"transformer.encoder.layers.{i}", f"detector.encoder.{i}")
    for i in range(config.detector.decoder_layers):
        rename_decoder_layer(names, f"transformer.instance_decoder.layers.{i}", f"detector.decoder.{i}")
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


def _rename_gen_vlkt_decoder(names: Renamer, new: str, config: HoiClipConfig) -> None:
    for i in range(config.interaction_layers):
        rename_decoder_layer(names, f"transformer.interaction_decoder.layers.{i}", f"{new}.layers.{i}")
    names.linear("transformer.interaction_decoder.norm", f"{new}.norm")
    names.linear("hoi_class_fc.0", f"{new}.projection")
    names.linear("hoi_class_fc.1", f"{new}.projection_norm")


def _rename_classifiers(names: Renamer, words: HoiVocabulary) -> None:
    names.linear("obj_visual_projection", "objects")
    if "eval_visual_projection.weight" not in names.left:
        names.linear("visual_projection", "interactions")
        return
    # zero-shot files: training rows for the seen classes, evaluation rows for all
    rows = names.take("eval_visual_projection.weight")
    trained, bias = names.take("visual_projection.weight"), names.take("visual_projection.bias")
    if rows is None or trained is None or bias is None:
        return
    seen = torch.from_numpy(words.seen)
    full = torch.zeros(len(rows))
    full[seen] = bias
    names.drop(r"eval_visual_projection\.bias")
    names.result["interactions.weight"] = rows.index_copy(0, seen, trained)
    names.result["interactions.bias"] = full


# --- a fresh start: DETR and CLIP ------------------------------------------------------------------


def load_clip(source: str | Path) -> CLIPModel:
    """CLIP from a folder or hub id of transformers, or from OpenAI's own archive (``ViT-B-32.pt``).

    Raises:
        HoiError: if it cannot be read.
    """
    if not Path(source).is_file():
        return _from_hub(CLIPModel, source, "a CLIP")
    weights = read_weights(source)
    config = _clip_sizes(weights, "")
    names = Renamer(weights, str(source))
    rename_clip(names, "", "", config)
    with no_init_weights():
        model = CLIPModel(config)
    hint = "this is not one of OpenAI's CLIP vision transformers"
    _load(model, names.finish(hint), str(source), hint)
    return model.eval()


def load_detr(source: str | Path) -> tuple[Weights, DetrConfig]:
    """DETR weights under transformers' names, from a folder or hub id or the official ``.pth``.

    Raises:
        HoiError: if it cannot be read.
    """
    if not Path(source).is_file():
        model = _from_hub(DetrForObjectDetection, source, "a DETR", revision=_detr_revision(source))
        return model.state_dict(), model.config
    weights = read_weights(source)
    config = detector_config(_resnet_name(weights, "backbone.0.body"), decoder_layers=6)
    names = Renamer(weights, str(source))
    rename_resnet(names, "backbone.0.body", "model.backbone.model", config.backbone_config.depths)
    names.linear("input_proj", "model.input_projection")
    for i in range(config.encoder_layers):
        rename_encoder_layer(names, f"transformer.encoder.layers.{i}", f"model.encoder.layers.{i}")
    for i in range(config.decoder_layers):
        rename_decoder_layer(names, f"transformer.decoder.layers.{i}", f"model.decoder.layers.{i}")
    names.linear("transformer.decoder.norm", "model.decoder.layernorm")
    names.move("query_embed.weight", "model.query_position_embeddings.weight")
    for i in range(3):
        names.linear(f"bbox_embed.layers.{i}", f"bbox_predictor.layers.{i}")
    names.linear("class_embed", "class_labels_classifier")
    return names.finish("this is not the official DETR checkpoint"), config


def _detr_revision(source: str | Path) -> str:
    return "no_timm" if str(source).startswith("facebook/detr-") else "main"


def _from_hub(kind: Any, source: str | Path, what: str, **options: Any) -> Any:
    try:
        AutoConfig.from_pretrained(source, **options)
        model, found = kind.from_pretrained(source, output_loading_info=True, **options)
    except Exception as error:  # the hub client raises many kinds
        raise HoiError(f"{source}: {what} cannot be loaded from there ({_first_line(error)})") from error
    if found["missing_keys"] or found["unexpected_keys"] or found["mismatched_keys"]:
        lists = listing("missing", found["missing_keys"]) + listing("unexpected", found["unexpected_keys"])
        raise HoiError(f"{source}: is not {what}{lists}{listing('wrongly shaped', map(str, found['mismatched_keys']))}")
    return model.eval()


def initialise_from(
    detr: str | Path,
    clip: str | Path,
    vocabulary: str | HoiVocabulary = "hico",
    *,
    seed: int = 0,
    tokenizer: Any = None,
    queries: str = "fresh",
    **config: Any,
) -> HoiClipModel:
    """A model ready for training: DETR's detector, CLIP frozen, classifiers made of words.

    Backbone, input projection, encoder and box head (twice) are DETR's; its first decoder layers
    and their norm become the instance decoder.  Queries and the interaction half start fresh; DETR's
    object classifier (92 classes of COCO) is not taken over, since objects are classified by text:
    81 rows for HICO-DET, 82 for V-COCO (paper section 4.1).

    Args:
        detr: folder or hub id of a transformers DETR, or the official ``.pth``.
        clip: folder or hub id of a transformers CLIP, or OpenAI's archive.
        vocabulary: what to train.
        seed: of the fresh half.
        tokenizer: CLIP's tokenizer; by default the one beside ``clip``.
        queries: ``fresh`` as published, or ``detr``: each pair begins where one of DETR's queries
            looks, which finds pairs sooner.
        config: further options of :class:`HoiClipConfig`.

    Raises:
        HoiError: if a part cannot be read or does not fit, or DETR has fewer queries than are wanted.
    """
    weights, detr_config = load_detr(detr)
    clip_model = load_clip(clip)
    words = HoiVocabulary.coerce(vocabulary)
    layers = min(config.pop("decoder_layers", 3), detr_config.decoder_layers)
    detector = DetrConfig(
        **{
            **{k: v for k, v in detr_config.to_dict().items() if k not in ("id2label", "label2id", "architectures")},
            "decoder_layers": layers,
            "dropout": config.pop("dropout", 0.0),
        }
    )
    if tokenizer is None and Path(clip).is_dir():
        tokenizer = str(clip)
    if isinstance(tokenizer, str):
        config["tokenizer"] = tokenizer
    full = HoiClipConfig(detector=detector, clip=clip_model.config, vocabulary=words, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HoiClipModel(full)
    taken: Weights = {f"clip.{n}": t for n, t in clip_model.state_dict().items()}
    plain = {
        "model.backbone.": "detector.backbone.",
        "model.input_projection.": "detector.input_projection.",
        "model.encoder.layers.": "detector.encoder.",
        "model.decoder.layernorm.": "detector.decoder_norm.",
    }
    plain |= {f"model.decoder.layers.{i}.": f"detector.decoder.{i}." for i in range(layers)}
    for name, tensor in weights.items():
        for old, new in plain.items():
            if name.startswith(old):
                taken[new + name[len(old) :]] = tensor
        if name.startswith("bbox_predictor.layers."):
            layer, kind = name.split(".")[2:]
            for head in ("human_box_head", "object_box_head"):
                taken[f"detector.{head}.{2 * int(layer)}.{kind}"] = tensor
    _load(model, taken, str(detr), "its sizes do not fit the model", complete=False)
    if queries == "detr":
        _begin_at_detr_queries(model, weights["model.query_position_embeddings.weight"], str(detr))
    return model.set_vocabulary(words, tokenizer).eval()


@torch.no_grad()
def _begin_at_detr_queries(model: HoiClipModel, known: torch.Tensor, source: str) -> None:
    """Pair positions are DETR's query positions; what tells a human from an object query starts small."""
    detector, wanted = model.detector, model.config.num_queries
    if len(known) < wanted:
        raise HoiError(f"{source}: has {len(known)} queries, fewer than the {wanted} of num_queries")
    detector.pair_positions.weight.copy_(known[:wanted])
    detector.human_queries.weight.mul_(0.1)
    detector.object_queries.weight.mul_(0.1)


def save_model(model: HoiClipModel, folder: str | Path, tokenizer: str | None = None) -> None:
    """Write a model folder that :func:`hoiclip.load` opens: weights, words, settings, tokenizer.

    Raises:
        HoiError: if the folder cannot be written or the tokenizer cannot be found.
    """
    if tokenizer is not None:
        model.text_embedder = TextEmbedder(tokenizer)
        model.text_embedder.tokenizer  # noqa: B018  fetched now, so that it is saved with the model
    vocabulary = model.vocabulary
    if vocabulary is None:
        raise HoiError("the model has no vocabulary yet: call set_vocabulary before saving it")
    processor = HoiClipProcessor(
        vocabulary,
        clip_size=model.config.clip.vision_config.image_size,
        zero_shot_top_k=model.config.zero_shot_top_k,
    )
    try:
        with filling(folder) as unfinished:
            model.save_pretrained(unfinished)
            processor.save_pretrained(unfinished)
    except SafetensorError as error:
        raise HoiError(
            f"{folder}: cannot be written ({_first_line(error)}); free some space or choose another folder"
        ) from error
