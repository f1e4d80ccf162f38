"""Weights in and out: other people's files into ours, and model folders."""

from typing import TYPE_CHECKING

from hoiclip.lazy_imports import lazy_names

if TYPE_CHECKING:
    from hoiclip.checkpoints.convert import convert_gen_vlkt, convert_hoiclip
    from hoiclip.checkpoints.folders import save_model
    from hoiclip.checkpoints.initialise import initialise_from, load_clip, load_detr
    from hoiclip.checkpoints.reading import read_weights

__all__ = [
    "convert_gen_vlkt",
    "convert_hoiclip",
    "initialise_from",
    "load_clip",
    "load_detr",
    "read_weights",
    "save_model",
]

if not TYPE_CHECKING:  # a type checker must see misspelt names
    __getattr__ = lazy_names(
        __name__,
        {
            "hoiclip.checkpoints.convert": ("convert_gen_vlkt", "convert_hoiclip"),
            "hoiclip.checkpoints.folders": ("save_model",),
            "hoiclip.checkpoints.initialise": ("initialise_from", "load_clip", "load_detr"),
            "hoiclip.checkpoints.reading": ("read_weights",),
        },
    )


def __dir__() -> list[str]:
    return __all__
