"""From the scores of all queries to the ranked triplets of an image (paper section 3.5).

    detections = rank_triplets(human_boxes, object_boxes, object_scores, interaction_scores, vocabulary)

Three steps, for one image or for a batch at once:

1. fusion (Eq. 20-21): score(query, interaction) = interaction score + object score squared;
2. the ``top_k`` best (query, interaction) pairs of the image, over all interactions together;
3. triplet NMS among the kept pairs of the same interaction, not refilled afterwards.

Every step works on flat arrays over the whole batch: a pair is (image, query, interaction), and an
image has as many of them as survive.  The training-free enhancement (Eq. 17) is a term added to the
interaction scores before step 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hoiclip.boxes import box_iou, cxcywh_to_xyxy
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

ImageSize = tuple[int, int]


def rank_triplets(
    human_boxes: Any,
    object_boxes: Any,
    object_scores: Any,
    interaction_scores: Any,
    vocabulary: HoiVocabulary,
    top_k: int = 100,
    nms_threshold: float | None = 0.7,
    nms_alpha: float = 1.0,
    nms_beta: float = 0.5,
    image_size: ImageSize | None = None,
) -> Detections:
    """Rank the triplets of one image.  Arrays may be numpy or torch; float64 stays float64.

    Args:
        human_boxes, object_boxes: (N, 4) xyxy in pixels, one row per query.
        object_scores: (N, C) or (N, C+1) probabilities; a last column for "nothing" is ignored.
        interaction_scores: (N, K) probabilities, with the enhancement added if it is wanted.
        vocabulary: K interactions over C objects.
        top_k: pairs kept per image before NMS.
        nms_threshold: a pair goes if its overlap with a better one is greater than this; None
            switches NMS off.
        nms_alpha, nms_beta: exponents of the human and of the object IoU in that overlap.
        image_size: (height, width), handed on to the result.

    Returns:
        At most ``top_k`` triplets, best first; equal scores in the order of query, then interaction.

    Raises:
        HoiError: if the shapes do not fit the vocabulary or a score is NaN.
    """
    return rank_batch(
        _numpy(human_boxes)[None],
        _numpy(object_boxes)[None],
        _numpy(object_scores)[None],
        _numpy(interaction_scores)[None],
        vocabulary,
        top_k,
        nms_threshold,
        nms_alpha,
        nms_beta,
        None if image_size is None else [image_size],
    )[0]


def rank_batch(
    human_boxes: Any,
    object_boxes: Any,
    object_scores: Any,
    interaction_scores: Any,
    vocabulary: HoiVocabulary,
    top_k: int = 100,
    nms_threshold: float | None = 0.7,
    nms_alpha: float = 1.0,
    nms_beta: float = 0.5,
    image_sizes: Sequence[ImageSize | None] | None = None,
    enhancement: Any = None,
    object_exponent: float = 2.0,
) -> list[Detections]:
    """:func:`rank_triplets` for B images at once.

    Args:
        human_boxes, object_boxes: (B, N, 4) xyxy in pixels.
        object_scores: (B, N, C) or (B, N, C+1).
        interaction_scores: (B, N, K).
        vocabulary, top_k, nms_threshold, nms_alpha, nms_beta: as in :func:`rank_triplets`.
        image_sizes: B pairs (height, width), or None.
        enhancement: (B, K) added to the interaction scores of every query, see
            :func:`training_free_enhancement`; the reported ``interaction_scores`` are without it.
        object_exponent: see :func:`fuse_scores`.

    Returns:
        B Detections.

    Raises:
        HoiError: as :func:`rank_triplets`.
    """
    human_boxes, object_boxes = _numpy(human_boxes), _numpy(object_boxes)
    object_scores, interaction_scores = _numpy(object_scores), _numpy(interaction_scores)
    batch = _check_shapes(human_boxes, object_boxes, object_scores, interaction_scores, vocabulary)

    fused = fuse_scores(interaction_scores, object_scores, vocabulary, object_exponent)  # (B, N, K)
    if enhancement is not None:
        fused += _numpy(enhancement)[:, None]
    image, query, hoi_ids, scores = top_k_pairs(fused, top_k)  # (M,) each, image by image, best first
    row = image * human_boxes.shape[1] + query
    human, object_ = human_boxes.reshape(-1, 4)[row], object_boxes.reshape(-1, 4)[row]  # (M, 4)
    if nms_threshold is not None:
        group = image * vocabulary.num_interactions + hoi_ids
        keep = triplet_nms(human, object_, group, nms_threshold, nms_alpha, nms_beta)
        image, query, hoi_ids, scores = (x[keep] for x in (image, query, hoi_ids, scores))
        human, object_ = human[keep], object_[keep]

    columns = (
        human,
        object_,
        vocabulary.object_ids[hoi_ids],
        vocabulary.verb_ids[hoi_ids],
        hoi_ids,
        scores,
        interaction_scores[image, query, hoi_ids],
    )
    return _by_image(columns, np.searchsorted(image, np.arange(batch + 1)), vocabulary, image_sizes)


def rank_outputs(
    outputs: Mapping[str, np.ndarray],
    target_sizes: Sequence[ImageSize],
    vocabulary: HoiVocabulary,
    *,
    zero_shot_top_k: int | None = None,
    nms: bool = True,
) -> list[Detections]:
    """What a graph says of B images as ranked triplets, at most 100 each.

    Args:
        outputs: by name as in ``export.json``: boxes (B, N, 4) cxcywh as fractions, logits (B, N, C + 1) and
            (B, N, K), and zero-shot logits (B, K) where the graph has them.
        target_sizes: B (height, width) of the images, in pixels.
        vocabulary: K interactions over C objects.
        zero_shot_top_k: K of Eq. 17, or None to leave the training-free enhancement out.
        nms: drop near copies.

    Raises:
        HoiError: as :func:`rank_batch`.
    """
    scale = np.array([(w, h, w, h) for h, w in target_sizes], dtype=np.float32)[:, None]  # (B, 1, 4)
    enhancement = None
    if zero_shot_top_k is not None and "zero_shot_logits" in outputs:
        enhancement = training_free_enhancement(outputs["zero_shot_logits"], zero_shot_top_k)
    return rank_batch(
        cxcywh_to_xyxy(outputs["human_boxes"]) * scale,
        cxcywh_to_xyxy(outputs["object_boxes"]) * scale,
        sigmoid(outputs["object_logits"]),
        sigmoid(outputs["interaction_logits"]),
        vocabulary,
        nms_threshold=0.7 if nms else None,
        image_sizes=target_sizes,
        enhancement=enhancement,
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), of any shape and float type."""
    with np.errstate(over="ignore"):  # exp of much is infinite, and the answer 0
        return 1 / (1 + np.exp(-logits))


def _by_image(
    columns: Sequence[np.ndarray],
    bounds: np.ndarray,
    vocabulary: HoiVocabulary,
    image_sizes: Sequence[ImageSize | None] | None,
) -> list[Detections]:
    """Cut columns (M, ...) of all images into one Detections each; image i has rows bounds[i] to bounds[i + 1]."""
    results = []
    for i in range(len(bounds) - 1):
        # without the copy one kept image would hold its whole batch in memory
        human, object_, object_ids, verb_ids, hoi_ids, scores, probabilities = (
            column[bounds[i] : bounds[i + 1]].copy() for column in columns
        )
        size = None if image_sizes is None else image_sizes[i]
        results.append(
            Detections(human, object_, object_ids, verb_ids, hoi_ids, scores, vocabulary, size, probabilities)
        )
    return results


def fuse_scores(
    interaction_scores: np.ndarray, object_scores: np.ndarray, vocabulary: HoiVocabulary, object_exponent: float = 2.0
) -> np.ndarray:
    """Eq. 21: (..., N, K) interaction score plus the squared score of the interaction's object.

    Args:
        interaction_scores: (..., N, K).
        object_scores: (..., N, C) or (..., N, C+1).
        vocabulary: which of the C objects belongs to which of the K interactions.
        object_exponent: 2 as published; 0 leaves the ranking to the interaction scores.

    Returns:
        (..., N, K) in the wider of both float types, float32 at least.
    """
    kind = np.result_type(interaction_scores.dtype, object_scores.dtype, np.float32)
    fused = np.empty(interaction_scores.shape, dtype=kind)
    exact = object_exponent == 2  # power is slower, and may round otherwise
    powers = np.square(object_scores, dtype=kind) if exact else np.power(object_scores, object_exponent, dtype=kind)
    np.take(powers, vocabulary.object_ids, axis=-1, out=fused, mode="clip")  # "raise" would take a copy first
    return np.add(fused, interaction_scores, out=fused)


def training_free_enhancement(zero_shot_logits: Any, top_k: int, weight: float = 1.0) -> Any:
    """The term that CLIP's image-level scores add to the interaction scores (Eq. 17, 20).

    The ``top_k`` greatest values stay, the others become 0, and the sigmoid of all is returned:
    sigmoid(0) = 0.5, so every interaction gains 0.5 and the best ``top_k`` a little more.  That is
    how the published results were computed; the paper's text does not mention the sigmoid.

        interaction_scores + training_free_enhancement(zero_shot_logits, 10)[:, None]     # (B, N, K)

    Args:
        zero_shot_logits: (..., K) cosine of the image's global CLIP feature with each interaction
            text; numpy or torch.
        top_k: how many values stay; 0 gives 0.5 everywhere, which changes no ranking.
        weight: factor of the whole term.

    Returns:
        (..., K), of the kind and float type of the input.  Of equal values the lower index stays.
    """
    if top_k < 0:
        raise HoiError(f"the enhancement keeps a number of interactions, not {top_k}: use 0 or more")
    logits = _numpy(zero_shot_logits)
    order = np.argsort(-logits, axis=-1, kind="stable")[..., :top_k]
    kept = np.zeros_like(logits)
    np.put_along_axis(kept, order, np.take_along_axis(logits, order, axis=-1), axis=-1)
    term = (weight / (1.0 + np.exp(-kept))).astype(logits.dtype)
    return term if isinstance(zero_shot_logits, np.ndarray) else zero_shot_logits.new_tensor(term)


def rank_sweep(
    human_boxes: Any,
    object_boxes: Any,
    object_scores: Any,
    interaction_scores: Any,
    zero_shot_logits: Any,
    vocabulary: HoiVocabulary,
    zero_shot_top_ks: Sequence[int] = (0, 5, 10, 15, 20),
    *,
    top_k: int = 100,
    nms_threshold: float | None = 0.7,
    image_sizes: Sequence[ImageSize | None] | None = None,
) -> dict[int, list[Detections]]:
    """:func:`rank_batch` once for each K of the training-free enhancement (paper Table 7).

    Every K starts from the same untouched scores.

    Args:
        human_boxes, object_boxes, object_scores, interaction_scores: as in :func:`rank_batch`.
        zero_shot_logits: (B, K).
        vocabulary: as in :func:`rank_batch`.
        zero_shot_top_ks: the values of K to try; 0 is the ranking without enhancement.
        top_k, nms_threshold, image_sizes: as in :func:`rank_batch`.

    Returns:
        For each K the B Detections.
    """
    interaction_scores, zero_shot_logits = _numpy(interaction_scores), _numpy(zero_shot_logits)
    return {
        k: rank_batch(
            human_boxes,
            object_boxes,
            object_scores,
            interaction_scores + training_free_enhancement(zero_shot_logits, k)[:, None],
            vocabulary,
            top_k=top_k,
            nms_threshold=nms_threshold,
            image_sizes=image_sizes,
        )
        for k in zero_shot_top_ks
    }


def triplet_nms(
    human_boxes: np.ndarray,
    object_boxes: np.ndarray,
    group: np.ndarray,
    threshold: float = 0.7,
    alpha: float = 1.0,
    beta: float = 0.5,
) -> np.ndarray:
    """Greedy triplet NMS within groups (section 3.5).

    Going down the ranking, a pair is dropped if IoU(human)**alpha * IoU(object)**beta with a pair
    of its group that stayed is greater than ``threshold``.  Greedy NMS is the one fixed point of
    "a pair stays unless a better pair that stays suppresses it": iterating this on the list of
    suppressing pairs reaches it in as many steps as the longest chain of suppressions.

    Args:
        human_boxes, object_boxes: (M, 4) xyxy, within a group best first.
        group: (M,) integers; only pairs with equal numbers are compared.
        threshold, alpha, beta: see above.

    Returns:
        (M,) bool.
    """
    order = np.argsort(group, kind="stable")
    worse, better = _earlier_in_group(group[order])
    worse, better = order[worse], order[better]
    overlap = (
        box_iou(human_boxes[better], human_boxes[worse]) ** alpha
        * box_iou(object_boxes[better], object_boxes[worse]) ** beta
    )
    suppresses = overlap > threshold
    worse, better = worse[suppresses], better[suppresses]

    keep = np.ones(len(group), dtype=bool)
    while True:
        after = np.ones(len(group), dtype=bool)
        after[worse[keep[better]]] = False
        if np.array_equal(after, keep):
            return keep
        keep = after


def _earlier_in_group(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For sorted (M,) group numbers: rows (later, earlier) of all pairs within a group."""
    position = np.arange(len(group)) - np.searchsorted(group, group)  # how many of its group come first
    later = np.repeat(np.arange(len(group)), position)
    countdown = np.arange(len(later)) - np.repeat(np.cumsum(position) - position, position)
    return later, later - 1 - countdown


def top_k_pairs(fused: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The ``top_k`` best entries of each image, by index, ties to the lower index.

    Sorting all N*K entries of an image would cost more than everything else.  The entries are cut
    into blocks instead: the ``top_k``-th highest of the block maxima is a floor that at least
    ``top_k`` entries reach, and only the few entries on or above the floor are sorted.

    Args:
        fused: (B, N, K).
        top_k: entries per image.

    Returns:
        image, query, interaction, score: (M,) each, ascending by image, descending by score.
    """
    if top_k < 1:
        raise HoiError(f"top_k must be at least 1, not {top_k}")
    batch, queries, interactions = fused.shape
    flat = fused.reshape(batch, queries * interactions)
    if not flat.size:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing, flat.reshape(-1)[:0]
    blocks = min(4 * top_k, flat.shape[1])  # block b: entries b, b + blocks, b + 2 * blocks ...
    whole = flat.shape[1] - flat.shape[1] % blocks
    block_maxima = flat[:, :whole].reshape(batch, -1, blocks).max(axis=1)  # (B, blocks), NaN if the block has one
    if np.isnan(block_maxima).any() or np.isnan(flat[:, whole:]).any():
        raise HoiError("a score is NaN: the model's outputs cannot be ranked")
    if blocks > top_k:
        floor = np.partition(block_maxima, -top_k, axis=1)[:, -top_k]
        entry = np.flatnonzero(flat >= floor[:, None])
    else:
        entry = np.arange(flat.size)
    scores = flat.reshape(-1)[entry]
    image = entry // flat.shape[1]

    order = np.lexsort((-scores, image))  # stable: equal scores stay in the order of their index
    first = np.searchsorted(image, np.arange(batch))  # image is sorted, before and after
    best = order[np.arange(len(order)) - first[image] < top_k]
    query, hoi_ids = np.divmod(entry[best] % flat.shape[1], interactions)
    return image[best], query, hoi_ids, scores[best]


# --- what comes in ---------------------------------------------------------------------------------


def _numpy(array: Any) -> np.ndarray:
    """A float array from numpy, torch (any device, any float type) or lists."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()
    array = np.asarray(array)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)


def _check_shapes(
    human_boxes: np.ndarray,
    object_boxes: np.ndarray,
    object_scores: np.ndarray,
    interaction_scores: np.ndarray,
    vocabulary: HoiVocabulary,
) -> int:
    """The batch size B; raises HoiError where an array does not fit the others."""
    if interaction_scores.ndim != 3 or interaction_scores.shape[2] != vocabulary.num_interactions:
        raise HoiError(
            f"interaction scores have shape {interaction_scores.shape}; vocabulary {vocabulary.name!r} "
            f"needs (images, queries, {vocabulary.num_interactions})"
        )
    batch, queries, _ = interaction_scores.shape
    classes = len(vocabulary.objects)
    if object_scores.shape not in ((batch, queries, classes), (batch, queries, classes + 1)):
        raise HoiError(
            f"object scores have shape {object_scores.shape}; vocabulary {vocabulary.name!r} "
            f"needs ({batch}, {queries}, {classes}) or one column more"
        )
    for name, boxes in (("human", human_boxes), ("object", object_boxes)):
        if boxes.shape != (batch, queries, 4):
            raise HoiError(f"{name} boxes have shape {boxes.shape}, expected ({batch}, {queries}, 4)")
    return batch
