"""The mini CLIP, trained from nothing on captioned scenes of all combinations.

hoiclip playground pretrain clip --out runs/clip
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

from hoiclip.playground.dataset import SIZE, PlaygroundDataset, crop_square, union
from hoiclip.playground_pretraining.captions import GRID, CaptionedScenes, Sample, sentences
from hoiclip.playground_pretraining.loop import (
    Pretraining,
    Schedule,
    pretraining_command,
    seed_everything,
    sine_cosine_2d,
    step_aside,
)
from hoiclip.playground_pretraining.tokenizer import build_tokenizer
from hoiclip.vocabulary import HoiVocabulary

MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP's
STD = (0.26862954, 0.26130258, 0.27577711)
DENSE_WEIGHT = 4.0
MAX_SCALE = float(np.log(100.0))
HELD_OUT = 900_001  # seed of scenes to measure on


# --- the model -------------------------------------------------------------------------------------


def build_clip(tokenizer: PreTrainedTokenizerFast, size: int = SIZE) -> CLIPModel:
    """A fresh mini CLIP: 4 vision and 2 text layers of width 128, patches of 16 pixels."""
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=size,
        patch_size=16,
        projection_dim=128,
        hidden_act="gelu",
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=128,
        hidden_act="gelu",
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128))
    with torch.no_grad():  # learned from here on; from 0.02 noise it starts slowly
        model.vision_model.embeddings.position_embedding.weight[1:] = sine_cosine_2d(size // 16, 128, 0.5)
    return model


def normalise(images: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 as CLIP wants it."""
    mean, std = torch.tensor(MEAN, device=images.device), torch.tensor(STD, device=images.device)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def encode_images(
    model: CLIPModel, pixels: torch.Tensor, keep: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image embeddings and patch features.

    Args:
        model: the mini CLIP.
        pixels: (B, 3, H, W).
        keep: patches to look at (indices), None for all.

    Returns:
        (B, D) unit vectors, and (B, P, W) patch features after the last layer norm.
    """
    vision = model.vision_model
    hidden = vision.embeddings(pixels)  # (B, 1 + P, W)
    if keep is not None:
        hidden = torch.cat([hidden[:, :1], hidden[:, 1 + keep]], dim=1)
    hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
    hidden = vision.post_layernorm(hidden)
    return functional.normalize(model.visual_projection(hidden[:, 0]), dim=-1), hidden[:, 1:]


def encode_texts(model: CLIPModel, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """(T, D) unit vectors."""
    pooled = model.text_model(**tokens).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=-1)


# --- the loss --------------------------------------------------------------------------------------


def contrastive_loss(logits: torch.Tensor, target: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss with soft targets: equal captions and several true ones share.

    Args:
        logits: (B, T) scaled cosines of pictures and sentences.
        target: (B, T), rows sum to 1.
        banned: (B, T) bool, pairs that count neither way.
    """
    logits = logits.masked_fill(banned, -1e4)
    to_text = -(target * logits.log_softmax(1)).sum(1).mean()
    present = target.sum(0) > 0
    columns = target[:, present] / target[:, present].sum(0)
    to_image = -(columns * logits[:, present].log_softmax(0)).sum(0).mean()
    return (to_text + to_image) / 2


# --- data --------------------------------------------------------------------------------------------


class _Batches(IterableDataset):
    """Batches of samples, shuffled in a small pool so that crops part from their scenes."""

    def __init__(self, vocabulary: HoiVocabulary, seed: int, start: int, batch: int, crowded: bool = False) -> None:
        self.scenes = CaptionedScenes(vocabulary, seed, start, crowded=crowded)
        self.seed, self.start, self.batch = seed, start, batch

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        step_aside()
        rng = np.random.default_rng([self.seed, self.start])
        pool: list[Sample] = []
        for sample in self.scenes:
            pool.append(sample)
            if len(pool) >= 8 * self.batch:
                chosen = rng.permutation(len(pool))[: self.batch]
                yield collate([pool[i] for i in chosen])
                taken = set(chosen.tolist())
                pool = [s for i, s in enumerate(pool) if i not in taken]


def collate(samples: list[Sample]) -> dict[str, torch.Tensor]:
    """images (B, H, W, 3) uint8, target and banned (B, T), dense (B, GRID * GRID, C + V) uint8."""
    dense = torch.from_numpy(np.stack([s.dense for s in samples]))
    return {
        "images": torch.from_numpy(np.stack([s.image for s in samples])),
        "target": torch.from_numpy(np.stack([s.target for s in samples])),
        "banned": torch.from_numpy(np.stack([s.banned for s in samples])),
        "dense": dense.flatten(1, 2),
    }


# --- measuring -----------------------------------------------------------------------------------------


@torch.no_grad()
def measure_clip(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerFast,
    vocabulary: HoiVocabulary,
    seed: int = HELD_OUT,
    scenes: int = 1000,
) -> dict[str, float]:
    """Top-1 over all interactions on held-out scenes, uniform over classes.

    Returns:
        ``crops``: all pairs cut out, also from crowds, where a neighbour's interaction is an error;
        ``crops_alone``: only of scenes with a single pair; ``scenes``: those scenes whole; all three
        also for rare classes; ``objects``: crops of single things among the objects' sentences.
    """
    was_training = model.training
    model.eval()
    tokens = tokenizer(sentences(vocabulary), padding=True, return_tensors="pt").to(model.device)
    texts = encode_texts(model, dict(tokens))
    count = vocabulary.num_interactions
    kinds = ("crops", "crops_alone", "scenes", "objects")
    pictures: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    truths: dict[str, list[set[int]]] = {kind: [] for kind in kinds}

    def add(kind: str, picture: Image.Image, truth: set[int]) -> None:
        pictures[kind].append(np.asarray(picture))
        truths[kind].append(truth)

    dataset = PlaygroundDataset(seed, scenes, split="test", vocabulary=vocabulary)
    for index in range(scenes):
        image, annotation = dataset[index]
        by_pair: dict[tuple[int, int], set[int]] = {}
        for (human, thing), hoi in zip(annotation.pairs.tolist(), annotation.hoi_ids.tolist(), strict=True):
            by_pair.setdefault((human, thing), set()).add(hoi)
        for (human, thing), labels in by_pair.items():
            crop, _ = crop_square(image, union(annotation.boxes[human], annotation.boxes[thing]), 0.12)
            add("crops", crop, labels)
            if len(by_pair) == 1:
                add("crops_alone", crop, labels)
                add("scenes", image, labels)
        row = index % len(annotation.boxes)
        crop, _ = crop_square(image, annotation.boxes[row], 0.05)
        add("objects", crop, {int(annotation.object_ids[row])})
    result = {}
    for kind, images in pictures.items():
        bank = texts[count:-1] if kind == "objects" else texts[:count]
        best = []
        for start in range(0, len(images), 256):
            pixels = torch.from_numpy(np.stack(images[start : start + 256])).to(model.device)
            vectors, _ = encode_images(model, normalise(pixels))
            best += (vectors @ bank.T).argmax(1).tolist()
        right = [guess in truth for guess, truth in zip(best, truths[kind], strict=True)]
        result[kind] = float(np.mean(right)) if right else float("nan")
        if kind != "objects":
            rare = [r for r, truth in zip(right, truths[kind], strict=True) if truth & vocabulary.rare]
            result[f"{kind}_rare"] = float(np.mean(rare)) if rare else float("nan")
    model.train(was_training)
    return {name: round(value, 4) for name, value in result.items()}


# --- training --------------------------------------------------------------------------------------------


def pretrain_clip(
    out: str | Path,
    *,
    seed: int = 0,
    samples: int = 600_000,
    batch: int = 128,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    patch_drop: float = 0.25,
    full_from: float = 0.75,
    threads: int = 1,
    workers: int = 1,
    measure_every: int = 100_000,
    measure_scenes: int = 1000,
    checkpoint_every: int = 20_000,
    stop_after: int | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    bf16: bool = False,
    crowded: bool = False,
    vocabulary: HoiVocabulary | str = "playground",
) -> dict[str, Any]:
    """Trains the mini CLIP and writes it to ``out`` (fp16 weights, tokenizer, provenance).

    Started again with the same ``out`` it goes on from its last checkpoint.

    Args:
        out: folder; ``checkpoint.pt`` in it is working state.
        seed: of weights and scenes.
        samples: pictures to see in all; the learning rate falls to its end over them.
        batch: pictures per step, each compared with all sentences.
        lr, weight_decay: AdamW.
        patch_drop: share of patches not looked at in the first part of training, which makes it
            faster; ``full_from`` is where all are shown from, as a fraction of ``samples``.
        threads: of the training process.
        workers: rendering processes; 0 renders in this one.
        measure_every, checkpoint_every: in samples.
        measure_scenes: held-out scenes per measurement.
        stop_after: pause at the first checkpoint with so many samples, to go on another time, perhaps
            to another end.
        start_from: folder of a mini CLIP to begin with instead of fresh weights.
        device: ``cpu`` or ``cuda``; None takes a GPU if there is one.
        bf16: mixed precision; three times as fast on a CPU with AVX-512 bf16 instructions, slow on others.
        crowded: a second stage, for a CLIP that knows its words: fuller scenes, more crops, every
            patch shown; it learns whom a crop is about.
        vocabulary: whose combinations are shown.

    Returns:
        the last measurement (see :func:`measure_clip`).
    """
    out = Path(out)
    torch.set_num_threads(threads)
    seed_everything(seed)
    vocabulary = HoiVocabulary.coerce(vocabulary)
    texts = sentences(vocabulary)
    tokenizer = build_tokenizer(texts)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tokens = {k: v.to(place) for k, v in tokenizer(texts, padding=True, return_tensors="pt").items()}
    model = CLIPModel.from_pretrained(start_from, dtype=torch.float32) if start_from else build_clip(tokenizer)
    model = model.to(place)
    model.set_attn_implementation("eager")  # the fused one has a slow backward in bf16 on a CPU
    dense_head = nn.Linear(128, len(vocabulary.objects) + len(vocabulary.verbs)).to(place)  # thrown away afterwards
    decayed = [p for p in [*model.parameters(), *dense_head.parameters()] if p.ndim > 1]
    others = [p for p in [*model.parameters(), *dense_head.parameters()] if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=lr,
        betas=(0.9, 0.98),
    )
    command = pretraining_command(
        "clip",
        seed=seed,
        samples=samples,
        lr=float(lr),
        bf16=bf16,
        crowded=crowded,
        start_from=start_from,
        stop_after=stop_after,
    )
    schedule = Schedule(samples, batch, lr, 300, measure_every, checkpoint_every, stop_after)
    training = Pretraining(out, {"model": model, "dense_head": dense_head}, optimizer, schedule, command)
    # A resumed run draws scenes no run before it has seen: 0.55 of all samples are whole scenes.
    data = _Batches(vocabulary, seed, training.samples, batch, crowded)
    loader = iter(DataLoader(data, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))

    def losses(step: int) -> dict[str, torch.Tensor]:
        examples = {k: v.to(place) for k, v in next(loader).items()}
        keep = None
        if step < full_from * schedule.steps and patch_drop > 0 and not crowded:
            patches = GRID * GRID
            keep = torch.randperm(patches)[: round(patches * (1 - patch_drop))].sort().values.to(place)
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=bf16):
            images, patches_seen = encode_images(model, normalise(examples["images"]), keep)
            sentences_seen = encode_texts(model, tokens)
            patch_logits = dense_head(patches_seen).float()
        logits = model.logit_scale.exp() * images.float() @ sentences_seen.float().T  # (B, T)
        contrast = contrastive_loss(logits, examples["target"], examples["banned"])
        dense = examples["dense"].float() if keep is None else examples["dense"][:, keep].float()
        dense_loss = functional.binary_cross_entropy_with_logits(patch_logits, dense)
        return {"loss": contrast + DENSE_WEIGHT * dense_loss, "dense": dense_loss}

    @torch.no_grad()
    def limit_scale() -> None:
        model.logit_scale.clamp_(0.0, MAX_SCALE)

    model.train()
    training.run(
        "mini CLIP",
        losses,
        lambda: measure_clip(model, tokenizer, vocabulary, scenes=measure_scenes),
        list(model.parameters()),
        limit_scale,
    )
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    held_out = f"top-1 over all interactions, {measure_scenes} uniform test scenes of seed {HELD_OUT}"
    return training.write_weights(out, seed, held_out)
