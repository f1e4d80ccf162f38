"""Matching and losses: predictions are assigned to annotated pairs, then compared with them (section 3.5).

Every decoder layer is matched and compared by itself; all layers and images go through one cost tensor,
so that the only loop left is over the assignment problems.

L layers, B images, N queries, T the largest number of annotated pairs in an image, K interactions,
C objects; M matched pairs in all layers and images together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, distributed, nn

from hoiclip.errors import HoiError

Targets = Sequence[Mapping[str, Tensor]]
Matches = list[tuple[Tensor, Tensor]]
PROBABILITY_FLOOR = 1e-4  # interaction probabilities are kept this far from 0 and 1
NON_FINITE_COST = 1e9  # of a prediction that is not finite: assignable, so that the loss reports it


class LossConfig(Protocol):
    """The configuration of a model, as far as the criterion needs it; :class:`hoiclip.HoiClipConfig` explains each."""

    variant: str
    num_objects: int
    num_interactions: int
    unseen_interactions: list[int]
    cost_interaction: float
    cost_object: float
    cost_box: float
    cost_giou: float
    weight_interaction: float
    weight_object: float
    weight_box: float
    weight_giou: float
    eos_weight: float
    focal_alpha: float
    distillation_weight: float


class PairPredictions(Protocol):
    """The predictions of a model for B images; :class:`hoiclip.HoiClipOutput` gives the shapes."""

    human_boxes: Tensor | None
    object_boxes: Tensor | None
    object_logits: Tensor | None
    interaction_logits: Tensor | None
    interaction_features: Tensor | None
    clip_features: Tensor | None
    auxiliary_outputs: list[dict[str, Tensor]] | None


@dataclass
class LayerPredictions:
    """Predictions of L layers, the last one last; at least float32."""

    human_boxes: Tensor  # (L, B, N, 4) cxcywh
    object_boxes: Tensor  # (L, B, N, 4) cxcywh
    object_logits: Tensor  # (L, B, N, C + 1)
    interaction_logits: Tensor  # (L, B, N, K)

    def of_images(self, rows: Tensor) -> LayerPredictions:
        """Those of some images of the batch."""
        return LayerPredictions(*(value[:, rows.to(value.device)] for value in vars(self).values()))


@dataclass
class PaddedTargets:
    """Annotated pairs of B images, padded to the longest list."""

    human_boxes: Tensor  # (B, T, 4) cxcywh
    object_boxes: Tensor  # (B, T, 4) cxcywh, all zero where the object is absent
    object_labels: Tensor  # (B, T) int64
    interaction_labels: Tensor  # (B, T, K)
    counts: list[int]  # pairs of each image

    def of_images(self, rows: Tensor) -> PaddedTargets:
        """Those of some images of the batch."""
        columns = {name: value[rows.to(value.device)] for name, value in vars(self).items() if name != "counts"}
        return PaddedTargets(**columns, counts=[self.counts[i] for i in rows.tolist()])


class HoiCriterion(nn.Module):
    """Hungarian matching and the losses of HOICLIP and GEN-VLKT.

    The sums are divided by what is counted over all processes, so that N processes with a share of
    the batch each have, after the usual averaging of gradients, the gradient of one process with
    the whole batch.

    Args:
        config: costs, weights and class counts.
        processes: None for the above; P to divide as the published programs do on P processes: each has a
            contiguous share of the batch and counts positive labels, object weights and present objects
            in its own share alone, and the mean is taken.  A real process takes its part of the P.
    """

    def __init__(self, config: LossConfig, processes: int | None = None) -> None:
        super().__init__()
        self.config, self.processes = config, processes
        unseen = set(config.unseen_interactions)
        self.seen_interactions = [k for k in range(config.num_interactions) if k not in unseen]

    @torch.compiler.disable  # the assignment is no tensor program: a compiled model stops here
    def forward(self, out: PairPredictions, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare a batch with its targets.

        Args:
            out: what the model predicts; its auxiliary layers count as much as the last one.
            targets: one dict per image: ``human_boxes``, ``object_boxes`` (n, 4) cxcywh 0..1, an absent
                object being all zero; ``object_labels`` (n,) int64; ``interaction_labels`` (n, K), or
                (n, seen) in a zero-shot setting.

        Returns:
            The weighted sum, and its unweighted terms by name: the last layer's without suffix, the
            others' with ``_0``, ``_1``, ...

        Raises:
            HoiError: if the targets do not fit the predictions.
        """
        layers, pairs = self._align(out, targets)
        config, place = self.config, layers.human_boxes.device.type
        with torch.autocast(place, enabled=False):  # matching and losses stay in float32 under mixed precision
            terms = self._terms(layers, pairs) if self.processes is None else self._terms_of_shares(layers, pairs)
            if config.variant == "gen-vlkt" and config.distillation_weight > 0 and out.clip_features is not None:
                terms["loss_feat_mimic"] = self._distillation(out, out.clip_features)
        weights = self.weights()
        loss = torch.stack([weights[name] * term.sum() for name, term in terms.items()]).sum()
        depth = len(layers.human_boxes)
        suffixes = ["", *(f"_{i}" for i in range(depth - 1))]
        order = [depth - 1, *range(depth - 1)]
        named = {f"{name}{s}": term[i] for s, i in zip(suffixes, order, strict=True) for name, term in terms.items()}
        return loss, named

    def weights(self) -> dict[str, float]:
        """The factor of each term, the same on every layer."""
        config = self.config
        return {
            "loss_hoi_labels": config.weight_interaction,
            "loss_obj_ce": config.weight_object,
            "loss_sub_bbox": config.weight_box,
            "loss_obj_bbox": config.weight_box,
            "loss_sub_giou": config.weight_giou,
            "loss_obj_giou": config.weight_giou,
            "loss_feat_mimic": config.distillation_weight,
        }

    def match(self, out: PairPredictions, targets: Targets) -> Matches:
        """Match queries to annotated pairs, on the last layer.

        Returns:
            One (query_index, target_index) per image, int64, by ascending query.  An image with more
            pairs than queries keeps the cheapest assignment of all its queries.
        """
        layers, pairs = self._align(out, targets, auxiliary=False)
        return self._match(layers, pairs)[0]

    # --- matching ----------------------------------------------------------------------------------

    @torch.no_grad()
    def _match(self, layers: LayerPredictions, pairs: PaddedTargets) -> list[Matches]:
        """For each layer, one (query_index, target_index) per image."""
        costs = self._costs(layers, pairs).nan_to_num(NON_FINITE_COST, NON_FINITE_COST, -NON_FINITE_COST).cpu().numpy()
        return [[assign(cost[:, :count]) for cost, count in zip(layer, pairs.counts, strict=True)] for layer in costs]

    def _costs(self, layers: LayerPredictions, pairs: PaddedTargets) -> Tensor:
        """The matching cost of every query and annotated pair, (L, B, N, T)."""
        config = self.config
        target = pairs.interaction_labels  # (B, T, K)
        probabilities = layers.interaction_logits.sigmoid()  # (L, B, N, K)
        positive_cost = probabilities @ target.mT / (target.sum(-1)[:, None, :] + 1e-4)  # (L, B, N, T)
        negative_cost = (1 - probabilities) @ (1 - target).mT / ((1 - target).sum(-1)[:, None, :] + 1e-4)
        interaction_cost = -(positive_cost + negative_cost) / 2

        labels = pairs.object_labels[None, :, None, :].expand(*probabilities.shape[:3], -1)  # (L, B, N, T)
        object_cost = -layers.object_logits.softmax(-1).gather(-1, labels)

        present = (pairs.object_boxes != 0).any(-1)[:, None, :]  # (B, 1, T)
        human_boxes, human_target = layers.human_boxes[..., None, :], pairs.human_boxes[:, None]
        object_boxes, object_target = layers.object_boxes[..., None, :], pairs.object_boxes[:, None]
        human_l1 = (human_boxes - human_target).abs().sum(-1)
        object_l1 = (object_boxes - object_target).abs().sum(-1) * present
        human_giou = -generalized_box_iou(cxcywh_to_xyxy(human_boxes), cxcywh_to_xyxy(human_target))
        object_giou = (
            -generalized_box_iou(cxcywh_to_xyxy(object_boxes), cxcywh_to_xyxy(object_target)) + human_giou * ~present
        )

        return (
            config.cost_interaction * interaction_cost
            + config.cost_object * object_cost
            + config.cost_box * torch.maximum(human_l1, object_l1)
            + config.cost_giou * torch.maximum(human_giou, object_giou)
        )

    # --- losses ------------------------------------------------------------------------------------

    def _terms_of_shares(self, layers: LayerPredictions, pairs: PaddedTargets) -> dict[str, Tensor]:
        """The mean over shares of the batch, each with divisors of its own, by name, each (L,)."""
        total, world = total_over_processes(layers.human_boxes.new_tensor([sum(pairs.counts)]))
        wanted = max(1, (self.processes or 1) // world)
        shares = [rows for rows in torch.arange(len(pairs.counts)).tensor_split(wanted) if len(rows)]
        count = (total / (world * len(shares))).clamp(min=1)  # the one number the published programs share

        def own_divisors(_: Tensor, positives: Tensor, presence: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
            return count, positives.clamp(min=1), presence + 1e-4, weight

        terms = [self._terms(layers.of_images(rows), pairs.of_images(rows), own_divisors) for rows in shares]
        return {name: torch.stack([term[name] for term in terms]).mean(0) for name in terms[0]}

    def _terms(
        self,
        layers: LayerPredictions,
        pairs: PaddedTargets,
        divisors: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]] | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted terms by name, each (L,); ``divisors`` makes them of the counts, by default over all processes."""
        config = self.config
        depth, batch, queries, _ = layers.human_boxes.shape
        device = layers.human_boxes.device
        layer, image, query, target = (rows.to(device) for rows in _flatten(self._match(layers, pairs)))  # 4 x (M,)

        def per_layer(values: Tensor) -> Tensor:
            return values.new_zeros(depth).index_add(0, layer, values)  # (M,) -> (L,)

        # what each query should predict: "nothing", or its pair
        objects = torch.full((depth, batch, queries), config.num_objects, device=device)
        objects[layer, image, query] = pairs.object_labels[image, target]
        importance = torch.where(objects == config.num_objects, config.eos_weight, 1.0)  # (L, B, N)
        interactions = torch.zeros_like(layers.interaction_logits)
        interactions[layer, image, query] = pairs.interaction_labels[image, target]

        human_target = pairs.human_boxes[image, target]  # (M, 4)
        object_target = pairs.object_boxes[image, target]
        human_predicted = layers.human_boxes[layer, image, query]
        object_predicted = layers.object_boxes[layer, image, query]
        present = (object_target != 0).any(-1).to(human_predicted)  # (M,)

        count, positives, presence, weight = (divisors or self._count)(
            human_predicted.new_full((depth,), sum(pairs.counts)),
            interactions.sum((1, 2, 3)),
            per_layer(present),
            importance.to(human_predicted).sum((1, 2)),
        )

        log_probabilities = layers.object_logits.log_softmax(-1).gather(-1, objects[..., None]).squeeze(-1)
        cross_entropy = -(importance * log_probabilities).sum((1, 2))
        human_l1 = (human_predicted - human_target).abs().sum(-1)
        object_l1 = (object_predicted - object_target).abs().sum(-1) * present
        human_giou = 1 - generalized_box_iou(cxcywh_to_xyxy(human_predicted), cxcywh_to_xyxy(human_target))
        object_giou = (
            1 - generalized_box_iou(cxcywh_to_xyxy(object_predicted), cxcywh_to_xyxy(object_target))
        ) * present
        return {
            "loss_hoi_labels": focal(layers.interaction_logits, interactions, config.focal_alpha).sum((1, 2, 3))
            / positives,
            "loss_obj_ce": cross_entropy / weight,
            "loss_sub_bbox": per_layer(human_l1) / count,
            "loss_obj_bbox": per_layer(object_l1) / presence,
            "loss_sub_giou": per_layer(human_giou) / count,
            "loss_obj_giou": per_layer(object_giou) / presence,
        }

    def _count(self, pairs: Tensor, positives: Tensor, presence: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Local counts (L,) to divisors (L,): totals over all processes, shared equally among them."""
        totals, processes = total_over_processes(torch.stack([pairs, positives, presence, weight]))
        pairs, positives, presence, weight = totals
        divisors = (pairs.clamp(min=1), positives.clamp(min=1), presence + 1e-4, weight)
        return tuple(divisor / processes for divisor in divisors)

    def _distillation(self, out: PairPredictions, clip_features: Tensor) -> Tensor:
        """GEN-VLKT's mimic loss (L,): the mean query should look like CLIP's view of the image."""
        assert out.interaction_features is not None
        features = torch.stack(
            [*(layer["interaction_features"] for layer in out.auxiliary_outputs or []), out.interaction_features]
        )
        student = _full_precision(features).mean(2)  # (L, B, N, D) -> (L, B, D)
        teacher = _full_precision(clip_features)  # (B, D), not normalised
        (total,), processes = total_over_processes(teacher.new_tensor([teacher.numel()]))
        return (student - teacher).abs().sum((1, 2)) / (total / processes)

    # --- from what is given to what is compared ----------------------------------------------------

    def _align(
        self, out: PairPredictions, targets: Targets, auxiliary: bool = True
    ) -> tuple[LayerPredictions, PaddedTargets]:
        """Stack the layers, pad the targets, and keep the same interactions in both."""
        names = ("human_boxes", "object_boxes", "object_logits", "interaction_logits")
        others = (out.auxiliary_outputs or []) if auxiliary else []
        found = {
            name: _full_precision(torch.stack([*(layer[name] for layer in others), getattr(out, name)]))
            for name in names
        }
        layers = LayerPredictions(**found)
        pairs = self._pad(targets, layers)
        predicted, labelled = layers.interaction_logits.shape[-1], pairs.interaction_labels.shape[-1]
        seen = len(self.seen_interactions)
        if predicted != labelled:
            if predicted == self.config.num_interactions and labelled == seen:
                layers.interaction_logits = layers.interaction_logits[..., self.seen_interactions]
            elif predicted == seen and labelled == self.config.num_interactions:
                pairs.interaction_labels = pairs.interaction_labels[..., self.seen_interactions]
            else:
                raise HoiError(f"interaction_labels have {labelled} columns, the model scores {predicted} interactions")
        return layers, pairs

    def _pad(self, targets: Targets, layers: LayerPredictions) -> PaddedTargets:
        like = layers.human_boxes  # device and dtype of what is compared
        batch = like.shape[1]
        if len(targets) != batch:
            raise HoiError(f"{len(targets)} targets for {batch} images")
        counts = [len(t["object_labels"]) for t in targets]
        width = max(
            (t["interaction_labels"].shape[-1] for t in targets if t["interaction_labels"].ndim == 2), default=0
        )
        width = width or layers.interaction_logits.shape[-1]
        image = torch.arange(batch, device=like.device).repeat_interleave(torch.tensor(counts, device=like.device))
        row = torch.cat([torch.arange(count, device=like.device) for count in counts])

        def padded(name: str, *shape: int, dtype: torch.dtype) -> Tensor:
            flat = torch.cat([t[name].reshape(-1, *shape).to(like.device, dtype) for t in targets])
            if len(flat) != len(row):
                raise HoiError(f"{name} has {len(flat)} rows for {len(row)} annotated pairs")
            into = torch.zeros((batch, max(counts, default=0), *shape), dtype=dtype, device=like.device)
            into[image, row] = flat
            return into

        pairs = PaddedTargets(
            human_boxes=padded("human_boxes", 4, dtype=like.dtype),
            object_boxes=padded("object_boxes", 4, dtype=like.dtype),
            object_labels=padded("object_labels", dtype=torch.int64),
            interaction_labels=padded("interaction_labels", width, dtype=like.dtype),
            counts=counts,
        )
        if pairs.object_labels.numel() and not 0 <= int(pairs.object_labels.max()) <= self.config.num_objects:
            raise HoiError(f"object_labels must lie in 0..{self.config.num_objects}")
        return pairs


def assign(cost: np.ndarray) -> tuple[Tensor, Tensor]:
    """The cheapest assignment of a cost (N, n): query and target index, int64, by ascending query."""
    from scipy.optimize import linear_sum_assignment  # training only: detection starts without scipy

    query, target = linear_sum_assignment(cost)
    return torch.from_numpy(query).long(), torch.from_numpy(target).long()


def focal(logits: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Focal loss of each logit with a focus of 2; probabilities are kept off 0 and 1 first."""
    p = logits.sigmoid().clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    positive = -alpha * p.log() * (1 - p).square()
    negative = -(1 - alpha) * (1 - p).log() * p.square()
    return labels * positive + (1 - labels) * negative


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) cxcywh -> xyxy."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def generalized_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of xyxy boxes (..., 4) and (..., 4), broadcast against each other, in -1..1."""
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    tiny = torch.finfo(a.dtype).tiny  # two boxes without any area have nothing to divide by
    union = area_a + area_b - shared
    return shared / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def total_over_processes(values: Tensor) -> tuple[Tensor, int]:
    """Sum over all processes, and how many there are; the values themselves where there is one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values, 1
    values = values.detach().clone()
    distributed.all_reduce(values)
    return values, distributed.get_world_size()


def _full_precision(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _flatten(matches: list[Matches]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layer, image, query and target index of every match, each (M,)."""
    found = [
        (torch.full_like(query, i), torch.full_like(query, b), query, target)
        for i, layer in enumerate(matches)
        for b, (query, target) in enumerate(layer)
    ]
    columns = zip(*found, strict=True) if found else ([torch.empty(0, dtype=torch.int64)],) * 4
    layer, image, query, target = (torch.cat(list(rows)) for rows in columns)
    return layer, image, query, target
