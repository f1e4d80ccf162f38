"""From an experiment to a trained model.

    hoiclip train playground
    hoiclip train hicodet_rf_uc --data.root /data/hicodet --train.precision bf16
    torchrun --nproc-per-node 8 -m hoiclip train hicodet    # the same, on eight processes

A run's folder holds ``config.yaml`` (every option in force), ``data.json`` (what it learns from),
``verbs.safetensors``, ``log.jsonl``, ``checkpoint-*`` to go on from, ``best/`` and, at the end, the
trained model itself and ``training.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback

from hoiclip.data.samples import check_images
from hoiclip.data.training_dataset import Augmentation, HoiTrainingDataset, collate
from hoiclip.data.transforms import FixedResize, TrainingAugmentation
from hoiclip.errors import HoiError
from hoiclip.evaluation.runner import EvaluationSet
from hoiclip.experiments.data import RunData, open_run_data
from hoiclip.experiments.data_record import data_record, record_sentences, save_record
from hoiclip.experiments.loading import load_experiment
from hoiclip.experiments.options import Experiment
from hoiclip.files import restore_folder
from hoiclip.models.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor, clip_view, detector_view
from hoiclip.training.arguments import schedule_of, training_arguments
from hoiclip.training.feature_cache import CachedFeatures, collate_features
from hoiclip.training.initial_model import freeze, initial_model, settled_by_start
from hoiclip.training.progress_figure import draw_training
from hoiclip.training.run_folder import checkpoints, last_checkpoint
from hoiclip.training.trainer import HoiTrainer

#: options that came later, and what runs without them did
LATER_OPTIONS: dict[str, dict[str, Any]] = {
    "model": {"classifier_bias": "none", "published": False},
    "data": {"annotations": None, "merge_near_copies": None},
}


def train(config: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Train an experiment, or go on with it.

    Args:
        config: name of a shipped experiment, or path of a YAML file.
        overrides: options as on the command line, ``["--train.epochs", "3"]``.

    Returns:
        The run's folder; after a complete run, a model folder for ``hoiclip detect --model``.

    Raises:
        HoiError: bad options, missing data or weights, a folder that holds another run, or a loss
            that is not finite.
    """
    return run_experiment(load_experiment(config, overrides))


def run_experiment(experiment: Experiment) -> Path:
    """Train what :func:`load_experiment` returned; see :func:`train`."""
    out = Path(experiment.out)
    experiment = settled_by_start(experiment)
    assert experiment.data.shorter is not None
    assert experiment.data.longest is not None
    arguments = training_arguments(experiment)
    start = _where_to_start(experiment, out, main=arguments.process_index == 0)
    data = open_run_data(experiment)
    if arguments.process_index == 0:
        _record_data(data, out)
        check_images(data.train, progress=experiment.train.progress)
        if data.evaluation is not None:
            check_images(data.evaluation[0], progress=experiment.train.progress)
    set_seed(experiment.seed)
    processor = HoiClipProcessor(
        data.vocabulary,
        shortest_edge=experiment.data.shorter,
        longest_edge=experiment.data.longest,
        zero_shot_top_k=experiment.model.zero_shot_top_k,
    )
    with arguments.main_process_first(desc="initial weights"):
        model = HoiClipModel.from_pretrained(start) if start else initial_model(experiment, data, out)
    processor.clip_size = model.config.clip.vision_config.image_size
    freeze(model, experiment.train.freeze)
    if experiment.train.normalise == "process":
        model.loss_processes = experiment.train.virtual_processes
    if arguments.process_index == 0:
        experiment.save(out / "config.yaml")
    images = training_dataset(experiment, data, processor.clip_size, model.config.num_queries)
    if experiment.train.precision == "bf16" and arguments.device.type == "cpu":
        model.set_attn_implementation("eager")  # the fused one has a slow backward in bf16 on a CPU
    samples: Any = images
    if experiment.train.cache_features:
        samples = CachedFeatures(images, model, arguments)
        arguments.dataloader_num_workers = 0  # nothing is left to load
        arguments.dataloader_pin_memory = False  # what all images share is expanded, and such tensors cannot be pinned
        arguments.dataloader_persistent_workers, arguments.dataloader_prefetch_factor = False, None
    trainer = HoiTrainer(
        model,
        arguments,
        samples,
        collate_features if experiment.train.cache_features else collate,
        schedule_of(experiment),
        evaluation_set(experiment, data, processor),
        processor,
    )
    trainer.remove_callback(PrinterCallback)
    finished = trainer.run(start)
    if finished:
        trainer.save_result()
    if arguments.process_index == 0:
        draw_training(out)  # after the model, which a full disk must not cost
    if not finished and arguments.process_index == 0:
        print(f"{out}: stopped at step {trainer.state.global_step}; the same command with --train.resume goes on")
    return out


def _where_to_start(experiment: Experiment, out: Path, *, main: bool) -> str | None:
    """The checkpoint to go on from, or None for a new run.

    Raises:
        HoiError: if the folder holds a run and this is no resumption of it.
    """
    if not experiment.train.resume:
        if checkpoints(out) or (out / "model.safetensors").exists():
            raise HoiError(f"{out}: already holds a run; add --train.resume to go on with it, or choose another --out")
        return None
    if main:
        restore_folder(out / "best")
    start = last_checkpoint(out, sweep=main, averaged=experiment.train.ema is not None)
    if start and (out / "config.yaml").is_file():
        _refuse_other_options(out, yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8")), experiment)
    return start


def _refuse_other_options(out: Path, before: dict[str, Any], experiment: Experiment) -> None:
    """Raise HoiError if a run was started with other options than those it is to go on with."""
    now = yaml.safe_load(experiment.to_yaml())
    for part in ("vocabulary", "seed", "data", "model"):
        then = before.get(part)
        if not (isinstance(then, dict) and isinstance(now[part], dict)):
            pairs = {part: (then, now[part])}
        else:
            then = {**LATER_OPTIONS.get(part, {}), **then}
            names = then.keys() | now[part].keys()
            if part == "data":
                names -= {"workers", "root", *(() if then["source"] == "hicodet" else ("merge_near_copies",))}
            pairs = {f"{part}.{name}": (then.get(name), now[part].get(name)) for name in sorted(names)}
        for name, (old, new) in pairs.items():
            if old != new:
                raise HoiError(f"{out}: was started with {name} {old}, not {new}; resume it with the same options")


def _record_data(data: RunData, out: Path) -> None:
    """Keep and tell what the run learns from."""
    record = data_record(data)
    save_record(out, record)
    for sentence in record_sentences(record):
        print(sentence, flush=True)


def training_dataset(experiment: Experiment, data: RunData, clip_size: int, num_queries: int) -> HoiTrainingDataset:
    """The training dataset of an experiment; no image keeps more boxes than the model has queries."""
    return HoiTrainingDataset(
        data.train,
        data.vocabulary,
        detector_view=detector_view,
        clip_view=partial(clip_view, size=clip_size),
        augmentation=training_augmentation(experiment),
        max_boxes=num_queries,
        seed=experiment.seed,
    )


def training_augmentation(experiment: Experiment) -> Augmentation:
    """What an experiment does to its training images, or with ``data.augment`` false just their size."""
    options = experiment.data
    assert options.shorter is not None
    assert options.longest is not None
    if not options.augment:
        return FixedResize(shorter=options.shorter, longest=options.longest)
    low, high = options.crop_range
    return TrainingAugmentation(
        flip_probability=options.flip,
        jitter=options.jitter,
        scales=tuple(options.scales),
        longest=options.longest,
        crop_probability=options.crop,
        crop_scales=tuple(options.crop_scales),
        crop_range=(low, high),
    )


def evaluation_set(experiment: Experiment, data: RunData, processor: HoiClipProcessor) -> EvaluationSet | None:
    """The images a model is evaluated on while it learns."""
    if data.evaluation is None:
        return None
    samples, annotations = data.evaluation
    return EvaluationSet(
        samples,
        annotations,
        processor,
        protocol=experiment.evaluation.protocol,
        batch_size=experiment.evaluation.batch_size,
        zero_shot_top_k=experiment.model.zero_shot_top_k,
    )
