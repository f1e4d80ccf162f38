"""Evaluate a model, or anybody's detections, by every metric of a protocol at once.

hoiclip evaluate hicodet --model model/ --data.root data/hicodet --out metrics.json
hoiclip evaluate hicodet --detections mine.jsonl --annotations test_hico.json
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from hoiclip import published
from hoiclip.backends.base import Backend
from hoiclip.batching import equal_size_batches
from hoiclip.data.corruptions import CorruptedSamples, Corruption
from hoiclip.data.dataset import open_dataset, people_of
from hoiclip.data.samples import Sample, Samples, annotation_of, check_images
from hoiclip.detection_forms.opening import open_detections
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.evaluation.hicodet import HicoDetEvaluator, HicoDetResult, sweep_enhancement
from hoiclip.evaluation.reports import Evaluated
from hoiclip.evaluation.vcoco import VcocoEvaluator
from hoiclip.experiments.data import EVALUATED, EvaluationData, open_evaluation_data
from hoiclip.experiments.options import Experiment
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor
from hoiclip.vocabulary import HoiVocabulary

Results = dict[str, Any]  # HicoDetResult or VcocoResult, by the name a table shows
#: (K,) annotated pairs of each class in the training data, or what counts them once the vocabulary is known
TrainingCounts = np.ndarray | Callable[[HoiVocabulary], np.ndarray | None] | None
#: filled with detections by file name, or what makes such a mapping once the vocabulary is known
Kept = MutableMapping[str, Detections] | Callable[[HoiVocabulary], MutableMapping[str, Detections]] | None


class Detector(Protocol):
    """The part of :class:`hoiclip.HoiDetector` that evaluation needs."""

    @property
    def backend(self) -> Backend: ...

    @property
    def processor(self) -> HoiClipProcessor: ...

    @property
    def vocabulary(self) -> HoiVocabulary: ...

    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> Any: ...


class DetectsImages(Protocol):
    """A detector that goes from images to detections in its own way, such as the training-free one."""

    @property
    def vocabulary(self) -> HoiVocabulary: ...

    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> Any: ...

    def detect_images(self, images: Sequence[Image.Image], zero_shot_top_k: int | None = None) -> list[Detections]:
        """The best triplets of each image, without a threshold."""


@dataclass(frozen=True)
class EvaluationSet:
    """Annotated images to evaluate a model on.

    Attributes:
        samples: (image, annotation) by index.
        annotations: the same annotations without the images (AnnotatedImage or VcocoImage).
        processor: makes the model's inputs and reads its outputs; None where the model takes images.
        protocol: ``hoiclip`` or ``official`` for verb-object pairs, ``vcoco`` for V-COCO's roles.
        batch_size: images at once on each process.
        zero_shot_top_k: K of the training-free enhancement, None for none.
    """

    samples: Samples
    annotations: Sequence[Any]
    processor: HoiClipProcessor | None
    protocol: str = "hoiclip"
    batch_size: int = 8
    zero_shot_top_k: int | None = published.ZERO_SHOT_TOP_K

    @property
    def main_metric(self) -> str:
        """The number by which one model is better than another."""
        return "scenario_1" if self.protocol == "vcoco" else "full"


class ProtocolEvaluators:
    """The evaluators of one protocol and its companions, fed together; the first one is the main one.

    Args:
        annotations: of all images (AnnotatedImage or VcocoImage).
        vocabulary: what the ids mean.
        protocol: ``hoiclip`` (with both official settings beside it), ``official`` or ``vcoco``.
        main_only: leave out the companions, as training does.
        training_instances: (K,) of each interaction, for the means over those that are rare in the
            training data; V-COCO has none.
    """

    def __init__(
        self,
        annotations: Sequence[Any],
        vocabulary: HoiVocabulary,
        protocol: str,
        *,
        main_only: bool = False,
        training_instances: np.ndarray | None = None,
    ) -> None:
        self.roles = VcocoEvaluator(annotations, vocabulary) if protocol == "vcoco" else None
        self.pairs: dict[str, HicoDetEvaluator] = {}
        if self.roles is None:
            settings: dict[str, dict[str, Any]] = {
                "hoiclip": {},
                "official, default": {"protocol": "official"},
                "official, known object": {"protocol": "official", "setting": "known_object"},
            }
            names = [name for name in settings if protocol == "hoiclip" or name != "hoiclip"]
            self.pairs = {
                name: HicoDetEvaluator(annotations, vocabulary, training_instances=training_instances, **settings[name])
                for name in (names[:1] if main_only else names)
            }

    def add(self, file_name: str, detections: Detections) -> None:
        """Add one image's detections.  Raises HoiError for unknown files, NaN, foreign ids."""
        for evaluator in (self.roles, *self.pairs.values()):
            if evaluator is not None:
                evaluator.add(file_name, detections)

    def results(self) -> Results:
        """Everything that was computed, by the name a table shows."""
        if self.roles is not None:
            return {"scenario 1": self.roles.result(1), "scenario 2": self.roles.result(2)}
        return {name: evaluator.result() for name, evaluator in self.pairs.items()}

    def means(self) -> dict[str, float]:
        """The means of the main protocol, fractions 0..1, those without ground truth left out."""
        results = self.results()
        if self.roles is not None:
            return {name.replace(" ", "_"): float(result.mean) for name, result in results.items()}
        main = next(iter(results.values()))
        return {name: float(value) for name, value in main.means().items() if not math.isnan(value)}


@torch.no_grad()
def detect_samples(
    model: HoiClipModel | Backend | DetectsImages,
    data: EvaluationSet,
    *,
    process: int = 0,
    processes: int = 1,
    done: Container[str] = (),
    unreadable: list[HoiError] | None = None,
    progress: bool = True,
) -> Iterator[tuple[str, Detections]]:
    """Detections of this process's share of the images: every ``processes``-th, each exactly once.

    Images of equal size share a batch, so that no result depends on its batch mates.

    Args:
        model: in evaluation mode, or what computes its forward pass, or what takes images.
        data: the images, and the processor that prepares them.
        process, processes: which share.
        done: names of images to pass over.
        unreadable: filled with what is wrong with images that cannot be read; None raises the first.
        progress: show a bar.
    """
    detect = partial(_detect_images, model, data)
    mine = [
        index
        for index in range(process, len(data.samples), processes)
        if not done or annotation_of(data.samples, index).file_name not in done
    ]

    def size(sample: Sample) -> tuple[int, int]:
        return sample[0].size if data.processor is None else data.processor.resized_size(sample[0])

    def readable() -> Iterator[Sample]:
        for index in mine:
            try:
                yield data.samples[index]
            except HoiError as error:
                if unreadable is None:
                    raise
                unreadable.append(error)

    with tqdm(total=len(mine), desc="evaluation", unit="img", disable=not progress, leave=False) as bar:
        for batch in equal_size_batches(readable(), size, data.batch_size):
            found = detect([image for image, _ in batch])
            bar.update(len(batch))
            yield from zip((annotation.file_name for _, annotation in batch), found, strict=True)


def _detect_images(
    model: HoiClipModel | Backend | DetectsImages, data: EvaluationSet, images: list[Image.Image]
) -> list[Detections]:
    """Detections of images of equal input size."""
    if data.processor is None:
        return cast(DetectsImages, model).detect_images(images, data.zero_shot_top_k)
    network = cast(HoiClipModel, model)
    outputs = network(**data.processor(images).to(network.device))
    sizes = [(image.height, image.width) for image in images]
    return data.processor.post_process(outputs, sizes, zero_shot_top_k=data.zero_shot_top_k)


def evaluate_detections(
    experiment: Experiment,
    detections: str | Path,
    annotations: str | Path | None,
    *,
    training_instances: TrainingCounts = None,
    explain: Callable[[Evaluated], Any] | None = None,
) -> Results:
    """Evaluate a file of detections, of whatever method; no image is opened.

    Args:
        experiment: names the protocol, the vocabulary (none: that of the annotations) and, without
            ``annotations``, the dataset.
        detections: in any form that ``docs/compare.md`` lists.
        annotations: dataset folder or annotation file.
        training_instances: as in :class:`ProtocolEvaluators`, or a function of the vocabulary.
        explain: called with everything that went into the results; not for V-COCO's roles.

    Raises:
        HoiError: a file that cannot be read, that does not fit the other, or that holds nothing.
    """
    data = open_evaluation_data(experiment) if annotations is None else _annotated(experiment, annotations)
    images, vocabulary, protocol = data.annotations, data.vocabulary, experiment.evaluation.protocol
    counts = training_instances(vocabulary) if callable(training_instances) else training_instances
    evaluators = ProtocolEvaluators(images, vocabulary, protocol, training_instances=counts)
    sizes = {image.file_name: image.size for image in images}
    found = open_detections(detections, vocabulary, sizes, sizes=sizes)
    if not found:
        raise HoiError(f"{detections}: holds no detections; an image in which nothing was found has a line too")
    if isinstance(found, list):
        if evaluators.roles is None:
            raise HoiError(f"{detections}: is V-COCO's pickle, not HICO-DET's pairs; evaluate it with: vcoco")
        try:
            evaluators.roles.add_records(found)
        except HoiError as error:
            raise HoiError(f"{detections}: {error}") from error
        return evaluators.results()
    for file_name, of_image in found.items():
        evaluators.add(file_name, of_image)
    results = evaluators.results()
    if explain is not None and evaluators.pairs:
        explain(Evaluated(Path(detections).name, results, found, images, vocabulary, data.open_samples))
    return results


def _annotated(experiment: Experiment, annotations: str | Path) -> EvaluationData:
    """The annotations of a folder or a file that the command names."""
    dataset = open_dataset(annotations, vocabulary=experiment.vocabulary)
    split = experiment.data.evaluation_split or next((s for s in EVALUATED if s in dataset.splits), dataset.splits[0])
    images: Sequence[Any] = dataset.load(split)
    if experiment.evaluation.protocol == "vcoco":
        images = people_of(dataset, split, images)
    if not images:
        raise HoiError(f"{annotations}: holds no images to evaluate on")
    return EvaluationData(images, dataset.vocabulary, lambda: dataset.samples(split))


def evaluate_model(
    experiment: Experiment,
    detector: Detector | DetectsImages,
    *,
    keep: Kept = None,
    progress: bool = True,
    training_instances: TrainingCounts = None,
    explain: Callable[[Evaluated], Any] | None = None,
    title: str = "model",
    corruption: Corruption | None = None,
) -> Results:
    """Detect in the evaluation images of an experiment, and evaluate what was found.

    A model of another vocabulary is asked for the interactions of the experiment, or else of its data.

    Args:
        experiment: dataset, split, protocol, K of the training-free enhancement.
        detector: the model.
        keep: filled with the detections, for whoever wants to write them, or a function of the
            vocabulary that gives such a mapping; images that it holds are not detected again.
        progress: show a bar.
        training_instances: as in :class:`ProtocolEvaluators`, or a function of the vocabulary.
        explain: as in :func:`evaluate_detections`.
        title: what this evaluation is called there.
        corruption: done to every image first; only the main protocol is computed then.

    Raises:
        HoiError: missing data, an image that cannot be read (after all others were detected, where only
            decoding shows it), or no tokenizer where a vocabulary must be embedded.
    """
    data, vocabulary = _prepared(experiment, detector, progress=progress, corruption=corruption)
    protocol = experiment.evaluation.protocol
    found = keep(vocabulary) if callable(keep) else {} if keep is None else keep
    counts = training_instances(vocabulary) if callable(training_instances) else training_instances
    main_only = corruption is not None
    evaluators = ProtocolEvaluators(
        data.annotations, vocabulary, protocol, main_only=main_only, training_instances=counts
    )
    for file_name, detections in found.items():
        evaluators.add(file_name, detections)
    unreadable: list[HoiError] = []
    model = cast(Detector, detector).backend if hasattr(detector, "backend") else detector
    missing = detect_samples(model, data, done=frozenset(found), unreadable=unreadable, progress=progress)
    for file_name, detections in missing:
        evaluators.add(file_name, detections)
        if keep is not None or explain is not None:
            found[file_name] = detections
    if unreadable:
        count = f"{len(unreadable):,} of {len(data.samples):,} images cannot be read"
        raise HoiError(f"{unreadable[0]} ({count}, so there are no metrics; mend them and give the same command again)")
    results = evaluators.results()
    if explain is not None and evaluators.pairs:
        explain(Evaluated(title, results, found, data.annotations, vocabulary, lambda: data.samples))
    return results


def sweep_top_k(
    experiment: Experiment,
    detector: Detector,
    top_ks: Sequence[int],
    *,
    training_instances: TrainingCounts = None,
) -> dict[str, HicoDetResult]:
    """Several K of the training-free enhancement from one pass of the model (paper Table 7).

    Raises:
        HoiError: as :func:`evaluate_model`, or if the model has no zero-shot scores.
    """
    if not getattr(getattr(detector, "backend", None), "has_zero_shot", False):
        raise HoiError("this model has no zero-shot scores (gen-vlkt and training-free have none): no K to sweep")
    data, vocabulary = _prepared(experiment, detector)

    assert data.processor is not None
    processor = data.processor

    @torch.inference_mode()
    def outputs() -> Iterable[tuple]:
        for index in range(len(data.samples)):
            image, annotation = data.samples[index]
            out = detector.backend(**processor([image]).to(detector.backend.device))
            boxes = processor.boxes_in_pixels(out, [(image.height, image.width)])
            assert out.object_logits is not None
            assert out.interaction_logits is not None
            scores = out.object_logits.sigmoid(), out.interaction_logits.sigmoid(), out.zero_shot_logits
            yield [annotation.file_name], *boxes, *scores

    counts = training_instances(vocabulary) if callable(training_instances) else training_instances
    results = sweep_enhancement(outputs(), data.annotations, vocabulary, top_ks, training_instances=counts)
    return {f"K = {k}": result for k, result in results.items()}


@torch.inference_mode()
def sweep_object_exponents(
    experiment: Experiment,
    detector: Detector | DetectsImages,
    exponents: Sequence[float],
    *,
    training_instances: TrainingCounts = None,
    progress: bool = True,
) -> Results:
    """Several exponents of the object score in the fusion of Eq. 21 from one pass of the model.

    Returns:
        The main protocol's result of each, by ``exponent 2``; that one is what :func:`evaluate_model` gives.

    Raises:
        HoiError: as :func:`evaluate_model` (the first image that cannot be read), or if nothing is fused.
    """
    data, vocabulary = _prepared(experiment, detector, progress=progress)
    if data.processor is None:
        raise HoiError("training-free multiplies its scores and fuses none: no exponent to sweep")
    processor, backend = data.processor, cast(Detector, detector).backend
    counts = training_instances(vocabulary) if callable(training_instances) else training_instances
    evaluators = {
        exponent: ProtocolEvaluators(
            data.annotations, vocabulary, data.protocol, main_only=True, training_instances=counts
        )
        for exponent in exponents
    }
    samples = (data.samples[index] for index in range(len(data.samples)))
    shown = tqdm(samples, desc="evaluation", total=len(data.samples), unit="img", disable=not progress, leave=False)
    for batch in equal_size_batches(shown, lambda sample: processor.resized_size(sample[0]), data.batch_size):
        outputs = backend(**processor([image for image, _ in batch]).to(backend.device))
        sizes = [(image.height, image.width) for image, _ in batch]
        for exponent, evaluator in evaluators.items():
            found = processor.post_process(
                outputs, sizes, zero_shot_top_k=data.zero_shot_top_k, object_exponent=exponent
            )
            for (_, annotation), detections in zip(batch, found, strict=True):
                evaluator.add(annotation.file_name, detections)
    results = {exponent: evaluator.results() for exponent, evaluator in evaluators.items()}
    return {
        f"exponent {exponent:g}" + (f", {name}" if len(of_it) > 1 else ""): result
        for exponent, of_it in results.items()
        for name, result in of_it.items()
    }


def _prepared(
    experiment: Experiment,
    detector: Detector | DetectsImages,
    *,
    progress: bool = True,
    corruption: Corruption | None = None,
) -> tuple[EvaluationSet, HoiVocabulary]:
    evaluated = open_evaluation_data(experiment)
    own = detector.vocabulary
    vocabulary = HoiVocabulary.coerce(experiment.vocabulary or evaluated.vocabulary)
    if (own.verbs, own.objects, own.interactions) != (vocabulary.verbs, vocabulary.objects, vocabulary.interactions):
        detector.set_vocabulary(vocabulary)
    elif not experiment.vocabulary:
        vocabulary = own  # knows what the model has not seen
    samples = evaluated.open_samples()
    check_images(samples, progress=progress)
    data = EvaluationSet(
        samples if corruption is None else CorruptedSamples(samples, corruption),
        evaluated.annotations,
        getattr(detector, "processor", None),
        protocol=experiment.evaluation.protocol,
        batch_size=experiment.evaluation.batch_size,
        zero_shot_top_k=experiment.model.zero_shot_top_k,
    )
    return data, vocabulary
