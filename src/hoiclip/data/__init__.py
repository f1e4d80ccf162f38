"""Annotated images: reading the published datasets and your own, checking, augmenting, batching."""

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.dataset import HoiTrainingDataset, ImageFolder, collate, targets
from hoiclip.data.hoia import Defect, load_hoia, save_hoia
from hoiclip.data.transforms import FixedResize, TrainingAugmentation, resized_size
from hoiclip.data.views import fraction, hold_out, listed, without_unseen

__all__ = [
    "AnnotatedImage",
    "Defect",
    "FixedResize",
    "HoiTrainingDataset",
    "ImageFolder",
    "TrainingAugmentation",
    "collate",
    "fraction",
    "hold_out",
    "listed",
    "load_hoia",
    "resized_size",
    "save_hoia",
    "targets",
    "without_unseen",
]
