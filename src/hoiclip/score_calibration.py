"""What ``hoiclip calibrate`` leaves beside a model: how scores become probabilities, and from where on to show them.

A score s becomes sigmoid(logit(s) / temperature + bias); :mod:`hoiclip.evaluation.calibration` fits it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.errors import HoiError
from hoiclip.files import write_text_atomic
from hoiclip.vocabulary import HoiVocabulary

CALIBRATION_FILE = "calibration.json"
SMALLEST = 1e-7  # scores nearer to 0 or 1 are taken for this near: float32 knows 1 where 1 - 1e-8 is meant
MEND = "run hoiclip calibrate again, or take the file away"


@dataclass(frozen=True)
class Calibration:
    """What turns a model's scores into probabilities, and the least one at which each class is shown.

    Attributes:
        temperature, bias: of the map; above 0, and any.
        threshold: of classes without one of their own, and of all together.
        thresholds: by interaction (``ride bicycle``), probabilities 0..1.
        aim: what the thresholds were chosen for.
        fitted_on: numbers of images, detections and errors, for people.
    """

    temperature: float
    bias: float
    threshold: float
    thresholds: dict[str, float]
    aim: str = "best F1"
    fitted_on: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(M,) probabilities of scores 0..1, in their float type."""
        return sigmoid(logit(scores) / self.temperature + self.bias).astype(scores.dtype)

    def least(self, vocabulary: HoiVocabulary) -> np.ndarray:
        """(K,) threshold of every interaction of a vocabulary."""
        return np.array([self.thresholds.get(name, self.threshold) for name in interaction_names(vocabulary)])

    def for_vocabulary(self, vocabulary: HoiVocabulary) -> Calibration:
        """The same for a model that is asked for other interactions; new ones are shown from :attr:`threshold` on."""
        names = interaction_names(vocabulary)
        return replace(self, thresholds=dict(zip(names, self.least(vocabulary).tolist(), strict=True)))

    def save(self, folder: str | Path) -> Path:
        """Write ``calibration.json`` into a model folder.  Raises HoiError if it cannot be written."""
        path = Path(folder) / CALIBRATION_FILE
        write_text_atomic(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def read(cls, folder: str | Path, vocabulary: HoiVocabulary) -> Calibration | None:
        """What a model folder holds; None where it was not calibrated.

        Args:
            folder: of the model.
            vocabulary: of the model.

        Raises:
            HoiError: the file is damaged, or was made for other interactions.
        """
        path = Path(folder) / CALIBRATION_FILE
        if not path.is_file():
            return None
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            numbers = [found.temperature, found.bias, found.threshold, *found.thresholds.values()]
            if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
                raise ValueError("no number")
            if not (found.temperature > 0 and min(numbers[2:]) >= 0 and max(numbers[2:]) <= 1):
                raise ValueError("out of range")
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise HoiError(f"{path}: cannot be read as hoiclip calibrate wrote it; {MEND}") from error
        if set(found.thresholds) != set(interaction_names(vocabulary)):
            raise HoiError(f"{path}: was made for other interactions than those of the model beside it; {MEND}")
        return found


def interaction_names(vocabulary: HoiVocabulary) -> list[str]:
    """The name of each interaction."""
    return [vocabulary.interaction_name(k) for k in range(vocabulary.num_interactions)]


def logit(scores: np.ndarray) -> np.ndarray:
    """The inverse of :func:`sigmoid`, float64, finite also for 0 and 1."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(inside) - np.log1p(-inside)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))  # without overflow on either side
