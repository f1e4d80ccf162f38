"""The pretraining of the mini CLIP, from nothing, on captioned scenes of all combinations.

hoiclip playground pretrain clip --out runs/clip
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from transformers import CLIPModel

from hoiclip.image_preparation import CLIP_MEAN, CLIP_STD
from hoiclip.playground_pretraining.captions import GRID, CaptionedImage, CaptionedScenes, sentences
from hoiclip.playground_pretraining.clip import build_clip, contrastive_loss, encode_images, encode_texts
from hoiclip.playground_pretraining.loop import Pretraining, Settings, normalise, step_aside
from hoiclip.playground_pretraining.measurement import CLIP_SEED, measure_clip
from hoiclip.playground_pretraining.tokenizer import build_tokenizer
from hoiclip.vocabulary import HoiVocabulary

DENSE_WEIGHT = 4.0
MAX_SCALE = float(np.log(100.0))


@dataclass(frozen=True, kw_only=True)
class ClipSettings(Settings):
    """Settings of the mini CLIP.

    Attributes:
        patch_drop: share of patches left out in the first part of training, which makes it faster;
            all are shown from ``full_from`` on, a fraction of ``samples``.
        crowded: a second stage, for a CLIP that knows its sentences: fuller scenes, more crops, every
            patch shown; it learns whom a crop is about.
    """

    samples: int = 600_000
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 300
    measure_every: int = 100_000
    measure_scenes: int = 1000
    checkpoint_every: int = 20_000
    patch_drop: float = 0.25
    full_from: float = 0.75
    crowded: bool = False


class _Batches(IterableDataset):
    """Batches of samples, shuffled in a small pool so that crops part from their scenes."""

    def __init__(self, vocabulary: HoiVocabulary, seed: int, start: int, batch: int, crowded: bool = False) -> None:
        self.scenes = CaptionedScenes(vocabulary, seed, start, crowded=crowded)
        self.seed, self.start, self.batch = seed, start, batch

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        step_aside()
        rng = np.random.default_rng([self.seed, self.start])
        pool: list[CaptionedImage] = []
        for sample in self.scenes:
            pool.append(sample)
            if len(pool) >= 8 * self.batch:
                chosen = rng.permutation(len(pool))[: self.batch]
                yield collate_captions([pool[i] for i in chosen])
                taken = set(chosen.tolist())
                pool = [s for i, s in enumerate(pool) if i not in taken]


def collate_captions(samples: list[CaptionedImage]) -> dict[str, torch.Tensor]:
    """images (B, H, W, 3) uint8, target and banned (B, T), dense (B, GRID * GRID, C + V) uint8."""
    dense = torch.from_numpy(np.stack([s.dense for s in samples]))
    return {
        "images": torch.from_numpy(np.stack([s.image for s in samples])),
        "target": torch.from_numpy(np.stack([s.target for s in samples])),
        "banned": torch.from_numpy(np.stack([s.banned for s in samples])),
        "dense": dense.flatten(1, 2),
    }


def pretrain_clip(
    out: str | Path, settings: ClipSettings | None = None, vocabulary: HoiVocabulary | str = "playground"
) -> dict[str, Any]:
    """Pretrain the mini CLIP and write it to ``out`` (fp16 weights, tokenizer, provenance).

    Started again with the same ``out`` it goes on from its last checkpoint.

    Args:
        out: folder; ``checkpoint.pt`` in it is working state.
        settings: how long, on what.
        vocabulary: whose combinations are shown.

    Returns:
        The last measurement, see :func:`measure_clip`.
    """
    out, settings, vocabulary = Path(out), settings or ClipSettings(), HoiVocabulary.coerce(vocabulary)
    accelerator = settings.prepare()
    texts = sentences(vocabulary)
    tokenizer = build_tokenizer(texts)
    tokens = {k: v.to(accelerator.device) for k, v in tokenizer(texts, padding=True, return_tensors="pt").items()}
    start = settings.start_from
    model = CLIPModel.from_pretrained(start, dtype=torch.float32) if start else build_clip(tokenizer)
    model = model.to(accelerator.device)
    model.set_attn_implementation("eager")  # the fused one has a slow backward in bf16 on a CPU
    dense_head = nn.Linear(128, len(vocabulary.objects) + len(vocabulary.verbs))  # thrown away afterwards
    dense_head = dense_head.to(accelerator.device)
    optimizer = _optimizer([*model.parameters(), *dense_head.parameters()], settings)
    parts = {"model": model, "dense_head": dense_head}
    training = Pretraining(out, parts, optimizer, settings, accelerator, settings.command("clip"))
    # A resumed run draws scenes no run before it has seen: 0.55 of all samples are whole scenes.
    data = _Batches(vocabulary, settings.seed, training.samples, settings.batch, settings.crowded)
    workers = settings.workers
    loader = iter(DataLoader(data, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))

    def losses(step: int) -> dict[str, Tensor]:
        examples = {k: v.to(accelerator.device) for k, v in next(loader).items()}
        return _losses(model, dense_head, tokens, examples, _kept_patches(step, settings, accelerator.device))

    @torch.no_grad()
    def limit_scale() -> None:
        model.logit_scale.clamp_(0.0, MAX_SCALE)

    model.train()
    scenes = settings.measure_scenes
    training.run(
        "mini CLIP",
        losses,
        lambda: measure_clip(model, tokenizer, vocabulary, scenes=scenes),
        list(model.parameters()),
        limit_scale,
    )
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    held_out = f"top-1 over all interactions, {scenes} uniform test scenes of seed {CLIP_SEED}"
    return training.write_weights(out, settings.seed, held_out)


def _optimizer(parameters: list[nn.Parameter], settings: ClipSettings) -> torch.optim.AdamW:
    """AdamW; biases, norms and the temperature are not decayed."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98))


def _kept_patches(step: int, settings: ClipSettings, device: torch.device) -> Tensor | None:
    """The patches that are shown in this step; None for all."""
    if settings.crowded or settings.patch_drop <= 0 or step >= settings.full_from * settings.steps:
        return None
    patches = GRID * GRID
    return torch.randperm(patches)[: round(patches * (1 - settings.patch_drop))].sort().values.to(device)


def _losses(
    model: CLIPModel,
    dense_head: nn.Linear,
    tokens: dict[str, Tensor],
    examples: dict[str, Tensor],
    keep: Tensor | None,
) -> dict[str, Tensor]:
    """The contrastive loss of images (B) and sentences (T), and that of objects and verbs in each patch."""
    images, patches = encode_images(model, normalise(examples["images"], CLIP_MEAN, CLIP_STD), keep)
    sentence_vectors = encode_texts(model, tokens)
    patch_logits = dense_head(patches).float()
    with torch.autocast(images.device.type, enabled=False):  # logits and losses in full precision
        logits = model.logit_scale.exp() * images.float() @ sentence_vectors.float().T  # (B, T)
        contrast = contrastive_loss(logits, examples["target"], examples["banned"])
        dense = examples["dense"].float() if keep is None else examples["dense"][:, keep].float()
        dense_loss = functional.binary_cross_entropy_with_logits(patch_logits, dense)
    return {"loss": contrast + DENSE_WEIGHT * dense_loss, "dense": dense_loss}
