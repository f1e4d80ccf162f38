"""Human-object interaction detection that reads interactions straight out of a frozen CLIP."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from hoiclip.configuration import HoiClipConfig
from hoiclip.detections import Detections
from hoiclip.detector import HoiDetector, load
from hoiclip.errors import HoiError
from hoiclip.memory import keep_freed_memory
from hoiclip.modeling import HoiClipModel, HoiClipOutput
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
    "keep_freed_memory",
    "load",
]

AutoConfig.register(HoiClipConfig.model_type, HoiClipConfig)
AutoModel.register(HoiClipConfig, HoiClipModel)
AutoProcessor.register(HoiClipConfig, HoiClipProcessor)
