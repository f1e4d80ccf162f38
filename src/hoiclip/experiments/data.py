"""The images and annotations that an experiment names, opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.dataset import Dataset, open_dataset, people_of
from hoiclip.data.near_copies import merge_near_copies
from hoiclip.data.samples import Samples, Subset
from hoiclip.data.subsets import fraction, hold_out, with_pairs, without_unseen
from hoiclip.errors import HoiError
from hoiclip.experiments.options import Experiment
from hoiclip.files import ASSETS
from hoiclip.vocabulary import HoiVocabulary

EVALUATED = ("test", "validation", "val")  # the first of these that a dataset has
SHIPPED_PARTS = ASSETS / "playground"  # of ``playground`` as detr and clip


# --- data ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingFile:
    """An annotation file that a run learns from, and what of it the run does not see as it stands there.

    Attributes:
        path: the file; empty for the playground.
        images: how many it has, those that are held out for evaluation excepted.
        out_of_range: images left out for an object, verb or interaction id that does not exist.
        without_pairs: images left out because nothing is annotated in them.
        pairs: distinct (human box, object box) of the images that are left.
        merge_near_copies: the threshold in force; None where nothing is merged.
        merged_pairs: how many of ``pairs`` became part of another.
        several_labels: how many of the pairs that are left have more than one interaction.
    """

    path: str = ""
    images: int = 0
    out_of_range: int = 0
    without_pairs: int = 0
    pairs: int = 0
    merge_near_copies: float | None = None
    merged_pairs: int = 0
    several_labels: int = 0


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        vocabulary: what the ids mean, and which interactions are unseen.
        train: what the run learns from.
        everything: all training pairs, those of unseen interactions and of left-out images too; for
            the ``paper`` source of verb vectors.
        evaluation: what it is evaluated on, with the annotations alone beside; None for nothing.
        file: where ``train`` comes from.
    """

    vocabulary: HoiVocabulary
    train: Samples
    everything: Samples
    evaluation: tuple[Samples, Sequence[Any]] | None
    file: TrainingFile = TrainingFile()


def open_run_data(experiment: Experiment) -> RunData:
    """Open the data of an experiment.

    Raises:
        HoiError: missing or damaged data, options that exclude each other, no image left to learn from.
    """
    options = experiment.data
    if options.annotations is not None and options.fraction < 1:
        raise HoiError(
            f"data.annotations {options.annotations} says already what to learn from: leave out data.fraction "
            "(give hicodet, not hicodet_5)"
        )
    if options.source == "playground":
        return _playground_data(experiment)
    dataset, split = _open_dataset(experiment)
    whole, held, left_out = _training_split(dataset, split, experiment)
    whole, file = _for_training(dataset, split, whole, left_out, experiment)
    learned = whole
    if options.annotations is not None:
        learned, file = _named_annotations(dataset, split, {image.file_name for image in held}, experiment)
    views = without_unseen(learned, dataset.vocabulary)
    if options.fraction < 1:
        views = fraction(views, options.fraction, options.seed)
    views, whole = views[: options.train_images], whole[: options.train_images]
    if not views:
        raise HoiError(f"{file.path}: holds no image to learn from")
    train, everything = dataset.samples(split, views), dataset.samples(split, whole)
    data = _evaluation(dataset, split, held, experiment) if experiment.evaluation.every else None
    evaluation = None if data is None else (data.open_samples(), data.annotations)
    return RunData(dataset.vocabulary, train, everything, evaluation, file)


@dataclass(frozen=True)
class EvaluationData:
    """What an experiment is evaluated on.

    Attributes:
        annotations: AnnotatedImage, or VcocoImage where the protocol is V-COCO's.
        vocabulary: of the data, what their ids mean.
        open_samples: the images with their annotations; asked for only where images are needed.
    """

    annotations: Sequence[Any]
    vocabulary: HoiVocabulary
    open_samples: Callable[[], Samples]


def open_evaluation_data(experiment: Experiment) -> EvaluationData:
    """What an experiment is evaluated on.

    A split named by ``data.evaluation_split`` is taken.  Otherwise training annotations are read only
    where images are held out of them, and the images of the test split are taken where there are none.

    Raises:
        HoiError: missing or damaged data, or no image to evaluate on.
    """
    if experiment.data.source == "playground":
        playground = _playground_data(replace(experiment, evaluation=replace(experiment.evaluation, every=1)))
        assert playground.evaluation is not None
        samples, annotations = playground.evaluation
        return EvaluationData(annotations, playground.vocabulary, lambda: samples)
    dataset = _open(experiment)
    split = _usual_training_split(dataset, experiment)
    held: list[AnnotatedImage] = []
    if split and experiment.data.hold_out and not experiment.data.evaluation_split:
        held = _training_split(dataset, split, experiment)[1]
    if not held and dataset.splits == ["annotations"]:  # a folder with a single file for everything
        experiment = replace(experiment, data=replace(experiment.data, evaluation_split="annotations"))
    data = _evaluation(dataset, split, held, experiment)
    if data is None:
        raise HoiError(
            f"{experiment.data.root}: holds no images to evaluate on in a split {', '.join(EVALUATED)}; it has "
            f"{', '.join(dataset.splits)}; name one with --data.evaluation_split"
        )
    return data


def _open(experiment: Experiment) -> Dataset:
    options = experiment.data
    if options.root is None:
        raise HoiError("data.root is missing: give the folder of the data set, --data.root data/hicodet")
    return open_dataset(options.root, kind=options.source, vocabulary=experiment.vocabulary)


def _open_dataset(experiment: Experiment) -> tuple[Dataset, str]:
    """The dataset, and the name of its training split."""
    dataset = _open(experiment)
    split = _usual_training_split(dataset, experiment)
    if split is None:
        raise HoiError(
            f"{experiment.data.root}: has no training split; it has {', '.join(dataset.splits)}; "
            "name one with --data.train_split"
        )
    return dataset, split


def _usual_training_split(dataset: Dataset, experiment: Experiment) -> str | None:
    options = experiment.data
    usual = ("trainval", "train") if options.source == "vcoco" else ("train", "trainval", "annotations")
    return options.train_split or next((name for name in usual if name in dataset.splits), None)


def _training_split(
    dataset: Dataset, split: str, experiment: Experiment
) -> tuple[list[AnnotatedImage], list[AnnotatedImage], int]:
    """(to learn from, held out for evaluation, how many images name an id that does not exist)."""
    options = experiment.data
    images, left_out = dataset.load_usable(split) if dataset.kind == "hicodet" else (dataset.load(split), 0)
    if not options.hold_out:
        return images, [], left_out
    training, held = hold_out(images, options.hold_out, options.seed)  # unseen interactions stay in what is evaluated
    return training, held, left_out


def _named_annotations(
    dataset: Dataset, split: str, held: set[str], experiment: Experiment
) -> tuple[list[AnnotatedImage], TrainingFile]:
    """The pairs of ``data.annotations``, without the images that are held out."""
    named = open_dataset(str(experiment.data.annotations), vocabulary=dataset.vocabulary)
    own = named.splits[0]
    images, left_out = named.load_usable(own) if dataset.kind == "hicodet" else (named.load(own), 0)
    images = [image for image in images if image.file_name not in held]
    return _for_training(named, own, images, left_out, experiment)


def _for_training(
    dataset: Dataset, split: str, images: list[AnnotatedImage], left_out: int, experiment: Experiment
) -> tuple[list[AnnotatedImage], TrainingFile]:
    """What training makes of a dataset's images: HICO-DET's without pairs go, near-copies become one."""
    hicodet = experiment.data.source == "hicodet"
    kept = with_pairs(images) if hicodet else images
    pairs = sum(len(_labels_of_pairs(image)) for image in kept)
    threshold = experiment.data.merge_near_copies if hicodet and not dataset.in_json_form(split) else None
    merged = 0
    if threshold is not None:
        results = [merge_near_copies(image, threshold) for image in kept]
        kept, merged = [image for image, _ in results], sum(count for _, count in results)
    several = sum(count > 1 for image in kept for count in _labels_of_pairs(image).values())
    return kept, TrainingFile(
        path=str(dataset.files.source(split)),
        images=len(images) + left_out,
        out_of_range=left_out,
        without_pairs=len(images) - len(kept),
        pairs=pairs,
        merge_near_copies=threshold,
        merged_pairs=merged,
        several_labels=several,
    )


def _labels_of_pairs(image: AnnotatedImage) -> Counter[tuple[int, ...]]:
    return Counter(map(tuple, image.pairs.tolist()))


def _evaluation(
    dataset: Dataset, split: str | None, held: list[AnnotatedImage], experiment: Experiment
) -> EvaluationData | None:
    """The images held out of a training split, otherwise those of the split to evaluate on."""
    options, evaluated = experiment.data, held
    if not held:
        split = options.evaluation_split or next((s for s in EVALUATED if s in dataset.splits), None)
        evaluated = dataset.load(split) if split else []
    if not evaluated or not split:
        return None
    evaluated = evaluated[: options.evaluation_images]
    vcoco = experiment.evaluation.protocol == "vcoco"
    return EvaluationData(
        people_of(dataset, split, evaluated) if vcoco else evaluated,
        dataset.vocabulary,
        lambda: dataset.samples(split, evaluated),
    )


def _playground_data(experiment: Experiment) -> RunData:
    from hoiclip.playground.dataset import PlaygroundDataset

    options = experiment.data
    if options.annotations is not None:
        raise HoiError(f"data.annotations {options.annotations}: the playground draws its scenes; leave it out")
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
