"""Which numbers the options of a run may hold; what lies outside is refused before anything is read or made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hoiclip.errors import HoiError


@dataclass(frozen=True)
class Limits:
    """Finite numbers from ``low`` to ``high``; an open end excludes itself."""

    low: float = 0.0
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def hold(self, value: float) -> bool:
        """Whether a number lies inside."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        if self.high == math.inf:
            return low
        return f"{low} and {'below' if self.open_high else 'at most'} {self.high:g}"


_COUNT, _FROM_ZERO, _POSITIVE = Limits(1), Limits(), Limits(open_low=True)
_SHARE, _SEED = Limits(0, 1), Limits(0, 2**32 - 1)
LIMITS = {
    "seed": _SEED,
    "data.fraction": Limits(0, 1, open_low=True), "data.hold_out": Limits(0, 1, open_high=True), "data.seed": _SEED,
    "data.merge_near_copies": Limits(0, 1, open_low=True, open_high=True),
    "data.train_images": _COUNT, "data.evaluation_images": _COUNT, "data.shorter": _COUNT, "data.longest": _COUNT,
    "data.flip": _SHARE, "data.jitter": _SHARE, "data.crop": _SHARE, "data.workers": _FROM_ZERO,
    "data.scales": _COUNT, "data.crop_scales": _COUNT, "data.crop_range": _COUNT,
    "model.num_queries": _COUNT, "model.interaction_layers": _COUNT, "model.interaction_heads": _COUNT,
    "model.interaction_ffn_dim": _COUNT, "model.verb_weight": Limits(-math.inf), "model.zero_shot_top_k": _COUNT,
    "model.distillation_weight": _FROM_ZERO, "model.dropout": Limits(0, 1, open_high=True),
    "verbs.images": _COUNT, "verbs.batch_size": _COUNT,
    "train.epochs": _POSITIVE, "train.drop_epoch": _FROM_ZERO, "train.drop_factor": _FROM_ZERO,
    "train.max_steps": _COUNT, "train.batch_size": _COUNT, "train.accumulate": _COUNT,
    "train.learning_rate": _FROM_ZERO, "train.backbone_learning_rate": _FROM_ZERO, "train.weight_decay": _FROM_ZERO,
    "train.clip_norm": _POSITIVE, "train.virtual_processes": _COUNT,
    "train.ema": Limits(0, 1, open_low=True, open_high=True), "train.log_every": _COUNT,
    "train.checkpoint_every": _FROM_ZERO, "train.checkpoint_every_steps": _FROM_ZERO, "train.keep_checkpoints": _COUNT,
    "evaluation.every": _FROM_ZERO, "evaluation.batch_size": _COUNT,
}  # fmt: skip


def refuse_impossible_numbers(experiment: Any) -> None:
    """Check every number of an experiment.

    Raises:
        HoiError: one lies outside its limits, or a list of sizes is empty or in the wrong order.
    """
    for name, limits in LIMITS.items():
        for value in _numbers(experiment, name):
            if not limits.hold(value):
                raise HoiError(f"{name} must be {limits}, not {value:g}")
    for name in ("scales", "crop_scales"):
        if not getattr(experiment.data, name):
            raise HoiError(f"data.{name} is empty: give at least one size in pixels")
    crop = experiment.data.crop_range
    if len(crop) != 2 or crop[0] > crop[1]:
        raise HoiError(f"data.crop_range must be the smallest and the largest side in pixels, not {crop}")


def _numbers(experiment: Any, name: str) -> Iterator[float]:
    value = experiment
    for part in name.split("."):
        value = getattr(value, part)
    if value is not None:
        yield from value if isinstance(value, list) else [value]
