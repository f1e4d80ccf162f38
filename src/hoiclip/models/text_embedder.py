"""Classifiers made of words: CLIP's text tower turns sentences into rows (paper section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPModel

from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary


class TextEmbedder:
    """Sentences to unit-length rows; each sentence is embedded once and kept.

    Args:
        tokenizer: CLIP's tokenizer, or the folder or hub id it is loaded from at first use.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._rows: dict[str, Tensor] = {}

    @classmethod
    def beside(cls, folder: str, fallback: str) -> TextEmbedder:
        """The tokenizer saved in a model folder, or ``fallback`` where there is none."""
        has_own = any((Path(folder) / name).exists() for name in ("tokenizer.json", "merges.txt"))
        return cls(folder if has_own else fallback)

    @property
    def tokenizer(self) -> Any:
        """Loaded when first needed.

        Raises:
            HoiError: if it cannot be found or fetched.
        """
        if isinstance(self._tokenizer, (str, Path)):
            source = str(self._tokenizer)
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(source)
            except Exception as error:  # the hub client raises many kinds
                raise HoiError(
                    f"{source}: no CLIP tokenizer can be loaded from there; put tokenizer.json beside the model, "
                    "or name a folder that holds one"
                ) from error
        return self._tokenizer

    @torch.no_grad()
    def __call__(self, clip: CLIPModel, sentences: Sequence[str], batch_size: int = 128) -> Tensor:
        """Rows of unit length, (sentences, D) float32 on the CPU, in the order given (Eq. 1)."""
        new = [s for s in dict.fromkeys(sentences) if s not in self._rows]
        device = clip.logit_scale.device
        for start in range(0, len(new), batch_size):
            batch = new[start : start + batch_size]
            longest = clip.config.text_config.max_position_embeddings
            tokens = self.tokenizer(batch, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            features = clip.get_text_features(
                input_ids=tokens["input_ids"].to(device), attention_mask=tokens["attention_mask"].to(device)
            ).pooler_output
            rows = nn.functional.normalize(features.float(), dim=-1).cpu()
            self._rows.update(zip(batch, rows, strict=True))
        return torch.stack([self._rows[s] for s in sentences])

    def save_tokenizer(self, folder: str | Path) -> None:
        """Write the tokenizer's files, if it has been loaded."""
        if not isinstance(self._tokenizer, (str, Path)):
            self._tokenizer.save_pretrained(folder)
        elif Path(self._tokenizer).is_dir() and Path(self._tokenizer).resolve() != Path(folder).resolve():
            self.tokenizer.save_pretrained(folder)


def verb_directions(interactions: Tensor, objects: Tensor, vocabulary: HoiVocabulary) -> Tensor:
    """Semantic arithmetic (Eq. 14): what the interactions of a verb add to their objects.

    Args:
        interactions: (K, D) unit rows, one for each interaction.
        objects: (C or C + 1, D) unit rows, one for each object.
        vocabulary: which interaction is which verb and object.

    Returns:
        (V, D) unit rows; zero for a verb without any interaction.
    """
    difference = interactions - objects[torch.from_numpy(np.ascontiguousarray(vocabulary.object_ids))]  # (K, D)
    total = torch.from_numpy(vocabulary.verb_to_interaction).to(difference) @ difference  # (V, D)
    return nn.functional.normalize(total, dim=-1)
