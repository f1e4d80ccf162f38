"""From a YAML file, or the name of one that is shipped, to an :class:`Experiment`.

A file names the one it builds on and says only what is different::

    base: hicodet
    train: {batch_size: 8}
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from hoiclip.errors import HoiError
from hoiclip.experiments.limits import refuse_impossible_numbers
from hoiclip.experiments.options import Experiment
from hoiclip.files import read_text

CONFIGS = Path(__file__).parents[1] / "configs"  # the experiments that come with hoiclip
RENAMED = {"train.remember_looks": "train.cache_features"}  # old names that still read


def experiment_names() -> list[str]:
    """The experiments that come with hoiclip; some suffixes (:data:`SUFFIXES`) make further ones."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def load_experiment(config: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment and change some of its options.

    Args:
        config: name of a shipped experiment, or path of a YAML file.
        overrides: as on the command line: ``["--train.batch_size", "8", "--data.root=data/hicodet"]``.

    Raises:
        HoiError: no such experiment, broken YAML, an unknown option, a value of the wrong type or out of its limits.
    """
    options = _options_of(config)
    for name, text in _parse_overrides(overrides):
        inner = options
        *parents, last = name.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise HoiError(f"--{name}: {parent!r} is an option itself, it has no {last!r}")
        inner[last] = text
    _take_new_names(options, str(config))
    options = _merge(_published_preset(options), options)
    _refuse_unknown(options, Experiment, str(config))
    experiment = _instantiate(options, str(config))
    refuse_impossible_numbers(experiment)
    experiment.name = experiment.name or Path(config).stem
    experiment.out = experiment.out or str(Path("runs") / experiment.name)
    return experiment


# --- files and names -------------------------------------------------------------------------------

Options = dict[str, Any]


def _split(options: Options, split: str) -> Options:
    return {"vocabulary": f"{options.get('vocabulary')}_{split}"}


#: endings of names that change one thing -> (the experiment they change, what they change), both made of the rest
SUFFIXES: dict[str, tuple[str, Callable[[Options, str], Options]]] = {
    r"_(rf_uc|nf_uc|uo|uv|uc[0-4])": ("", _split),  # zero-shot splits, Table 2
    r"_(5|15|25|50)": ("", lambda _, share: {"data": {"fraction": int(share) / 100}}),  # Table 1
    r"_(free)": ("", lambda *_: {}),  # Table 5's name of the whole model
    r"_verbs_(sentence|average|arithmetic)": ("_verb", lambda _, method: {"verbs": {"method": method}}),  # Table 6
    r"_alpha_(000|025|050|075|100)": (  # Table 7, evaluated on held-out training images
        "_verb",
        lambda _, alpha: {"data": {"hold_out": 0.1}, "model": {"verb_weight": int(alpha) / 100}},
    ),
    r"_top_k_(00|05|10|15|20)": (  # Table 7; K changes nothing in training
        "",
        lambda _, k: {"data": {"hold_out": 0.1}, "model": {"zero_shot_top_k": int(k) or None}},
    ),
}


def _options_of(config: str | Path, beside: Path | None = None, seen: tuple[str, ...] = ()) -> Options:
    """The options that a file or a name stands for, on top of those of its base."""
    name = str(config)
    if name.endswith((".yaml", ".yml")):
        if not os.path.isfile(config):
            raise HoiError(f"{config}: no such file; give a YAML file or one of {', '.join(experiment_names())}")
        return _read(Path(config), seen)
    for folder in (beside, CONFIGS):
        if folder is not None and os.path.isfile(folder / f"{name}.yaml"):
            return _read(folder / f"{name}.yaml", seen)
    for pattern, (ending, change) in SUFFIXES.items():
        found = re.fullmatch(rf"(\w+?){pattern}", name)
        if found and (base := f"{found[1]}{ending}") in experiment_names():
            options = _options_of(base)
            return _merge(options, change(options, found[2]))
    close = difflib.get_close_matches(name, experiment_names(), n=3)
    known = f"did you mean {' or '.join(close)}" if close else f"choose one of {', '.join(experiment_names())}"
    raise HoiError(f"unknown experiment {name!r}: {known}, or give a YAML file")


def _read(path: Path, seen: tuple[str, ...]) -> Options:
    if str(path) in seen:
        raise HoiError(f"{path}: builds on itself by way of {' and '.join(Path(p).name for p in seen)}")
    text = read_text(path, "an experiment in YAML")
    try:
        own = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError: a date that is none
        raise HoiError(f"{path}: is no YAML that can be read ({' '.join(str(error).split())})") from error
    if not isinstance(own, dict):
        raise HoiError(f"{path}: an experiment is a list of options, 'train:' and the like")
    base = own.pop("base", None)
    return own if base is None else _merge(_options_of(base, path.parent, (*seen, str(path))), own)


def _merge(below: Options, above: Options) -> Options:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _published_preset(options: Options) -> Options:
    """What ``model.published`` sets where neither a file nor the command line says otherwise."""
    model = options.get("model")
    if not isinstance(model, dict):
        return {}
    wanted = model.get("published", False)
    if not (yaml.safe_load(wanted) if isinstance(wanted, str) else wanted):
        return {}
    if model.get("variant") == "gen-vlkt":
        return {"train": {"normalise": "process", "virtual_processes": 8}}
    own: Options = {"classifier_bias": "published", "mask_padding": False, "unused_parameters": True}
    if options.get("vocabulary") == "vcoco":
        own["verb_weight"] = 0.1  # chosen with the published vectors, which are not of unit length
    return {"model": own, "train": {"normalise": "process", "virtual_processes": 2}}


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """``--a.b value``, ``--a.b=value`` and ``--a.b`` (true) to names and texts."""
    found: list[tuple[str, str]] = []
    rest = list(overrides)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise HoiError(f"{word!r} is not understood: options look like --train.batch_size 8")
        name, equals, text = word[2:].partition("=")
        if not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        found.append((name.replace("-", "_"), text))
    return found


# --- checks ----------------------------------------------------------------------------------------


def _take_new_names(options: Options, where: str) -> None:
    for old, new in RENAMED.items():
        group, _, name = old.partition(".")
        if isinstance(options.get(group), dict) and name in options[group]:
            options[group][new.partition(".")[2]] = options[group].pop(name)
            print(f"hoiclip: {where}: {old} is now called {new}", file=sys.stderr)


def _refuse_unknown(options: Options, kind: Any, where: str, prefix: str = "") -> None:
    known = typing.get_type_hints(kind)
    for name, value in options.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"did you mean {prefix}{close[0]}" if close else f"choose one of {', '.join(known)}"
            raise HoiError(f"{where}: unknown option {prefix}{name}: {hint}")
        if dataclasses.is_dataclass(known[name]):
            if not isinstance(value, dict):
                raise HoiError(f"{where}: {prefix}{name} holds options, not the value {value}")
            _refuse_unknown(value, known[name], where, f"{prefix}{name}.")


def _instantiate(options: Options, where: str) -> Experiment:
    """Check every value against its type and build the dataclasses."""
    try:
        checked = _parser().parse_object(options).as_dict()
    except (ArgumentError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).removeprefix("error: ")
        raise HoiError(f"{where}: {_one_sentence(reason)}") from error
    _refuse_null(checked, Experiment, where)
    hints = typing.get_type_hints(Experiment)
    return Experiment(**{n: hints[n](**v) if dataclasses.is_dataclass(hints[n]) else v for n, v in checked.items()})


def _refuse_null(options: Options, kind: Any, where: str, prefix: str = "") -> None:
    """Null only where the type says so, or for a name that is made up: jsonargparse takes it for anything in a file."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            _refuse_null(options[name], hint, where, f"{name}.")
        elif options[name] is None and type(None) not in typing.get_args(hint) and (prefix or hint is not str):
            raise HoiError(f"{where}: {prefix}{name} must be {type_name(hint)}, not null")


@cache
def _parser() -> ArgumentParser:
    """The parser that knows the type of every option; made once, since that takes a second."""
    parser = ArgumentParser(exit_on_error=False)
    for name, kind in typing.get_type_hints(Experiment).items():
        if dataclasses.is_dataclass(kind):
            parser.add_class_arguments(kind, name)  # type: ignore[arg-type]
        else:
            parser.add_argument(f"--{name}", type=kind, default=getattr(Experiment(), name))
    return parser


def _one_sentence(reason: str) -> str:
    """Shorten jsonargparse's explanation: which option, what it should be, what was given."""
    found = re.match(r'Parser key "([\w.]+)": (.*?)(?:(?:\. Got|Given) value: (.*))?$', reason)
    if not found:
        return reason.rstrip(".")[:300]
    name, _, value = found.groups()
    kind: Any = Experiment
    for part in name.split("."):
        kind = typing.get_type_hints(kind)[part]
    return f"{name} must be {type_name(kind)}" + (f", not {value!r}" if value else "")


def type_name(kind: Any) -> str:
    """An option's type for people: ``int``, ``one of a, b``, ``list[int]``, ``str | None``."""
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
