"""From an experiment to a trained model.

    hoiclip train playground
    hoiclip train hicodet_rf_uc --data.root /data/hicodet --train.precision bf16
    torchrun --nproc-per-node 8 -m hoiclip.cli train hicodet    # the same, on eight processes

A run's folder holds ``config.yaml`` (every option in force), ``verbs.safetensors``, ``log.jsonl``,
``checkpoint-*`` to go on from, ``best/`` and, at the end, the trained model itself.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from PIL import Image
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from hoiclip.checkpoints import initialise_from, load_clip
from hoiclip.data import (
    AnnotatedImage,
    FixedResize,
    HoiTrainingDataset,
    TrainingAugmentation,
    collate,
    fraction,
    hold_out,
    without_unseen,
)
from hoiclip.data.dataset import Samples
from hoiclip.data.datasets import open_dataset
from hoiclip.errors import HoiError
from hoiclip.evaluation import people_of
from hoiclip.experiments import Experiment, ModelOptions, load_experiment
from hoiclip.files import write_text
from hoiclip.judging import EvaluationSet
from hoiclip.modeling import HoiClipModel
from hoiclip.processing import HoiClipProcessor, clip_view, detector_view
from hoiclip.remembering import RememberedLooks, collate_looks
from hoiclip.trainer import HoiTrainer, Schedule, checkpoints, last_checkpoint
from hoiclip.verbs import describe_verbs, load_verbs, save_verbs, sum_regions, verb_representations
from hoiclip.vocabulary import HoiVocabulary

SHIPPED_PARTS = Path(__file__).parent / "assets" / "playground"  # of ``playground`` as detr and clip
PUBLISHED_BATCH = 16  # the batch size that the learning rates belong to
VERB_FILE = "verbs.safetensors"


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
    arguments = training_arguments(experiment)
    start = _where_to_start(experiment, out, main=arguments.process_index == 0)
    data = open_run_data(experiment)
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
    if arguments.process_index == 0:
        experiment.save(out / "config.yaml")
    pictures = training_dataset(experiment, data, processor.clip_size)
    if experiment.train.precision == "bf16" and arguments.device.type == "cpu":
        model.set_attn_implementation("eager")  # the fused one has a slow backward in bf16 on a CPU
    samples: Any = pictures
    if experiment.train.remember_looks:
        samples = RememberedLooks(pictures, model, arguments)
        arguments.dataloader_num_workers = 0  # nothing is left to load
        arguments.dataloader_persistent_workers, arguments.dataloader_prefetch_factor = False, None
    trainer = HoiTrainer(
        model,
        arguments,
        samples,
        collate_looks if experiment.train.remember_looks else collate,
        schedule_of(experiment),
        evaluation_set(experiment, data, processor),
        processor,
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.run(start):
        trainer.save_result()
    elif arguments.process_index == 0:
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
    start = last_checkpoint(out, sweep=main)
    if start and (out / "config.yaml").is_file():
        before = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
        now = yaml.safe_load(experiment.to_yaml())
        for part in ("vocabulary", "seed", "data", "model"):
            ignored = {"workers", "root"} if part == "data" else set()
            if _without(before.get(part), ignored) != _without(now[part], ignored):
                raise HoiError(f"{out}: was started with other options under {part!r}; resume it with the same ones")
    return start


def _without(options: Any, names: set[str]) -> Any:
    return {k: v for k, v in options.items() if k not in names} if isinstance(options, dict) else options


# --- transformers' arguments -----------------------------------------------------------------------


def training_arguments(experiment: Experiment) -> TrainingArguments:
    """What transformers' Trainer needs to know.

    Raises:
        HoiError: if the batch cannot be shared among the processes.
    """
    options, processes = experiment.train, int(os.environ.get("WORLD_SIZE", 1))
    shares = processes * options.accumulate
    if options.batch_size % shares:
        raise HoiError(
            f"train.batch_size {options.batch_size} cannot be shared by {processes} processes "
            f"and {options.accumulate} accumulated passes: make it a multiple of {shares}"
        )
    board = importlib.util.find_spec("tensorboard") is not None
    workers = experiment.data.workers
    saving: dict[str, Any] = {}
    if options.gradient_checkpointing:  # renamed in newer releases of transformers
        name = "activation_checkpointing"
        name = name if name in TrainingArguments.__dataclass_fields__ else "gradient_checkpointing"
        saving = {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    return TrainingArguments(
        **saving,
        output_dir=experiment.out,
        per_device_train_batch_size=options.batch_size // shares,
        gradient_accumulation_steps=options.accumulate,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip_norm,
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        torch_compile=options.compile,
        logging_steps=options.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="no",  # RunCallback decides
        save_strategy="no",
        report_to=["tensorboard"] if board else [],
        disable_tqdm=not options.progress,
        seed=experiment.seed,
        use_cpu=options.cpu,
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_prefetch_factor=2 if workers else None,
        dataloader_pin_memory=not options.cpu,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        ddp_timeout=7200,  # seconds the others wait while the first process makes verb vectors
        ddp_backend="gloo" if options.cpu and processes > 1 else None,
    )


def schedule_of(experiment: Experiment) -> Schedule:
    """Learning rates, and when to evaluate and save."""
    options = experiment.train
    scale = options.batch_size / PUBLISHED_BATCH if options.scale_learning_rate else 1.0
    return Schedule(
        learning_rate=options.learning_rate * scale,
        backbone_learning_rate=options.backbone_learning_rate * scale,
        epochs=options.epochs,
        drop_epoch=options.drop_epoch,
        drop_factor=options.drop_factor,
        ema=options.ema,
        evaluate_every=experiment.evaluation.every,
        checkpoint_every=options.checkpoint_every,
        checkpoint_every_steps=options.checkpoint_every_steps,
        keep_checkpoints=options.keep_checkpoints,
    )


# --- data ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunData:
    """What a run reads.

    Attributes:
        vocabulary: what the ids mean, and which interactions are unseen.
        train: what the run learns from.
        everything: all training pairs, those of unseen interactions and of left-out pictures too; for
            the ``paper`` source of verb vectors.
        evaluation: what it is judged on, with the annotations alone beside; None for nothing.
    """

    vocabulary: HoiVocabulary
    train: Samples
    everything: Samples
    evaluation: tuple[Samples, Sequence[Any]] | None


class Chosen(Sequence[tuple[Image.Image, AnnotatedImage]]):
    """Some of the samples, by index."""

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image.Image, AnnotatedImage]:  # type: ignore[override]
        return self.samples[self.indices[index]]


def open_run_data(experiment: Experiment) -> RunData:
    """Open what an experiment reads.

    Raises:
        HoiError: missing or damaged data, no picture left to learn from.
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
        whole, held = hold_out(whole, options.hold_out, options.seed)  # unseen interactions stay in what is judged
    views = without_unseen(whole, vocabulary)
    if options.fraction < 1:
        views = fraction(views, options.fraction, options.seed)
    views, whole = views[: options.train_images], whole[: options.train_images]
    if not views:
        raise HoiError(f"{options.root}: split {train_split!r} holds no image to learn from")
    evaluation = None
    judged = held
    split: str | None = train_split
    if not held and experiment.evaluation.every:
        split = options.evaluation_split or next(
            (s for s in ("test", "validation", "val") if s in dataset.splits), None
        )
        judged = dataset.load(split) if split else []
    if judged and split and experiment.evaluation.every:
        judged = judged[: options.evaluation_images]
        vcoco = experiment.evaluation.protocol == "vcoco"
        evaluation = (dataset.samples(split, judged), people_of(dataset, split, judged) if vcoco else judged)
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
    length, judged = options.train_images or 8000, options.evaluation_images or 1000
    train: Samples = PlaygroundDataset(options.seed, length, "train", vocabulary)
    open_world = replace(vocabulary, unseen=frozenset())
    everything: Samples = PlaygroundDataset(options.seed, length, "train", open_world)
    if options.fraction < 1:
        order = np.random.default_rng([options.seed, 0]).permutation(length)
        train = Chosen(train, sorted(order[: max(1, round(options.fraction * length))].tolist()))
    evaluation = None
    if experiment.evaluation.every:
        scenes = PlaygroundDataset(options.seed, judged, options.evaluation_split or "validation", vocabulary)
        evaluation = (cast(Samples, scenes), [scenes.annotation(i) for i in range(judged)])
    return RunData(vocabulary, train, everything, evaluation)


def training_dataset(experiment: Experiment, data: RunData, clip_size: int) -> HoiTrainingDataset:
    """Augmented tensors and targets."""
    options = experiment.data
    augmentation: Any = FixedResize(shorter=options.shorter, longest=options.longest)
    if options.augment:
        low, high = options.crop_range
        augmentation = TrainingAugmentation(
            flip_probability=options.flip,
            jitter=options.jitter,
            scales=tuple(options.scales),
            longest=options.longest,
            crop_probability=options.crop,
            crop_scales=tuple(options.crop_scales),
            crop_range=(low, high),
        )
    return HoiTrainingDataset(
        data.train,
        data.vocabulary,
        detector_view=detector_view,
        clip_view=partial(clip_view, size=clip_size),
        augmentation=augmentation,
        seed=experiment.seed,
    )


def evaluation_set(experiment: Experiment, data: RunData, processor: HoiClipProcessor) -> EvaluationSet | None:
    """What the model is judged on while it learns."""
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


# --- the model before its first step ---------------------------------------------------------------


def initial_model(experiment: Experiment, data: RunData, out: Path) -> HoiClipModel:
    """DETR and CLIP put together, verb classifier included.

    Raises:
        HoiError: if a part cannot be read.
    """
    options = experiment.model
    if options.start is not None:
        model = HoiClipModel.from_pretrained(options.start)
        if model.vocabulary is None or model.vocabulary.to_dict() != data.vocabulary.to_dict():
            model.set_vocabulary(data.vocabulary)
        return model
    model = initialise_from(
        _part(options.detr, "detector"),
        _part(options.clip, "clip"),
        data.vocabulary,
        seed=experiment.seed,
        tokenizer=options.tokenizer,
        **_model_changes(options),
    )
    if model.verbs is not None:
        start_verbs(experiment, data, model, out)
    return model


def _part(source: str, name: str) -> str:
    return str(SHIPPED_PARTS / name) if source == "playground" else source


def _model_changes(options: ModelOptions) -> dict[str, Any]:
    own = ("detr", "clip", "tokenizer", "start")
    return {f.name: getattr(options, f.name) for f in fields(options) if f.name not in own}


def start_verbs(experiment: Experiment, data: RunData, model: HoiClipModel, out: Path) -> None:
    """Fill the verb classifier by the experiment's method; ``text`` is what the model has already."""
    options = experiment.verbs
    if options.method == "sentence":
        describe_verbs(model)
    elif options.method in ("arithmetic", "average"):
        path = Path(options.file) if options.file else out / VERB_FILE
        if not path.is_file():
            if options.file:
                raise HoiError(f"{path}: no such file; make it with `hoiclip verbs`")
            make_verbs(experiment, data, model.clip, path)
        provenance = load_verbs(model, path)
        write_text(out / "verbs.yaml", yaml.safe_dump({"file": str(path), **provenance}, sort_keys=False))


def make_verbs(experiment: Experiment, data: RunData, clip: Any, path: Path) -> None:
    """Visual semantic arithmetic over the training pictures, into a file."""
    options, vocabulary = experiment.verbs, data.vocabulary
    samples = data.everything if options.source == "paper" else data.train
    if options.images is not None and len(samples) > options.images:
        samples = Chosen(samples, range(options.images))
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
    from hoiclip.detector import choose_device

    return clip.to(choose_device(device)).eval()


def extract_verbs(config: str | Path, overrides: Sequence[str] = (), out: str | Path | None = None) -> Path:
    """Make the verb vectors of an experiment without training it; ``hoiclip verbs CONFIG --out FILE``.

    Args:
        config, overrides: as for :func:`train`.
        out: the file; ``verbs.safetensors`` in the run's folder by default.

    Returns:
        The file's path.

    Raises:
        HoiError: as :func:`train`, or if the method needs no pictures.
    """
    experiment = load_experiment(config, overrides)
    if experiment.verbs.method not in ("arithmetic", "average"):
        raise HoiError(f"verbs.method {experiment.verbs.method!r} needs no pictures: there is nothing to make")
    path = Path(out) if out is not None else Path(experiment.out) / VERB_FILE
    make_verbs(experiment, open_run_data(experiment), load_clip(_part(experiment.model.clip, "clip")), path)
    return path


def freeze(model: HoiClipModel, prefixes: Sequence[str]) -> None:
    """Keep parts of the model as they are.

    Raises:
        HoiError: if a prefix names no parameter.
    """
    for prefix in prefixes:
        found = [p for name, p in model.named_parameters() if name.startswith(prefix)]
        if not found:
            parts = sorted({".".join(name.split(".")[:2]) for name, _ in model.named_parameters()})
            raise HoiError(f"train.freeze: no parameter starts with {prefix!r}; parts are {', '.join(parts)}")
        for parameter in found:
            parameter.requires_grad_(False)
