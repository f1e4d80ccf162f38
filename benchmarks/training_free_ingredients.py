"""python benchmarks/training_free_ingredients.py [--scenes 300] [--seed 31] [--split validation]

What each ingredient of training-free's scores brings, on scenes of the playground: the mAP without it, or with
another value.  Values were chosen on validation scenes; --split test is for the row of what was chosen.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from tqdm import tqdm

from hoiclip.evaluation import HicoDetEvaluator
from hoiclip.inference.training_free.detector import TrainingFreeDetector
from hoiclip.inference.training_free.pair_scoring import Ingredients
from hoiclip.playground.dataset import PlaygroundDataset

CHOSEN = Ingredients()
VARIANTS = {
    "as chosen": CHOSEN,
    "without the scene's global feature": replace(CHOSEN, scene=0.0),
    "scene 0.2": replace(CHOSEN, scene=0.2),
    "scene 0.6": replace(CHOSEN, scene=0.6),
    "without visual semantic arithmetic": replace(CHOSEN, arithmetic=0.0),
    "arithmetic 0.5": replace(CHOSEN, arithmetic=0.5),
    "CLIP's own logit scale": replace(CHOSEN, sharpness=1.0),
    "a quarter of CLIP's logit scale": replace(CHOSEN, sharpness=0.25),
    "crops without margin": replace(CHOSEN, margin=0.0),
    "margin 0.15": replace(CHOSEN, margin=0.15),
}


def measure(ingredients: Ingredients, scenes: PlaygroundDataset) -> tuple[float, float, float, float]:
    """Full, rare, seen and unseen mAP."""
    annotations = [scenes.annotation(i) for i in range(len(scenes))]
    evaluator = HicoDetEvaluator(annotations, scenes.vocabulary)
    detector = TrainingFreeDetector.from_parts(
        "playground", detector="playground", clip="playground", device="cpu", ingredients=ingredients
    )
    for i in tqdm(range(len(scenes)), leave=False, disable=None):
        image, annotation = scenes[i]
        evaluator.add(annotation.file_name, detector.detect_images([image])[0])
    found = evaluator.result()
    return found.full, found.rare, found.seen, found.unseen


def main() -> None:
    """Print one row a variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--split", default="validation")
    options = parser.parse_args()
    scenes = PlaygroundDataset(options.seed, options.scenes, options.split, "playground")
    chosen = {"as chosen": CHOSEN} if options.split == "test" else VARIANTS
    print("| scores | full | rare | seen | unseen |\n|---|---:|---:|---:|---:|")
    for name, ingredients in chosen.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in measure(ingredients, scenes)) + " |", flush=True)
    print(f"\n{options.scenes} {options.split} scenes of seed {options.seed}")


if __name__ == "__main__":
    main()
