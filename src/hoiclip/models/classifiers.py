"""Classifiers: interactions against sentences (section 3.4), verbs against verb vectors (section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hoiclip.models.configuration import HoiClipConfig
from hoiclip.models.instance_detector import MLP


class TextClassifier(nn.Module):
    """Rows are unit-length embeddings of sentences."""

    def __init__(self, classes: int, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(classes)) if bias else None

    def resize(self, weight: Tensor, *, keep_bias: bool = False) -> None:
        """Take other sentences: (classes, D).  The bias starts again at zero, unless it is kept and its size fits."""
        self.weight = nn.Parameter(weight.clone(), requires_grad=self.weight.requires_grad)
        if self.bias is not None and not (keep_bias and len(self.bias) == len(weight)):
            self.bias = nn.Parameter(weight.new_zeros(len(weight)), requires_grad=self.bias.requires_grad)

    def forward(self, features: Tensor, columns: Tensor | None = None, use_bias: bool = True) -> Tensor:
        """(..., D) unit length -> (..., classes), or the classes named in ``columns``."""
        weight = self.weight if columns is None else self.weight[columns]
        bias: Tensor | None = self.bias if use_bias else None
        if bias is not None and columns is not None:
            bias = bias[columns]
        return nn.functional.linear(features, weight, bias)


class VerbClassifier(nn.Module):
    """Verb adapter (Eq. 15) and verb classifier (Eq. 16), spread over the interactions of a verb."""

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__()
        width = config.clip.projection_dim
        self.adapter = MLP(width, width // 2, width)
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
