"""Annotated images: reading the published datasets and your own, checking, augmenting, batching."""

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.hoia import Defect, load_hoia, save_hoia
from hoiclip.data.transforms import resized_size

__all__ = ["AnnotatedImage", "Defect", "load_hoia", "resized_size", "save_hoia"]
