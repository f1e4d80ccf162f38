"""The seven kinds of files that are damaged, and what is done with each of them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import archive_tries
import checkpoint_tries
import form_tries
import yaml
from mutations import (
    DEEP,
    WRITTEN,
    damaged,
    damaged_json,
    damaged_png,
    encoded,
    gzip_bomb,
    json_text,
    one_bit_bomb,
    with_odd_values,
)
from promises import Box, Try
from seeds import World

EARLIER = '{"file_name": "earlier.jpg", "image_size": [9, 9], "triplets": []}\n'
GOOD = ("L.png", "exif.jpg", "plain.bmp")
ALONE = 1 / 60  # of the command lines run in a process of their own: 3 s each
BOMB = 1 / 80


def _alone(rng: random.Random) -> bool:
    return rng.random() < ALONE


# --- images ----------------------------------------------------------------------------------------


def images(rng: random.Random, world: World, box: Box) -> Try:
    """A folder of good images with a damaged one between them, through ``detect``."""
    name = rng.choice(list(world.images))
    data = world.images[name]
    if rng.random() < BOMB:
        name, data = "bomb.png", one_bit_bomb(rng.choice((9_000, 13_300, 14_000, 60_000)))  # 81, 177, 196, 3600 million
    elif name.endswith(".png") and rng.random() < 0.6:
        data = damaged_png(rng, data)
    else:
        data = damaged(rng, data)
    for good in GOOD:
        box.put(f"photos/a-{good}", world.images[good])
    suffix = rng.choice((Path(name).suffix, Path(name).suffix, rng.choice((".jpg", ".png", ".tif", ".HEIC", "", ".x"))))
    bad = box.put(f"photos/b-{rng.choice(('bad', 'böse', 'x' * 200))}{suffix}", data)
    box.put("photos/c-last.png", world.images["RGB.png"])
    good_names = [str(box.given / "photos" / f"a-{good}") for good in sorted(GOOD)]
    good_names.append(str(box.given / "photos" / "c-last.png"))
    lines = box.out / "detections.jsonl"
    options: list[Any] = rng.choice((["--no-pictures"], ["--no-pictures", "--draft"], [], ["--resume"]))
    if "--resume" in options:
        lines.write_text(EARLIER)

    def check(accepted: bool) -> str | None:
        found = lines.read_text().splitlines(keepends=True)
        if "--resume" in options and found.pop(0) != EARLIER:
            return "the line of an earlier run is lost"
        entries = [json.loads(line) for line in found]
        names = [entry["file_name"] for entry in entries]
        with_bad = sorted([*good_names, str(bad)])
        if names not in ([good_names, with_bad] if accepted else [good_names]):
            return f"accepted={accepted}, but lines are of {names}"
        boxes = [number for e in entries for t in e["triplets"] for number in (*t["human_box"], *t["object_box"])]
        return None if all(map(math.isfinite, boxes)) else "a box is no number"

    fixed = ["--model", world.model, "--out", box.out, "--device", "cpu", "--threshold", 0]
    return Try(["detect", box.given / "photos", *fixed, *options], check, _alone(rng))


# --- annotation files ------------------------------------------------------------------------------


def annotations(rng: random.Random, world: World, box: Box) -> Try:
    """Each form that is read, through ``data check``, ``data show`` and ``evaluate``."""
    form = rng.choice([*world.annotations, "anno_bbox.mat", "vcoco", "gzip bomb"])
    if form == "vcoco":
        damage = rng.choice(list(world.vcoco))
        for name, tree in world.vcoco.items():
            text = "\n".join(map(str, tree)) if name.endswith(".ids") else json.dumps(tree)
            data = text.encode()
            if name == damage:
                data = damaged(rng, data) if name.endswith(".ids") else damaged_json(rng, tree)
            box.put(f"vcoco/{name}", data)
        command = rng.choice((["data", "check"], ["data", "show", "--split", "test"]))
        number = [0] if "show" in command else []
        return _annotation_try(rng, box, [*command[:2], box.given / "vcoco", *number, *command[2:]])
    if form == "gzip bomb":
        data = gzip_bomb(rng.choice((64, 512, 2048)) if rng.random() < 16 * BOMB else 16)
        return _annotation_try(rng, box, ["data", "check", box.put("test_hico.json.gz", data)])
    if form == "anno_bbox.mat":
        path = box.put("anno_bbox.mat", damaged(rng, world.mat))
    else:
        path = box.put(form, damaged_json(rng, world.annotations[form]))
        if form == "custom/train.json":
            box.put("custom/vocabulary.yaml", (world.custom / "vocabulary.yaml").read_bytes())
    for image in world.hico_images:
        box.put(f"images/{image.file_name}", world.images["RGB.png"])
    whole = rng.choice((path, path.parent if form.startswith("custom") else path))
    what = rng.randrange(4)
    if what == 0:
        return _annotation_try(rng, box, ["data", "show", whole, rng.choice((0, 1)), "--images", box.given / "images"])
    if what == 1:
        lines = "".join(json.dumps(line) + "\n" for line in world.detections)
        detections = box.put("mine.jsonl", lines.encode())
        given = ["--detections", detections, "--annotations", path]
        if rng.random() < 0.3:
            good = box.put("good/test_hico.json", json.dumps(world.annotations["test_hico.json"]).encode())
            given = ["--detections", detections, "--annotations", good, "--train-annotations", path]
        out = box.out / "metrics.json"
        return Try(["evaluate", "hicodet", *given, "--out", out], lambda ok: strict_json(out) if ok else None)
    extra = rng.choice(([], ["--images", box.given / "images"], ["--box-format", "xywh"], ["--vocabulary", "hico"]))
    return _annotation_try(rng, box, ["data", "check", whole, *extra])


def _annotation_try(rng: random.Random, box: Box, command: list[Any]) -> Try:
    out = box.out / ("report.json" if "check" in command else "drawing.jpg")
    check: Callable[[bool], str | None] = lambda ok: strict_json(out) if ok and out.suffix == ".json" else None  # noqa: E731
    return Try([*command, "--out", out], check, _alone(rng))


def strict_json(path: Path) -> str | None:
    """What is wrong with a file that we wrote: it must be JSON that any program reads."""

    def constant(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=constant)
    except (OSError, ValueError) as error:
        return f"{path.name} is not written, or no strict JSON: {error}"
    return None


# --- detections ------------------------------------------------------------------------------------


def detections(rng: random.Random, world: World, box: Box) -> Try:
    """Somebody's JSON lines through ``evaluate``, our own through ``detect --resume``."""
    trees: list[Any] = [dict(line) for line in world.detections]
    if rng.random() < 0.7:
        number = rng.randrange(len(trees))
        trees[number] = with_odd_values(rng, trees[number])
    text = "".join(json_text(tree) + "\n" for tree in trees)
    data = encoded(rng, text) if rng.random() < 0.7 else damaged(rng, encoded(rng, text))
    if rng.random() < BOMB:
        data = gzip_bomb(1024)
    if rng.random() < 0.35:
        return _resumed(rng, world, box, data)
    good = json.dumps(world.annotations["test_hico.json"]).encode()
    given = ["--detections", box.put("mine.jsonl", data), "--annotations", box.put("test_hico.json", good)]
    out = box.out / "metrics.json"
    return Try(["evaluate", "hicodet", *given, "--out", out], lambda ok: strict_json(out) if ok else None, _alone(rng))


def _resumed(rng: random.Random, world: World, box: Box, data: bytes) -> Try:
    lines = box.out / "detections.jsonl"
    lines.write_bytes(data)
    photo = box.put("photo.png", world.images["RGB.png"])

    def check(accepted: bool) -> str | None:
        now = lines.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # a line that a crash cut off may go
        if not now.startswith(whole) or (not accepted and now not in (data, whole)):
            return "lines that were there are lost"
        return (
            "no line was added"
            if accepted and now == whole and str(photo) not in data.decode(errors="replace")
            else None
        )

    command = ["detect", photo, "--model", world.model, "--out", box.out, "--device", "cpu", "--threshold", 0]
    return Try([*command, "--resume", "--no-pictures"], check, _alone(rng))


# --- YAML ------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
SNIPPETS = (
    LAUGHS,
    LAUGHS + "train: *i\n",
    "x: !!python/object/apply:os.system ['touch {canary}']\n",
    "x: !!python/object/new:subprocess.Popen [['touch', '{canary}']]\n",
    "!!python/name:os.system\n",
    "seed: &s [*s]\n",
    "train: &t {{a: *t}}\n",
    "train: {{<<: [{{batch_size: 2}}, 3]}}\n",
    "seed: 2024-13-45\n",
    "seed: !!binary '#'\n",
    "? [a, b]\n: c\n",
    "? {{a: b}}\n: c\n",
    "\t- x\n",
    "verbs: [ride]\nobjects: [horse]\npairs: [&p [ride, horse], *p, *p]\n",
    "verbs: &v [ride, *v]\nobjects: [horse]\n",
    "verbs: [*i]\nobjects: *i\n",
    "--- a\n--- b\n",
    "%YAML 9.9\n---\nseed: 1\n",
    "base: [hicodet]\n",
    "base: mine\n",
    "base: ../../../../etc/passwd\n",
    "1: 2\n",
    "null: 2\n",
    "train: {{1: 2}}\n",
    "seed: 1:30:00\n",
)
EXPERIMENT = {
    "base": "hicodet", "name": "mine", "seed": 3, "vocabulary": "hico", "out": "runs/mine",
    "model": {"variant": "hoiclip", "num_queries": 8, "verb_weight": 0.5, "dropout": 0.1, "published": False},
    "data": {"source": "hicodet", "root": "data", "fraction": 0.5, "scales": [40, 48], "crop_range": [24, 48]},
    "train": {"batch_size": 2, "epochs": 3, "learning_rate": 0.0001, "ema": None, "normalise": "batch"},
    "evaluation": {"protocol": "hicodet", "batch_size": 2},
    "verbs": {"method": "arithmetic"},
}  # fmt: skip
WORDS = {
    "name": "mine", "verbs": ["ride", "sit on", {"juggle": "juggling with"}], "objects": ["person", "horse", "ball"],
    "pairs": ["ride horse", ["sit on", "horse"], "juggle ball"], "unseen": ["juggle ball"], "rare": [],
    "category_ids": [1, 19, 37],
}  # fmt: skip


def yaml_files(rng: random.Random, world: World, box: Box) -> Try:
    """Experiments through the reader and ``evaluate``; vocabularies through the reader, ``data check``, ``detect``."""
    experiment = rng.random() < 0.5
    tree = EXPERIMENT if experiment else WORDS
    data = _yaml(rng, with_odd_values(rng, tree) if rng.random() < 0.6 else tree, box)
    path = box.put("mine.yaml" if experiment else "custom/vocabulary.yaml", data)
    if rng.random() < 0.6:
        from hoiclip.experiments import load_experiment
        from hoiclip.vocabulary import HoiVocabulary

        if experiment:
            return Try(lambda: load_experiment(path))
        return Try(lambda: HoiVocabulary.from_yaml(path).interaction_prompts)
    if experiment:
        good = box.put("test_hico.json", json.dumps(world.annotations["test_hico.json"]).encode())
        lines = "".join(json.dumps(line) + "\n" for line in world.detections).encode()
        given = ["--detections", box.put("mine.jsonl", lines), "--annotations", good]
        return Try(["evaluate", path, *given, "--images", 2], alone=_alone(rng))
    if rng.random() < 0.5:
        box.put("custom/train.json", (world.custom / "train.json").read_bytes())
        return Try(["data", "check", box.given / "custom", "--out", box.out / "report.json"], alone=_alone(rng))
    photo = box.put("photo.png", world.images["RGB.png"])
    fixed = ["--model", world.model, "--out", box.out, "--device", "cpu", "--threshold", 0]
    return Try(["detect", photo, *fixed, "--vocabulary", path, "--no-pictures"], alone=_alone(rng))


def _yaml(rng: random.Random, tree: Any, box: Box) -> bytes:
    if rng.random() < 0.2:
        snippet = rng.choice(SNIPPETS).format(canary=box.canary)
        before = "verbs: [ride]\nobjects: [horse]\n" if rng.random() < 0.3 and "verbs" not in snippet else ""
        return (before + snippet).encode()
    try:
        text = yaml.safe_dump(tree, allow_unicode=True, default_flow_style=rng.choice((None, True, False)))
    except yaml.YAMLError:
        text = json_text(tree)
    for mark, written in WRITTEN.items():
        text = text.replace(f"'{mark}'", written[2500:-2500] if mark == DEEP and rng.random() < 0.5 else written)
    return encoded(rng, text) if rng.random() < 0.6 else damaged(rng, encoded(rng, text))


KINDS: dict[str, Callable[[random.Random, World, Box], Try]] = {
    "images": images,
    "annotations": annotations,
    "detections": detections,
    "yaml": yaml_files,
    "checkpoints": checkpoint_tries.checkpoints,
    "archives": archive_tries.archives,
    "forms": form_tries.forms,
}
