"""Human-object interaction detection that reads interactions straight out of a frozen CLIP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hoiclip.lazy_imports import lazy_names

if TYPE_CHECKING:
    from hoiclip import checkpoints as checkpoints
    from hoiclip import data as data
    from hoiclip import evaluation as evaluation
    from hoiclip import inference as inference
    from hoiclip import losses as losses
    from hoiclip import models as models
    from hoiclip import postprocessing as postprocessing
    from hoiclip import processing as processing
    from hoiclip import training as training
    from hoiclip import visualization as visualization
    from hoiclip.backends.allocator import keep_freed_memory
    from hoiclip.detections import Detections, Triplet
    from hoiclip.errors import HoiError
    from hoiclip.inference.detector import HoiDetector
    from hoiclip.inference.exported_detector import ExportedDetector
    from hoiclip.inference.loading import load
    from hoiclip.models.configuration import HoiClipConfig
    from hoiclip.models.modeling import HoiClipModel
    from hoiclip.models.outputs import HoiClipOutput
    from hoiclip.processing import HoiClipProcessor
    from hoiclip.vocabulary import HoiVocabulary

__all__ = [
    "Detections",
    "ExportedDetector",
    "HoiClipConfig",
    "HoiClipModel",
    "HoiClipOutput",
    "HoiClipProcessor",
    "HoiDetector",
    "HoiError",
    "HoiVocabulary",
    "Triplet",
    "keep_freed_memory",
    "load",
]

__version__: str

_MODULES = (  # importable as attributes: ``import hoiclip; hoiclip.data.load_hoia``
    "checkpoints",
    "data",
    "evaluation",
    "inference",
    "losses",
    "models",
    "postprocessing",
    "processing",
    "training",
    "visualization",
)

if not TYPE_CHECKING:  # a type checker must see misspelt names
    _lazy_name = lazy_names(
        __name__,
        {
            "hoiclip.backends.allocator": ("keep_freed_memory",),
            "hoiclip.detections": ("Detections", "Triplet"),
            "hoiclip.errors": ("HoiError",),
            "hoiclip.inference.detector": ("HoiDetector",),
            "hoiclip.inference.exported_detector": ("ExportedDetector",),
            "hoiclip.inference.loading": ("load",),
            "hoiclip.models.configuration": ("HoiClipConfig",),
            "hoiclip.models.modeling": ("HoiClipModel",),
            "hoiclip.models.outputs": ("HoiClipOutput",),
            "hoiclip.processing": ("HoiClipProcessor",),
            "hoiclip.vocabulary": ("HoiVocabulary",),
        },
    )

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("hoiclip")
        if name in _MODULES:
            return import_module(f"hoiclip.{name}")
        return _lazy_name(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__"})
