"""What several commands share: argument types, the options of an experiment, and the parser itself."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hoiclip.vocabulary import HoiVocabulary

BAD_INPUT = 2
MOST_STREAMS = 4  # images that an exported model computes at once; each takes a few hundred MiB
INTERRUPTED = 130


class CommandParser(argparse.ArgumentParser):
    """argparse, but options of an experiment may be switches, and a misspelt option names the nearest."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.switches: set[str] = set()  # options of an experiment that are true when they stand alone

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse; an unknown option ends with this command's usage and exit code 2."""
        words = [word if isinstance(word, str) else str(word) for word in args or ()]
        found, unknown = self.parse_known_args(list(self._spelled_out(words)), namespace)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {near[0]}" if near else ""))
        return found

    def _spelled_out(self, words: list[str]) -> Iterator[str]:
        """``--train.max-steps 3`` with underscores, ``--train.resume`` with the value it stands for."""
        for word, following in zip(words, [*words[1:], ""], strict=False):
            name, equals, value = word.partition("=")
            if not (name.startswith("--") and "." in name):
                yield word
                continue
            name = "--" + name[2:].replace("-", "_")
            alone = name in self.switches and not equals and following.lower() not in ("true", "false", "yes", "no")
            yield f"{name}=true" if alone else f"{name}{equals}{value}"


class _ExperimentOption(argparse.Action):
    """Collect ``--name=text`` in ``options``; :func:`hoiclip.experiments.load_experiment` reads and checks it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        namespace.options = [*namespace.options, f"--{self.dest}={values}"]


def experiment_arguments(parser: CommandParser, *, own: Sequence[str] = ()) -> None:
    """Add every option of an experiment, with its type, default and sentence in the help.

    Args:
        parser: of a command.
        own: options at the top of an experiment that the command has in another sense.
    """
    from hoiclip.experiments.loading import RENAMED
    from hoiclip.experiments.options import Experiment, option_sentences

    places = " ".join(str(action.metavar) for action in parser._actions if not action.option_strings)
    parser.usage = f"%(prog)s {places} [options]"  # seventy of them, listed below
    parser.set_defaults(options=[])
    top = parser.add_argument_group("experiment")
    for name, kind in typing.get_type_hints(Experiment).items():
        inside = dataclasses.is_dataclass(kind)
        group = parser.add_argument_group(name, (kind.__doc__ or "").rstrip(".")) if inside else top
        owner, prefix = (kind, f"{name}.") if inside else (Experiment, "")
        hints, defaults = typing.get_type_hints(owner), owner()
        for field, sentence in option_sentences(owner).items():
            option = f"--{prefix}{field}"
            if not (inside or field == name) or (not inside and field in own):
                continue
            if hints[field] is bool:
                parser.switches.add(option)
            default = getattr(defaults, field)
            shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else default
            text = sentence.rstrip(".") + (f" (default: {shown})" if shown != "" else "")
            group.add_argument(
                option,
                action=_ExperimentOption,
                dest=option[2:],
                default=argparse.SUPPRESS,
                metavar=_metavar(hints[field]),
                help=text.replace("%", "%%"),
            )
    for old in RENAMED:
        parser.switches.add(f"--{old}")
        parser.add_argument(
            f"--{old}", action=_ExperimentOption, dest=old, default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )


def _metavar(kind: Any) -> str:
    """An option's type as the help shows it: ``INT``, ``{a,b}``, ``[INT,...]``."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(members) + "}"
    if typing.get_origin(kind) is list:
        return f"[{_metavar(members[0])},...]"
    return _metavar(members[0]) if members else {"str": "TEXT"}.get(kind.__name__, kind.__name__.upper())


def config_argument(parser: argparse.ArgumentParser) -> None:
    """Add the experiment a command works on."""
    parser.add_argument("config", metavar="CONFIG", help="name of an experiment (hicodet, vcoco, custom, playground, "
                        "hicodet_rf_uc, ...), or a YAML file")  # fmt: skip


def backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for what computes the forward pass, and where."""
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--backend", metavar="NAME", help="torch (default), compile, onnx or openvino")
    parser.add_argument("--precision", metavar="NAME", help="fp32 (default), bf16, int8 or auto")


def model_argument(parser: argparse.ArgumentParser) -> None:
    """Add the model, and the parts of the one that needs no training."""
    parser.add_argument(
        "--model",
        metavar="DIR|ID|NAME",
        help="model folder, hub id, or a name that hoiclip models lists, such as training-free "
        "(default: the playground model)",
    )
    parser.add_argument(
        "--detector", metavar="DIR|ID", help="of training-free: an object detector (default: facebook/detr-resnet-50)"
    )
    parser.add_argument(
        "--clip", metavar="DIR|ID", help="of training-free: a CLIP (default: openai/clip-vit-base-patch32)"
    )
    hub_arguments(parser)


def streams_for(images: int | None) -> int:
    """How many images an exported model computes at once, of so many to come; None stands for many or a video.

    One is answered soonest, several give more a second.
    """
    from hoiclip.backends.runtimes import threads_to_use

    streams = min(MOST_STREAMS, threads_to_use())
    return streams if images is None or images >= 2 * streams else 1


def open_model(args: argparse.Namespace, vocabulary: Any = None, *, playground: bool = False, streams: int = 1) -> Any:
    """Load what :func:`model_argument`, :func:`backend_arguments` and :func:`size_argument` ask for.

    Args:
        args: of the command.
        vocabulary: ask for these interactions instead of what was trained.
        playground: training-free takes the shipped miniature parts, where none are named.
        streams: images at once, where the model is an exported one.
    """
    from hoiclip.backends.manifest import is_exported
    from hoiclip.inference.image_detector import PLAYGROUND
    from hoiclip.inference.loading import TRAINING_FREE, load

    fetch_named_model(args)
    exported = args.model is not None and is_exported(args.model)
    if not exported:  # an exported model needs no torch to be quietened
        quiet_libraries()
    shipped = PLAYGROUND if playground and args.model == TRAINING_FREE else None
    detector = load(
        args.model,
        vocabulary=vocabulary,
        device=args.device,
        backend=args.backend,
        precision=args.precision,
        revision=args.revision,
        token=args.token,
        detector=args.detector or shipped,
        clip=args.clip or shipped,
        streams=streams if exported and args.device in (None, "auto", "cpu") else 1,  # a GPU is shared badly
    )
    return detector.set_size(args.size) if args.size else detector


def open_detector(args: argparse.Namespace, *, streams: int = 1) -> Any:
    """The detector, asked for the interactions that the options name; likely slips are told on stderr."""
    from hoiclip.vocabulary import HoiVocabulary
    from hoiclip.words import split_words

    vocabulary = None
    if args.interactions is not None:
        vocabulary = HoiVocabulary.from_words(args.interactions)
    elif args.vocabulary is not None:
        vocabulary = HoiVocabulary.coerce(args.vocabulary)

    from hoiclip.inference.loading import SHIPPED_MODEL, TRAINING_FREE

    detector = open_model(args, vocabulary, streams=streams)
    if args.verbs is not None:
        vocabulary = detector.vocabulary.with_verbs(split_words(args.verbs))
        tell_slips(vocabulary, detector.vocabulary)
        detector.set_vocabulary(vocabulary)
    elif args.interactions is not None and vocabulary is not None and args.model != TRAINING_FREE:
        at_hub = {"revision": args.revision, "token": args.token}
        tell_slips(vocabulary, HoiVocabulary.from_pretrained(args.model or SHIPPED_MODEL, **at_hub))
    return detector


def tell_slips(asked: HoiVocabulary, known: HoiVocabulary) -> None:
    """Say on stderr, in one line, which new words look like misspelt ones that the model knows."""
    slips = asked.slips(known)
    if slips:
        shown = ", ".join(f"{word!r} (did you mean {near!r}?)" for word, near in slips[:5])
        print(f"hoiclip: new to this model, and asked for as typed: {shown}", file=sys.stderr)


def size_argument(parser: argparse.ArgumentParser) -> None:
    """Add the size that images are resized to."""
    parser.add_argument(
        "--size",
        type=positive_int,
        metavar="SHORTER",
        help="resize the shorter side to so many pixels, smaller is faster (default: as in training, mostly 800)",
    )


def hub_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a model of the hub is asked for with."""
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub id (default: main)")
    token_argument(parser, "read a private one")
    offline_argument(parser)


def offline_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--offline``, which :func:`hoiclip.cli.main` obeys for every command that has it."""
    parser.add_argument(
        "--offline", action="store_true", help="fetch nothing over the network (as HOICLIP_OFFLINE=1 does)"
    )


def fetch_named_model(args: argparse.Namespace) -> None:
    """Let ``args.model`` be a folder where it is a name of ``hoiclip models``, so that all of a command means it."""
    from hoiclip.checkpoints.by_name import model_by_name

    if args.model not in (None, "training-free"):
        args.model = model_by_name(args.model)


def token_argument(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add ``--token``; others on this machine can see a command's options, so the help names better places."""
    parser.add_argument(
        "--token", help=f"of the hub, to {purpose} (default: HF_TOKEN in the environment, or that of hf auth login)"
    )


def quiet_libraries() -> None:
    """Prepare torch and transformers for a command: freed memory is kept, the libraries' own messages are not shown."""
    from transformers.utils import logging

    from hoiclip.backends.allocator import keep_freed_memory

    keep_freed_memory()
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """``0,1,2`` as a list, each number once."""
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers such as 0,1,2")
    return list(dict.fromkeys(map(int, numbers)))


def exponents(text: str) -> list[float]:
    """``0,0.5,2`` as a list, each number once."""
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = [-1.0]
    if not all(0 <= number <= 100 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 0 to 100 such as 0,0.5,2")
    return list(dict.fromkeys(numbers))


def probability(text: str) -> float:
    """A number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value
