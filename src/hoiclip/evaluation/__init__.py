"""Evaluation by every published protocol; ``docs/protocols.md`` states them."""

from typing import TYPE_CHECKING

from hoiclip.lazy_imports import lazy_names

if TYPE_CHECKING:
    from hoiclip.data.dataset import people_of
    from hoiclip.data.vcoco_ground_truth import VcocoImage, load_vcoco_ground_truth
    from hoiclip.detection_files import save_detections
    from hoiclip.detection_forms.opening import load_detections
    from hoiclip.evaluation.error_kinds import ErrorKinds, find_error_kinds
    from hoiclip.evaluation.hicodet import HicoDetEvaluator, HicoDetResult, evaluate_hicodet, sweep_enhancement
    from hoiclip.evaluation.html_report import write_report
    from hoiclip.evaluation.reports import Evaluated, render_table, result_dict, write_results
    from hoiclip.evaluation.submissions import write_hicodet_matlab, write_vcoco_pickle
    from hoiclip.evaluation.vcoco import VcocoEvaluator, VcocoResult, evaluate_vcoco, evaluate_vcoco_records
    from hoiclip.evaluation.vcoco_pairwise import VcocoPairwiseResult, evaluate_vcoco_pairwise, rank_verbs

__all__ = [
    "ErrorKinds",
    "Evaluated",
    "HicoDetEvaluator",
    "HicoDetResult",
    "VcocoEvaluator",
    "VcocoImage",
    "VcocoPairwiseResult",
    "VcocoResult",
    "evaluate_hicodet",
    "evaluate_vcoco",
    "evaluate_vcoco_pairwise",
    "evaluate_vcoco_records",
    "find_error_kinds",
    "load_detections",
    "load_vcoco_ground_truth",
    "people_of",
    "rank_verbs",
    "render_table",
    "result_dict",
    "save_detections",
    "sweep_enhancement",
    "write_hicodet_matlab",
    "write_report",
    "write_results",
    "write_vcoco_pickle",
]

if not TYPE_CHECKING:  # a type checker must see misspelt names
    __getattr__ = lazy_names(
        __name__,
        {
            "hoiclip.detection_files": ("save_detections",),
            "hoiclip.detection_forms.opening": ("load_detections",),
            "hoiclip.evaluation.error_kinds": ("ErrorKinds", "find_error_kinds"),
            "hoiclip.evaluation.html_report": ("write_report",),
            "hoiclip.evaluation.hicodet": (
                "HicoDetEvaluator",
                "HicoDetResult",
                "evaluate_hicodet",
                "sweep_enhancement",
            ),
            "hoiclip.evaluation.reports": ("Evaluated", "render_table", "result_dict", "write_results"),
            "hoiclip.evaluation.submissions": ("write_hicodet_matlab", "write_vcoco_pickle"),
            "hoiclip.evaluation.vcoco": ("VcocoEvaluator", "VcocoResult", "evaluate_vcoco", "evaluate_vcoco_records"),
            "hoiclip.evaluation.vcoco_pairwise": ("VcocoPairwiseResult", "evaluate_vcoco_pairwise", "rank_verbs"),
            "hoiclip.data.dataset": ("people_of",),
            "hoiclip.data.vcoco_ground_truth": ("VcocoImage", "load_vcoco_ground_truth"),
        },
    )


def __dir__() -> list[str]:
    return __all__
