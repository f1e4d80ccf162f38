"""The mini DETR: its sizes, its fresh weights, and its two halves."""

from __future__ import annotations

import torch
from torch import nn
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
from transformers.models.detr.modeling_detr import DetrFrozenBatchNorm2d

from hoiclip.playground.dataset import SIZE
from hoiclip.vocabulary import HoiVocabulary


def mini_detr_config(vocabulary: HoiVocabulary, queries: int = 32) -> DetrConfig:
    """Basic-block ResNet of stride 16, width 128, 3 encoder and 3 decoder layers."""
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[32, 64, 128],
        depths=[2, 2, 2],
        layer_type="basic",
        out_features=["stage3"],
    )
    names = dict(enumerate(vocabulary.objects))
    return DetrConfig(
        backbone_config=backbone,
        d_model=128,
        encoder_layers=3,
        decoder_layers=3,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_queries=queries,
        dropout=0.0,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )


def build_detector(vocabulary: HoiVocabulary, queries: int = 32) -> DetrForObjectDetection:
    """A fresh mini DETR with batch norm that learns; see :func:`frozen_copy` for what is shipped."""
    model = DetrForObjectDetection(mini_detr_config(vocabulary, queries))
    model.requires_grad_(True)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DetrFrozenBatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(len(child.weight)))
    _initialise(model)
    return model


def _initialise(model: DetrForObjectDetection) -> None:
    """Kaiming for convolutions, Xavier for the transformer; the default 0.02 explodes from scratch."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
        elif parameter.ndim == 2 and "query_position" not in name:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    nn.init.zeros_(model.bbox_predictor.layers[-1].weight)
    queries = model.model.query_position_embeddings.weight
    with torch.no_grad():
        queries.copy_(sine_points(spread_points(len(queries)), queries.shape[1]))
        for layer in model.model.decoder.layers:
            layer.encoder_attn.k_proj.weight.copy_(layer.encoder_attn.q_proj.weight)


def spread_points(count: int, start: int = 0) -> torch.Tensor:
    """(count, 2) points x, y in 0..1 that fill the square evenly, from a low-discrepancy sequence."""
    index = torch.arange(start, start + count, dtype=torch.float64)[:, None]
    return ((0.5 + index * torch.tensor([0.7548776662466927, 0.5698402909980532])) % 1.0).float()


def sine_points(points: torch.Tensor, width: int, cells: int = SIZE // 16) -> torch.Tensor:
    """(n, width) codes of points as DETR's sine embedding would code a feature cell there."""
    half = width // 2
    scaled = (points * cells + 0.5) / cells * 2 * torch.pi  # (n, 2)
    frequency = 10000 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
    angles = scaled[:, :, None] / frequency  # (n, 2, half)
    codes = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(2)  # (n, 2, half)
    return torch.cat([codes[:, 1], codes[:, 0]], dim=1)


def frozen_copy(model: DetrForObjectDetection) -> DetrForObjectDetection:
    """The same weights in the published form, with frozen batch norm."""
    copy = DetrForObjectDetection(model.config)
    state = {k: v.cpu() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    copy.load_state_dict(state)
    return copy.eval()


def encode(model: DetrForObjectDetection, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 3, H, W) to encoder memory and position codes, both (B, HW, D)."""
    core = model.model
    feature = core.backbone.model(pixels).feature_maps[-1]  # (B, C, h, w)
    flat = core.input_projection(feature).flatten(2).transpose(1, 2)  # (B, hw, D)
    positions = core.position_embedding(feature.shape, pixels.device, pixels.dtype).flatten(2).transpose(1, 2)
    memory = flat
    for layer in core.encoder.layers:
        memory = layer(memory, None, positions)
    return memory, positions


def decode(
    model: DetrForObjectDetection, memory: torch.Tensor, positions: torch.Tensor, queries: torch.Tensor
) -> list[dict[str, torch.Tensor]]:
    """Class logits and boxes after every decoder layer, for (B, Q, D) query codes.

    The next layer gets the state before the final norm, as in the original DETR.
    """
    state, outputs = torch.zeros_like(queries), []
    for layer in model.model.decoder.layers:
        state = layer(state, None, positions, queries, memory)
        normed = model.model.decoder.layernorm(state)
        outputs.append(
            {
                "logits": model.class_labels_classifier(normed).float(),
                "pred_boxes": model.bbox_predictor(normed).float().sigmoid(),
            }
        )
    return outputs
