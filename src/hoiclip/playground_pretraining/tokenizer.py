"""The mini CLIP's tokenizer: one token per word, built from the sentences it will read."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, START, END = "<|pad|>", "<|unknown|>", "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(texts: Iterable[str], max_length: int = 16) -> PreTrainedTokenizerFast:
    """A tokenizer that knows the words of ``texts`` and maps all others to the unknown token.

    The end token has the highest id: where ``eos_token_id`` is 2, transformers' CLIP pools at the
    highest id of a sentence.

    Args:
        texts: sentences.
        max_length: longest sentence in tokens, start and end included.
    """
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    vocabulary = {token: i for i, token in enumerate([PAD, UNKNOWN, START, *words, END])}
    core = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        model_max_length=max_length,
    )
