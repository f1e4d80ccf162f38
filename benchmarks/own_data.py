"""Own data from labels to numbers: 40 labelled scenes of a camera that the shipped playground model has never seen.

    python benchmarks/own_data.py

The scenes are what a cheap camera at dusk would make of the playground: grey, dim, blurred, with noise.
They leave here as a Label Studio export and come back by ``hoiclip data import``; then ``data check``, ``evaluate``,
``train finetune`` and ``evaluate`` again, each the command a newcomer would type.  Prints a table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from hoiclip import HoiVocabulary
from hoiclip.cli import main as hoiclip
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.playground.dataset import PlaygroundDataset

WORDS = """\
verbs: [ride, sit_on, kick, push, hold, lift]
objects: [person, bicycle, skateboard, bench, ball, cart, box, umbrella]
pairs: [ride bicycle, ride skateboard, sit on bench, kick ball, push cart, hold umbrella, lift box, hold ball]
"""
LABELLED, HELD_OUT = 40, 200
NOISE = 14  # of 255


def dusk(image: Image.Image, seed: int) -> Image.Image:
    """The image without colour: dim, blurred and noisy."""
    grey = ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(0.8))
    noise = np.random.default_rng(seed).normal(0, NOISE, (grey.height, grey.width))
    pixels = np.clip(0.75 * np.asarray(grey) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert("RGB")


def write_folder(folder: Path, seed: int, length: int, *, plain: bool) -> None:
    """A custom folder of scenes in which only the newcomer's words are labelled."""
    (folder / "images").mkdir(parents=True)
    (folder / "vocabulary.yaml").write_text(WORDS)
    own = HoiVocabulary.from_yaml(folder / "vocabulary.yaml")
    world = HoiVocabulary.from_name("playground")
    names = [(own.verbs[v], own.objects[o]) for v, o in own.interactions]
    drawn = tuple((world.verbs.index(v), world.objects.index(o)) for v, o in names)
    scenes = PlaygroundDataset(
        seed, length, "test", replace(world, interactions=drawn, rare=frozenset(), unseen=frozenset())
    )
    annotations = []
    for i, (image, found) in enumerate(scenes):
        image = image if plain else dusk(image, seed * 10_000 + i)
        image.save(folder / "images" / found.file_name)
        annotations.append(_in_own_words(found, own, world))
    save_hoia(annotations, folder / "annotations.json", own)


def _in_own_words(found: AnnotatedImage, own: HoiVocabulary, world: HoiVocabulary) -> AnnotatedImage:
    """The same image without the boxes that the vocabulary has no word for; interactions have the same numbers."""
    names = [world.objects[o] for o in found.object_ids]
    kept = [i for i, name in enumerate(names) if name in own.objects]
    rows = {old: new for new, old in enumerate(kept)}
    return replace(
        found,
        boxes=found.boxes[kept].round(1),
        object_ids=np.array([own.objects.index(names[i]) for i in kept]),
        pairs=np.array([[rows[h], rows[o]] for h, o in found.pairs.tolist()]),
    )


def run(*words: object) -> None:
    """One command, as it would be typed."""
    command = [str(word) for word in words]
    print("hoiclip", *command, flush=True)
    if hoiclip(command):
        raise SystemExit(f"failed: hoiclip {' '.join(command)}")


def mean_ap(root: Path, metrics: Path, model: str | Path | None = None) -> float:
    """Percent, over the interactions that the folder has examples of (the line ``hoiclip`` of the table)."""
    run("evaluate", "custom", "--data.root", root, "--out", metrics, *(["--model", model] if model else []))
    return 100 * json.loads(metrics.read_text())["full"]


def main() -> None:
    """Everything in a row, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="new folder for all of it (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=10, help="of the labelled scenes; the next one's are held out")
    parser.add_argument("--plain", action="store_true", help="the colours that the model knows, for comparison")
    args, options = parser.parse_known_args()  # further ones are the experiment's, --train.epochs 120
    out, began = args.out or Path(tempfile.mkdtemp()), time.perf_counter()
    write_folder(out / "drawn", args.seed, LABELLED, plain=args.plain)
    write_folder(out / "held-out", args.seed + 1, HELD_OUT, plain=args.plain)
    run("data", "export", out / "drawn", "--to", "label-studio", "--out", out / "export.json")
    photos, mine, model = out / "drawn" / "images", out / "mine", out / "model"
    run("data", "import", out / "export.json", "--from", "label-studio", "--images", photos, "--out", mine)
    run("data", "check", mine)
    folders = {f"{LABELLED // 5} test scenes": mine, f"{HELD_OUT} held-out scenes": out / "held-out"}
    before = [mean_ap(folder, out / "metrics.json") for folder in folders.values()]
    start = time.perf_counter()
    run("train", "finetune", "--model.start", "playground", "--data.root", mine, "--out", model, *options)
    trained = time.perf_counter() - start
    after = [mean_ap(folder, out / "metrics.json", model) for folder in folders.values()]
    print(f"\n| mAP | {' | '.join(folders)} |\n|---|{'---:|' * len(folders)}")
    for name, values in (("before", before), ("after", after)):
        print(f"| {name} | {' | '.join(f'{value:.1f} %' for value in values)} |")
    print(f"\ntraining {trained:.0f} s, everything {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
