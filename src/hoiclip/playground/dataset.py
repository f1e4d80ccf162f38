"""The playground as a dataset: (seed, index) -> image and annotation, nothing on disk.

    scenes = PlaygroundDataset(seed=0, length=8000, split="train", vocabulary="playground_rf_uc")
    image, annotation = scenes[17]

Training scenes follow a long tail like HICO-DET's: frequent interactions, rare ones with a handful
of instances in the whole set, and none at all of the vocabulary's unseen ones.  Validation and test
scenes are uniform over all interactions.  The three splits never share a scene, whatever the seeds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.errors import HoiError
from hoiclip.playground.groups import Pair
from hoiclip.playground.objects import KINDS
from hoiclip.playground.poses import ARRANGE
from hoiclip.playground.random_stream import RandomStream
from hoiclip.playground.renderer import render
from hoiclip.playground.scenes import Box, Scene, sample_scene, sample_still_life
from hoiclip.vocabulary import HoiVocabulary

SPLITS = ("train", "validation", "test")
SIZE = 128
RARE_INSTANCES = (3, 6)  # of each rare interaction in a training set of RARE_SCALE scenes or more
RARE_SCALE = 1000
GROUPS = ((1, 2, 3), (0.5, 0.36, 0.14))  # how many groups a scene has, and how often


def popularity(pair: Pair) -> float:
    """How common an interaction is in training, 0.11 to 1: spread evenly on a log scale."""
    return math.exp(-2.2 * zlib.crc32(" ".join(pair).encode()) / 2**32)


class PlaygroundDataset(Sequence[tuple[Image.Image, AnnotatedImage]]):
    """Scenes drawn when they are asked for.

    Args:
        seed: which world of scenes.
        length: how many scenes; scene i does not depend on it, except that a training set places
            its rare interactions at random indices.
        split: "train" (long tail, no unseen interactions), "validation" or "test" (uniform).
        vocabulary: a :class:`HoiVocabulary` of drawable verbs and objects, or its name.
        interactions: False for still lifes: random poses and scattered things, no pairs.
        size: width and height in pixels.

    Raises:
        HoiError: on an unknown split, or a verb or object the playground cannot draw.
    """

    def __init__(
        self,
        seed: int,
        length: int,
        split: str = "train",
        vocabulary: HoiVocabulary | str = "playground",
        interactions: bool = True,
        size: int = SIZE,
    ) -> None:
        if split not in SPLITS:
            raise HoiError(f"unknown playground split {split!r}: choose one of {', '.join(SPLITS)}")
        if seed < 0 or length < 0:
            raise HoiError(f"a playground needs a seed and a length of at least 0, not {seed} and {length}")
        self.seed, self.length, self.split, self.size = seed, length, split, size
        self.vocabulary = HoiVocabulary.coerce(vocabulary)
        self.interactions = interactions
        self.pairs = drawable_pairs(self.vocabulary)
        self._ids = {pair: k for k, pair in enumerate(self.pairs)}
        self._object_ids = {name: c for c, name in enumerate(self.vocabulary.objects)}
        hidden = self.vocabulary.unseen | self.vocabulary.rare if split == "train" else frozenset()
        self._weights: dict[Pair, float] = {
            pair: popularity(pair) if split == "train" else 1.0 for k, pair in enumerate(self.pairs) if k not in hidden
        }
        self._choices = list(self._weights), list(self._weights.values())
        self._rare_at = self._plan_rare() if split == "train" else {}

    def _plan_rare(self) -> dict[int, list[Pair]]:
        """Which scenes show a rare interaction: exactly so many instances of each."""
        rng = np.random.default_rng([self.seed, len(SPLITS)])
        plan: dict[int, list[Pair]] = {}
        low, high = RARE_INSTANCES
        for k in sorted(self.vocabulary.rare - self.vocabulary.unseen):
            count = int(rng.integers(low, high + 1))
            places = rng.random(count)
            if self.length < RARE_SCALE:  # a small set has fewer
                count = round(count * self.length / RARE_SCALE)
            for place in places[:count]:
                plan.setdefault(int(place * self.length), []).append(self.pairs[k])
        return plan

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Image.Image, AnnotatedImage]:  # type: ignore[override]
        scene = self.scene(index)
        return render(scene), self._annotate(scene, index)

    def annotation(self, index: int) -> AnnotatedImage:
        """The annotation alone, without painting."""
        return self._annotate(self.scene(index), index)

    def scene(self, index: int) -> Scene:
        """The description that image and annotation come from."""
        if index < 0:
            index += self.length
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        stream = RandomStream(
            np.random.default_rng([self.seed, SPLITS.index(self.split), int(self.interactions), index])
        )
        if not self.interactions:
            return sample_still_life(stream, self.size)
        groups = stream.weighted(*GROUPS)
        wanted = [stream.weighted(*self._choices) for _ in range(groups)] if self._weights else []
        rare = self._rare_at.get(index, [])
        return sample_scene(stream, [*rare, *wanted][: max(groups, len(rare), 1)], self._weights, self.size)

    def _annotate(self, scene: Scene, index: int) -> AnnotatedImage:
        labels = [(h, o, self._ids[verb, scene.names[o]]) for h, o, verbs in scene.pairs for verb in verbs]
        return AnnotatedImage(
            file_name=f"{self.split}_{self.seed}_{index:06d}.png",
            boxes=np.array(scene.boxes),
            object_ids=np.array([self._object_ids[name] for name in scene.names]),
            pairs=np.array([(h, o) for h, o, _ in labels]),
            hoi_ids=np.array([k for _, _, k in labels]),
            size=(self.size, self.size),
        )


def drawable_pairs(vocabulary: HoiVocabulary) -> list[Pair]:
    """(verb, object) names of all interactions.

    Raises:
        HoiError: if the playground has no drawing for one of them.
    """
    pairs = [(vocabulary.verbs[v], vocabulary.objects[o]) for v, o in vocabulary.interactions]
    known = set(drawable_names())
    for verb, name in pairs:
        if (verb, name) not in known:
            raise HoiError(f"the playground cannot draw {verb!r} with {name!r}: use the vocabulary 'playground'")
    if "person" not in vocabulary.objects or not set(KINDS) <= set(vocabulary.objects):
        raise HoiError(f"vocabulary {vocabulary.name!r} must list person and all objects of the playground")
    return pairs


def drawable_names() -> list[Pair]:
    """All (verb, object) the playground can draw."""
    base = HoiVocabulary.from_name("playground")
    return [(base.verbs[v], base.objects[o]) for v, o in base.interactions if base.verbs[v] in ARRANGE]


def crop_square(image: Image.Image, box: Box, margin: float = 0.2, size: int | None = None) -> tuple[Image.Image, Box]:
    """A square cut around a box, without distortion.

    Args:
        image: any image.
        box: xyxy pixels; for a pair, the union of both boxes.
        margin: added on each side, as a fraction of the longer side.
        size: side of the result; None for that of the image's shorter side.

    Returns:
        the crop, (size, size), and the region it shows, xyxy pixels of ``image``.
    """
    width, height = image.size
    side = min(max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * margin), width, height)
    left = min(max((box[0] + box[2] - side) / 2, 0.0), width - side)
    top = min(max((box[1] + box[3] - side) / 2, 0.0), height - side)
    region = (left, top, left + side, top + side)
    size = size or min(width, height)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=region), region


def union(a: Sequence[float], b: Sequence[float]) -> Box:
    """The smallest box around two, xyxy."""
    return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
