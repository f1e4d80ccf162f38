"""A model with every part of the real one, small enough for a test, and a tokenizer without a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPTokenizer, DetrConfig

from hoiclip import HoiClipConfig, HoiClipModel, HoiVocabulary

WORDS = "ride bicycle, hold bicycle, ride horse, feed horse, hold umbrella, no_interaction dog"


def tiny_vocabulary() -> HoiVocabulary:
    """Six interactions of five verbs with four objects."""
    return HoiVocabulary.from_words(WORDS, name="tiny")


def tiny_detector(**changes: Any) -> DetrConfig:
    backbone = {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage4"],
    }
    sizes = {
        "backbone_config": backbone,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "dropout": 0.0,
        "num_queries": 8,
    }
    return DetrConfig(**{**sizes, **changes})


def tiny_clip() -> CLIPConfig:
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {**vision, "vocab_size": 514, "max_position_embeddings": 77, "bos_token_id": 512, "eos_token_id": 513}
    return CLIPConfig(
        projection_dim=16,
        vision_config={**vision, "image_size": 32, "patch_size": 8, "projection_dim": 16},
        text_config={**text, "projection_dim": 16},
    )


def tiny_config(**changes: Any) -> HoiClipConfig:
    sizes: dict[str, Any] = {
        "detector": tiny_detector(),
        "clip": tiny_clip(),
        "vocabulary": tiny_vocabulary(),
        "num_queries": 4,
        "interaction_layers": 2,
        "interaction_heads": 4,
        "interaction_ffn_dim": 32,
        "unused_parameters": False,
    }
    return HoiClipConfig(**{**sizes, **changes})


def tiny_tokenizer(folder: Path, end: int = 513) -> Path:
    """CLIP's tokenizer without merges: every byte is a word; ``end`` ends sentences.  Real class, real files."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in keep] + [chr(256 + i) for i in range(256 - len(keep))]
    tokens = [*symbols, *(s + "</w>" for s in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate(tokens)} | {"<|startoftext|>": end - 1, "<|endoftext|>": end}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77).save_pretrained(folder)
    return folder


def tiny_model(tokenizer: Path | None = None, seed: int = 0, **changes: Any) -> HoiClipModel:
    """With a tokenizer folder its classifiers are embedded words, else random directions."""
    torch.manual_seed(seed)
    words = changes.get("vocabulary", tiny_vocabulary())
    model = HoiClipModel(tiny_config(**changes))
    model.vocabulary = HoiVocabulary.coerce(words)
    if tokenizer is not None:
        model.config.tokenizer = str(tokenizer)
        model.set_vocabulary(words, str(tokenizer))
    elif model.verbs is not None:
        model.verbs.verb_to_interaction = torch.from_numpy(model.vocabulary.verb_to_interaction)
    return model.eval()
