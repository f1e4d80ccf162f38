"""Classifiers made of words: CLIP's text tower turns sentences into rows (paper section 3.4)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPModel
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import cached_file

from hoiclip.errors import HoiError, first_line
from hoiclip.hub import is_hub_id, prepare
from hoiclip.vocabulary import HoiVocabulary

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
TOKENIZER_FORMS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # one of these is whole
QUIET = ("gated_repo", "missing_entries", "connection_errors")  # where transformers need not raise


class TextEmbedder:
    """Sentences to unit-length rows; each sentence is embedded once and kept.

    Args:
        tokenizer: CLIP's tokenizer, or the folder or hub id it is loaded from at first use.
        fallback: folder or hub id to use where ``tokenizer`` is a hub id that holds none.
    """

    def __init__(self, tokenizer: Any, fallback: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._fallback = fallback
        named = isinstance(tokenizer, (str, Path))
        self._origin = str(tokenizer if named else getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        self._rows: dict[str, Tensor] = {}
        self._ids: dict[str, tuple[int, ...]] = {}

    @classmethod
    def beside(cls, source: str, fallback: str) -> TextEmbedder:
        """The tokenizer saved in a model folder or under its hub id, or ``fallback`` where there is none."""
        if is_hub_id(source):  # looked for when it is needed
            return cls(source, fallback)
        has_own = any(os.path.exists(Path(source) / name) for name in ("tokenizer.json", "merges.txt"))
        return cls(source if has_own else fallback)

    @property
    def tokenizer(self) -> Any:
        """Loaded when first needed.

        Raises:
            HoiError: if it cannot be found or fetched, or the folder holds none.
        """
        if isinstance(self._tokenizer, (str, Path)):
            source = str(self._tokenizer)
            if self._fallback is not None and not _has_tokenizer(source):
                source = self._origin = self._fallback
            self._tokenizer = _load_tokenizer(source)
        return self._tokenizer

    def check(self, sentences: Iterable[str], text_config: Any = None) -> None:
        """Make sure that the tokenizer tells the sentences apart, and that CLIP's text tower can read them.

        Args:
            sentences: those of one vocabulary.
            text_config: sizes of the text tower; None compares the sentences only.

        Raises:
            HoiError: if there is no tokenizer, two different sentences have the same ids, or a
                sentence is too long or ends in another way than the tower expects.
        """
        sentences = list(dict.fromkeys(sentences))
        new = [s for s in sentences if s not in self._ids]
        if new:
            self._ids.update(zip(new, map(tuple, self.tokenizer(new)["input_ids"]), strict=True))
        known: dict[tuple[int, ...], str] = {}
        for sentence in sentences:
            ids = self._ids[sentence]
            if text_config is not None:
                self._check_ids(sentence, ids, text_config)
            same = known.setdefault(ids, sentence)
            if same != sentence:
                raise HoiError(
                    f"{self._origin}: this tokenizer cannot tell {same!r} from {sentence!r} (it does not know the "
                    "words); use the tokenizer that belongs to this CLIP, or words that it knows"
                )

    def _check_ids(self, sentence: str, ids: tuple[int, ...], text_config: Any) -> None:
        longest = text_config.max_position_embeddings
        if len(ids) > longest:
            raise HoiError(
                f"the sentence {sentence!r} has {len(ids)} tokens, {len(ids) - longest} more than the {longest} that "
                "this CLIP's text tower reads; shorten it"
            )
        if not ids or max(ids) >= text_config.vocab_size:
            raise HoiError(
                f"{self._origin}: this tokenizer does not belong to this CLIP, whose text tower knows "
                f"{text_config.vocab_size} tokens; give the one that does"
            )
        end = text_config.eos_token_id
        ends_well = ids[-1] == max(ids) if end == 2 else end is None or end in ids  # 2: as OpenAI's configs say it
        if not ends_well:
            raise HoiError(
                f"{self._origin}: this tokenizer does not end sentences with the token that this CLIP reads them by; "
                "give the one that belongs to it"
            )

    @torch.no_grad()
    def __call__(self, clip: CLIPModel, sentences: Sequence[str], batch_size: int = 128) -> Tensor:
        """Rows of unit length, (sentences, D) float32 on the CPU, in the order given (Eq. 1).

        Raises:
            HoiError: as :meth:`check`.
        """
        self.check(sentences, clip.config.text_config)
        new = [s for s in dict.fromkeys(sentences) if s not in self._rows]
        device = clip.logit_scale.device
        for start in range(0, len(new), batch_size):
            batch = new[start : start + batch_size]
            tokens = self.tokenizer(batch, padding=True, return_tensors="pt")
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
        elif os.path.isdir(self._tokenizer) and Path(self._tokenizer).resolve() != Path(folder).resolve():
            self.tokenizer.save_pretrained(folder)


def _load_tokenizer(source: str) -> Any:
    advice = "put tokenizer.json beside the model, or name a folder that holds one"
    if os.path.isdir(source) and not _has_tokenizer(source):  # transformers would make one up, without words
        raise HoiError(f"{source}: holds no tokenizer (tokenizer.json, or vocab.json and merges.txt); {advice}")
    if os.path.isfile(source):
        raise HoiError(f"{source}: is a file, not the folder of a tokenizer; give the folder")
    reason = prepare(source, TOKENIZER_FILES)
    if reason is None and is_hub_id(source) and not _has_tokenizer(source):
        reason = "there is none, or no such model"
    if reason is None:
        try:
            return _own_tokenizer(source)
        except HoiError:
            raise
        except Exception as error:  # the hub client and tokenizers raise many kinds
            reason = first_line(error)
    raise HoiError(f"{source}: no CLIP tokenizer can be loaded from there ({reason}); {advice}")


def _own_tokenizer(source: str) -> Any:
    """The tokenizer as its files say; code beside them is never run.

    Raises:
        HoiError: if it is code.
        Exception: of many kinds, if it cannot be read.
    """
    if "auto_map" in get_tokenizer_config(source):
        raise HoiError(
            f"{source}: its tokenizer wants to run code of its own (auto_map in tokenizer_config.json), which is never "
            "done; give CLIP's tokenizer"
        )
    return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def _has_tokenizer(source: str) -> bool:
    """Whether a folder or hub id holds the files of a tokenizer."""
    if not is_hub_id(source):
        folder = Path(source)
        return any(all(os.path.isfile(folder / name) for name in names) for names in TOKENIZER_FORMS)
    if prepare(source, TOKENIZER_FILES) is not None:
        return False
    quiet: Any = dict.fromkeys([f"_raise_exceptions_for_{what}" for what in QUIET], False)
    try:
        return any(cached_file(source, name, **quiet) is not None for name in TOKENIZER_FILES)
    except (OSError, ValueError):
        return False


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
