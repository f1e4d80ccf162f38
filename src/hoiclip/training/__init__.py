"""From an experiment to a trained model."""

from typing import TYPE_CHECKING

from hoiclip.lazy_imports import lazy_names

if TYPE_CHECKING:
    from hoiclip.training.run import run_experiment, train
    from hoiclip.training.verb_initialization import extract_verbs

__all__ = [
    "extract_verbs",
    "run_experiment",
    "train",
]

if not TYPE_CHECKING:  # a type checker must see misspelt names
    __getattr__ = lazy_names(
        __name__,
        {
            "hoiclip.training.run": ("run_experiment", "train"),
            "hoiclip.training.verb_initialization": ("extract_verbs",),
        },
    )


def __dir__() -> list[str]:
    return __all__
