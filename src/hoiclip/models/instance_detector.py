"""The instance detector: DETR with two groups of queries (section 3.1).

B images, N queries, S cells of the feature map, L decoder layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.detr.modeling_detr import (
    DetrConvEncoder,
    DetrDecoderLayer,
    DetrEncoderLayer,
    DetrFrozenBatchNorm2d,
    DetrSinePositionEmbedding,
)
from transformers.models.resnet.modeling_resnet import ResNetConvLayer, ResNetShortCut

from hoiclip.models.configuration import HoiClipConfig

# Added to attention logits of padded cells: zero after softmax in every precision, never NaN.
MASKED_LOGIT = -1e4


class MLP(nn.Sequential):
    """Linear layers with ReLU between them: box heads and verb adapter."""

    def __init__(self, width_in: int, width: int, width_out: int, layers: int = 3) -> None:
        widths = [width_in, *[width] * (layers - 1), width_out]
        parts: list[nn.Module] = []
        for i in range(layers):
            parts += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU()]
        super().__init__(*parts[:-1])


class FrozenBatchNorm(DetrFrozenBatchNorm2d):
    """transformers' frozen batch norm, which says what it multiplies by and adds."""

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of the norm, x * scale + shift: (C,) each."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return scale, self.bias - self.running_mean * scale


class ConvolutionLayer(nn.Module):
    """A convolution of the ResNet, its frozen batch norm and its activation.

    Scale and shift of the norm are given to the convolution: no pass over the features, and no copy of them for
    the backward pass.

    Args:
        layer: transformers' layer or shortcut, whose convolution and activation are taken.
    """

    def __init__(self, layer: ResNetConvLayer | ResNetShortCut) -> None:
        super().__init__()
        self.convolution = layer.convolution
        self.normalization = FrozenBatchNorm(layer.convolution.out_channels)
        self.activation = getattr(layer, "activation", nn.Identity())

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        convolution, (scale, shift) = self.convolution, self.normalization.scale_and_shift()
        weight, stride = convolution.weight * scale[:, None, None, None], convolution.stride
        if convolution.kernel_size == (1, 1) and torch.is_grad_enabled():  # backward with a stride is slow
            features, stride = features[:, :, :: stride[0], :: stride[1]], (1, 1)
        features = nn.functional.conv2d(features, weight, shift, stride, convolution.padding)
        return self.activation(features)


def use_own_layers(module: nn.Module) -> None:
    """Put our layers in place of those of a fresh ResNet, activations write over their input; names stay."""
    for name, child in module.named_children():
        if isinstance(child, (ResNetConvLayer, ResNetShortCut)):
            child = ConvolutionLayer(child)
            setattr(module, name, child)
        elif isinstance(child, nn.ReLU):
            child.inplace = True  # a convolution or a sum does not need what it gave
        use_own_layers(child)


# --- section 3.1: where are the people and the objects? -------------------------------------------


class InstanceDetector(nn.Module):
    """DETR with two groups of queries, N for humans and N for objects, that share a pair position."""

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__()
        detr = config.detector
        width = detr.d_model
        self.backbone = DetrConvEncoder(detr)
        use_own_layers(self.backbone)
        self.input_projection = nn.Conv2d(self.backbone.intermediate_channel_sizes[-1], width, kernel_size=1)
        self.position_embedding = DetrSinePositionEmbedding(width // 2, normalize=True)
        self.encoder = nn.ModuleList(DetrEncoderLayer(detr) for _ in range(detr.encoder_layers))
        self.human_queries = nn.Embedding(config.num_queries, width)
        self.object_queries = nn.Embedding(config.num_queries, width)
        self.pair_positions = nn.Embedding(config.num_queries, width)
        self.decoder = nn.ModuleList(DetrDecoderLayer(detr) for _ in range(detr.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.human_box_head = MLP(width, width, 4)
        self.object_box_head = MLP(width, width, 4)
        self.object_projection = nn.Linear(width, config.clip.projection_dim)
        self.object_norm = nn.LayerNorm(config.clip.projection_dim)

    def encode(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images to V_d.

        Args:
            pixel_values: (B, 3, H, W) ImageNet-normalised.
            pixel_mask: (B, H, W), 1 on the image, 0 on padding.

        Returns:
            memory (B, S, 256), positions (B, S, 256), padding mask to add to attention logits
            (B, 1, 1, S).
        """
        if torch.is_grad_enabled():  # training; backends choose a layout of their own
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        features, mask = self.backbone(pixel_values, pixel_mask)[-1]  # (B, 2048, h, w), (B, h, w)
        positions = self.position_embedding(features.shape, features.device, pixel_values.dtype, mask)
        positions = positions.flatten(2).transpose(1, 2)  # (B, 256, h, w) -> (B, S, 256)
        memory = self.input_projection(features).flatten(2).transpose(1, 2)  # (B, S, 256)
        padding_mask = torch.zeros(mask.shape, dtype=memory.dtype, device=mask.device)
        padding_mask = padding_mask.masked_fill(~mask, MASKED_LOGIT).flatten(1)[:, None, None, :]
        for layer in self.encoder:
            memory = layer(memory, padding_mask, spatial_position_embeddings=positions)
        return memory, positions, padding_mask

    def decode(self, memory: Tensor, positions: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Decode V_d to O_h and O_o, each (L, B, N, 256): every decoder layer after the shared final norm.

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
                encoder_attention_mask=padding_mask,
            )
            states.append(self.decoder_norm(state))
        human, objects = torch.stack(states).chunk(2, dim=2)  # (L, B, 2N, 256) -> 2 x (L, B, N, 256)
        return human, objects

    def object_features(self, objects: Tensor) -> Tensor:
        """(..., 256) -> (..., D), unit length, to be compared with object sentences."""
        return nn.functional.normalize(self.object_norm(self.object_projection(objects)), dim=-1)
