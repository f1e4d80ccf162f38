"""python benchmarks/bfloat16.py [--images 20] [--model DIR] [--size 800x1066]

How far the answers of --precision bf16 are from float32, on any processor: the inputs, weights and outputs
of what bf16 computes in bfloat16 are rounded to it, the sums are float32's, as the instructions do it.
Beside our choice, the ResNet, stands what else one might compute so.  Without a model, the full-size one
with seeded weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import hoiclip
from hoiclip.backends.inference_graph import InferenceGraph
from hoiclip.benchmark.comparison import differences
from hoiclip.benchmark.measurement import machine
from hoiclip.benchmark.runner import parse_sizes
from hoiclip.benchmark.synthetic import draw_photo, save_seeded_model


def rounded(tensor: Tensor) -> Tensor:
    """To the nearest bfloat16, kept as float32."""
    return tensor.bfloat16().float()


@torch.no_grad()
def round_inside(parts: Iterable[nn.Module]) -> None:
    """Round what products read and write in these, and the sums of a ResNet's blocks."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(rounded(parameter))
                module.register_forward_pre_hook(lambda module, given: (rounded(given[0]), *given[1:]))
            elif not hasattr(module, "shortcut"):
                continue
            module.register_forward_hook(lambda module, given, found: rounded(found))


def variants(model: Any) -> dict[str, InferenceGraph]:
    """float32, and what is computed in bfloat16."""
    chosen = {"float32": [], "ResNet (ours)": ["resnet"], "and DETR's encoder": ["resnet", "encoder"]}
    chosen["and CLIP"] = ["resnet", "clip"]
    graphs = {}
    for name, parts in chosen.items():
        graph = InferenceGraph(model)
        places = {"resnet": graph.detector.backbone, "encoder": graph.detector.encoder, "clip": graph.clip_tower}
        round_inside(places[part] for part in parts if places[part] is not None)
        graphs[name] = graph
    return graphs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--model", help="folder (default: full-size, seeded weights)")
    parser.add_argument("--size", default="800x1066", help="what the detector sees")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (height, width), *_ = parse_sizes(args.size)
    with tempfile.TemporaryDirectory() as scratch:
        if args.model is None:
            save_seeded_model(Path(scratch), args.seed)
        detector = hoiclip.load(args.model or scratch, device="cpu")
    detector.processor.shortest_edge, detector.processor.longest_edge = min(height, width), max(height, width)
    graphs = variants(detector.model)
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in graphs}
    for number in tqdm(range(args.images), unit="image"):
        inputs = detector.processor([draw_photo((2 * height, 2 * width), args.seed * 1000 + number)])
        for name, graph in graphs.items():
            outputs = graph(**{n: inputs[n] for n in graph.input_names})
            found[name].append({n: t.numpy() for n, t in zip(graph.output_names, outputs, strict=True)})
    about = machine(torch.device("cpu"))
    print(f"{about['processor']}, {args.images} images of {args.size}, seed {args.seed}\n")
    print("| in bfloat16 | max Δ logit | max Δ box | top 100 alike |\n|---|---:|---:|---:|")
    joined = {name: {n: np.concatenate([o[n] for o in outs]) for n in outs[0]} for name, outs in found.items()}
    ids = {"object_ids": detector.vocabulary.object_ids}
    for name in list(graphs)[1:]:
        apart = differences({**joined["float32"], **ids}, {**joined[name], **ids})
        numbers = apart["max_logit_difference"], apart["max_box_difference"], 100 * apart["top100_overlap"]
        print("| {} | {:.2g} | {:.2g} | {:.1f}% |".format(name, *numbers))


if __name__ == "__main__":
    main()
