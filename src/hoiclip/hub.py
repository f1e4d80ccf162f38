"""The hub of models: whether it can be reached, a model's files fetched from it, and files pushed to it.

huggingface_hub tries again for minutes when it cannot reach the hub.  Here it is asked once, briefly;
without an answer what its cache holds is used, and what it does not hold is told at once.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hoiclip.errors import HoiError, first_line

PATIENCE = 3.0  # seconds in which the hub must answer
FORGET_AFTER = 60.0  # seconds after which the question is asked again
#: what a model or an exported graph is loaded from; a repository may hold checkpoints and pictures beside it
LOADED = ("*.json", "*.safetensors", "merges.txt", "model.xml", "model.bin", "model.onnx*")
#: keywords by which transformers' from_pretrained finds files of the hub
HUB_OPTIONS = ("revision", "token", "cache_dir", "force_download", "local_files_only")

OFFLINE = "HOICLIP_OFFLINE"  # in the environment; --offline sets it

_answers: dict[str, tuple[bool, float]] = {}  # by endpoint: reached, and when


# --- may it be asked ---------------------------------------------------------------------------------


def offline() -> str | None:
    """Why nothing may be fetched over the network; None if it may."""
    for name, told in ((OFFLINE, f"--offline or {OFFLINE} forbids"), ("HF_HUB_OFFLINE", "HF_HUB_OFFLINE forbids")):
        if os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE"):
            return f"{told} fetching it"
    return None


@contextmanager
def without_network() -> Iterator[None]:
    """Ask no network in this block, in this process and in those it starts."""
    before = os.environ.get(OFFLINE, "")
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        os.environ[OFFLINE] = before  # empty is the same as none


# --- is it there -------------------------------------------------------------------------------------


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
    from huggingface_hub import try_to_load_from_cache

    unreached = _why_unreached()
    if unreached is None:
        return None
    reason = f"{unreached}, and its cache does not hold it" + (f" at revision {revision}" if revision else "")
    try:
        held = [try_to_load_from_cache(str(source), file, revision=revision) for file in files]
    except ValueError:  # not even the form of an id
        return reason
    return None if any(isinstance(path, str) for path in held) else reason


def _why_unreached() -> str | None:
    """Why the hub is not asked; None if it answers.  Without an answer huggingface_hub does not try either."""
    from huggingface_hub import constants

    if os.environ.get(OFFLINE) and offline() is not None:
        if not constants.HF_HUB_OFFLINE:
            constants.HF_HUB_OFFLINE = True
            _answers[constants.ENDPOINT] = False, -math.inf  # asked as soon as this is over
        return f"--offline or {OFFLINE} is set"
    if constants.HF_HUB_OFFLINE and constants.ENDPOINT not in _answers:
        return "HF_HUB_OFFLINE is set"
    constants.HF_HUB_OFFLINE = not _reached(constants.ENDPOINT)
    return f"the hub ({constants.ENDPOINT}) cannot be reached" if constants.HF_HUB_OFFLINE else None


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


# --- from the hub ------------------------------------------------------------------------------------


def local_folder(
    source: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    *,
    files: Sequence[str] = LOADED,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> str:
    """The folder of a model: ``source`` itself, or for a hub id its files of one commit, in the hub's cache.

    Whoever reads the files then needs no revision and no token, and all of them belong together.

    Args:
        source: a folder, or a hub id.
        revision: branch, tag or commit of the hub id; its main branch by default.
        token: of an account that may read it; by default the one of ``hf auth login`` or ``HF_TOKEN``.
        files: patterns of those to fetch.
        cache_dir: another cache than the hub's usual one.
        options: ``force_download`` and ``local_files_only`` of huggingface_hub.

    Raises:
        HoiError: no such model or revision, a token that may not read it, or no network and not in the cache.
    """
    if not is_hub_id(source):
        if revision is not None:
            raise HoiError(
                f"revision {revision}: {source} is a folder of this machine and has no revisions; leave it out"
            )
        return str(source)
    from huggingface_hub import HfApi, constants, snapshot_download

    name = str(source)
    options = {**options, "revision": revision, "token": token, "cache_dir": cache_dir}
    options |= {"allow_patterns": list(files), "ignore_patterns": ["*/*"]}
    with telling(name, token, revision):
        unreached = _why_unreached()
        if unreached is None and not options.get("local_files_only"):
            # the download itself would answer a refusal with what an old cache holds
            HfApi(token=token).model_info(name, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return snapshot_download(name, **options)
        return snapshot_download(name, **{**options, "local_files_only": True})


def take_folder(source: str | Path, keywords: dict[str, Any], files: Sequence[str] = LOADED) -> str:
    """:func:`local_folder` for a from_pretrained; takes transformers' :data:`HUB_OPTIONS` out of ``keywords``."""
    options = {name: keywords.pop(name) for name in HUB_OPTIONS if name in keywords}
    return local_folder(source, files=files, **options) if is_hub_id(source) else str(source)


@contextmanager
def telling(name: str, token: str | bool | None = None, revision: str | None = None) -> Iterator[None]:
    """Turn what the hub's client raises into one sentence: what is wrong and what to do.

    Args:
        name: the hub id.
        token, revision: what it is asked with.
    """
    from huggingface_hub import errors

    try:
        yield
    except HoiError:
        raise
    except errors.HFValidationError as error:
        raise HoiError(
            f"{name}: is no folder here, and no id of the hub ({first_line(error).rstrip('.')}); "
            "give a folder, or owner/name"
        ) from error
    except errors.IncompleteSnapshotError as error:
        raise HoiError(
            f"{name}: its download broke off, and the hub cannot be asked for the rest ({_why_unreached()}); "
            "load it once more with a network"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        at = f" at revision {revision}" if revision else ""
        reason = f"{_why_unreached() or 'the hub is not asked'}, and its cache does not hold it{at}"
        raise HoiError(f"{name}: no folder of this name, and no model of the hub: {reason}; give a folder") from error
    except errors.HfHubHTTPError as error:
        raise HoiError(f"{name}: {_refusal(error, name, token, revision)}") from error
    except Exception as error:  # of the client, its transport and threads, for many reasons
        reason = first_line(error.__cause__ or error)
        if isinstance(token, str):
            reason = reason.replace(token, "(token)")
        raise HoiError(f"{name}: the exchange with the hub broke off ({reason}); run it again") from error


def _refusal(error: Any, name: str, token: str | bool | None, revision: str | None) -> str:
    """What an answer of the hub means, and what to do about it."""
    from huggingface_hub import constants, errors, get_token

    given = token if token is not None else get_token()
    status = error.response.status_code
    if isinstance(error, errors.RevisionNotFoundError):
        place = f"{constants.ENDPOINT}/{name}/tree/main"
        return f"the hub has this model, but no branch, tag or commit {revision!r} of it; {place} lists them"
    if isinstance(error, errors.GatedRepoError):
        return f"its owner wants to be asked first: ask at {constants.ENDPOINT}/{name}, then give your token (HF_TOKEN)"
    if status == 401 and given and not isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub does not accept this token; make a new one at {constants.ENDPOINT}/settings/tokens"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        if given:
            return "the hub has no such model, or this token may not see it; check the name, or give another token"
        return "the hub has no such model, or it is private; check the name, or give a token (HF_TOKEN or --token)"
    if status == 403:
        return "the hub forbids it to this token; give one of an account that may, with the rights for it"
    if status >= 500:
        return f"the hub answers with error {status}; try again later, or with HF_HUB_OFFLINE=1 to use its cache"
    return f"the hub refuses this with error {status} ({error.server_message or first_line(error)}); ask for another"


# --- to the hub --------------------------------------------------------------------------------------


def hub_keywords(folder: str | Path, keywords: dict[str, Any]) -> dict[str, Any] | None:
    """Those of ``save_pretrained(folder, push_to_hub=True, ...)`` that are meant for ``push_to_hub``, taken out.

    transformers would push while the rest is still to be written.  None where nothing is to be pushed.
    """
    if not (keywords.pop("push_to_hub", False) and keywords.get("is_main_process", True)):
        return None
    names = ("repo_id", "commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")
    given = {name: keywords.pop(name) for name in names if name in keywords}
    return {"repo_id": Path(folder).name, **given}


def push_files(
    files: Mapping[str, Path],
    repository: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload model",
) -> str:
    """Make the model of a repository these files, in one commit; the repository is made if there is none.

    What a load would read of an earlier model, and these files do not replace, is deleted in the same
    commit; other files stay.  A push that breaks off leaves the repository's branches as they were.

    Args:
        files: name in the repository -> file.
        repository: ``owner/name``.
        private: seen by its owner only; None leaves it to the owner's settings, or as it is.
        token: one that may write; by default that of ``hf auth login`` or ``HF_TOKEN``.
        revision: branch to push to, made if there is none; ``main`` by default.
        message: of the commit.

    Returns:
        Address of the commit.

    Raises:
        HoiError: no token, one that may not write, no network, or a repository that is public against ``private``.
    """
    from huggingface_hub import HfApi, constants, get_token

    if repository.count("/") != 1:
        raise HoiError(f"{repository}: is no id of the hub; give owner/name")
    unreached = _why_unreached()
    if unreached is not None:
        raise HoiError(f"{repository}: cannot be pushed to: {unreached}; try again with a network")
    if not (token or get_token()):
        raise HoiError(
            f"{repository}: pushing needs a token that may write ({constants.ENDPOINT}/settings/tokens): "
            "set HF_TOKEN, log in by 'hf auth login', or give --token"
        )
    with telling(repository, token, revision):
        api = HfApi(token=token)
        api.create_repo(repository, private=private, exist_ok=True)
        if private and api.model_info(repository).private is False:  # the hub would leave it public, silently
            raise HoiError(
                f"{repository}: exists already and is public, so nothing was pushed; "
                "make it private on the hub, or choose another name"
            )
        if revision not in (None, constants.DEFAULT_REVISION):
            api.create_branch(repository, branch=revision, exist_ok=True)
        operations = _operations(files, api.list_repo_files(repository, revision=revision))
        try:
            commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
        except ValueError as error:  # of the card's header
            raise HoiError(f"{repository}: the hub refuses what it is sent ({' '.join(str(error).split())})") from error
    return str(commit.commit_url)


def _operations(files: Mapping[str, Path], held: Sequence[str]) -> list[Any]:
    """Add ``files``, and delete what a load would read of the files that the repository holds beside them."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    stale = [name for name in held if "/" not in name and name not in files and any(fnmatch(name, p) for p in LOADED)]
    additions: list[Any] = [CommitOperationAdd(name, file) for name, file in files.items()]
    return [*additions, *(CommitOperationDelete(name) for name in stale)]
