"""One YAML file to typed options, and to the data that they name."""

from typing import TYPE_CHECKING

from hoiclip.lazy_imports import lazy_names

if TYPE_CHECKING:
    from hoiclip.experiments.loading import experiment_names, load_experiment
    from hoiclip.experiments.options import Experiment

__all__ = [
    "Experiment",
    "experiment_names",
    "load_experiment",
]

if not TYPE_CHECKING:  # a type checker must see misspelt names
    __getattr__ = lazy_names(
        __name__,
        {
            "hoiclip.experiments.loading": ("experiment_names", "load_experiment"),
            "hoiclip.experiments.options": ("Experiment",),
        },
    )


def __dir__() -> list[str]:
    return __all__
