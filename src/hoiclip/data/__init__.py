"""Annotated images: reading the published datasets and your own, checking, augmenting, batching."""

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.check import CheckReport, check
from hoiclip.data.custom import load_custom
from hoiclip.data.dataset import HoiTrainingDataset, ImageFolder, collate, targets
from hoiclip.data.datasets import open_dataset
from hoiclip.data.hicodet import load_hicodet
from hoiclip.data.hoia import Defect, load_hoia, save_hoia
from hoiclip.data.prepare import prepare_hicodet
from hoiclip.data.transforms import FixedResize, TrainingAugmentation, resized_size
from hoiclip.data.vcoco import load_vcoco
from hoiclip.data.views import fraction, hold_out, listed, without_unseen

__all__ = [
    "AnnotatedImage",
    "CheckReport",
    "Defect",
    "FixedResize",
    "HoiTrainingDataset",
    "ImageFolder",
    "TrainingAugmentation",
    "check",
    "collate",
    "fraction",
    "hold_out",
    "listed",
    "load_custom",
    "load_hicodet",
    "load_hoia",
    "load_vcoco",
    "open_dataset",
    "prepare_hicodet",
    "resized_size",
    "save_hoia",
    "targets",
    "without_unseen",
]
