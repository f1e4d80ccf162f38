"""Evaluation by every published protocol; ``docs/protocols.md`` states them."""

from hoiclip.evaluation.hicodet import HicoDetEvaluator, HicoDetResult, evaluate_hicodet, sweep_enhancement

__all__ = [
    "HicoDetEvaluator",
    "HicoDetResult",
    "evaluate_hicodet",
    "sweep_enhancement",
]
