"""Layers that compute in bfloat16 between float32 values, so that sums of residual branches and norms lose nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class HalfLinear(nn.Module):
    """A linear layer in bfloat16.

    Args:
        linear: whose rows it takes.
        out: type of what it gives.
    """

    def __init__(self, linear: nn.Linear, out: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.bfloat16())
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.bfloat16())
        self.out = out

    def forward(self, features: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return nn.functional.linear(features.bfloat16(), self.weight, self.bias).to(self.out)


class HalfAttention(nn.Module):
    """DETR's self attention with all of its products in bfloat16.

    Args:
        attention: a ``DetrSelfAttention``; becomes part of this.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(attention, name, HalfLinear(getattr(attention, name), torch.bfloat16))
        attention.o_proj = HalfLinear(attention.o_proj)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """As the attention itself: (B, S, D) float32 -> the same, and its map if asked for."""
        mask = None if attention_mask is None else attention_mask.bfloat16()
        return self.attention(hidden_states=hidden_states, attention_mask=mask, **options)


def halve_products(module: nn.Module) -> None:
    """Put a :class:`HalfLinear` in the place of each linear layer in ``module``."""
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, HalfLinear(layer))
