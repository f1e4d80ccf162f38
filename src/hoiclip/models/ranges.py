"""Which sizes of a model can be meant: told before anything of that size is made."""

from __future__ import annotations

import math
from typing import Any

from hoiclip.errors import HoiError, whole_number

WIDTH, LAYERS, HEADS, HIDDEN = (1, 16384), (1, 200), (1, 256), (1, 131072)
DETECTOR = {
    "d_model": WIDTH,
    "encoder_layers": (0, 200),
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": HIDDEN,
    "decoder_ffn_dim": HIDDEN,
    "num_queries": (1, 10000),
}
TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
OWN = {
    "num_queries": (1, 10000),
    "interaction_layers": LAYERS,
    "interaction_heads": HEADS,
    "interaction_ffn_dim": HIDDEN,
}
NUMBERS = (
    *("verb_weight", "logit_scale_init", "eos_weight", "focal_alpha", "distillation_weight"),
    *("cost_interaction", "cost_object", "cost_box", "cost_giou"),
    *("weight_interaction", "weight_object", "weight_box", "weight_giou"),
)


def check_ranges(config: Any) -> None:
    """Check every size and number of a ``HoiClipConfig``.

    Raises:
        HoiError: naming one that cannot be meant.
    """
    vision, text = config.clip.vision_config, config.clip.text_config
    for part, prefix, ranges in (
        (config, "", OWN),
        (config.detector, "detector.", DETECTOR),
        (config.clip, "clip.", {"projection_dim": WIDTH}),
        (vision, "clip.vision_config.", {**TOWER, "image_size": (1, 4096), "patch_size": (1, 4096)}),
        (text, "clip.text_config.", {**TOWER, "vocab_size": (1, 10**7), "max_position_embeddings": (1, 100_000)}),
    ):
        for name, (least, most) in ranges.items():
            whole_number(prefix + name, getattr(part, name), least, most)
    if config.zero_shot_top_k is not None:
        whole_number("zero_shot_top_k", config.zero_shot_top_k, 1, 10**6)
    for name in NUMBERS:
        value = getattr(config, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise HoiError(f"{name} must be a number, not {str(value)[:60]!r}")
    knowledge = vision.hidden_size if config.variant == "hoiclip" else config.detector.d_model
    for name, width, heads in (
        ("interaction_heads", knowledge, config.interaction_heads if config.variant == "hoiclip" else 1),
        ("detector.encoder_attention_heads", config.detector.d_model, config.detector.encoder_attention_heads),
        ("detector.decoder_attention_heads", config.detector.d_model, config.detector.decoder_attention_heads),
        ("clip.vision_config.num_attention_heads", vision.hidden_size, vision.num_attention_heads),
        ("clip.text_config.num_attention_heads", text.hidden_size, text.num_attention_heads),
    ):
        if width % heads:
            raise HoiError(f"{name} must divide the width {width}, which {heads} does not")
    if vision.patch_size > vision.image_size:
        raise HoiError(
            f"clip.vision_config.patch_size {vision.patch_size} is larger than the image {vision.image_size}"
        )
