"""The mini DETR, trained from nothing on still lifes: it learns persons and things, never relations.

    hoiclip playground pretrain detector --out runs/detector

Three aids make a DETR start within minutes.  They change nothing in what is saved: a dense class
and box loss on encoder tokens, object queries that begin as sine codes of points spread over the
image, and further groups of queries that share the decoder (Group DETR).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
from transformers.loss.loss_for_object_detection import ImageLoss
from transformers.models.detr.modeling_detr import DetrFrozenBatchNorm2d

from hoiclip.playground.dataset import SIZE, PlaygroundDataset
from hoiclip.playground_pretraining.loop import Pretraining, Schedule, pretraining_command, seed_everything, step_aside
from hoiclip.vocabulary import HoiVocabulary

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, as DETR
STD = (0.229, 0.224, 0.225)
WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
HELD_OUT = 900_002  # seed of scenes to measure on


# --- the model -------------------------------------------------------------------------------------


def detector_config(vocabulary: HoiVocabulary, queries: int = 32) -> DetrConfig:
    """Basic-block ResNet of stride 16, width 128, 3 encoder and 3 decoder layers."""
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[32, 64, 128],
        depths=[2, 2, 2],
        layer_type="basic",
        out_features=["stage3"],
    )
    names = dict(enumerate(vocabulary.objects))
    return DetrConfig(
        backbone_config=backbone,
        d_model=128,
        encoder_layers=3,
        decoder_layers=3,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_queries=queries,
        dropout=0.0,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )


def build_detector(vocabulary: HoiVocabulary, queries: int = 32) -> DetrForObjectDetection:
    """A fresh mini DETR with batch norm that learns; see :func:`frozen_copy` for what is shipped."""
    model = DetrForObjectDetection(detector_config(vocabulary, queries))
    model.requires_grad_(True)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DetrFrozenBatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(len(child.weight)))
    _initialise(model)
    return model


def _initialise(model: DetrForObjectDetection) -> None:
    """Kaiming for convolutions, Xavier for the transformer; the default 0.02 explodes from scratch."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
        elif parameter.ndim == 2 and "query_position" not in name:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    nn.init.zeros_(model.bbox_predictor.layers[-1].weight)
    queries = model.model.query_position_embeddings.weight
    with torch.no_grad():
        queries.copy_(sine_points(spread_points(len(queries)), queries.shape[1]))
        for layer in model.model.decoder.layers:
            layer.encoder_attn.k_proj.weight.copy_(layer.encoder_attn.q_proj.weight)


def spread_points(count: int, start: int = 0) -> torch.Tensor:
    """(count, 2) points x, y in 0..1 that fill the square evenly, from a low-discrepancy sequence."""
    index = torch.arange(start, start + count, dtype=torch.float64)[:, None]
    return ((0.5 + index * torch.tensor([0.7548776662466927, 0.5698402909980532])) % 1.0).float()


def sine_points(points: torch.Tensor, width: int, cells: int = SIZE // 16) -> torch.Tensor:
    """(n, width) codes of points as DETR's sine embedding would code a feature cell there."""
    half = width // 2
    scaled = (points * cells + 0.5) / cells * 2 * torch.pi  # (n, 2)
    frequency = 10000 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
    angles = scaled[:, :, None] / frequency  # (n, 2, half)
    codes = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(2)  # (n, 2, half)
    return torch.cat([codes[:, 1], codes[:, 0]], dim=1)


def frozen_copy(model: DetrForObjectDetection) -> DetrForObjectDetection:
    """The same weights in the published form, with frozen batch norm."""
    copy = DetrForObjectDetection(model.config)
    state = {k: v.cpu() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    copy.load_state_dict(state)
    return copy.eval()


def encode(model: DetrForObjectDetection, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 3, H, W) to encoder memory and position codes, both (B, HW, D)."""
    core = model.model
    feature = core.backbone.model(pixels).feature_maps[-1]  # (B, C, h, w)
    flat = core.input_projection(feature).flatten(2).transpose(1, 2)  # (B, hw, D)
    positions = core.position_embedding(feature.shape, pixels.device, pixels.dtype).flatten(2).transpose(1, 2)
    memory = flat
    for layer in core.encoder.layers:
        memory = layer(memory, None, positions)
    return memory, positions


def decode(
    model: DetrForObjectDetection, memory: torch.Tensor, positions: torch.Tensor, queries: torch.Tensor
) -> list[dict[str, torch.Tensor]]:
    """Class logits and boxes after every decoder layer, for (B, Q, D) query codes.

    The next layer gets the state before the final norm, as in the original DETR.
    """
    state, outputs = torch.zeros_like(queries), []
    for layer in model.model.decoder.layers:
        state = layer(state, None, positions, queries, memory)
        normed = model.model.decoder.layernorm(state)
        outputs.append(
            {
                "logits": model.class_labels_classifier(normed).float(),
                "pred_boxes": model.bbox_predictor(normed).float().sigmoid(),
            }
        )
    return outputs


# --- the dense aid -----------------------------------------------------------------------------------


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
            guess, right = boxes[positive], truth[positive]
            loss = loss + 5 * (guess - right).abs().sum(-1).mean() + 2 * (1 - paired_giou(guess, right)).mean()
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


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """cxcywh to xyxy."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)


def paired_giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n,) generalised IoU of boxes (n, 4) cxcywh, row by row."""
    a, b = corners(a), corners(b)
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1).clamp(min=1e-6)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - inner
    return inner / union.clamp(min=1e-6) - (outer - union) / outer


# --- the set loss -------------------------------------------------------------------------------------------


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
        queries, most = outputs["logits"].shape[1], labels.shape[1]
        probability = outputs["logits"].softmax(-1).gather(2, labels[:, None].expand(-1, queries, -1))  # (B, Q, n)
        guess = outputs["pred_boxes"][:, :, None].expand(-1, -1, most, -1)
        right = truth[:, None].expand(-1, queries, -1, -1)
        distance = (guess - right).abs().sum(-1)
        giou = paired_giou(guess.reshape(-1, 4), right.reshape(-1, 4)).view_as(distance)
        cost = (5 * distance - probability - 2 * giou).cpu().numpy()
        found = [linear_sum_assignment(cost[i, :, :n]) for i, n in enumerate(counts)]
        return [(torch.as_tensor(query), torch.as_tensor(box)) for query, box in found]


# --- data ------------------------------------------------------------------------------------------------


class _StillLifes(IterableDataset):
    """Endless batches of still lifes."""

    def __init__(self, vocabulary: HoiVocabulary, seed: int, start: int, batch: int) -> None:
        self.data = PlaygroundDataset(seed, 2**40, vocabulary=vocabulary, interactions=False)
        self.start, self.batch = start, batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step_aside()
        index = self.start
        while True:
            examples = [self.data[index + i] for i in range(self.batch)]
            index += self.batch
            images = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
            labels = []
            for _, annotation in examples:
                boxes = torch.from_numpy(annotation.boxes).float() / self.data.size
                cxcywh = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
                labels.append({"boxes": cxcywh, "class_labels": torch.from_numpy(annotation.object_ids)})
            yield {"images": images, "labels": labels}


def normalise(images: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 as DETR wants it."""
    mean, std = torch.tensor(MEAN, device=images.device), torch.tensor(STD, device=images.device)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


# --- measuring ---------------------------------------------------------------------------------------------


@torch.no_grad()
def measure_detector(
    model: DetrForObjectDetection,
    vocabulary: HoiVocabulary,
    seed: int = HELD_OUT,
    scenes: int = 500,
    interactions: bool = True,
) -> dict[str, float]:
    """Mean average precision at IoU 0.5 (all points) over object classes, on held-out uniform scenes.

    Returns:
        ``map50`` and ``recall50``, fractions.
    """
    was_training = model.training
    model.eval()
    dataset = PlaygroundDataset(seed, scenes, split="test", vocabulary=vocabulary, interactions=interactions)
    classes = len(vocabulary.objects)
    found: list[list[tuple[float, bool]]] = [[] for _ in range(classes)]
    existing = np.zeros(classes, dtype=np.int64)
    for start in range(0, scenes, 64):
        examples = [dataset[i] for i in range(start, min(start + 64, scenes))]
        images = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
        memory, positions = encode(model, normalise(images.to(model.device)))
        queries = model.model.query_position_embeddings.weight.expand(len(examples), -1, -1)
        output = decode(model, memory, positions, queries)[-1]
        scores = output["logits"].softmax(-1)[..., :-1].cpu().numpy()  # (B, Q, C)
        boxes = (corners(output["pred_boxes"]) * dataset.size).cpu().numpy()
        for (_, annotation), image_scores, image_boxes in zip(examples, scores, boxes, strict=True):
            existing += np.bincount(annotation.object_ids, minlength=classes)
            overlap = _iou(image_boxes, annotation.boxes)  # (Q, n)
            for c in range(classes):
                free = annotation.object_ids == c
                for q in image_scores[:, c].argsort()[::-1]:
                    if image_scores[q, c] < 0.01:
                        break
                    match = np.where(free, overlap[q], 0.0)
                    hit = bool(len(match)) and match.max() >= 0.5
                    if hit:
                        free = free.copy()
                        free[match.argmax()] = False
                    found[c].append((float(image_scores[q, c]), hit))
    precisions, recalls = [], []
    for c in range(classes):
        if existing[c] == 0:
            continue
        hits = np.array([hit for _, hit in sorted(found[c], key=lambda f: -f[0])], dtype=np.float64)
        cumulative = hits.cumsum()
        recall = cumulative / existing[c]
        precision = cumulative / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1] if len(hits) else precision
        precisions.append(float((np.diff(recall, prepend=0.0) * envelope).sum()))
        recalls.append(float(recall[-1]) if len(hits) else 0.0)
    model.train(was_training)
    return {"map50": round(float(np.mean(precisions)), 4), "recall50": round(float(np.mean(recalls)), 4)}


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) IoU of xyxy boxes."""
    inner = (
        (np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])).clip(min=0).prod(-1)
    )
    areas = (a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None]
    return inner / np.maximum(areas - inner, 1e-9)


# --- training ------------------------------------------------------------------------------------------------


def pretrain_detector(
    out: str | Path,
    *,
    seed: int = 0,
    samples: int = 200_000,
    batch: int = 32,
    lr: float = 5e-4,
    weight_decay: float = 1e-4,
    groups: int = 2,
    dense_weight: float = 1.0,
    dense_first: float = 0.2,
    threads: int = 1,
    workers: int = 1,
    measure_every: int = 20_000,
    measure_scenes: int = 500,
    checkpoint_every: int = 10_000,
    stop_after: int | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    bf16: bool = False,
    vocabulary: HoiVocabulary | str = "playground",
) -> dict[str, Any]:
    """Trains the mini DETR and writes it to ``out`` (fp16 weights, provenance).

    Started again with the same ``out`` it goes on from its last checkpoint.

    Args:
        out: folder; ``checkpoint.pt`` in it is working state.
        seed: of weights and scenes.
        samples: images to see in all; the learning rate falls to its end over them.
        batch: images per step.
        lr, weight_decay: AdamW, gradient norm clipped to 1.
        groups: groups of queries in training; only the first is kept.
        dense_weight: of the loss on encoder tokens.
        dense_first: for this fraction of ``samples`` the dense loss trains backbone and encoder alone,
            at twice the speed.
        threads, workers: of training and rendering.
        measure_every, checkpoint_every: in samples.
        measure_scenes: held-out scenes per measurement.
        stop_after: pause at the first checkpoint with so many samples, to go on another time, perhaps
            to another end.
        start_from: folder of a mini DETR to begin with instead of fresh weights.
        device: ``cpu`` or ``cuda``; None takes a GPU if there is one.
        bf16: mixed precision; twice as fast on a CPU with AVX-512 bf16 instructions, slow on others.
        vocabulary: whose objects are detected.

    Returns:
        the last measurement (see :func:`measure_detector`).
    """
    out = Path(out)
    torch.set_num_threads(threads)
    seed_everything(seed)
    vocabulary = HoiVocabulary.coerce(vocabulary)
    classes = len(vocabulary.objects)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = build_detector(vocabulary)
    if start_from:
        known = DetrForObjectDetection.from_pretrained(start_from, dtype=torch.float32).state_dict()
        model.load_state_dict({**model.state_dict(), **known})
    model = model.to(place)
    model.set_attn_implementation("eager")  # the fused one has a slow backward in bf16 on a CPU
    config = model.config
    aids = nn.ModuleDict(
        {
            "dense": DenseHead(config.d_model, classes, SIZE // 16),
            "queries": nn.Embedding.from_pretrained(
                sine_points(spread_points((groups - 1) * config.num_queries, config.num_queries), config.d_model),
                freeze=False,
            ),
        }
    )
    aids = aids.to(place)
    criterion = ImageLoss(PaddedMatcher(), classes, config.eos_coefficient, ["labels", "boxes"]).to(place)
    parameters = [*model.parameters(), *aids.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    command = pretraining_command(
        "detector",
        seed=seed,
        samples=samples,
        lr=float(lr),
        bf16=bf16,
        start_from=start_from,
        stop_after=stop_after,
    )
    schedule = Schedule(samples, batch, lr, 200, measure_every, checkpoint_every, stop_after)
    training = Pretraining(out, {"model": model, "aids": aids}, optimizer, schedule, command)
    data = _StillLifes(vocabulary, seed, training.samples, batch)
    loader = iter(DataLoader(data, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None))
    aid = aids["dense"]
    assert isinstance(aid, DenseHead)

    def losses(step: int) -> dict[str, torch.Tensor]:
        examples = next(loader)
        labels = [{k: v.to(place) for k, v in label.items()} for label in examples["labels"]]
        pixels = normalise(examples["images"].to(place)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=bf16):
            memory, positions = encode(model, pixels)
            dense = aid.loss(memory, labels)
            loss = dense_weight * dense
            if step >= dense_first * schedule.steps:
                loss = loss + _set_loss(model, aids, memory, positions, labels, criterion, groups)
        return {"loss": loss, "dense": dense}

    model.train()
    model.to(memory_format=torch.channels_last)
    training.run("mini DETR", losses, lambda: measure_detector(model, vocabulary, scenes=measure_scenes), parameters)
    out.mkdir(parents=True, exist_ok=True)
    frozen_copy(model).save_pretrained(out)
    held_out = (
        f"mAP at IoU 0.5 over {classes} classes, {measure_scenes} uniform test scenes with interactions "
        f"of seed {HELD_OUT}"
    )
    return training.write_weights(out, seed, held_out)


def _set_loss(
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
