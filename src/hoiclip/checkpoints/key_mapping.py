"""Names of weights: torchvision's ResNet, the original DETR and OpenAI's CLIP to transformers' and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import CLIPConfig

from hoiclip.errors import HoiError
from hoiclip.models.configuration import clip_config

Weights = dict[str, Tensor]


class KeyMapper:
    """Move weights from their old names to new ones, and keep account of what is left."""

    def __init__(self, weights: Weights, origin: str) -> None:
        self.left = dict(weights)
        self.origin = origin
        self.missing: list[str] = []
        self.result: Weights = {}

    def take(self, old: str) -> Tensor | None:
        if old not in self.left:
            self.missing.append(old)
            return None
        tensor = self.left.pop(old)
        refuse_no_numbers({old: tensor}, self.origin)
        return tensor.float()

    def move(self, old: str, new: str) -> None:
        tensor = self.take(old)
        if tensor is not None:
            self.result[new] = tensor

    def linear(self, old: str, new: str) -> None:
        """Weight and bias of a linear layer, a norm or a convolution."""
        self.move(f"{old}.weight", f"{new}.weight")
        self.move(f"{old}.bias", f"{new}.bias")

    def attention(self, old: str, new: str, out: str = "o_proj") -> None:
        """Split torch's fused query-key-value projection into three."""
        for kind in ("weight", "bias"):
            fused = self.take(f"{old}.in_proj_{kind}")
            if fused is not None:
                for name, part in zip(("q_proj", "k_proj", "v_proj"), fused.chunk(3), strict=True):
                    self.result[f"{new}.{name}.{kind}"] = part.clone()
        self.linear(f"{old}.out_proj", f"{new}.{out}")

    def drop(self, pattern: str) -> None:
        """Drop known leftovers that carry nothing."""
        for name in [n for n in self.left if re.fullmatch(pattern, n)]:
            del self.left[name]

    def finish(self, hint: str) -> Weights:
        """Return the weights; raise HoiError if one was missing or is left over.

        Raises:
            HoiError: naming what is missing and what is unknown.
        """
        if self.missing or self.left:
            raise HoiError(f"{self.origin}: {hint}{listing('missing', self.missing)}{listing('unexpected', self.left)}")
        return self.result


def refuse_no_numbers(weights: Weights, origin: str) -> None:
    """Raise HoiError if a weight holds NaN or infinity, naming it."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise HoiError(f"{origin}: {printable(name)} holds NaN or infinity; take one from before training diverged")


def listing(what: str, names: Iterable[str]) -> str:
    names = list(names)
    return f"; {what}: {listed(names)}" if names else ""


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names in a sentence, the first few of many."""
    names = list(names)
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def printable(name: str, most: int = 120) -> str:
    """A name that a file holds, in one line and fit for every console: what cannot be printed is escaped."""
    return (name if name.isprintable() else ascii(name)[1:-1])[:most]


# --- ResNet, DETR layers, CLIP ---------------------------------------------------------------------


def map_resnet(names: KeyMapper, old: str, new: str, depths: Iterable[int]) -> None:
    def batch_norm(source: str, target: str) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            names.move(f"{source}.{kind}", f"{target}.{kind}")

    names.move(f"{old}.conv1.weight", f"{new}.embedder.embedder.convolution.weight")
    batch_norm(f"{old}.bn1", f"{new}.embedder.embedder.normalization")
    for stage, depth in enumerate(depths):
        for block in range(depth):
            source, target = f"{old}.layer{stage + 1}.{block}", f"{new}.encoder.stages.{stage}.layers.{block}"
            for i in range(3):
                names.move(f"{source}.conv{i + 1}.weight", f"{target}.layer.{i}.convolution.weight")
                batch_norm(f"{source}.bn{i + 1}", f"{target}.layer.{i}.normalization")
            if block == 0:
                names.move(f"{source}.downsample.0.weight", f"{target}.shortcut.convolution.weight")
                batch_norm(f"{source}.downsample.1", f"{target}.shortcut.normalization")
    names.drop(re.escape(old) + r"\..*num_batches_tracked")
    names.drop(re.escape(old) + r"\.fc\..*")


def map_encoder_layer(names: KeyMapper, old: str, new: str) -> None:
    names.attention(f"{old}.self_attn", f"{new}.self_attn")
    names.linear(f"{old}.linear1", f"{new}.mlp.fc1")
    names.linear(f"{old}.linear2", f"{new}.mlp.fc2")
    names.linear(f"{old}.norm1", f"{new}.self_attn_layer_norm")
    names.linear(f"{old}.norm2", f"{new}.final_layer_norm")


def map_decoder_layer(names: KeyMapper, old: str, new: str) -> None:
    names.attention(f"{old}.self_attn", f"{new}.self_attn")
    names.attention(f"{old}.multihead_attn", f"{new}.encoder_attn")
    names.linear(f"{old}.linear1", f"{new}.mlp.fc1")
    names.linear(f"{old}.linear2", f"{new}.mlp.fc2")
    names.linear(f"{old}.norm1", f"{new}.self_attn_layer_norm")
    names.linear(f"{old}.norm2", f"{new}.encoder_attn_layer_norm")
    names.linear(f"{old}.norm3", f"{new}.final_layer_norm")


def map_knowledge_layer(names: KeyMapper, old: str, new: str) -> None:
    names.attention(f"{old}.self_attn", f"{new}.self_attention")
    names.attention(f"{old}.multihead_attn", f"{new}.cross_attention")
    names.linear(f"{old}.linear1", f"{new}.expand")
    names.linear(f"{old}.linear2", f"{new}.contract")
    names.linear(f"{old}.norm1", f"{new}.self_norm")
    names.linear(f"{old}.norm2", f"{new}.cross_norm")
    names.linear(f"{old}.norm3", f"{new}.final_norm")


def map_clip(names: KeyMapper, old: str, new: str, config: CLIPConfig) -> None:
    """OpenAI's names (prefix ``old``) to transformers' (prefix ``new``)."""

    def tower(source: str, target: str, layers: int) -> None:
        for i in range(layers):
            block, layer = f"{source}.resblocks.{i}", f"{target}.encoder.layers.{i}"
            names.attention(f"{block}.attn", f"{layer}.self_attn", out="out_proj")
            names.linear(f"{block}.ln_1", f"{layer}.layer_norm1")
            names.linear(f"{block}.ln_2", f"{layer}.layer_norm2")
            names.linear(f"{block}.mlp.c_fc", f"{layer}.mlp.fc1")
            names.linear(f"{block}.mlp.c_proj", f"{layer}.mlp.fc2")

    vision, text = f"{new}vision_model", f"{new}text_model"
    names.move(f"{old}visual.class_embedding", f"{vision}.embeddings.class_embedding")
    names.move(f"{old}visual.positional_embedding", f"{vision}.embeddings.position_embedding.weight")
    names.move(f"{old}visual.conv1.weight", f"{vision}.embeddings.patch_embedding.weight")
    names.linear(f"{old}visual.ln_pre", f"{vision}.pre_layrnorm")
    names.linear(f"{old}visual.ln_post", f"{vision}.post_layernorm")
    tower(f"{old}visual.transformer", vision, config.vision_config.num_hidden_layers)
    names.move(f"{old}token_embedding.weight", f"{text}.embeddings.token_embedding.weight")
    names.move(f"{old}positional_embedding", f"{text}.embeddings.position_embedding.weight")
    names.linear(f"{old}ln_final", f"{text}.final_layer_norm")
    tower(f"{old}transformer", text, config.text_config.num_hidden_layers)
    names.move(f"{old}logit_scale", f"{new}logit_scale")
    for source, target in (("visual.proj", "visual_projection"), ("text_projection", "text_projection")):
        matrix = names.take(f"{old}{source}")  # (width, D), applied from the right
        if matrix is not None:
            names.result[f"{new}{target}.weight"] = matrix.T.contiguous()
    names.drop(re.escape(old) + r"(input_resolution|context_length|vocab_size)")


# --- which sizes a file has -------------------------------------------------------------------------


def clip_sizes(weights: Weights, prefix: str) -> CLIPConfig:
    """The CLIP that a checkpoint holds, read off its shapes."""
    patches = weights.get(f"{prefix}visual.conv1.weight")
    positions = weights.get(f"{prefix}visual.positional_embedding")
    if patches is None or positions is None or patches.ndim != 4 or positions.ndim != 2:
        return clip_config("ViT-B/32")  # what is wrong with these is listed later
    by_shape = {(1024, 14, 257): "ViT-L/14", (1024, 14, 577): "ViT-L/14@336", (768, 16, 197): "ViT-B/16"}
    return clip_config(by_shape.get((patches.shape[0], patches.shape[-1], positions.shape[0]), "ViT-B/32"))


def resnet_name(weights: Weights, prefix: str) -> str:
    return "resnet101" if f"{prefix}.layer3.22.conv1.weight" in weights else "resnet50"
