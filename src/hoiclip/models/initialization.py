"""Fresh parameters as the published program draws them, each kind of layer by its place in the model.

In the encoder and the decoders matrices are Xavier-uniform, where queries, keys and values count as one (3W, W)
matrix; biases of attention are 0, all others uniform within 1 / sqrt(fan-in).  Everywhere else weights and biases are
uniform within 1 / sqrt(fan-in), torch's default.  Queries are normal, pair positions uniform in 0..1.

transformers' functions leave alone what was read from a file.
"""

from __future__ import annotations

import math

from torch import nn
from transformers import initialization as init
from transformers.models.detr.modeling_detr import DetrCrossAttention, DetrSelfAttention

from hoiclip.models.classifiers import TextClassifier, VerbClassifier
from hoiclip.models.instance_detector import InstanceDetector
from hoiclip.models.interaction_decoder import GenVlktDecoder, KnowledgeDecoder, UnusedParameters


def draw_layer(module: nn.Module) -> bool:
    """Draw the parameters of one layer as they are outside encoder and decoders; False for a kind not known here."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        _draw_within_fan_in(module)
    elif isinstance(module, nn.Embedding):
        init.normal_(module.weight)
    elif isinstance(module, (TextClassifier, VerbClassifier)):
        _draw_directions(module)
    else:
        return False
    return True


def draw_parts(model: nn.Module) -> None:
    """Draw anew, all layers having been drawn, what encoder and decoders draw otherwise, and the pair positions.

    Source: the published program (the paper is silent).
    """
    for part in model.modules():
        if isinstance(part, InstanceDetector):
            init.uniform_(part.pair_positions.weight, 0.0, 1.0)
            _draw_transformer(part.encoder)
            _draw_transformer(part.decoder)
        elif isinstance(part, KnowledgeDecoder):
            _draw_transformer(part)
        elif isinstance(part, GenVlktDecoder):
            _draw_transformer(part.layers)
        elif isinstance(part, UnusedParameters):
            init.uniform_(part.interaction_queries.weight, 0.0, 1.0)


def _draw_within_fan_in(layer: nn.Linear | nn.Conv2d) -> None:
    bound = 1 / math.sqrt(layer.weight[0].numel())
    init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        init.uniform_(layer.bias, -bound, bound)


def _draw_transformer(part: nn.Module) -> None:
    """Xavier-uniform matrices; biases stay as drawn, but those of attention, which are 0."""
    for module in part.modules():
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
    for module in part.modules():
        if isinstance(module, (DetrSelfAttention, DetrCrossAttention)):
            projections = (module.q_proj, module.k_proj, module.v_proj)
            bound = math.sqrt(6 / (4 * module.q_proj.in_features))  # Xavier of the fused (3W, W) matrix
            for projection in projections:
                init.uniform_(projection.weight, -bound, bound)
            for projection in (*projections, module.o_proj):
                init.zeros_(projection.bias)


def _draw_directions(classifier: TextClassifier | VerbClassifier) -> None:
    """Rows that hold until sentences are embedded, every class its own direction; the bias as of any linear layer."""
    weight = classifier.weight
    if not getattr(weight, "_is_hf_initialized", False):
        init.normal_(weight)
        weight.copy_(nn.functional.normalize(weight, dim=-1))
    if isinstance(classifier, TextClassifier) and classifier.bias is not None:
        bound = 1 / math.sqrt(weight.shape[1])
        init.uniform_(classifier.bias, -bound, bound)
