"""Query based knowledge retrieval (section 3.2): interaction queries read CLIP's and the detector's features.

B images, N queries, S detector cells, P CLIP tokens (class token first), W the width of CLIP's image
tower (768), D its joint width (512), L decoder layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.detr.modeling_detr import DetrCrossAttention, DetrDecoderLayer, DetrSelfAttention

from hoiclip.models.configuration import HoiClipConfig


class KnowledgeLayer(GradientCheckpointingLayer):
    """Self attention, then one shared cross attention over each stream, summed (Eq. 6-9, Figure 3)."""

    def __init__(self, config: HoiClipConfig, width: int) -> None:
        super().__init__()
        detr, heads = config.detector, config.interaction_heads
        self.self_attention = DetrSelfAttention(detr, width, heads, detr.attention_dropout)
        self.cross_attention = DetrCrossAttention(detr, width, heads, detr.attention_dropout)
        self.self_norm = nn.LayerNorm(width)
        self.cross_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, config.interaction_ffn_dim)
        self.contract = nn.Linear(config.interaction_ffn_dim, width)
        self.final_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(detr.dropout)  # of each residual branch
        self.hidden_dropout = nn.Dropout(detr.activation_dropout)

    def forward(self, queries: Tensor, *streams: Tensor | None) -> Tensor:
        """queries (B, N, W); streams: tokens (B, T, W), mask or None, tokens, mask, ... -> (B, N, W)."""
        queries = self.self_norm(queries + self.dropout(self.self_attention(queries)[0]))
        read = torch.zeros_like(queries)
        for tokens, padding_mask in zip(streams[::2], streams[1::2], strict=True):
            found = self.cross_attention(queries, tokens, padding_mask)[0]
            read = read + self.cross_norm(queries + self.dropout(found))
        hidden = self.hidden_dropout(nn.functional.relu(self.expand(read)))
        return self.final_norm(read + self.dropout(self.contract(hidden)))

    def attention_map(self, queries: Tensor, tokens: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Attention of the queries: (B, N, W), (B, T, W) -> (B, heads, N, T), rows summing to 1."""
        queries = self.self_norm(queries + self.self_attention(queries)[0])
        attention = self.cross_attention

        def by_head(x: Tensor) -> Tensor:
            return x.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

        q, k = by_head(attention.q_proj(queries)), by_head(attention.k_proj(tokens))
        logits = q @ k.transpose(-1, -2) * attention.scaling
        return (logits if padding_mask is None else logits + padding_mask).softmax(-1)


class KnowledgeDecoder(nn.Module):
    """Interaction queries, made of a human and an object, read CLIP's and the detector's features."""

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__()
        width = config.clip.vision_config.hidden_size
        self.memory = config.interaction_memory
        self.mask_padding = config.mask_padding
        self.query_projection = nn.Linear(config.detector.d_model, width)
        self.query_norm = nn.LayerNorm(width)
        if self.memory != "clip":
            self.memory_projection = nn.Linear(config.detector.d_model, width)
            self.memory_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(KnowledgeLayer(config, width) for _ in range(config.interaction_layers))
        self.norm = nn.LayerNorm(width)

    def queries(self, human: Tensor, objects: Tensor) -> Tensor:
        """Q_inter of Eq. 4: (L, B, N, 256) twice -> (B, N, W), from the last instance layer."""
        return self.query_norm(self.query_projection((human[-1] + objects[-1]) / 2))

    def streams(self, clip_tokens: Tensor | None, memory: Tensor, padding_mask: Tensor) -> list[Tensor | None]:
        """Tokens and mask of each stream in turn: V_s (B, P, W), V'_d of Eq. 5 (B, S, W)."""
        streams: list[Tensor | None] = []
        if self.memory != "detector":
            streams += [clip_tokens, None]
        if self.memory != "clip":
            streams += [self.memory_norm(self.memory_projection(memory)), padding_mask if self.mask_padding else None]
        return streams

    def forward(self, queries: Tensor, streams: list[Tensor | None]) -> Tensor:
        """(B, N, W) -> (L, B, N, W), every layer after the final norm."""
        states = []
        for layer in self.layers:
            queries = layer(queries, *streams)
            states.append(self.norm(queries))
        return torch.stack(states)

    def attention_maps(self, queries: Tensor, streams: list[Tensor | None]) -> list[tuple[Tensor, ...]]:
        """For each stream, one (B, heads, N, T) map per layer."""
        maps: list[list[Tensor]] = [[] for _ in streams[::2]]
        for layer in self.layers:
            assert isinstance(layer, KnowledgeLayer)
            for found, tokens, padding_mask in zip(maps, streams[::2], streams[1::2], strict=True):
                assert tokens is not None
                found.append(layer.attention_map(queries, tokens, padding_mask))
            queries = layer(queries, *streams)
        return [tuple(found) for found in maps]


class GenVlktDecoder(nn.Module):
    """The interaction branch of GEN-VLKT, the paper's baseline: a third DETR decoder over V_d."""

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__()
        detr, width = config.detector, config.detector.d_model
        self.layers = nn.ModuleList(DetrDecoderLayer(detr) for _ in range(config.interaction_layers))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, config.clip.projection_dim)
        self.projection_norm = nn.LayerNorm(config.clip.projection_dim)

    def forward(
        self, human: Tensor, objects: Tensor, memory: Tensor, positions: Tensor, padding_mask: Tensor
    ) -> Tensor:
        """(L, B, N, 256) twice -> (L, B, N, D); layer i is guided by instance layer i."""
        guides = (human + objects) / 2
        state = torch.zeros_like(guides[0])
        states = []
        for layer, guide in zip(self.layers, guides, strict=True):
            state = layer(
                state, None, positions, guide, encoder_hidden_states=memory, encoder_attention_mask=padding_mask
            )
            states.append(self.norm(state))
        return self.projection_norm(self.projection(torch.stack(states)))


class UnusedParameters(nn.Module):
    """Weights the published model trains but never reaches.

    They are what its baseline left behind.  Kept so that published files convert without loss and
    the number of trainable parameters is the paper's 66.1 million; no forward pass uses them.
    """

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__()
        width = config.clip.vision_config.hidden_size
        self.gen_vlkt = GenVlktDecoder(config)
        self.interaction_queries = nn.Embedding(config.num_queries, width)
        self.fourth_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.interaction_layers))
