"""What a run learned from, kept as ``data.json`` in its folder.

The counts decide which interactions are rare in the training data of that run (paper Table 1);
``hoiclip evaluate`` and ``hoiclip reproduce`` read them back.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.dataset import open_dataset
from hoiclip.data.samples import Samples, annotation_of
from hoiclip.errors import HoiError
from hoiclip.experiments.data import RunData
from hoiclip.files import write_text_atomic
from hoiclip.published import RARE_BELOW
from hoiclip.vocabulary import HoiVocabulary

DATA_FILE = "data.json"
MANY_PAIRS = 1000  # so many without a second interaction are no coincidence


def interaction_instances(samples: Samples, vocabulary: HoiVocabulary) -> np.ndarray:
    """(K,) int64, annotated pairs of each interaction; no image is opened where that can be avoided."""
    return _count((annotation_of(samples, index) for index in range(len(samples))), vocabulary)


def _count(images: Iterable[AnnotatedImage], vocabulary: HoiVocabulary) -> np.ndarray:
    ids = [np.zeros(0, dtype=np.int64), *(image.hoi_ids for image in images)]
    known = np.concatenate(ids)
    return np.bincount(known[known >= 0], minlength=vocabulary.num_interactions)


def data_record(data: RunData) -> dict[str, Any]:
    """What a run learns from, in plain JSON types: its file, its images, and how often each interaction occurs."""
    counts, vocabulary = interaction_instances(data.train, data.vocabulary), data.vocabulary
    return {
        "file": dataclasses.asdict(data.file),
        "vocabulary": vocabulary.name,
        "images": len(data.train),
        "labels": int(counts.sum()),
        "interactions_with_fewer_than_10": int((counts < RARE_BELOW).sum()),
        "instances": {vocabulary.interaction_name(k): int(n) for k, n in enumerate(counts)},
    }


def record_sentences(record: Mapping[str, Any]) -> list[str]:
    """What a run says about its annotation file as it starts; nothing where there is none."""
    file = record["file"]
    if not file["path"]:
        return []
    told = f"{file['path']}: {file['images']:,} images, of which {record['images']:,} are learned from"
    told += f"; left out: {file['without_pairs']:,} without pairs, {file['out_of_range']:,} with an id out of range"
    sentences = [told]
    if file["merge_near_copies"] is not None:
        merged = f"{file['merged_pairs']:,} of {file['pairs']:,} pairs are near-copies of another"
        sentences.append(f"{file['path']}: {merged} (IoU > {file['merge_near_copies']}) and were merged with it")
    elif record["vocabulary"].startswith("hico") and file["pairs"] >= MANY_PAIRS and not file["several_labels"]:
        sentences.append(
            f"{file['path']}: no pair has two interactions, so near-copies of boxes were not merged in this file; "
            "docs/data.md says why that matters and how to merge them"
        )
    few, classes = record["interactions_with_fewer_than_10"], len(record["instances"])
    sentences.append(f"{few} of {classes} interactions have fewer than 10 instances in the training data")
    return sentences


def save_record(folder: str | Path, record: Mapping[str, Any]) -> None:
    """Write a run's ``data.json``.  Raises HoiError if it cannot be written."""
    write_text_atomic(Path(folder) / DATA_FILE, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


# --- counts for evaluation -------------------------------------------------------------------------


def recorded_instances(folder: str | Path, vocabulary: HoiVocabulary) -> np.ndarray | None:
    """The counts of a run, by the folder of its model.

    Args:
        folder: a run's folder, or ``best`` or a checkpoint in it.
        vocabulary: whose interactions are counted; one that the run did not know has 0 instances.

    Returns:
        (K,) int64; None where no run left a record, or one of other interactions altogether.

    Raises:
        HoiError: a damaged record.
    """
    for place in (Path(folder), Path(folder).parent):
        path = place / DATA_FILE
        if os.path.isfile(path):
            return _read_instances(path, vocabulary)
    return None


def _read_instances(path: Path, vocabulary: HoiVocabulary) -> np.ndarray | None:
    try:
        counts = json.loads(path.read_text(encoding="utf-8"))["instances"]
        names = [vocabulary.interaction_name(k) for k in range(vocabulary.num_interactions)]
        found = np.array([int(counts.get(name, 0)) for name in names], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HoiError(f"{path}: is no record of a run's data that can be read ({error}); delete it") from error
    return found if any(name in counts for name in names) else None


def annotated_instances(path: str | Path, vocabulary: HoiVocabulary) -> np.ndarray:
    """(K,) int64, annotated pairs of each interaction in a training annotation file.

    Args:
        path: ``.json``, ``.json.gz`` or ``anno_bbox.mat``.
        vocabulary: of the file.

    Raises:
        HoiError: missing or damaged file.
    """
    if not os.path.isfile(path):
        raise HoiError(f"{path}: no such file; give the annotation file that the model was trained on")
    dataset = open_dataset(path, vocabulary=vocabulary)
    return _count(dataset.load_usable(dataset.splits[0])[0], vocabulary)
