"""``hoiclip evaluate``: a model, or anybody's detections, against a dataset.

hoiclip evaluate hicodet --model model/ --data.root data/hicodet --out metrics.json
hoiclip evaluate hicodet --detections mine.jsonl --annotations test_hico.json
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hoiclip.data.dataset import Samples
from hoiclip.data.datasets import open_dataset
from hoiclip.detections import Detections
from hoiclip.detector import HoiDetector
from hoiclip.errors import HoiError
from hoiclip.evaluation import (
    HicoDetEvaluator,
    HicoDetResult,
    VcocoEvaluator,
    load_detections,
    people_of,
    sweep_enhancement,
)
from hoiclip.experiments import Experiment
from hoiclip.judging import EvaluationSet, detect_samples
from hoiclip.training import open_run_data
from hoiclip.vocabulary import HoiVocabulary

Results = dict[str, Any]  # HicoDetResult or VcocoResult, by the name a table shows


@dataclass
class Judges:
    """Everything that is computed at once for one set of detections; the first line is the main one."""

    annotations: Sequence[Any]
    vocabulary: HoiVocabulary
    protocol: str

    def __post_init__(self) -> None:
        self.roles = VcocoEvaluator(self.annotations, self.vocabulary) if self.protocol == "vcoco" else None
        self.pairs: dict[str, HicoDetEvaluator] = {}
        if self.roles is None:
            self.pairs = {
                "hoiclip": HicoDetEvaluator(self.annotations, self.vocabulary),
                "official, default": HicoDetEvaluator(self.annotations, self.vocabulary, protocol="official"),
                "official, known object": HicoDetEvaluator(
                    self.annotations, self.vocabulary, protocol="official", setting="known_object"
                ),
            }
            if self.protocol == "official":
                self.pairs = {name: self.pairs[name] for name in list(self.pairs)[1:]}

    def add(self, file_name: str, found: Detections) -> None:
        """One image's detections.  Raises HoiError for unknown files, NaN, foreign ids."""
        for judge in (self.roles, *self.pairs.values()):
            if judge is not None:
                judge.add(file_name, found)

    def results(self) -> Results:
        """By the name a table shows."""
        if self.roles is not None:
            return {"scenario 1": self.roles.result(1), "scenario 2": self.roles.result(2)}
        return {name: judge.result() for name, judge in self.pairs.items()}


def evaluate_detections(experiment: Experiment, detections: str | Path, annotations: str | Path | None) -> Results:
    """Judge a file of detections, of whatever method.

    Args:
        experiment: names the vocabulary, the protocol and, without ``annotations``, the dataset.
        detections: JSON lines, see ``docs/protocols.md``.
        annotations: dataset folder or annotation file.

    Raises:
        HoiError: a file that cannot be read or that does not fit the other.
    """
    vocabulary = HoiVocabulary.coerce(experiment.vocabulary or "hico")
    if annotations is not None:
        dataset = open_dataset(annotations, vocabulary=vocabulary)
        split = experiment.data.evaluation_split or next((s for s in ("test", "val") if s in dataset.splits), None)
        split = split or dataset.splits[0]
        images: Sequence[Any] = dataset.load(split)
        if experiment.evaluation.protocol == "vcoco":
            images = people_of(dataset, split, images)
    else:
        images = _evaluation_data(experiment)[1]
    judges = Judges(images, vocabulary, experiment.evaluation.protocol)
    for file_name, found in load_detections(detections, vocabulary, (i.file_name for i in images)).items():
        judges.add(file_name, found)
    return judges.results()


def evaluate_model(
    experiment: Experiment, detector: HoiDetector, *, keep: dict[str, Detections] | None = None, progress: bool = True
) -> Results:
    """Let a model look at the evaluation images of an experiment and judge what it finds.

    A model of another vocabulary is asked for the experiment's interactions.

    Args:
        experiment: dataset, split, protocol, K of the training-free enhancement.
        detector: the model.
        keep: filled with the detections, for whoever wants to write them.
        progress: show a bar.

    Raises:
        HoiError: missing data, or no tokenizer where words must be embedded.
    """
    data, vocabulary = _prepared(experiment, detector)
    judges = Judges(data.annotations, vocabulary, experiment.evaluation.protocol)
    for file_name, found in detect_samples(detector.backend, data, progress=progress):
        judges.add(file_name, found)
        if keep is not None:
            keep[file_name] = found
    return judges.results()


def sweep_top_k(experiment: Experiment, detector: HoiDetector, top_ks: Sequence[int]) -> dict[str, HicoDetResult]:
    """Several K of the training-free enhancement from one pass of the model (paper Table 7).

    Raises:
        HoiError: as :func:`evaluate_model`, or if the model has no zero-shot scores.
    """
    if not detector.backend.has_zero_shot:
        raise HoiError("a gen-vlkt model has no zero-shot scores: there is no K to sweep")
    data, vocabulary = _prepared(experiment, detector)

    @torch.inference_mode()
    def outputs() -> Iterable[tuple]:
        for index in range(len(data.samples)):
            picture, annotation = data.samples[index]
            out = detector.backend(**data.processor([picture]).to(detector.device))
            corners = data.processor.boxes_in_pixels(out, [(picture.height, picture.width)])
            assert out.object_logits is not None
            assert out.interaction_logits is not None
            scores = out.object_logits.sigmoid(), out.interaction_logits.sigmoid(), out.zero_shot_logits
            yield [annotation.file_name], *corners, *scores

    results = sweep_enhancement(outputs(), data.annotations, vocabulary, top_ks)
    return {f"K = {k}": result for k, result in results.items()}


def _prepared(experiment: Experiment, detector: HoiDetector) -> tuple[EvaluationSet, HoiVocabulary]:
    samples, annotations = _evaluation_data(experiment)
    vocabulary = HoiVocabulary.coerce(experiment.vocabulary or detector.vocabulary)
    own = detector.vocabulary
    if (own.verbs, own.objects, own.interactions) != (vocabulary.verbs, vocabulary.objects, vocabulary.interactions):
        detector.set_vocabulary(vocabulary)
    data = EvaluationSet(
        samples,
        annotations,
        detector.processor,
        protocol=experiment.evaluation.protocol,
        batch_size=experiment.evaluation.batch_size,
        zero_shot_top_k=experiment.model.zero_shot_top_k,
    )
    return data, vocabulary


def _evaluation_data(experiment: Experiment) -> tuple[Samples, Sequence[Any]]:
    judged = replace(experiment, evaluation=replace(experiment.evaluation, every=1))
    data = open_run_data(judged).evaluation
    if data is None:
        raise HoiError("there is nothing to evaluate on: name a split with --data.evaluation_split")
    return data
