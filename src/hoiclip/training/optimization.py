"""Learning rates by part of the model, and the moving average of the weights.

Paper section 4.1: AdamW, 1e-4 for 60 epochs and a tenth of it for the last 30, weight decay 1e-4;
the backbone learns at a tenth of everything else, as in the published code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hoiclip.models.modeling import HoiClipModel


def optimizer_groups(model: HoiClipModel, learning_rate: float, backbone_learning_rate: float) -> list[dict[str, Any]]:
    """Parameter groups of AdamW; weight decay is the same for all.

    Everything that is trained learns at ``learning_rate``, but the ResNet at
    ``backbone_learning_rate``, and so do GEN-VLKT's text classifiers, which start from CLIP.
    Groups without parameters are left out.
    """
    members: dict[str, list[nn.Parameter]] = {"rest": [], "backbone": [], "classifiers": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_group_of(name)].append(parameter)
    rates = {"rest": learning_rate, "backbone": backbone_learning_rate, "classifiers": backbone_learning_rate}
    return [{"name": name, "params": found, "lr": rates[name]} for name, found in members.items() if found]


def _group_of(name: str) -> str:
    if name.startswith("detector.backbone."):
        return "backbone"
    return "classifiers" if name.startswith(("interactions.", "objects.")) else "rest"


class MovingAverage:
    """Exponential moving average of the trained weights.

    Args:
        model: whose trainable parameters are followed.
        decay: share of the average kept at each step; early on less, (1 + step) / (10 + step).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.average = {n: p.detach().clone().float() for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after an optimiser step."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = dict(model.named_parameters())
        for name, average in self.average.items():
            average.lerp_(current[name].detach().to(average), 1 - keep)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the average and the model's weights; a second call undoes the first."""
        current = dict(model.named_parameters())
        for name, average in self.average.items():
            held = current[name].detach().clone()
            current[name].copy_(average)
            average.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps = state["steps"]
        loaded: dict[str, Tensor] = state["average"]
        for name, average in self.average.items():
            average.copy_(loaded[name])
