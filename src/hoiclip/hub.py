"""The hub of models, where there is a network and where there is none.

huggingface_hub tries again for minutes when it cannot reach the hub.  Here it is asked once, briefly;
without an answer what its cache holds is used, and what it does not hold is told at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE = 3.0  # seconds in which the hub must answer
FORGET_AFTER = 60.0  # seconds after which the question is asked again

_answers: dict[str, tuple[bool, float]] = {}  # by endpoint: reached, and when


def is_hub_id(source: str | Path) -> bool:
    """Whether ``source`` can only be an id of the hub, ``owner/name`` or ``name``: no path of this machine."""
    text = str(source)
    return not (os.path.exists(text) or os.path.isabs(text) or text.startswith((".", "~")) or text.count("/") > 1)


def prepare(source: str | Path, files: Sequence[str] = ("config.json",), revision: str | None = None) -> str | None:
    """Make ready to read files of a hub id: without an answer of the hub its cache alone is used.

    Args:
        source: hub id; for anything else nothing is done.
        files: of which the cache must hold one where the hub cannot be reached.
        revision: of the hub id.

    Returns:
        Why nothing can be read, to be quoted in a sentence; None if something can.
    """
    if not is_hub_id(source):
        return None
    from huggingface_hub import constants, try_to_load_from_cache

    reason = "HF_HUB_OFFLINE is set, and the hub's cache does not hold it"
    if not constants.HF_HUB_OFFLINE or constants.ENDPOINT in _answers:
        reason = f"the hub ({constants.ENDPOINT}) cannot be reached, and its cache does not hold it"
        constants.HF_HUB_OFFLINE = not _reached(constants.ENDPOINT)
    if not constants.HF_HUB_OFFLINE:
        return None
    try:
        held = [try_to_load_from_cache(str(source), file, revision=revision) for file in files]
    except ValueError:  # not even the form of an id
        return reason
    return None if any(isinstance(path, str) for path in held) else reason


def _reached(endpoint: str) -> bool:
    """Whether the hub answers anything within a few seconds."""
    known = _answers.get(endpoint)
    if known is not None and time.monotonic() - known[1] < FORGET_AFTER:
        return known[0]
    answers: list[Any] = []
    # in a thread, since no timeout of a client holds for the name server
    question = threading.Thread(target=lambda: answers.append(_ask(endpoint)), daemon=True)
    question.start()
    question.join(PATIENCE + 1)
    reached = bool(answers and answers[0])
    _answers[endpoint] = reached, time.monotonic()
    return reached


def _ask(endpoint: str) -> bool:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        constants.HF_HUB_OFFLINE = False  # else the client would refuse to ask
        get_session().head(endpoint, timeout=PATIENCE)
    except Exception:  # of a client that may change, for many reasons that mean the same
        return False
    return True
