"""How a row of a benchmark compares with our own eager fp32: speed, and how far the outputs differ."""

from __future__ import annotations

import statistics

import numpy as np

from hoiclip.benchmark.job import Job, Row

COMPARED = ("human_boxes", "object_boxes", "object_logits", "interaction_logits", "zero_shot_logits")
TOP = 100


def compared(row: Row, job: Job, reference: Row, base: Job) -> Row:
    """Add a row's ratios to our eager fp32, and how far its outputs differ."""
    if "error" in row:
        return row
    row["gflop_per_image"] = row.get("gflop_per_image") or reference["gflop_per_image"]
    seconds = row["model_ms"] / 1000
    row["gflops"] = row["gflop_per_image"] * job.batch / seconds
    peak = row["matmul_peak_gflops"]
    row["fraction_of_peak"] = row["gflops"] / peak if peak else None
    row["speedup"] = reference["model_ms"] / row["model_ms"]
    row["speedup_best"] = reference["model_ms_best"] / row["model_ms_best"]  # steadier on a busy machine
    if row["images_per_second"] is not None:
        row["end_to_end_speedup"] = row["images_per_second"] / reference["images_per_second"]
        row["of_model_rate"] = row["images_per_second"] * seconds / job.batch
    if job.keep is not None and base.keep is not None:
        with np.load(base.keep) as a, np.load(job.keep) as b:
            row |= differences(dict(a), dict(b))
    return row


def differences(expected: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> Row:
    """Compare the outputs of B images with those of another run.

    Args:
        expected, got: (B, ...) by name, see ``HoiClipOutput``; ``object_ids`` (K,) of the vocabulary.

    Returns:
        ``max_logit_difference`` over interaction and object logits, ``max_box_difference`` as a
        fraction of the image, ``top100_overlap`` the share of each image's best 100 (query,
        interaction) pairs found by both, over all images.
    """
    gaps = {name: float(np.abs(expected[name] - got[name]).max()) for name in COMPARED if name in expected}
    best = [_best(expected), _best(got)]
    shared = [len(a & b) / max(len(a), 1) for a, b in zip(*best, strict=True)]
    return {
        "max_logit_difference": max(gaps["interaction_logits"], gaps["object_logits"]),
        "max_box_difference": max(gaps["human_boxes"], gaps["object_boxes"]),
        "top100_overlap": statistics.mean(shared),
    }


def _best(outputs: dict[str, np.ndarray]) -> list[set[tuple[int, int]]]:
    """The best (query, interaction) pairs of each image by the fused score of Eq. 21."""
    from hoiclip.postprocessing import top_k_pairs

    sure = {name: 1 / (1 + np.exp(-outputs[f"{name}_logits"])) for name in ("interaction", "object")}
    fused = sure["interaction"] + np.square(sure["object"])[..., outputs["object_ids"]]  # (B, N, K)
    image, query, hoi, _ = top_k_pairs(fused, TOP)
    return [set(zip(query[image == i].tolist(), hoi[image == i].tolist(), strict=True)) for i in range(len(fused))]
