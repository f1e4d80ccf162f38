"""The HOICLIP model, top to bottom in the paper's order.

    photo -> InstanceDetector   boxes and object classes of N human-object pairs       section 3.1
          -> CLIP image tower   V_s, V_g (frozen)                                      section 3.2
          -> KnowledgeDecoder   interaction queries read V_s and V_d                   section 3.2
          -> VerbBranch         verb adapter and verb classifier                       section 3.3
          -> TextClassifier     interactions scored against their sentences            section 3.4

B images, N queries, K interactions, C objects, V verbs; D is CLIP's joint width (512), W the width
of its image tower (768), S detector cells, P CLIP tokens (class token first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.detr.modeling_detr import (
    DetrConvEncoder,
    DetrCrossAttention,
    DetrDecoderLayer,
    DetrEncoderLayer,
    DetrFrozenBatchNorm2d,
    DetrSelfAttention,
    DetrSinePositionEmbedding,
)
from transformers.utils import ModelOutput

from hoiclip.classifiers import TextEmbedder, verb_directions
from hoiclip.configuration import HoiClipConfig
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

# Added to attention logits of padded cells: zero after softmax in every precision, never NaN.
BLOCKED = -1e4


@dataclass
class HoiClipOutput(ModelOutput):
    """What the model says about B images.

    Attributes:
        loss: scalar, when ``labels`` were given.
        loss_dict: its unweighted terms by name.
        human_boxes, object_boxes: (B, N, 4) cxcywh, fractions of the unpadded image, 0..1.
        object_logits: (B, N, C + 1), the last one is "nothing there".
        interaction_logits: (B, N, K) S_inter + alpha * S_v of Eq. 19, already scaled.  While
            training in a zero-shot setting only the seen columns, in ascending order.
        zero_shot_logits: (B, K) cosine of V_g with E_inter (Eq. 17 before Top-K); None for GEN-VLKT and
            where the classifier is learned.
        auxiliary_outputs: one dict for each layer but the last, keys as the fields above.
        interaction_features: (B, N, D) O_inter of Eq. 10, not normalised.
        clip_features: (B, D) V_g, not normalised; None when CLIP did not run.
        clip_attentions, detector_attentions: per interaction layer (B, heads, N, P) and
            (B, heads, N, S), when asked for (Figure 5).
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    human_boxes: Tensor | None = None
    object_boxes: Tensor | None = None
    object_logits: Tensor | None = None
    interaction_logits: Tensor | None = None
    zero_shot_logits: Tensor | None = None
    auxiliary_outputs: list[dict[str, Tensor]] | None = None
    interaction_features: Tensor | None = None
    clip_features: Tensor | None = None
    clip_attentions: tuple[Tensor, ...] | None = None
    detector_attentions: tuple[Tensor, ...] | None = None


class FeedForward(nn.Sequential):
    """Linear layers with ReLU between them: box heads and verb adapter."""

    def __init__(self, width_in: int, width: int, width_out: int, layers: int = 3) -> None:
        widths = [width_in, *[width] * (layers - 1), width_out]
        parts: list[nn.Module] = []
        for i in range(layers):
            parts += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU()]
        super().__init__(*parts[:-1])


class FrozenBatchNorm(DetrFrozenBatchNorm2d):
    """transformers' frozen batch norm in one pass over the features instead of two; backward keeps one map less."""

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the norm comes to, x * scale + shift: (C,) each."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        scale, shift = self.scale_and_shift()
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


# --- section 3.1: where are the people and the objects? -------------------------------------------


class InstanceDetector(nn.Module):
    """DETR with two groups of queries, N for humans and N for objects, that share a pair position."""

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__()
        detr = config.detector
        width = detr.d_model
        self.backbone = DetrConvEncoder(detr)
        for norm in self.backbone.modules():
            if isinstance(norm, DetrFrozenBatchNorm2d):
                norm.__class__ = FrozenBatchNorm
        self.input_projection = nn.Conv2d(self.backbone.intermediate_channel_sizes[-1], width, kernel_size=1)
        self.position_embedding = DetrSinePositionEmbedding(width // 2, normalize=True)
        self.dropout = nn.Dropout(detr.dropout)
        self.encoder = nn.ModuleList(DetrEncoderLayer(detr) for _ in range(detr.encoder_layers))
        self.human_queries = nn.Embedding(config.num_queries, width)
        self.object_queries = nn.Embedding(config.num_queries, width)
        self.pair_positions = nn.Embedding(config.num_queries, width)
        self.decoder = nn.ModuleList(DetrDecoderLayer(detr) for _ in range(detr.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.human_box_head = FeedForward(width, width, 4)
        self.object_box_head = FeedForward(width, width, 4)
        self.object_projection = nn.Linear(width, config.clip.projection_dim)
        self.object_norm = nn.LayerNorm(config.clip.projection_dim)

    def encode(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image to V_d.

        Args:
            pixel_values: (B, 3, H, W) ImageNet-normalised.
            pixel_mask: (B, H, W), 1 on the image, 0 on padding.

        Returns:
            memory (B, S, 256), positions (B, S, 256), padding mask to add to attention logits
            (B, 1, 1, S).
        """
        features, mask = self.backbone(pixel_values, pixel_mask)[-1]  # (B, 2048, h, w), (B, h, w)
        positions = self.position_embedding(features.shape, features.device, pixel_values.dtype, mask)
        positions = positions.flatten(2).transpose(1, 2)  # (B, 256, h, w) -> (B, S, 256)
        memory = self.input_projection(features).flatten(2).transpose(1, 2)  # (B, S, 256)
        blocked = torch.zeros(mask.shape, dtype=memory.dtype, device=mask.device)
        blocked = blocked.masked_fill(~mask, BLOCKED).flatten(1)[:, None, None, :]
        memory = self.dropout(memory)
        for layer in self.encoder:
            memory = layer(memory, blocked, spatial_position_embeddings=positions)
        return memory, positions, blocked

    def decode(self, memory: Tensor, positions: Tensor, blocked: Tensor) -> tuple[Tensor, Tensor]:
        """V_d to O_h and O_o, each (L, B, N, 256): every decoder layer after the shared final norm.

        The un-normed state feeds the next layer, as in the original DETR.
        """
        pair = self.pair_positions.weight
        query_positions = torch.cat([self.human_queries.weight + pair, self.object_queries.weight + pair])  # (2N, 256)
        query_positions = query_positions.expand(memory.shape[0], -1, -1)
        state = torch.zeros_like(query_positions)
        states = []
        for layer in self.decoder:
            state = layer(
                state,
                None,
                positions,
                query_positions,
                encoder_hidden_states=memory,
                encoder_attention_mask=blocked,
            )
            states.append(self.decoder_norm(state))
        human, objects = torch.stack(states).chunk(2, dim=2)  # (L, B, 2N, 256) -> 2 x (L, B, N, 256)
        return human, objects

    def object_features(self, objects: Tensor) -> Tensor:
        """(..., 256) -> (..., D), unit length, to be compared with object sentences."""
        return nn.functional.normalize(self.object_norm(self.object_projection(objects)), dim=-1)


# --- section 3.2: query based knowledge retrieval --------------------------------------------------


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
        self.dropout = nn.Dropout(detr.dropout)

    def forward(self, queries: Tensor, *streams: Tensor | None) -> Tensor:
        """queries (B, N, W); streams: tokens (B, T, W), mask or None, tokens, mask, ... -> (B, N, W)."""
        queries = self.self_norm(queries + self.dropout(self.self_attention(queries)[0]))
        read = torch.zeros_like(queries)
        for tokens, blocked in zip(streams[::2], streams[1::2], strict=True):
            found = self.cross_attention(queries, tokens, blocked)[0]
            read = read + self.cross_norm(queries + self.dropout(found))
        hidden = self.dropout(nn.functional.relu(self.expand(read)))
        return self.final_norm(read + self.dropout(self.contract(hidden)))

    def attention_map(self, queries: Tensor, tokens: Tensor, blocked: Tensor | None) -> Tensor:
        """Where the queries look: (B, N, W), (B, T, W) -> (B, heads, N, T), rows summing to 1."""
        queries = self.self_norm(queries + self.self_attention(queries)[0])
        attention = self.cross_attention

        def by_head(x: Tensor) -> Tensor:
            return x.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

        q, k = by_head(attention.q_proj(queries)), by_head(attention.k_proj(tokens))
        logits = q @ k.transpose(-1, -2) * attention.scaling
        return (logits if blocked is None else logits + blocked).softmax(-1)


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

    def streams(self, clip_tokens: Tensor | None, memory: Tensor, blocked: Tensor) -> list[Tensor | None]:
        """Tokens and mask of each stream in turn: V_s (B, P, W), V'_d of Eq. 5 (B, S, W)."""
        streams: list[Tensor | None] = []
        if self.memory != "detector":
            streams += [clip_tokens, None]
        if self.memory != "clip":
            streams += [self.memory_norm(self.memory_projection(memory)), blocked if self.mask_padding else None]
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
            for found, tokens, blocked in zip(maps, streams[::2], streams[1::2], strict=True):
                assert tokens is not None
                found.append(layer.attention_map(queries, tokens, blocked))
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

    def forward(self, human: Tensor, objects: Tensor, memory: Tensor, positions: Tensor, blocked: Tensor) -> Tensor:
        """(L, B, N, 256) twice -> (L, B, N, D); layer i is guided by instance layer i."""
        guides = (human + objects) / 2
        state = torch.zeros_like(guides[0])
        states = []
        for layer, guide in zip(self.layers, guides, strict=True):
            state = layer(state, None, positions, guide, encoder_hidden_states=memory, encoder_attention_mask=blocked)
            states.append(self.norm(state))
        return self.projection_norm(self.projection(torch.stack(states)))


# --- sections 3.3 and 3.4: what are they doing? ----------------------------------------------------


class TextClassifier(nn.Module):
    """Rows are unit-length embeddings of sentences; frozen unless ``trainable``."""

    def __init__(self, classes: int, width: int, *, bias: bool, trainable: bool) -> None:
        super().__init__()
        self.trainable = trainable
        self.weight = nn.Parameter(torch.zeros(classes, width), requires_grad=trainable)
        start = nn.Parameter(torch.zeros(classes), requires_grad=trainable) if bias else None
        self.bias: nn.Parameter | None = start

    def resize(self, weight: Tensor) -> None:
        """Take other sentences: (classes, D).  The bias starts again at zero."""
        self.weight = nn.Parameter(weight.clone(), requires_grad=self.trainable)
        if self.bias is not None:
            self.bias = nn.Parameter(weight.new_zeros(len(weight)), requires_grad=self.trainable)

    def forward(self, features: Tensor, columns: Tensor | None = None, use_bias: bool = True) -> Tensor:
        """(..., D) unit length -> (..., classes), or the classes named in ``columns``."""
        weight = self.weight if columns is None else self.weight[columns]
        bias: Tensor | None = self.bias if use_bias else None
        if bias is not None and columns is not None:
            bias = bias[columns]
        return nn.functional.linear(features, weight, bias)


class VerbBranch(nn.Module):
    """Verb adapter (Eq. 15) and verb classifier (Eq. 16), spread over the interactions of a verb."""

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__()
        width = config.clip.projection_dim
        self.adapter = FeedForward(width, width // 2, width)
        self.weight = nn.Parameter(torch.zeros(config.num_verbs, width))
        self.register_buffer("verb_to_interaction", torch.zeros(config.num_verbs, config.num_interactions))

    def resize(self, weight: Tensor, verb_to_interaction: Tensor) -> None:
        """Take other verbs: weight (V, D), verb_to_interaction (V, K)."""
        self.weight = nn.Parameter(weight.clone())
        self.verb_to_interaction = verb_to_interaction.to(weight)

    def forward(self, features: Tensor, columns: Tensor | None = None) -> Tensor:
        """O_inter (..., D), not normalised -> S_v of each interaction (..., K)."""
        verb = nn.functional.normalize(self.adapter(features), dim=-1)
        spread = self.verb_to_interaction if columns is None else self.verb_to_interaction[:, columns]
        return nn.functional.linear(verb, self.weight) @ spread.to(verb.dtype)


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


class HoiClipModel(PreTrainedModel):
    """Finds human - verb - object triplets.

    >>> model = HoiClipModel.from_pretrained(path)
    >>> out = model(**processor(images, return_tensors="pt"))
    >>> model.set_vocabulary(HoiVocabulary.from_words("ride unicycle, hold umbrella"))
    """

    config: HoiClipConfig
    config_class = HoiClipConfig
    base_model_prefix = "hoiclip"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = (
        "DetrConvEncoder",
        "DetrEncoderLayer",
        "DetrDecoderLayer",
        "KnowledgeLayer",
        "CLIPEncoderLayer",
    )

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__(config)
        # DETR's layers stand here without their own model, and a ResNet has no attention to choose
        config.detector._attn_implementation = {"": config._attn_implementation, "backbone_config": "eager"}
        width = config.clip.projection_dim
        baseline = config.variant == "gen-vlkt"
        self.vocabulary: HoiVocabulary | None = None
        self.text_embedder: TextEmbedder | None = None
        self._verb_rows: dict[str, Tensor] = {}  # of verbs asked for before, so that they can come back
        self.detector = InstanceDetector(config)
        self.clip = CLIPModel._from_config(config.clip) if config.carries_clip else None
        if baseline:
            self.interaction_decoder: KnowledgeDecoder | GenVlktDecoder = GenVlktDecoder(config)
        else:
            self.interaction_decoder = KnowledgeDecoder(config)
        self.verbs = VerbBranch(config) if config.verb_classifier and not baseline else None
        self.unused = UnusedParameters(config) if config.unused_parameters and not baseline else None
        bias = config.classifier_bias or baseline
        learned = config.interaction_classifier == "learned"
        self.interactions = TextClassifier(config.num_interactions, width, bias=bias, trainable=baseline or learned)
        self.objects = TextClassifier(config.num_objects + 1, width, bias=bias, trainable=baseline)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init))
        self.object_logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init))
        self.post_init()
        self.freeze_frozen()
        # never reached by a loss: data-parallel training must not wait for their gradients
        self._ddp_params_and_buffers_to_ignore = [n for n, _ in self.named_parameters() if n.startswith("unused.")]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        init = nn.init
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.xavier_uniform_(module.weight)
            if module.bias is not None and not getattr(module.bias, "_is_hf_initialized", False):
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.normal_(module.weight)
        elif isinstance(module, (TextClassifier, VerbBranch)):
            # stands until words are embedded: every class its own direction
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.normal_(module.weight)
                module.weight.copy_(nn.functional.normalize(module.weight, dim=-1))
        else:
            super()._init_weights(module)

    def freeze_frozen(self) -> None:
        """Mark what the paper keeps fixed: CLIP, the text classifiers, the backbone's first stage."""
        if self.clip is not None:
            self.clip.requires_grad_(False)
        # transformers 5.23 freezes every backbone stage by a misspelt name; the paper trains all
        # but the stem and the first stage.
        for name, parameter in self.detector.backbone.named_parameters():
            parameter.requires_grad_("embedder" not in name and "stages.0." not in name)
        for classifier in (self.interactions, self.objects):
            classifier.requires_grad_(classifier.trainable)

    def train(self, mode: bool = True) -> HoiClipModel:
        """Training mode for what is trained; CLIP stays frozen in evaluation mode."""
        super().train(mode)
        if self.clip is not None:
            self.clip.eval()
        return self

    # --- the way of an image ---------------------------------------------------------------------

    def look(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        clip_pixel_values: Tensor | None = None,
        learning: bool = False,
    ) -> dict[str, Tensor]:
        """What the decoders read of B images: V_d, and V_s and V_g where CLIP has its say.

        Args:
            pixel_values, pixel_mask, clip_pixel_values: as in :meth:`forward`.
            learning: GEN-VLKT asks its teacher too.

        Returns:
            ``memory`` and ``positions`` (B, S, 256), ``blocked`` (B, 1, 1, S) to add to attention
            logits; ``clip_tokens`` (B, P, W) after the last norm and ``clip_features`` (B, D).

        Raises:
            ValueError: if CLIP's view is missing where it is needed.
        """
        if pixel_mask is None:
            pixel_mask = pixel_values.new_ones(pixel_values.shape[0], *pixel_values.shape[2:])
        memory, positions, blocked = self.detector.encode(pixel_values, pixel_mask)
        looks = {"memory": memory, "positions": positions, "blocked": blocked}
        clip_tokens, clip_features = self._look_with_clip(clip_pixel_values, learning=learning)
        if clip_tokens is not None and clip_features is not None:
            looks |= {"clip_tokens": clip_tokens, "clip_features": clip_features}
        return looks

    def forward(
        self,
        pixel_values: Tensor | None = None,
        pixel_mask: Tensor | None = None,
        clip_pixel_values: Tensor | None = None,
        labels: Sequence[dict[str, Tensor]] | None = None,
        output_attentions: bool = False,
        output_auxiliary: bool = False,
        looks: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> HoiClipOutput:
        """Images to pairs of boxes, object classes and interactions.

        Args:
            pixel_values: (B, 3, H, W), the detector's view: ImageNet-normalised, zero-padded at the
                bottom and right.
            pixel_mask: (B, H, W), 1 on the image and 0 on padding; None means no padding.
            clip_pixel_values: (B, 3, 224, 224), CLIP's view of the same images.  GEN-VLKT needs it
                only while training.
            labels: one dict per image: ``human_boxes``, ``object_boxes`` (n, 4) cxcywh 0..1,
                ``object_labels`` (n,) int64, ``interaction_labels`` (n, K) float32, or (n, seen
                columns) in a zero-shot setting.
            output_attentions: return the interaction decoder's attention maps.
            output_auxiliary: return every layer's predictions, as training does.
            looks: what :meth:`look` returned for these images, instead of the images.

        Raises:
            ValueError: if CLIP's view is missing where it is needed.
        """
        if looks is None:
            if pixel_values is None:
                raise ValueError("pixel_values is missing: pass what HoiClipProcessor returns")
            learning = self.training or labels is not None
            looks = self.look(pixel_values, pixel_mask, clip_pixel_values, learning)
        memory, positions, blocked = looks["memory"], looks["positions"], looks["blocked"]
        clip_tokens, clip_features = looks.get("clip_tokens"), looks.get("clip_features")
        human, objects = self.detector.decode(memory, positions, blocked)  # 2 x (L, B, N, 256)

        auxiliary = self.training or labels is not None or output_auxiliary
        attentions: dict[str, Any] = {}
        if isinstance(self.interaction_decoder, GenVlktDecoder):
            features = self.interaction_decoder(human, objects, memory, positions, blocked)  # (L, B, N, D)
        else:
            queries = self.interaction_decoder.queries(human, objects)  # (B, N, W)
            streams = self.interaction_decoder.streams(clip_tokens, memory, blocked)
            assert self.clip is not None
            features = self.clip.visual_projection(self.interaction_decoder(queries, streams))  # (L, B, N, D), Eq. 10
            if output_attentions:
                names = {"detector": ("detector",), "clip": ("clip",), "both": ("clip", "detector")}
                maps = self.interaction_decoder.attention_maps(queries, streams)
                for name, found in zip(names[self.config.interaction_memory], maps, strict=True):
                    attentions[f"{name}_attentions"] = found

        columns = self._training_columns(labels)
        last = len(features) - 1
        layers = [
            self._classify(human[i], objects[i], features[i], columns)
            for i in (range(len(features)) if auxiliary else (last,))
        ]
        zero_shot = None
        text = self.config.variant != "gen-vlkt" and self.config.interaction_classifier == "text"
        if clip_features is not None and text:
            direction = nn.functional.normalize(clip_features, dim=-1)
            zero_shot = nn.functional.linear(direction, self.interactions.weight)  # (B, K), Eq. 17
        out = HoiClipOutput(
            **layers[-1],
            zero_shot_logits=zero_shot,
            auxiliary_outputs=layers[:-1] if auxiliary else None,
            clip_features=clip_features,
            **attentions,
        )
        if labels is not None:
            from hoiclip.losses import HoiCriterion

            out.loss, out.loss_dict = HoiCriterion(self.config)(out, labels)
        return out

    def _look_with_clip(
        self, clip_pixel_values: Tensor | None, *, learning: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """V_s (B, P, W) after the last norm and V_g (B, D), from the frozen image tower (Eq. 2)."""
        if self.config.variant == "gen-vlkt" and not (learning and self.config.distillation_weight > 0):
            return None, None  # the baseline needs CLIP only as its teacher
        if clip_pixel_values is None:
            raise ValueError("clip_pixel_values is missing: pass what HoiClipProcessor returns")
        if self.clip is None:
            raise ValueError("this baseline was converted without its teacher: convert it again with --clip")
        with torch.no_grad():
            vision = self.clip.vision_model
            tokens = vision.post_layernorm(vision(clip_pixel_values).last_hidden_state)
            return tokens, self.clip.visual_projection(tokens[:, 0])

    def _training_columns(self, labels: Sequence[dict[str, Tensor]] | None) -> Tensor | None:
        """The seen interactions while training in a zero-shot setting, else None for all."""
        unseen = set(self.config.unseen_interactions)
        if not unseen:
            return None
        seen = [k for k in range(self.config.num_interactions) if k not in unseen]
        labelled_as_seen = labels is not None and labels[0]["interaction_labels"].shape[-1] == len(seen)
        if not (self.training or labelled_as_seen):
            return None
        return torch.tensor(seen, device=self.logit_scale.device)

    def _classify(self, human: Tensor, objects: Tensor, features: Tensor, columns: Tensor | None) -> dict[str, Any]:
        """One layer's states (B, N, 256), (B, N, 256), (B, N, D) to its predictions."""
        scale = self.logit_scale.exp()
        direction = nn.functional.normalize(features, dim=-1)
        # the published zero-shot head has no bias where unseen classes are scored
        use_bias = columns is not None or not self.config.unseen_interactions or self.config.variant == "gen-vlkt"
        interaction_logits = scale * self.interactions(direction, columns, use_bias)  # (B, N, K), Eq. 18
        if self.verbs is not None:
            interaction_logits = interaction_logits + self.config.verb_weight * scale * self.verbs(features, columns)
        return {
            "human_boxes": self.detector.human_box_head(human).sigmoid(),
            "object_boxes": self.detector.object_box_head(objects).sigmoid(),
            "object_logits": self.object_logit_scale.exp() * self.objects(self.detector.object_features(objects)),
            "interaction_logits": interaction_logits,
            "interaction_features": features,
        }

    # --- words -----------------------------------------------------------------------------------

    @torch.no_grad()
    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> HoiClipModel:
        """Ask for other interactions: all classifiers are embedded again from text.

        Verbs the model was trained with keep their trained row; new ones get the difference between
        their sentences and those of their objects, Eq. 14 with CLIP's text tower.  Every sentence
        is embedded once and remembered.

        Args:
            vocabulary: the new words (or a published name, or a YAML file).
            tokenizer: CLIP's tokenizer; by default the one saved beside the model, else that of
                ``config.tokenizer``.

        Raises:
            HoiError: if no tokenizer can be found, the model carries no CLIP, or its classifier is learned.
        """
        vocabulary = HoiVocabulary.coerce(vocabulary)
        if self.clip is None:
            raise HoiError("this model was converted without CLIP and keeps its words: convert it again with --clip")
        learned = self.config.interaction_classifier == "learned"
        if learned and self.vocabulary is not None:
            raise HoiError("this model learned its classifier instead of reading sentences: it keeps its words")
        if tokenizer is not None or self.text_embedder is None:
            self.text_embedder = TextEmbedder(tokenizer or self.config.tokenizer)
        weight = self.interactions.weight
        sentences = (*vocabulary.interaction_prompts, *vocabulary.object_prompts)
        embedded = self.text_embedder(self.clip, sentences).to(weight)  # (K + C + 1, D)
        interactions, objects = embedded.split([vocabulary.num_interactions, len(vocabulary.objects) + 1])
        if self.verbs is not None:
            rows = verb_directions(interactions, objects, vocabulary)
            if self.vocabulary is not None:
                self._verb_rows |= dict(zip(self.vocabulary.verbs, self.verbs.weight.detach().clone(), strict=True))
            for i, verb in enumerate(vocabulary.verbs):
                if verb in self._verb_rows:
                    rows[i] = self._verb_rows[verb]
            self.verbs.resize(rows, torch.from_numpy(vocabulary.verb_to_interaction))
        if not learned:
            self.interactions.resize(interactions)
        self.objects.resize(objects)
        self.config.take_sizes(vocabulary)
        self.vocabulary = vocabulary
        return self

    # --- files -----------------------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Write config.json, model.safetensors, vocabulary.json and, where known, the tokenizer."""
        if self.vocabulary is None:
            raise HoiError("the model has no vocabulary yet: call set_vocabulary before saving it")
        for part in (self.config.detector, self.config.clip):
            part._name_or_path = ""  # where its weights came from is a path of this machine
        super().save_pretrained(save_directory, **kwargs)
        self.vocabulary.save(save_directory)
        if self.text_embedder is not None:
            self.text_embedder.save_tokenizer(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> HoiClipModel:  # type: ignore[override]
        """Load a folder or hub id written by :meth:`save_pretrained`.

        Raises:
            HoiError: if the folder has no vocabulary.json or it does not fit the weights.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        source = str(pretrained_model_name_or_path)
        model.vocabulary = HoiVocabulary.from_pretrained(source)
        if model.vocabulary.num_interactions != model.config.num_interactions:
            raise HoiError(
                f"{source}: vocabulary.json does not belong to these weights; convert or save the model again"
            )
        model.freeze_frozen()  # loading forgets some of it
        model.text_embedder = TextEmbedder.beside(source, fallback=model.config.tokenizer)
        return loaded
