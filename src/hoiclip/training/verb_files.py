"""Verb vectors on disk: ours, and the authors' published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hoiclip.checkpoints.reading import read_tensor
from hoiclip.errors import HoiError
from hoiclip.files import atomic_path
from hoiclip.models.modeling import HoiClipModel
from hoiclip.vocabulary import HoiVocabulary


def save_verbs(
    path: str | Path, rows: Tensor, seen: Tensor, vocabulary: HoiVocabulary, provenance: dict[str, Any]
) -> None:
    """Write verb vectors and where they come from.

    Args:
        path: ``.safetensors``.
        rows: (V, D); stored as float32.
        seen: (V,) which verbs were seen.
        vocabulary: whose verbs.
        provenance: plain values: method, source, data set, CLIP, number of images and regions.
    """
    metadata = {"verbs": json.dumps(vocabulary.verbs), "provenance": json.dumps(provenance)}
    with atomic_path(path) as temporary:
        save_file({"verbs": rows.float().contiguous(), "seen": seen.contiguous()}, temporary, metadata=metadata)
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Give equal runs equal files: safetensors writes its metadata in another order each time."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")  # of the header, padded with spaces
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    padded = header.encode().ljust(length)
    assert len(padded) == length
    path.write_bytes(content[:8] + padded + content[8 + length :])


def read_verbs(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The vectors of the verbs that were seen, by name, and their provenance.

    Raises:
        HoiError: if the file is missing or was not written by :func:`save_verbs`.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            rows, seen = file.get_tensor("verbs"), file.get_tensor("seen")
        names = json.loads(metadata["verbs"])
        return {n: r for n, r, s in zip(names, rows, seen.tolist(), strict=True) if s}, json.loads(
            metadata["provenance"]
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise HoiError(f"{path}: holds no verb vectors; make them with `hoiclip verbs`") from error


def read_published_verbs(
    path: str | Path, vocabulary: HoiVocabulary, *, keep_lengths: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The vectors of the authors' ``.pth`` file, by name, and where they come from.

    Args:
        path: a tensor (V, D), one row for each verb of the published vocabulary, in its order.
        vocabulary: whose verbs.
        keep_lengths: leave the rows as they are.  V-COCO's published rows are 0.4 to 20.4 long; Eq. 14
            makes them unit length.

    Raises:
        HoiError: if the file holds no tensor of that shape.
    """
    rows = read_tensor(path).float()
    if rows.ndim != 2 or len(rows) != len(vocabulary.verbs):
        raise HoiError(
            f"{path}: holds a tensor of shape {tuple(rows.shape)}, not one row for each of the "
            f"{len(vocabulary.verbs)} verbs of {vocabulary.name!r}"
        )
    if not rows.isfinite().all() or not rows.norm(dim=-1).all():
        raise HoiError(f"{path}: has rows that are zero or not finite; download it again")
    if not keep_lengths:
        rows = nn.functional.normalize(rows, dim=-1)
    provenance = {"source": "published file", "rows": "as in the file" if keep_lengths else "unit length"}
    return dict(zip(vocabulary.verbs, rows, strict=True)), provenance


def cosines(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    """Cosine between the vectors of each verb that both have."""
    return {
        verb: float(nn.functional.cosine_similarity(one[verb].double(), other[verb].double(), dim=0))
        for verb in one
        if verb in other
    }


@torch.no_grad()
def load_verbs(model: HoiClipModel, path: str | Path, *, keep_lengths: bool = False) -> dict[str, Any]:
    """Set the verb classifier of a model; verbs that the file does not know keep their row.

    Args:
        model: with a verb classifier.
        path: written by :func:`save_verbs`, or the authors' ``.pth``.
        keep_lengths: of the authors' file, see :func:`read_published_verbs`.

    Returns:
        The file's provenance.

    Raises:
        HoiError: if the model scores no verbs, or the file does not fit it.
    """
    if model.verbs is None or model.vocabulary is None:
        raise HoiError("this model has no verb classifier; set model.verb_classifier")
    published = Path(path).suffix in (".pth", ".pt")
    if published:
        rows, provenance = read_published_verbs(path, model.vocabulary, keep_lengths=keep_lengths)
    else:
        rows, provenance = read_verbs(path)
    known = [(i, rows[verb]) for i, verb in enumerate(model.vocabulary.verbs) if verb in rows]
    width = model.verbs.weight.shape[1]
    if not known or len(known[0][1]) != width:
        raise HoiError(f"{path}: its verb vectors do not fit this model (other verbs, or not {width} wide)")
    for i, row in known:
        model.verbs.weight[i] = row.to(model.verbs.weight)
    return provenance
