"""The mini CLIP and its loss."""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

from hoiclip.playground.dataset import SIZE


def build_clip(tokenizer: PreTrainedTokenizerFast, size: int = SIZE) -> CLIPModel:
    """A fresh mini CLIP: 4 vision and 2 text layers of width 128, patches of 16 pixels."""
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=size,
        patch_size=16,
        projection_dim=128,
        hidden_act="gelu",
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=128,
        hidden_act="gelu",
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128))
    with torch.no_grad():  # learned from here on; from 0.02 noise it starts slowly
        model.vision_model.embeddings.position_embedding.weight[1:] = sine_cosine_2d(size // 16, 128, 0.5)
    return model


def sine_cosine_2d(side: int, width: int, amplitude: float) -> torch.Tensor:
    """(side * side, width) position codes of a grid, row by row; width divisible by 4."""
    frequencies = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies[None]  # (side, width/4)
    code = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width/2)
    rows = code[:, None].expand(side, side, -1)
    columns = code[None].expand(side, side, -1)
    return amplitude * torch.cat([rows, columns], dim=2).reshape(side * side, width)


def encode_images(
    model: CLIPModel, pixels: torch.Tensor, keep: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image embeddings and patch features.

    Args:
        model: the mini CLIP.
        pixels: (B, 3, H, W).
        keep: patches to encode (indices), None for all.

    Returns:
        (B, D) unit vectors, and (B, P, W) patch features after the last layer norm.
    """
    vision = model.vision_model
    hidden = vision.embeddings(pixels)  # (B, 1 + P, W)
    if keep is not None:
        hidden = torch.cat([hidden[:, :1], hidden[:, 1 + keep]], dim=1)
    hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
    hidden = vision.post_layernorm(hidden)
    return functional.normalize(model.visual_projection(hidden[:, 0]), dim=-1), hidden[:, 1:]


def encode_texts(model: CLIPModel, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """(T, D) unit vectors."""
    pooled = model.text_model(**tokens).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=-1)


# --- the loss --------------------------------------------------------------------------------------


def contrastive_loss(logits: torch.Tensor, target: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss with soft targets: equal captions and several true ones share.

    Args:
        logits: (B, T) scaled cosines of images and sentences.
        target: (B, T), rows sum to 1.
        banned: (B, T) bool, pairs that count neither way.
    """
    logits = logits.masked_fill(banned, -1e4)
    to_text = -(target * logits.log_softmax(1)).sum(1).mean()
    present = target.sum(0) > 0
    columns = target[:, present] / target[:, present].sum(0)
    to_image = -(columns * logits[:, present].log_softmax(0)).sum(0).mean()
    return (to_text + to_image) / 2
