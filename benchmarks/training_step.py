"""python benchmarks/training_step.py [--steps 5] [--batch-size 2] [--size 800x1066]

Forward, backward and optimiser of the same batches in two processes in turn: as `hoiclip train` does them, and as a
plain composition of the same modules does (transformers' frozen batch norms in two passes, the C library's
memory as it comes, AdamW as torch has it by default).  Prints milliseconds, their ratio, and how far the losses differ.
Weights are random, sizes real: ResNet-50 and ViT-B/32, dropout 0 so that losses can be compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PARTS = ("forward", "backward", "optimiser")


def steps_of(kind: str, steps: int, batch_size: int, size: tuple[int, int], seed: int) -> dict[str, Any]:
    """Milliseconds of each part of each step, and the losses."""
    import numpy as np
    import torch
    from torch import nn
    from transformers.models.detr.modeling_detr import DetrConvEncoder

    from hoiclip import HoiClipConfig, HoiClipModel, HoiVocabulary, keep_freed_memory
    from hoiclip.models.configuration import dropout_everywhere
    from hoiclip.published import BACKBONE_LEARNING_RATE, LEARNING_RATE
    from hoiclip.training.optimization import optimizer_groups

    if kind == "ours":
        keep_freed_memory()
    words = HoiVocabulary.from_name("hico")
    torch.manual_seed(seed)
    config = HoiClipConfig(vocabulary=words, unused_parameters=False)
    config.detector.update(dropout_everywhere(0.0))
    model = HoiClipModel(config).train()
    model.verbs.verb_to_interaction = torch.from_numpy(words.verb_to_interaction)

    if kind == "plain":
        plain = DetrConvEncoder(config.detector)
        plain.load_state_dict(model.detector.backbone.state_dict())
        for parameter, ours in zip(plain.parameters(), model.detector.backbone.parameters(), strict=True):
            parameter.requires_grad = ours.requires_grad
        # ours has channels last where that is quick
        plain.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
        model.detector.backbone = plain
    groups = optimizer_groups(model, LEARNING_RATE, BACKBONE_LEARNING_RATE)
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=kind == "ours")
    rng = np.random.default_rng(seed)
    parts: dict[str, list[float]] = {part: [] for part in PARTS}
    losses = []

    def timed(part: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = work()
        parts[part].append(1000 * (time.perf_counter() - begun))
        return result

    def batch() -> dict[str, Any]:
        labels = []
        for _ in range(batch_size):
            hoi_ids = rng.integers(0, words.num_interactions, size=4)
            labels.append(
                {
                    "human_boxes": torch.from_numpy(rng.uniform(0.2, 0.4, (4, 4)).astype(np.float32)),
                    "object_boxes": torch.from_numpy(rng.uniform(0.2, 0.4, (4, 4)).astype(np.float32)),
                    "object_labels": torch.from_numpy(words.object_ids[hoi_ids]),
                    "interaction_labels": nn.functional.one_hot(
                        torch.from_numpy(hoi_ids), words.num_interactions
                    ).float(),
                }
            )
        images = rng.standard_normal((batch_size, 3, *size), dtype=np.float32)
        squares = rng.standard_normal((batch_size, 3, 224, 224), dtype=np.float32)
        return {
            "pixel_values": torch.from_numpy(images),
            "pixel_mask": torch.ones(batch_size, *size, dtype=torch.int64),
            "clip_pixel_values": torch.from_numpy(squares),
            "labels": labels,
        }

    for _ in range(steps + 1):
        given = batch()
        loss = timed("forward", lambda given=given: model(**given).loss)
        timed("backward", loss.backward)

        def update() -> None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        timed("optimiser", update)
        losses.append(loss.item())
    return {"parts": {part: found[1:] for part, found in parts.items()}, "losses": losses}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--size", default="800x1066")
    parser.add_argument("--rounds", type=int, default=2, help="of both in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=("plain", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = (int(args.size.split("x")[0]), int(args.size.split("x")[1]))
    if args.kind:
        print(json.dumps(steps_of(args.kind, args.steps, args.batch_size, size, args.seed)))
        return
    found: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": []}
    for _ in range(args.rounds):
        for kind, runs in found.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--kind", kind]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    print("| | plain composition, ms | as hoiclip train, ms | ratio |\n|---|---:|---:|---:|")
    medians = {
        kind: {part: statistics.median(ms for run in runs for ms in run["parts"][part]) for part in PARTS}
        for kind, runs in found.items()
    }
    for part in (*PARTS, "whole step"):
        plain, ours = (sum(m.values()) if part == "whole step" else m[part] for m in medians.values())
        print(f"| {part} | {plain:.0f} | {ours:.0f} | {plain / ours:.2f} |")
    pairs = list(zip(found["plain"][0]["losses"], found["ours"][0]["losses"], strict=True))
    first, *later = (abs(plain - ours) / abs(plain) for plain, ours in pairs)
    print(f"losses differ by {first:.1e} of themselves before the first step, by at most {max(later):.1e} later")


if __name__ == "__main__":
    main()
