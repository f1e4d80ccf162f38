"""How much of its precision a model keeps where images are noisy, blurred, weathered or badly stored.

    results, robustness = evaluate_corrupted(experiment, detector, corruptions(["all"]))
    print(robustness.relative()["full"])

Mean performance under corruption (mPC) and relative performance under corruption (rPC) are those of Michaelis et al.,
"Benchmarking Robustness in Object Detection" (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from hoiclip.data.corruptions import BENCHMARK, LEVELS, Corruption
from hoiclip.detections import Detections
from hoiclip.evaluation.runner import Detector, DetectsImages, Results, TrainingCounts, evaluate_model
from hoiclip.experiments.options import Experiment
from hoiclip.vocabulary import HoiVocabulary

Means = dict[str, float]
#: as :data:`hoiclip.evaluation.runner.Kept`, for one corruption or, with None, for the images as they are
KeptOf = Callable[[Corruption | None, HoiVocabulary], MutableMapping[str, Detections]]


@dataclass(frozen=True)
class Robustness:
    """The means of the main protocol, fractions 0..1, on the images as they are and corrupted.

    Attributes:
        clean: by metric.
        corrupted: by corruption, then by metric.
    """

    clean: Means
    corrupted: dict[Corruption, Means]

    def of_kind(self, kind: str) -> Means:
        """The mean over the levels of a kind that were tried."""
        return self._mean([means for corruption, means in self.corrupted.items() if corruption.kind == kind])

    def mean(self) -> Means:
        """MPC: the mean over all kinds of the mean over their levels."""
        return self._mean([self.of_kind(kind) for kind in self.kinds])

    def relative(self) -> Means:
        """RPC: mPC as a share of the clean value; NaN where that is 0."""
        mean = self.mean()
        return {name: mean[name] / value if value else math.nan for name, value in self.clean.items()}

    @property
    def kinds(self) -> list[str]:
        """The kinds that were tried, in their order."""
        return list(dict.fromkeys(corruption.kind for corruption in self.corrupted))

    @property
    def of_the_benchmark(self) -> bool:
        """Whether these are the 15 kinds at five levels over which published figures are taken."""
        wanted = {(kind, level) for kind in BENCHMARK for level in LEVELS}
        return {(corruption.kind, corruption.level) for corruption in self.corrupted} == wanted

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; NaN becomes None."""
        return {
            "seed": next(iter(self.corrupted)).seed,
            "benchmark": self.of_the_benchmark,
            "clean": _plain(self.clean),
            "kinds": {
                kind: {
                    "levels": {str(c.level): _plain(means) for c, means in self.corrupted.items() if c.kind == kind},
                    "mean": _plain(self.of_kind(kind)),
                }
                for kind in self.kinds
            },
            "mPC": _plain(self.mean()),
            "rPC": _plain(self.relative()),
        }

    def render(self) -> str:
        """The main metric in percent: a line for each kind, a column for each level and their mean; mPC and rPC."""
        main = next(iter(self.clean))
        levels = sorted({corruption.level for corruption in self.corrupted})
        rows = [[f"{main} under corruption", *(f"level {level}" for level in levels), "mean"]]
        for kind in self.kinds:
            at = {c.level: means[main] for c, means in self.corrupted.items() if c.kind == kind}
            rows.append([kind, *(_percent(at.get(level)) for level in levels), _percent(self.of_kind(kind)[main])])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        mean, relative = self.mean()[main], self.relative()[main]
        lines.append(f"clean {_percent(self.clean[main])}, mPC {_percent(mean)}, rPC {_percent(relative)} %")
        if not self.of_the_benchmark:
            lines.append("mPC over what was asked for; the published one is over --corrupt all")
        return "\n".join(lines)

    def _mean(self, rows: Sequence[Means]) -> Means:
        return {name: sum(row[name] for row in rows) / len(rows) for name in self.clean}


def evaluate_corrupted(
    experiment: Experiment,
    detector: Detector | DetectsImages,
    corruptions: Sequence[Corruption],
    *,
    keep: KeptOf | None = None,
    training_instances: TrainingCounts = None,
    progress: bool = True,
) -> tuple[Results, Robustness]:
    """Evaluate on the images as they are, then on each corruption of them.

    Args:
        experiment, detector, training_instances, progress: as in :func:`evaluate_model`.
        corruptions: at least one.
        keep: gives a mapping for the detections of each evaluation.

    Returns:
        What :func:`evaluate_model` returns for the images as they are, and the comparison.

    Raises:
        HoiError: as :func:`evaluate_model`.
    """

    def evaluate(corruption: Corruption | None) -> Results:
        def kept(vocabulary: HoiVocabulary) -> MutableMapping[str, Detections]:
            return {} if keep is None else keep(corruption, vocabulary)

        return evaluate_model(
            experiment,
            detector,
            keep=kept,
            training_instances=training_instances,
            corruption=corruption,
            progress=progress,
        )

    clean = evaluate(None)
    return clean, Robustness(_main_means(clean), {c: _main_means(evaluate(c)) for c in corruptions})


def _main_means(results: Results) -> Means:
    """Those of the main protocol that have a value; of V-COCO's roles the mean of each scenario."""
    if "scenario 1" in results:
        return {name.replace(" ", "_"): float(result.mean) for name, result in results.items()}
    return {name: float(v) for name, v in next(iter(results.values())).means().items() if not math.isnan(v)}


def _plain(means: Means) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in means.items()}


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f}"
