"""Annotated images: reading the published datasets and your own, checking, augmenting, batching."""

from typing import TYPE_CHECKING

from hoiclip.lazy_imports import lazy_names

if TYPE_CHECKING:
    from hoiclip.data.annotations import AnnotatedImage
    from hoiclip.data.content import Defect
    from hoiclip.data.custom import load_custom
    from hoiclip.data.dataset import Dataset, open_dataset, people_of
    from hoiclip.data.hicodet import load_hicodet
    from hoiclip.data.hoia import load_hoia, save_hoia
    from hoiclip.data.importing import export_labels, import_labels
    from hoiclip.data.near_copies import merge_near_copies
    from hoiclip.data.prepare import prepare_hicodet
    from hoiclip.data.samples import ImageFolder
    from hoiclip.data.subsets import fraction, hold_out, listed, with_pairs, without_unseen
    from hoiclip.data.training_dataset import HoiTrainingDataset, collate, make_targets
    from hoiclip.data.transforms import FixedResize, TrainingAugmentation
    from hoiclip.data.validation import CheckReport, check
    from hoiclip.data.vcoco import load_vcoco
    from hoiclip.data.vcoco_ground_truth import VcocoImage, load_vcoco_ground_truth

__all__ = [
    "AnnotatedImage",
    "CheckReport",
    "Dataset",
    "Defect",
    "FixedResize",
    "HoiTrainingDataset",
    "ImageFolder",
    "TrainingAugmentation",
    "VcocoImage",
    "check",
    "collate",
    "export_labels",
    "fraction",
    "hold_out",
    "import_labels",
    "listed",
    "load_custom",
    "load_hicodet",
    "load_hoia",
    "load_vcoco",
    "load_vcoco_ground_truth",
    "make_targets",
    "merge_near_copies",
    "open_dataset",
    "people_of",
    "prepare_hicodet",
    "save_hoia",
    "with_pairs",
    "without_unseen",
]

if not TYPE_CHECKING:  # a type checker must see misspelt names
    __getattr__ = lazy_names(
        __name__,
        {
            "hoiclip.data.annotations": ("AnnotatedImage",),
            "hoiclip.data.content": ("Defect",),
            "hoiclip.data.custom": ("load_custom",),
            "hoiclip.data.dataset": ("Dataset", "open_dataset", "people_of"),
            "hoiclip.data.hicodet": ("load_hicodet",),
            "hoiclip.data.hoia": ("load_hoia", "save_hoia"),
            "hoiclip.data.importing": ("export_labels", "import_labels"),
            "hoiclip.data.near_copies": ("merge_near_copies",),
            "hoiclip.data.prepare": ("prepare_hicodet",),
            "hoiclip.data.samples": ("ImageFolder",),
            "hoiclip.data.subsets": ("fraction", "hold_out", "listed", "with_pairs", "without_unseen"),
            "hoiclip.data.training_dataset": ("HoiTrainingDataset", "collate", "make_targets"),
            "hoiclip.data.transforms": ("FixedResize", "TrainingAugmentation"),
            "hoiclip.data.validation": ("CheckReport", "check"),
            "hoiclip.data.vcoco": ("load_vcoco",),
            "hoiclip.data.vcoco_ground_truth": ("VcocoImage", "load_vcoco_ground_truth"),
        },
    )


def __dir__() -> list[str]:
    return __all__
