"""The images and annotations that an experiment names, opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.dataset import open_dataset, people_of
from hoiclip.data.samples import Samples, Subset
from hoiclip.data.subsets import fraction, hold_out, without_unseen
from hoiclip.errors import HoiError
from hoiclip.experiments.options import Experiment
from hoiclip.files import ASSETS
from hoiclip.vocabulary import HoiVocabulary

SHIPPED_PARTS = ASSETS / "playground"  # of ``playground`` as detr and clip


# --- data ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        vocabulary: what the ids mean, and which interactions are unseen.
        train: what the run learns from.
        everything: all training pairs, those of unseen interactions and of left-out images too; for
            the ``paper`` source of verb vectors.
        evaluation: what it is evaluated on, with the annotations alone beside; None for nothing.
    """

    vocabulary: HoiVocabulary
    train: Samples
    everything: Samples
    evaluation: tuple[Samples, Sequence[Any]] | None


def open_run_data(experiment: Experiment) -> RunData:
    """Open the data of an experiment.

    Raises:
        HoiError: missing or damaged data, no image left to learn from.
    """
    if experiment.data.source == "playground":
        return _playground_data(experiment)
    options = experiment.data
    if options.root is None:
        raise HoiError("data.root is missing: give the folder of the data set, --data.root data/hicodet")
    dataset = open_dataset(options.root, kind=options.source, vocabulary=experiment.vocabulary)
    vocabulary = dataset.vocabulary
    train_split = options.train_split or _first(("train", "trainval", "annotations"), dataset.splits, options.root)
    if options.source == "vcoco" and options.train_split is None and "trainval" in dataset.splits:
        train_split = "trainval"
    whole = dataset.load(train_split)
    held: list[AnnotatedImage] = []
    if options.hold_out:
        whole, held = hold_out(whole, options.hold_out, options.seed)  # unseen interactions stay in what is evaluated
    views = without_unseen(whole, vocabulary)
    if options.fraction < 1:
        views = fraction(views, options.fraction, options.seed)
    views, whole = views[: options.train_images], whole[: options.train_images]
    if not views:
        raise HoiError(f"{options.root}: split {train_split!r} holds no image to learn from")
    evaluation = None
    evaluated = held
    split: str | None = train_split
    if not held and experiment.evaluation.every:
        split = options.evaluation_split or next(
            (s for s in ("test", "validation", "val") if s in dataset.splits), None
        )
        evaluated = dataset.load(split) if split else []
    if evaluated and split and experiment.evaluation.every:
        evaluated = evaluated[: options.evaluation_images]
        vcoco = experiment.evaluation.protocol == "vcoco"
        evaluation = (dataset.samples(split, evaluated), people_of(dataset, split, evaluated) if vcoco else evaluated)
    return RunData(vocabulary, dataset.samples(train_split, views), dataset.samples(train_split, whole), evaluation)


def _first(wanted: Sequence[str], splits: Sequence[str], root: str) -> str:
    for name in wanted:
        if name in splits:
            return name
    raise HoiError(f"{root}: has no training split; it has {', '.join(splits)}; name one with --data.train_split")


def _playground_data(experiment: Experiment) -> RunData:
    from hoiclip.playground.dataset import PlaygroundDataset

    options = experiment.data
    vocabulary = HoiVocabulary.coerce(experiment.vocabulary or "playground")
    length, evaluated = options.train_images or 8000, options.evaluation_images or 1000
    train: Samples = PlaygroundDataset(options.seed, length, "train", vocabulary)
    open_world = replace(vocabulary, unseen=frozenset())
    everything: Samples = PlaygroundDataset(options.seed, length, "train", open_world)
    if options.fraction < 1:
        order = np.random.default_rng([options.seed, 0]).permutation(length)
        train = Subset(train, sorted(order[: max(1, round(options.fraction * length))].tolist()))
    evaluation = None
    if experiment.evaluation.every:
        scenes = PlaygroundDataset(options.seed, evaluated, options.evaluation_split or "validation", vocabulary)
        evaluation = (cast(Samples, scenes), [scenes.annotation(i) for i in range(evaluated)])
    return RunData(vocabulary, train, everything, evaluation)


def part_source(source: str, name: str) -> str:
    return str(SHIPPED_PARTS / name) if source == "playground" else source
