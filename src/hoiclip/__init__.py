"""Human-object interaction detection that reads interactions straight out of a frozen CLIP."""

from typing import TYPE_CHECKING, Any

from hoiclip.lazy_imports import lazy_names

if TYPE_CHECKING:
    from hoiclip.backends.allocator import keep_freed_memory
    from hoiclip.detections import Detections, Triplet
    from hoiclip.errors import HoiError
    from hoiclip.inference.detector import HoiDetector, load
    from hoiclip.models.configuration import HoiClipConfig
    from hoiclip.models.modeling import HoiClipModel
    from hoiclip.models.outputs import HoiClipOutput
    from hoiclip.processing import HoiClipProcessor
    from hoiclip.vocabulary import HoiVocabulary

__all__ = [
    "Detections",
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

if not TYPE_CHECKING:  # a type checker must see misspelt names
    _lazy_name = lazy_names(
        __name__,
        {
            "hoiclip.backends.allocator": ("keep_freed_memory",),
            "hoiclip.detections": ("Detections", "Triplet"),
            "hoiclip.errors": ("HoiError",),
            "hoiclip.inference.detector": ("HoiDetector", "load"),
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
        return _lazy_name(name)


def __dir__() -> list[str]:
    return __all__
