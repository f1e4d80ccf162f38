"""The baseline of ``hoiclip bench``: DETR and CLIP of transformers, as people run them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionModelWithProjection, DetrConfig, DetrForObjectDetection


class PlainComposition(nn.Module):
    """DETR and CLIP's image tower as transformers has them, without anything of ours: a lower bound.

    The sizes are those of the model under test: three decoder layers, as many queries as it has boxes.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        sizes = {**config.detector.to_dict(), "num_queries": 2 * config.num_queries}
        self.detector = DetrForObjectDetection(DetrConfig(**sizes))
        self.clip = CLIPVisionModelWithProjection(config.clip.vision_config)

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, clip_pixel_values: torch.Tensor) -> Any:
        """Inputs as of :class:`HoiClipModel`; both outputs as transformers gives them."""
        return self.detector(pixel_values, pixel_mask), self.clip(clip_pixel_values)
