"""Images and the sentences that are true of them: what the mini CLIP is trained on.

Of every scene come the whole image, often a crop around one pair, now and then a crop around one
person or thing.  Sentences are those of the vocabulary; an image is compared with all of them, so
every step sees every class as a negative.  A crop is about the pair it was cut around: what a
neighbour does in its corner is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hoiclip.playground.dataset import SIZE, crop_square, drawable_pairs, union
from hoiclip.playground.random_stream import RandomStream
from hoiclip.playground.renderer import render
from hoiclip.playground.scenes import Box, Scene, sample_scene
from hoiclip.vocabulary import HoiVocabulary

STREAM = 77  # keeps these scenes apart from those of the datasets
PAIR_CROPS, OBJECT_CROPS, EMPTY_CROPS = 0.62, 0.16, 0.02  # per scene
GRID = 8  # patches per side the dense labels are given for


@dataclass
class CaptionedImage:
    """One image with its sentences.

    Attributes:
        image: (size, size, 3) uint8.
        target: (T,) float32, how much of the image's meaning each sentence is; sums to 1.
        banned: (T,) bool, sentences that are neither right nor wrong.
        dense: (GRID, GRID, C + V) uint8, objects and verbs whose boxes cover each patch centre.
        kind: "scene", "single" (a scene with one pair), "pair", "object" or "empty".
    """

    image: np.ndarray
    target: np.ndarray
    banned: np.ndarray
    dense: np.ndarray
    kind: str


def sentences(vocabulary: HoiVocabulary) -> list[str]:
    """T = K + C + 1 sentences: interactions, objects, nothing."""
    return [*vocabulary.interaction_prompts, *vocabulary.object_prompts]


class CaptionedScenes:
    """An endless, seeded stream of samples.

    Args:
        vocabulary: whose interactions are shown, all of them alike.
        seed: the stream.
        start: index of the first scene.
        size: of scenes and samples, in pixels.
        crowded: scenes as full as a dataset's, and a crop around every second of their pairs.
    """

    def __init__(
        self, vocabulary: HoiVocabulary, seed: int, start: int = 0, size: int = SIZE, crowded: bool = False
    ) -> None:
        self.vocabulary, self.seed, self.start, self.size = vocabulary, seed, start, size
        self.crowded = crowded
        self.pairs = drawable_pairs(vocabulary)
        self._ids = {pair: k for k, pair in enumerate(self.pairs)}
        self._weights = dict.fromkeys(self.pairs, 1.0)

    def __iter__(self) -> Iterator[CaptionedImage]:
        index = self.start
        while True:
            yield from self.scene_samples(index)
            index += 1

    def scene_samples(self, index: int) -> list[CaptionedImage]:
        """The samples of one scene."""
        stream = RandomStream(np.random.default_rng([self.seed, STREAM, index]))
        groups = stream.weighted((1, 2, 3), (0.4, 0.4, 0.2) if self.crowded else (0.66, 0.26, 0.08))
        alone = groups == 1 and stream.chance(0.4 if self.crowded else 0.75)
        wanted = [stream.choice(self.pairs) for _ in range(groups)]
        scene = sample_scene(stream, wanted, self._weights, self.size, extras=0.0 if alone else 0.45)
        image = render(scene)
        samples = [self._scene_sample(scene, image)]
        crops = max(1, len(scene.pairs) // 2) if self.crowded else int(stream.chance(PAIR_CROPS))
        samples += [self._pair_sample(scene, image, stream) for _ in range(crops)]
        if stream.chance(OBJECT_CROPS):
            samples.append(self._object_sample(scene, image, stream))
        if stream.chance(EMPTY_CROPS):
            empty = self._empty_sample(scene, image, stream)
            samples += [empty] if empty else []
        return samples

    # --- samples ----------------------------------------------------------------------------------

    def _scene_sample(self, scene: Scene, image: Image.Image) -> CaptionedImage:
        rows = self._rows(scene, range(len(scene.pairs)))
        kind = "single" if len(scene.pairs) == 1 else "scene"
        whole = (0.0, 0.0, float(self.size), float(self.size))
        return self._sample(image, rows, scene, whole, kind)

    def _pair_sample(self, scene: Scene, image: Image.Image, stream: RandomStream) -> CaptionedImage:
        chosen = stream.integer(0, len(scene.pairs))
        human, thing, _ = scene.pairs[chosen]
        box = union(scene.boxes[human], scene.boxes[thing])
        crop, region = crop_square(image, box, stream.uniform(0.03, 0.25))
        return self._sample(crop, self._rows(scene, [chosen]), scene, region, "pair")

    def _object_sample(self, scene: Scene, image: Image.Image, stream: RandomStream) -> CaptionedImage:
        row = stream.integer(0, len(scene.boxes))
        if scene.names[row] == "person" and stream.chance(0.7):
            row = stream.choice([i for i, name in enumerate(scene.names) if name != "person"])
        crop, region = crop_square(image, scene.boxes[row], stream.uniform(0.0, 0.15))
        column = len(self.pairs) + self.vocabulary.objects.index(scene.names[row])
        sample = self._sample(crop, [column], scene, region, "object")
        # What else is in the crop is not wrong; neither are interactions.
        sample.banned[: len(self.pairs)] = scene.names[row] == "person"
        sample.banned[column] = False
        return sample

    def _empty_sample(self, scene: Scene, image: Image.Image, stream: RandomStream) -> CaptionedImage | None:
        side = self.size * 0.2
        for _ in range(8):
            x, y = stream.uniform(0, self.size - side), stream.uniform(0, self.size - side)
            box = (x, y, x + side, y + side)
            if all(b[2] <= box[0] or b[0] >= box[2] or b[3] <= box[1] or b[1] >= box[3] for b in scene.boxes):
                crop, region = crop_square(image, box, 0.0)
                return self._sample(crop, [len(self.pairs) + len(self.vocabulary.objects)], scene, region, "empty")
        return None

    def _rows(self, scene: Scene, which: Iterable[int]) -> list[int]:
        return sorted(
            {self._ids[verb, scene.names[o]] for _, o, verbs in (scene.pairs[i] for i in which) for verb in verbs}
        )

    def _sample(self, image: Image.Image, rows: list[int], scene: Scene, region: Box, kind: str) -> CaptionedImage:
        interactions, objects = len(self.pairs), len(self.vocabulary.objects)
        target = np.zeros(interactions + objects + 1, dtype=np.float32)
        target[rows] = 1 / len(rows)
        banned = np.zeros(len(target), dtype=bool)
        side = region[2] - region[0]
        for box, name in zip(scene.boxes, scene.names, strict=True):
            if box[0] < region[2] and box[2] > region[0] and box[1] < region[3] and box[3] > region[1]:
                banned[interactions + self.vocabulary.objects.index(name)] = True
        banned[rows] = False
        dense = np.zeros((GRID, GRID, objects + len(self.vocabulary.verbs)), dtype=np.uint8)
        centres = (np.arange(GRID) + 0.5) * side / GRID

        def cover(box: Box) -> tuple[np.ndarray, np.ndarray]:
            x, y = region[0] + centres, region[1] + centres
            return (y >= box[1]) & (y <= box[3]), (x >= box[0]) & (x <= box[2])

        for box, name in zip(scene.boxes, scene.names, strict=True):
            ys, xs = cover(box)
            dense[np.ix_(ys, xs, np.array([self.vocabulary.objects.index(name)]))] = 1
        for human, thing, verbs in scene.pairs:
            columns = np.array([objects + self.vocabulary.verbs.index(verb) for verb in verbs])
            for row in (human, thing):
                ys, xs = cover(scene.boxes[row])
                dense[np.ix_(ys, xs, columns)] = 1
        return CaptionedImage(np.asarray(image), target, banned, dense, kind)
