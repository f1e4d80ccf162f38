"""The model as a fixed function: the same outputs as :class:`HoiClipModel`, with less work.

What training needs is left out (text tower, unused weights, layers' own predictions) and what does
not change between images is done once: frozen batch norms are folded into their convolutions, the
temperatures into the rows of the classifiers, and the verb classifier with its verb-to-interaction
matrix becomes one matrix.  Every backend but ``torch`` runs this function, and an exported folder
holds nothing else.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from hoiclip.backends.bfloat16_layers import HalfAttention, halve_products
from hoiclip.backends.manifest import INPUTS, OUTPUTS
from hoiclip.models.instance_detector import ConvolutionLayer
from hoiclip.models.interaction_decoder import GenVlktDecoder
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.outputs import HoiClipOutput


class InferenceGraph(nn.Module):
    """Images to boxes and logits, without a branch that depends on data.

    Args:
        model: read, not changed.  What it learns later does not reach the graph.
        precision: what is in bfloat16, where it pays and harms least.  "bf16": the ResNet, three quarters of
            all multiplications; "int8": besides what becomes 8 bits wide later, the interaction decoder, CLIP's
            feed-forward layers and the attention of DETR's encoder; else nothing.

    Attributes:
        input_names: what :meth:`forward` takes; GEN-VLKT needs no CLIP.
        output_names: what it returns; GEN-VLKT has no zero-shot logits.
    """

    def __init__(self, model: HoiClipModel, *, precision: str = "fp32") -> None:
        super().__init__()
        self.detector = copy.deepcopy(model.detector)
        fold_batch_norms(self.detector)
        self.detector.backbone = Backbone(self.detector.backbone, half=precision == "bf16")
        self.decoder = copy.deepcopy(model.interaction_decoder)
        # boxes and objects come from the instance layer of the same number as the last interaction layer
        self.last = model.config.interaction_layers - 1
        self.input_names, self.output_names = self.names(model)
        has_clip = "clip_pixel_values" in self.input_names
        self.clip_tower = self.clip_projection = self.verb_adapter = None
        if has_clip:
            assert model.clip is not None
            self.clip_tower = copy.deepcopy(model.clip.vision_model)
            embeddings = self.clip_tower.embeddings
            embeddings.patch_embedding = PatchEmbedding(embeddings.patch_embedding)
            self.clip_projection = copy.deepcopy(model.clip.visual_projection)
        use_bias = not model.config.unseen_interactions or not has_clip
        with torch.no_grad():
            scale, object_scale = model.logit_scale.exp(), model.object_logit_scale.exp()
            interactions, objects, verbs = model.interactions, model.objects, model.verbs
            bias = interactions.bias if use_bias else None
            self.interaction_head = _head(scale * interactions.weight, None if bias is None else scale * bias)
            self.object_head = _head(
                object_scale * objects.weight, None if objects.bias is None else object_scale * objects.bias
            )
            if has_clip:
                self.zero_shot_head = _head(interactions.weight, None)  # Eq. 17
            if verbs is not None:
                self.verb_adapter = copy.deepcopy(verbs.adapter)
                spread = verbs.verb_to_interaction.to(verbs.weight)  # (V, K)
                self.verb_head = _head(model.config.verb_weight * scale * (spread.T @ verbs.weight), None)  # Eq. 16, 19
        if precision == "int8":
            self._halve()
        self.requires_grad_(False).eval()

    def _halve(self) -> None:
        """Let products be in bfloat16 where that saves time and hardly moves an answer (benchmarks/int8.py)."""
        halve_products(self.decoder)
        for layer in self.detector.encoder:
            layer.self_attn = HalfAttention(layer.self_attn)
        if self.clip_tower is not None:
            for layer in self.clip_tower.encoder.layers:
                halve_products(layer.mlp)  # its attention would cost 4 of the best 100 triplets

    @staticmethod
    def names(model: HoiClipModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Inputs and outputs that a graph of this model has."""
        has_clip = model.config.variant != "gen-vlkt"
        return (INPUTS, OUTPUTS) if has_clip else (INPUTS[:2], OUTPUTS[:4])

    def forward(
        self, pixel_values: Tensor, pixel_mask: Tensor, clip_pixel_values: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Shapes and meaning as in :class:`HoiClipOutput`, in the order of ``output_names``."""
        memory, positions, padding_mask = self.detector.encode(pixel_values, pixel_mask)
        human, objects = self.detector.decode(memory, positions, padding_mask)  # 2 x (L, B, N, 256)
        zero_shot: tuple[Tensor, ...] = ()
        if isinstance(self.decoder, GenVlktDecoder):
            features = self.decoder(human, objects, memory, positions, padding_mask)[-1]  # (B, N, D)
        else:
            assert self.clip_tower is not None
            assert self.clip_projection is not None
            tokens = self.clip_tower.post_layernorm(self.clip_tower(clip_pixel_values).last_hidden_state)  # V_s
            streams = self.decoder.streams(tokens, memory, padding_mask)
            states = self.decoder(self.decoder.queries(human, objects), streams)[-1]
            features = self.clip_projection(states)  # (B, N, D), Eq. 10
            seen = nn.functional.normalize(self.clip_projection(tokens[:, 0]), dim=-1)  # V_g
            zero_shot = (self.zero_shot_head(seen),)
        logits = self.interaction_head(nn.functional.normalize(features, dim=-1))  # (B, N, K), Eq. 18
        if self.verb_adapter is not None:
            logits = logits + self.verb_head(nn.functional.normalize(self.verb_adapter(features), dim=-1))
        return (
            self.detector.human_box_head(human[self.last]).sigmoid(),
            self.detector.object_box_head(objects[self.last]).sigmoid(),
            self.object_head(self.detector.object_features(objects[self.last])),
            logits,
            *zero_shot,
        )

    def example(self, height: int = 96, width: int = 128, batch: int = 2) -> dict[str, Tensor]:
        """Inputs of the right kinds, to trace with."""
        inputs = {
            "pixel_values": torch.zeros(batch, 3, height, width),
            "pixel_mask": torch.ones(batch, height, width, dtype=torch.int64),
        }
        if self.clip_tower is not None:
            side = self.clip_tower.embeddings.image_size
            inputs["clip_pixel_values"] = torch.zeros(batch, 3, side, side)
        return inputs


class Backbone(nn.Module):
    """The folded ResNet as DETR's backbone: only its last feature map, no pooling.

    Args:
        backbone: a folded ``DetrConvEncoder``; becomes part of this.
        half: run it in bfloat16.
    """

    def __init__(self, backbone: Any, *, half: bool) -> None:
        super().__init__()
        self.stem = backbone.model.embedder
        self.stages = backbone.model.encoder.stages
        if half:
            self.to(torch.bfloat16)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(B, 3, H, W), (B, H, W) -> features (B, 2048, h, w) float32 and their mask (B, h, w)."""
        features = pixel_values.to(next(self.parameters()).dtype)
        for part in (self.stem, *self.stages):
            features = part(features)
        mask = pixel_mask.index_select(1, _nearest(pixel_mask.shape[1], features.shape[2], pixel_mask.device))
        mask = mask.index_select(2, _nearest(pixel_mask.shape[2], features.shape[3], pixel_mask.device))
        return [(features.float(), mask > 0)]


class PatchEmbedding(nn.Module):
    """CLIP's patch embedding, each row of a patch summed on its own.

    One sum of 3072 products (three channels, 32x32 pixels) rounds more than all the rest of the graph in float32;
    sums of 96 are off by a fifth of it, take no longer, and nearly halve the error of the interaction logits
    (benchmarks/double_precision.py).

    Args:
        convolution: whose stride is its kernel's size, without bias.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        width, channels, self.side, _ = convolution.weight.shape
        weight = convolution.weight.detach().permute(2, 1, 3, 0)  # (D, 3, p, p) -> (p, 3, p, D)
        self.weight = nn.Parameter(weight.reshape(self.side, channels * self.side, width).clone())

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, S / p, S / p)."""
        batch, channels, height, width = pixel_values.shape
        rows, columns = height // self.side, width // self.side
        patches = pixel_values.reshape(batch, channels, rows, self.side, columns, self.side)
        patches = patches.permute(3, 0, 2, 4, 1, 5)  # (p, B, rows, columns, 3, p)
        patches = patches.reshape(self.side, batch * rows * columns, channels * self.side)
        embedded = (patches @ self.weight).sum(0)  # (B * rows * columns, D)
        return embedded.reshape(batch, rows, columns, -1).permute(0, 3, 1, 2)


def _nearest(size: int, cells: int, device: torch.device) -> Tensor:
    """Pixel index of each cell, as in torch's nearest interpolation; runtimes round theirs differently."""
    return (torch.arange(cells, device=device).float() * (size / cells)).floor().long()


def input_shapes(model: HoiClipModel) -> dict[str, list[int | str]]:
    """Shapes of the model's graph inputs by name; a word stands for a size that is free."""
    side = model.config.clip.vision_config.image_size
    shapes: dict[str, list[int | str]] = {
        "pixel_values": ["batch", 3, "height", "width"],
        "pixel_mask": ["batch", "height", "width"],
        "clip_pixel_values": ["batch", 3, side, side],
    }
    return {name: shapes[name] for name in InferenceGraph.names(model)[0]}


def as_output(names: tuple[str, ...] | list[str], tensors: tuple[Tensor, ...] | list[Tensor]) -> HoiClipOutput:
    """Put a graph's outputs under the names the model uses."""
    found: dict[str, Any] = dict(zip(names, tensors, strict=True))
    return HoiClipOutput(**found)


@torch.no_grad()
def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold each frozen batch norm into the convolution before it; changes ``module``.

    W' = W * scale, b' = shift, in double precision.
    """
    for name, child in module.named_children():
        if not isinstance(child, ConvolutionLayer):
            fold_batch_norms(child)
            continue
        scale, shift = child.normalization.double().scale_and_shift()
        convolution = child.convolution
        weight = convolution.weight.double() * scale[:, None, None, None]
        convolution.weight = nn.Parameter(weight.to(convolution.weight), requires_grad=False)
        convolution.bias = nn.Parameter(shift.to(convolution.weight), requires_grad=False)
        setattr(module, name, nn.Sequential(convolution, child.activation))
    return module


def _head(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer that holds these rows."""
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    head.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        head.bias = nn.Parameter(bias.detach().clone())
    return head
