"""The outputs of the model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


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
