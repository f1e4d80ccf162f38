"""What the mini DETR learns from: a dense aid on encoder tokens, and DETR's set loss over groups of queries."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import DetrForObjectDetection
from transformers.loss.loss_for_object_detection import ImageLoss

from hoiclip.losses import assign, cxcywh_to_xyxy, generalized_box_iou
from hoiclip.playground_pretraining.detector import decode

WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


class DenseHead(nn.Module):
    """Class and box of what lies at each encoder token; thrown away after pretraining.

    Args:
        width: of the tokens.
        classes: C; one more for nothing.
        cells: tokens per side.
    """

    def __init__(self, width: int, classes: int, cells: int) -> None:
        super().__init__()
        self.classes, self.cells = classes, cells
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes + 1 + 4))

    def loss(self, memory: torch.Tensor, labels: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Cross-entropy, L1 and GIoU against the box that belongs to each cell.

        Args:
            memory: (B, HW, D).
            labels: ``boxes`` (n, 4) cxcywh in 0..1 and ``class_labels`` (n,) per image.
        """
        raw = self.head(memory).float()  # (B, HW, C + 1 + 4)
        logits = raw[..., : self.classes + 1]
        centres = (torch.arange(self.cells, device=memory.device) + 0.5) / self.cells
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij")[::-1], dim=-1).reshape(-1, 2)  # (HW, 2) x, y
        shift = raw[..., -4:-2].tanh() * 0.5
        boxes = torch.cat([grid + shift, raw[..., -2:].sigmoid()], dim=-1)
        classes, targets = zip(*(self._assign(label, grid) for label in labels), strict=True)
        wanted, truth = torch.stack(classes), torch.stack(targets)
        weight = memory.new_ones(self.classes + 1)
        weight[-1] = 0.3
        loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight)
        positive = wanted < self.classes
        if positive.any():
            predicted, target = boxes[positive], truth[positive]
            overlap = generalized_box_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
            loss = loss + 5 * (predicted - target).abs().sum(-1).mean() + 2 * (1 - overlap).mean()
        return loss

    def _assign(self, label: dict[str, torch.Tensor], grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cells near a box's centre belong to it, the smaller box first."""
        classes = torch.full((len(grid),), self.classes, device=grid.device)
        targets = grid.new_zeros(len(grid), 4)
        boxes = label["boxes"]
        for i in (boxes[:, 2] * boxes[:, 3]).argsort(descending=True).tolist():
            reach = (boxes[i, 2:] * 0.3).clamp(min=0.55 / self.cells)
            inside = ((grid - boxes[i, :2]).abs() <= reach).all(-1)
            classes[inside] = label["class_labels"][i]
            targets[inside] = boxes[i]
        return classes, targets


class PaddedMatcher(nn.Module):
    """DETR's assignment of queries to boxes, each image for itself.

    The costs are those of transformers' ``HungarianMatcher``, which compares the queries of every
    image with the boxes of all others too; that is most of a mini DETR's step.
    """

    @torch.no_grad()
    def forward(
        self, outputs: dict[str, torch.Tensor], targets: list[dict[str, torch.Tensor]]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Query and box indices per image, for logits (B, Q, C + 1) and boxes (B, Q, 4) cxcywh."""
        counts = [len(target["class_labels"]) for target in targets]
        labels = nn.utils.rnn.pad_sequence([target["class_labels"] for target in targets], batch_first=True)  # (B, n)
        truth = nn.utils.rnn.pad_sequence([target["boxes"] for target in targets], batch_first=True)  # (B, n, 4)
        queries = outputs["logits"].shape[1]
        probability = outputs["logits"].softmax(-1).gather(2, labels[:, None].expand(-1, queries, -1))  # (B, Q, n)
        predicted = outputs["pred_boxes"][:, :, None]  # (B, Q, 1, 4)
        target = truth[:, None]  # (B, 1, n, 4)
        distance = (predicted - target).abs().sum(-1)  # (B, Q, n)
        overlap = generalized_box_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
        cost = (5 * distance - probability - 2 * overlap).cpu().numpy()
        return [assign(cost[i, :, :count]) for i, count in enumerate(counts)]


def set_loss(
    model: DetrForObjectDetection,
    aids: nn.ModuleDict,
    memory: torch.Tensor,
    positions: torch.Tensor,
    labels: list[dict[str, torch.Tensor]],
    criterion: ImageLoss,
    groups: int,
) -> torch.Tensor:
    """DETR's loss over all decoder layers, averaged over groups of queries that do not see each other."""
    count, batch = model.config.num_queries, len(memory)
    own, extra = model.model.query_position_embeddings.weight, aids["queries"].weight
    assert isinstance(extra, torch.Tensor)
    codes = torch.cat([own, extra])  # (G * Q, D)
    queries = codes.view(groups, 1, count, -1).expand(-1, batch, -1, -1).flatten(0, 1)  # (G * B, Q, D)
    outputs = decode(model, memory.repeat(groups, 1, 1), positions.expand_as(memory).repeat(groups, 1, 1), queries)
    total = memory.new_zeros(())
    for g in range(groups):
        mine = [{k: v[g * batch : (g + 1) * batch] for k, v in output.items()} for output in outputs]
        losses = criterion({**mine[-1], "auxiliary_outputs": mine[:-1]}, labels)
        total = total + sum(value * WEIGHTS[name.rstrip("_0123456789")] for name, value in losses.items())
    return total / groups
