"""The vectors that the verb classifier starts from (paper section 3.3, Table 6)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from hoiclip.checkpoints.initialise import load_clip
from hoiclip.data.samples import Subset, check_images
from hoiclip.errors import HoiError
from hoiclip.experiments.data import RunData, open_run_data, part_source
from hoiclip.experiments.loading import load_experiment
from hoiclip.experiments.options import Experiment
from hoiclip.files import write_text_atomic
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import clip_view
from hoiclip.training.semantic_arithmetic import sum_regions, verb_representations
from hoiclip.training.verb_files import cosines, load_verbs, read_published_verbs, read_verbs, save_verbs
from hoiclip.vocabulary import HoiVocabulary

VERB_FILE = "verbs.safetensors"


def start_verbs(experiment: Experiment, data: RunData, model: HoiClipModel, out: Path) -> None:
    """Fill the verb classifier by the experiment's method; ``text`` is what the model has already."""
    options = experiment.verbs
    if options.method == "sentence":
        describe_verbs(model)
    elif options.method in ("arithmetic", "average"):
        path = Path(options.file) if options.file else out / VERB_FILE
        if not os.path.isfile(path):
            if options.file:
                raise HoiError(f"{path}: no such file; make it with `hoiclip verbs`")
            make_verbs(experiment, data, model.clip, path)
        provenance = load_verbs(model, path, keep_lengths=options.keep_lengths)
        write_text_atomic(out / "verbs.yaml", yaml.safe_dump({"file": str(path), **provenance}, sort_keys=False))


@torch.no_grad()
def describe_verbs(model: HoiClipModel) -> None:
    """Start the verb classifier from sentences, "a photo of a person riding" (Table 6)."""
    if model.verbs is None or model.vocabulary is None or model.text_embedder is None:
        raise HoiError("this model has no verb classifier or no tokenizer to embed sentences with")
    model.verbs.weight.copy_(model.text_embedder(model.clip, model.vocabulary.verb_prompts))


def make_verbs(experiment: Experiment, data: RunData, clip: Any, path: Path) -> None:
    """Visual semantic arithmetic over the training images, into a file."""
    options, vocabulary = experiment.verbs, data.vocabulary
    samples = data.everything if options.source == "paper" else data.train
    if options.images is not None and len(samples) > options.images:
        samples = Subset(samples, range(options.images))
    check_images(samples, progress=experiment.train.progress)
    unfinished = path.with_name(f".unfinished-{options.source}-{path.name}")
    device = "cpu" if experiment.train.cpu else None
    sums = sum_regions(
        samples,
        vocabulary,
        _on_best_device(clip, device),
        partial(clip_view, size=clip.config.vision_config.image_size),
        batch_size=options.batch_size,
        unfinished=unfinished,
        progress=experiment.train.progress,
    )
    method: Any = options.method
    rows, seen = verb_representations(sums, vocabulary, method)
    provenance = {
        "method": options.method,
        "source": options.source,
        "data": experiment.data.source,
        "fraction": experiment.data.fraction if options.source == "seen" else 1.0,
        "vocabulary": vocabulary.name,
        "clip": experiment.model.clip,
        "images": int(sums.images),
        "pairs": int(sums.interaction_counts.sum()),
        "objects": int(sums.object_counts.sum()),
        "verbs_never_seen": [v for v, s in zip(vocabulary.verbs, seen.tolist(), strict=True) if not s],
    }
    save_verbs(path, rows, seen, vocabulary, provenance)
    unfinished.unlink(missing_ok=True)


def _on_best_device(clip: Any, device: str | None) -> Any:
    from hoiclip.backends.devices import choose_device

    return clip.to(choose_device(device)).eval()


def extract_verbs(config: str | Path, overrides: Sequence[str] = (), out: str | Path | None = None) -> Path:
    """Make the verb vectors of an experiment without training it; ``hoiclip verbs CONFIG --out FILE``.

    Args:
        config, overrides: as for :func:`train`.
        out: the file; ``verbs.safetensors`` in the run's folder by default.

    Returns:
        The file's path.

    Raises:
        HoiError: as :func:`train`, or if the method needs no images.
    """
    experiment = load_experiment(config, overrides)
    if experiment.verbs.method not in ("arithmetic", "average"):
        raise HoiError(f"verbs.method {experiment.verbs.method!r} needs no images: there is nothing to make")
    path = Path(out) if out is not None else Path(experiment.out) / VERB_FILE
    make_verbs(experiment, open_run_data(experiment), load_clip(part_source(experiment.model.clip, "clip")), path)
    return path


def compare_verbs(config: str | Path, overrides: Sequence[str], made: Path, other: Path) -> dict[str, float]:
    """Cosine between the vectors of two files, verb by verb; either may be the authors' ``.pth``.

    Args:
        config, overrides: the experiment, whose vocabulary a ``.pth`` has.
        made, other: the files.

    Raises:
        HoiError: if one cannot be read, or they share no verb.
    """
    vocabulary = HoiVocabulary.coerce(load_experiment(config, overrides).vocabulary or "hico")
    one, two = (
        (read_published_verbs(path, vocabulary) if path.suffix in (".pth", ".pt") else read_verbs(path))[0]
        for path in (made, other)
    )
    shared = cosines(one, two)
    if not shared:
        raise HoiError(f"{other}: has no verb in common with {made}")
    return shared
