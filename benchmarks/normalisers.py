"""How much do losses and gradients depend on whether they are divided by counts of the batch or of each process?

    python benchmarks/normalisers.py --batches 20

The shipped playground model, training mode, batches of 16 scenes: the loss and the angle of the gradient with P
published processes (``--train.normalise process --train.virtual_processes P``) beside those of the default.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from tqdm import trange

import hoiclip
from hoiclip.data.training_dataset import make_targets
from hoiclip.files import ASSETS
from hoiclip.losses import HoiCriterion
from hoiclip.playground.dataset import PlaygroundDataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    detector = hoiclip.load(ASSETS / "playground" / "model", device="cpu")
    model, processor = detector.model.train(), detector.processor
    scenes = PlaygroundDataset(args.seed, args.batches * args.batch_size, "train", model.vocabulary)
    shares = (1, 2, 8)
    found: dict[int, list[tuple[float, float, float]]] = {p: [] for p in shares}
    for batch in trange(args.batches, unit="batch"):
        chosen = [scenes[batch * args.batch_size + i] for i in range(args.batch_size)]
        inputs = processor([image for image, _ in chosen], return_tensors="pt")
        targets = [make_targets(a, model.vocabulary, (image.height, image.width)) for image, a in chosen]
        out = model(**{k: v for k, v in inputs.items() if isinstance(v, torch.Tensor) and "size" not in k})
        reference, gradient = loss_and_gradient(model, out, targets, None)
        for p in shares:
            total, other = loss_and_gradient(model, out, targets, p)
            cosine = torch.nn.functional.cosine_similarity(gradient.double(), other.double(), dim=0).item()
            found[p].append((total / reference - 1, (other.norm() / gradient.norm()).item() - 1, cosine))
    print("| P | loss, mean difference | largest | gradient norm, mean difference | cosine, mean | smallest |")
    print("|---|---|---|---|---|---|")
    for p, rows in found.items():
        loss, norm, cosine = np.array(rows).T
        print(f"| {p} | {loss.mean():+.2%} | {abs(loss).max():.2%} | {norm.mean():+.2%} | {cosine.mean():.4f} "
              f"| {cosine.min():.4f} |")  # fmt: skip


def loss_and_gradient(model, out, targets, processes):  # type: ignore[no-untyped-def]
    """The total loss and the gradient of all trained parameters, (P,)."""
    loss, _ = HoiCriterion(model.config, processes)(out, targets)
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    return loss.item(), torch.cat([g.flatten() for g in gradients if g is not None])


if __name__ == "__main__":
    main()
