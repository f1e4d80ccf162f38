"""An experiment is one YAML file: what to train, on what, for how long.

    # configs/hicodet_rf_uc.yaml
    base: hicodet
    vocabulary: hico_rf_uc

``base`` names the file it builds on, so that a file says only what is different.  Any option can be
changed on the command line, ``--train.batch_size 8``; unknown names and wrong types are refused with
one sentence.  Every option, its type and its default stand in the dataclasses below.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from hoiclip.errors import HoiError
from hoiclip.files import write_text

SHIPPED = Path(__file__).parent / "configs"  # in a wheel
CHECKOUT = Path(__file__).resolve().parents[2] / "configs"  # in a checkout


@dataclass
class DataOptions:
    """Which pictures.

    Attributes:
        source: ``hicodet``, ``vcoco``, ``custom`` (a folder, see ``hoiclip data``) or ``playground``
            (scenes drawn while training).
        root: the dataset's folder; not needed for the playground.
        train_split, evaluation_split: splits by name; None takes the dataset's usual ones.
        fraction: share of the training images to use (paper section 4.2).
        hold_out: share of the training images to evaluate on instead of the test split (Table 7).
        seed: of fraction, hold-out and playground scenes.
        train_images, evaluation_images: at most so many; the playground draws exactly so many.
        shorter, longest: the detector's view at evaluation, pixels.
        augment: flip, jitter, resize, crop; without it every picture has the evaluation's size.
        flip, jitter: probability of mirroring; strength of the colour jitter.
        scales, crop_scales, crop_range, crop: see :class:`hoiclip.data.TrainingAugmentation`.
        workers: processes that load pictures.
    """

    source: Literal["hicodet", "vcoco", "custom", "playground"] = "hicodet"
    root: str | None = None
    train_split: str | None = None
    evaluation_split: str | None = None
    fraction: float = 1.0
    hold_out: float = 0.0
    seed: int = 0
    train_images: int | None = None
    evaluation_images: int | None = None
    shorter: int = 800
    longest: int = 1333
    augment: bool = True
    flip: float = 0.5
    jitter: float = 0.4
    scales: list[int] = field(default_factory=lambda: list(range(480, 801, 32)))
    crop_scales: list[int] = field(default_factory=lambda: [400, 500, 600])
    crop_range: list[int] = field(default_factory=lambda: [384, 600])
    crop: float = 0.5
    workers: int = 2


@dataclass
class ModelOptions:
    """Which model, and what it starts from.

    Attributes:
        detr, clip: hub ids, folders or published files the detector and CLIP come from; ``playground``
            for the shipped miniature parts.
        tokenizer: CLIP's, where it does not lie beside ``clip``.
        queries: where pairs begin, ``fresh`` as published or at those of ``detr``.
        start: folder of a trained HOICLIP to continue from, instead of ``detr`` and ``clip``.
        variant: ``hoiclip`` or ``gen-vlkt``.
        others: see :class:`hoiclip.HoiClipConfig`.
    """

    detr: str = "facebook/detr-resnet-50"
    clip: str = "openai/clip-vit-base-patch32"
    tokenizer: str | None = None
    queries: Literal["fresh", "detr"] = "fresh"
    start: str | None = None
    variant: Literal["hoiclip", "gen-vlkt"] = "hoiclip"
    num_queries: int = 64
    interaction_layers: int = 3
    interaction_heads: int = 8
    interaction_ffn_dim: int = 2048
    interaction_memory: Literal["detector", "clip", "both"] = "both"
    interaction_classifier: Literal["text", "learned"] = "text"
    verb_classifier: bool = True
    verb_weight: float = 0.5
    zero_shot_top_k: int | None = 10
    mask_padding: bool = True
    unused_parameters: bool = True
    distillation_weight: float = 20.0
    dropout: float = 0.0


@dataclass
class VerbOptions:
    """Where the verb classifier starts (Table 6).

    Attributes:
        method: ``arithmetic`` (Eq. 11-14 over the training pictures), ``average`` (of the pair features,
            without taking objects away), ``sentence`` ("a photo of a person riding"), or ``text`` (Eq. 14
            over the embedded sentences, which needs no pictures).
        source: ``paper`` reads all training pairs, also those of unseen interactions and those that a
            fraction leaves out, as the paper does; ``seen`` only what the run may learn from.
        file: vectors made before by ``hoiclip verbs``; None makes them at the start of the run.
        images: look at so many pictures only.
        batch_size: crops at once.
    """

    method: Literal["arithmetic", "average", "sentence", "text"] = "arithmetic"
    source: Literal["paper", "seen"] = "paper"
    file: str | None = None
    images: int | None = None
    batch_size: int = 256


@dataclass
class TrainOptions:
    """How long and how fast.

    Attributes:
        epochs, drop_epoch, drop_factor: the learning rate falls once.
        max_steps: stop after so many optimiser steps; the drop moves along.
        batch_size: pictures per optimiser step over all processes and accumulated gradients.
        accumulate: forward passes per optimiser step.
        learning_rate, backbone_learning_rate, weight_decay, clip_norm: AdamW.
        scale_learning_rate: multiply both rates by ``batch_size`` / 16.
        precision: arithmetic of the forward and backward pass.
        gradient_checkpointing: less memory, a third more time.
        compile: torch.compile.
        ema: decay of a moving average of the weights, which is then what is evaluated and saved.
        freeze: parts that do not learn, as prefixes of parameter names (``detector.backbone``).
        remember_looks: let backbone, encoder and CLIP look at every picture once and keep what they saw
            in memory; they must be frozen and the pictures of one size, without augmentation.
        log_every: optimiser steps per log line.
        checkpoint_every: epochs per checkpoint; 0 for none.
        checkpoint_every_steps: optimiser steps per checkpoint; 0 for none.
        keep_checkpoints: how many are kept.
        resume: go on from the newest checkpoint in ``out``, if there is one.
        cpu: do not use an accelerator.
        progress: show a bar.
    """

    epochs: float = 90
    drop_epoch: float = 60
    drop_factor: float = 0.1
    max_steps: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-4
    backbone_learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    clip_norm: float = 0.1
    scale_learning_rate: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: bool = False
    compile: bool = False
    ema: float | None = None
    freeze: list[str] = field(default_factory=list)
    remember_looks: bool = False
    log_every: int = 50
    checkpoint_every: int = 1
    checkpoint_every_steps: int = 0
    keep_checkpoints: int = 2
    resume: bool = False
    cpu: bool = False
    progress: bool = True


@dataclass
class EvaluationOptions:
    """How the model is judged while it learns.

    Attributes:
        every: epochs per evaluation; 0 for never.
        protocol: ``hoiclip``, ``official`` or ``vcoco`` (the roles of V-COCO, both scenarios).
        batch_size: pictures at once on each process.
    """

    every: int = 1
    protocol: Literal["hoiclip", "official", "vcoco"] = "hoiclip"
    batch_size: int = 8


@dataclass
class Experiment:
    """Everything that decides the result of a run.

    Attributes:
        name: of the run; the file's name by default.
        vocabulary: name or YAML file; None takes that of a custom dataset's folder.
        seed: of fresh weights, the order of the pictures and their augmentation.
        out: the run's folder; ``runs/<name>`` by default.
    """

    name: str = ""
    vocabulary: str | None = "hico"
    seed: int = 0
    out: str = ""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    verbs: VerbOptions = field(default_factory=VerbOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    def to_yaml(self) -> str:
        """All options, those left at their default too; can be trained again as it stands."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_yaml`."""
        write_text(path, self.to_yaml())


# --- from files to an experiment -------------------------------------------------------------------


def experiment_names() -> list[str]:
    """The experiments that come with hoiclip."""
    return sorted({path.stem for folder in (SHIPPED, CHECKOUT) for path in folder.glob("*.yaml")})


def load_experiment(config: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment and change some of its options.

    Args:
        config: name of a shipped experiment, or path of a YAML file.
        overrides: as on the command line: ``["--train.batch_size", "8", "--data.root=data/hicodet"]``.

    Raises:
        HoiError: no such experiment, broken YAML, an unknown option or a value of the wrong type.
    """
    path = find_config(config)
    options = _read(path)
    for name, value in _parse_overrides(overrides):
        inner = options
        *parents, last = name.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise HoiError(f"--{name}: {parent!r} is an option itself, it has no {last!r}")
        inner[last] = value
    _refuse_unknown(options, Experiment, str(config))
    experiment = _instantiate(options, str(config))
    if not experiment.name:
        experiment.name = path.stem
    if not experiment.out:
        experiment.out = str(Path("runs") / experiment.name)
    return experiment


def find_config(config: str | Path) -> Path:
    """The file of an experiment, by path or by the name of a shipped one.

    Raises:
        HoiError: if there is none.
    """
    if str(config).endswith((".yaml", ".yml")):
        if not Path(config).is_file():
            raise HoiError(f"{config}: no such file; give a YAML file or one of {', '.join(experiment_names())}")
        return Path(config)
    for folder in (SHIPPED, CHECKOUT):
        if (folder / f"{config}.yaml").is_file():
            return folder / f"{config}.yaml"
    close = difflib.get_close_matches(str(config), experiment_names(), n=3)
    known = f"did you mean {' or '.join(close)}" if close else f"choose one of {', '.join(experiment_names())}"
    raise HoiError(f"unknown experiment {str(config)!r}: {known}, or give a YAML file")


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's options on top of those of its base."""
    if path in seen:
        raise HoiError(f"{path}: builds on itself by way of {' and '.join(p.name for p in seen)}")
    try:
        own = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HoiError(f"{path}: is no YAML that can be read ({' '.join(str(error).split())})") from error
    if not isinstance(own, dict):
        raise HoiError(f"{path}: an experiment is a list of options, 'train:' and the like")
    base = own.pop("base", None)
    if base is None:
        return own
    beside = path.parent / f"{base}.yaml"
    return _merge(_read(beside if beside.is_file() else find_config(base), (*seen, path)), own)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """``--a.b value``, ``--a.b=value`` and ``--a.b`` (true) to names and values."""
    found: list[tuple[str, Any]] = []
    rest = list(overrides)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise HoiError(f"{word!r} is not understood: options look like --train.batch_size 8")
        name, equals, text = word[2:].partition("=")
        if not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise HoiError(f"--{name}: {text!r} is no value that can be read") from error
        found.append((name.replace("-", "_"), _number(value)))
    return found


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text; people write it."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        return {k: _number(v) for k, v in value.items()}
    return value


def _refuse_unknown(options: dict[str, Any], kind: Any, where: str, prefix: str = "") -> None:
    known = typing.get_type_hints(kind)
    for name, value in options.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"did you mean {prefix}{close[0]}" if close else f"choose one of {', '.join(known)}"
            raise HoiError(f"{where}: unknown option {prefix}{name}: {hint}")
        if dataclasses.is_dataclass(known[name]):
            if not isinstance(value, dict):
                raise HoiError(f"{where}: {prefix}{name} holds options, not the value {value!r}")
            _refuse_unknown(value, known[name], where, f"{prefix}{name}.")


def _instantiate(options: dict[str, Any], where: str) -> Experiment:
    """Check every value against its type and build the dataclasses."""
    parser = _parser()
    try:
        checked = parser.parse_object(_plain(_number(options), Experiment)).as_dict()
    except (ArgumentError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).removeprefix("error: ")
        raise HoiError(f"{where}: {_one_sentence(reason)}") from error
    hints = typing.get_type_hints(Experiment)
    return Experiment(**{n: hints[n](**v) if dataclasses.is_dataclass(hints[n]) else v for n, v in checked.items()})


@cache
def _parser() -> ArgumentParser:
    """Knows the type of every option; made once, since that takes a second."""
    parser = ArgumentParser(exit_on_error=False)
    for name, kind in typing.get_type_hints(Experiment).items():
        if dataclasses.is_dataclass(kind):
            parser.add_class_arguments(kind, name)  # type: ignore[arg-type]
        else:
            parser.add_argument(f"--{name}", type=kind, default=getattr(Experiment(), name))
    return parser


def _plain(options: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Whole numbers where a whole number is meant: 1e1 epochs is 10."""
    hints = typing.get_type_hints(kind)
    plain: dict[str, Any] = {}
    for name, value in options.items():
        wanted = hints[name]
        if dataclasses.is_dataclass(wanted):
            value = _plain(value, wanted)
        elif isinstance(value, float) and value.is_integer() and int in _members(wanted):
            value = int(value)
        plain[name] = value
    return plain


def _members(kind: Any) -> tuple[Any, ...]:
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


def _one_sentence(reason: str) -> str:
    """jsonargparse explains at length; which option, what it should be and what was given are enough."""
    found = re.match(r'Parser key "([\w.]+)": (.*?)(?:\. Got value: (.*))?$', reason)
    if not found:
        return reason.rstrip(".")[:300]
    name, _, value = found.groups()
    kind: Any = Experiment
    for part in name.split("."):
        kind = typing.get_type_hints(kind)[part]
    wanted = str(kind) if not isinstance(kind, type) else kind.__name__
    if typing.get_origin(kind) is Literal:
        wanted = "one of " + ", ".join(map(str, typing.get_args(kind)))
    return f"{name} must be {wanted.replace('typing.', '')}" + (f", not {value!r}" if value else "")
