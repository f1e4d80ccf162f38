"""Evaluation by every published protocol; ``docs/protocols.md`` states them."""

from hoiclip.evaluation.detection_files import (
    load_detections,
    save_detections,
    write_hicodet_matlab,
    write_vcoco_pickle,
)
from hoiclip.evaluation.hicodet import HicoDetEvaluator, HicoDetResult, evaluate_hicodet, sweep_enhancement
from hoiclip.evaluation.tables import render_table, result_dict, write_results
from hoiclip.evaluation.vcoco import VcocoEvaluator, VcocoResult, evaluate_vcoco, evaluate_vcoco_records
from hoiclip.evaluation.vcoco_pairwise import VcocoPairwiseResult, evaluate_vcoco_pairwise, rank_verbs
from hoiclip.evaluation.vcoco_truth import VcocoImage, load_vcoco_ground_truth, people_of

__all__ = [
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
    "load_detections",
    "load_vcoco_ground_truth",
    "people_of",
    "rank_verbs",
    "render_table",
    "result_dict",
    "save_detections",
    "sweep_enhancement",
    "write_hicodet_matlab",
    "write_results",
    "write_vcoco_pickle",
]
