"""Models by name: fetched once, checked, converted into the cache, and from then on a folder as any other.

    hoiclip.load("dp-hoi-hicodet")

The download goes on where it was cut off, and is removed when the model is complete.  A model takes
its place in the cache by one renaming, so a killed process leaves none that is half made.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hoiclip.data.download import download
from hoiclip.errors import HoiError
from hoiclip.files import UNFINISHED, held_temporary, one_at_a_time, sweep
from hoiclip.hub import is_hub_id, local_folder, offline
from hoiclip.model_zoo import DATA, DETECTING, START, ZooEntry, cache_home, did_you_mean, entry_named

ORIGIN_FILE = "origin.json"  # in the folder of a model: where it comes from


def model_by_name(source: str | Path) -> str:
    """The folder of the model that ``source`` names, fetched if it is not in the cache; else ``source`` itself.

    Raises:
        HoiError: the name is not one of a trained model, or as :func:`fetch`.
    """
    entry = entry_named(source)
    if entry is None:
        return str(source)
    if entry.kind not in DETECTING:
        what = {
            START: "is a start for training; give it as --model.detr",
            DATA: "is data; 'hoiclip data prepare hicodet' fetches it",
        }
        raise HoiError(f"{source}: {what.get(entry.kind, 'is put together where it is used and has no folder')}")
    return str(fetch(entry))


def find_folder(source: str | Path, revision: str | None = None, token: str | None = None) -> str:
    """The folder ``source``, that of a model by name, or of a hub id's files in the hub's cache.

    See :func:`model_by_name` and :func:`hoiclip.hub.local_folder`.

    Raises:
        HoiError: if it is neither a folder nor a name nor a hub id that can be read, or is in a cache.
    """
    source = model_by_name(source)
    if not os.path.isdir(source) and not (is_hub_id(source) and str(source).count("/") == 1):
        raise HoiError(
            f"{source}: no such model folder; give one that hoiclip wrote, or a hub id owner/name{did_you_mean(source)}"
        )
    return local_folder(source, revision, token)


@contextmanager
def called(source: str | Path, folder: str) -> Iterator[None]:
    """Let complaints about a ``folder`` of the hub's cache name what the user gave instead."""
    try:
        yield
    except HoiError as error:
        if folder == str(source) or folder not in str(error):
            raise
        raise HoiError(str(error).replace(folder, str(source))) from error


def detr_by_name(source: str | Path) -> str:
    """The file of the start for training that ``source`` names, fetched if need be; else ``source`` itself.

    Raises:
        HoiError: the name is of something else, or as :func:`fetch`.
    """
    entry = entry_named(source)
    if entry is None or entry.name == "playground":  # a part of that name is shipped
        return str(source)
    if entry.kind != START:
        way_out = "; give it as --model.start" if entry.kind in DETECTING else ""
        raise HoiError(f"{source}: is no DETR to start from{way_out}")
    return str(fetch(entry))


def fetch(entry: ZooEntry, *, progress: bool = True) -> Path:
    """What the cache holds of an entry that is a model; where it holds nothing, it is downloaded and converted.

    Of several processes one does it, the others wait.

    Returns:
        The model folder, or the ``.pth`` file of a start for training.

    Raises:
        HoiError: no network, or it may not be used; a refusal of the server; another file than it should
            be, which is removed.  Each says how to put a file that was downloaded by hand into place.
    """
    downloads = cache_home() / "downloads"
    file = downloads / f"{entry.name}.pth"
    found = entry.cached()
    if found is not None:
        with suppress(OSError):  # of a process that was killed when the model was just complete
            file.unlink(missing_ok=True)
        return found
    by_hand = f"by hand: open {entry.address} in a browser, then hoiclip models {entry.name} --file FILE"
    forbidden = offline()
    if forbidden is not None and not file.is_file():
        raise HoiError(f"{entry.name}: is not in the cache ({cache_home()}), and {forbidden}; {by_hand}")
    with one_at_a_time(_lock(entry), f"{entry.name}: another process is fetching it; waiting"):
        found = entry.cached()
        if found is not None:
            return found
        _announce(entry)
        try:
            download(entry.address, downloads, name=file.name, progress=progress)
        except HoiError as error:
            raise HoiError(f"{error}; or {by_hand}") from error
        try:
            _refuse_damaged(file)
            placed = _place(entry, file)
        except _WrongFileError as error:
            file.unlink(missing_ok=True)
            raise HoiError(
                f"{entry.name}: what was downloaded is not this model and was removed: {error}; or {by_hand}"
            ) from error
        file.unlink(missing_ok=True)
        print(f"hoiclip: {entry.name} is in the cache now: {placed}", file=sys.stderr, flush=True)
    return placed


def take_file(entry: ZooEntry, file: str | Path) -> Path:
    """Check a file that was downloaded by hand and convert it into the cache, as :func:`fetch` does.

    The file stays; what the cache held under the name is replaced.

    Raises:
        HoiError: the entry has no file, there is no such file, or it is another one than it should be.
    """
    if entry.kind not in (*DETECTING, START) or entry.address == "-":
        way_out = "hoiclip data prepare hicodet --archive FILE" if entry.kind == DATA else "leave --file out"
        raise HoiError(f"{entry.name}: is no model that comes as a file; {way_out}")
    if not Path(file).is_file():
        raise HoiError(f"{file}: no such file; give the one downloaded from {entry.address}")
    with one_at_a_time(_lock(entry), f"{entry.name}: another process is fetching it; waiting"):
        placed = _place(entry, Path(file))
    for left in (cache_home() / "downloads").glob(f"{entry.name}.pth*"):  # of a download that is no longer needed
        if not left.samefile(file):
            left.unlink(missing_ok=True)
    return placed


def _lock(entry: ZooEntry) -> Path:
    return cache_home() / "downloads" / f"{entry.name}.lock"


def _announce(entry: ZooEntry) -> None:
    print(
        f"hoiclip: fetching {entry.name} once, into {cache_home()}\n"
        f"  from {entry.address} ({entry.page})\n"
        f"  licence: {entry.licence}; published: {entry.figures}",
        file=sys.stderr,
        flush=True,
    )


class _WrongFileError(HoiError):
    """A file that is not what its name says."""


def _refuse_damaged(file: Path) -> None:
    """PyTorch does not compare the checksums in its archives; after a download in several parts it is worth a second.

    Raises:
        HoiError: one is wrong.
    """
    if not zipfile.is_zipfile(file):
        return  # the older form has none, and refuses a cut-off file by itself
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise _WrongFileError(f"{file}: is damaged ({error}); fetch it again") from error
    if damaged is not None:
        raise _WrongFileError(f"{file}: is damaged ({damaged}); fetch it again")


def _place(entry: ZooEntry, file: Path) -> Path:
    """Make the folder of an entry from its file; it takes its place when it is complete."""
    models = entry.place.parent
    try:
        models.mkdir(parents=True, exist_ok=True)
        sweep(models, UNFINISHED)
        with held_temporary(models, UNFINISHED, folder=True) as room:
            fresh = room / "fresh"
            fresh.mkdir()
            _convert(entry, file, fresh)
            origin = {"name": entry.name, "address": entry.address, "page": entry.page, "licence": entry.licence}
            (fresh / ORIGIN_FILE).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
            if entry.place.exists():
                entry.place.rename(room / "old")
            fresh.rename(entry.place)
    except OSError as error:
        raise HoiError(
            f"{entry.place}: cannot be written ({error.strerror or error}); free some space, or name another folder "
            "by HOICLIP_HOME"
        ) from error
    found = entry.cached()
    assert found is not None
    return found


def _convert(entry: ZooEntry, file: Path, folder: Path) -> None:
    """Read a file as what its entry says, and write it into a folder.

    Raises:
        _WrongFileError: it is something else.
        HoiError: it cannot be written.
    """
    from hoiclip.checkpoints.convert import convert_gen_vlkt, convert_hoiclip  # heavy, and above: they know names
    from hoiclip.checkpoints.folders import save_model
    from hoiclip.checkpoints.initialise import load_detr

    print(f"hoiclip: {entry.name}: checking and converting {file}", file=sys.stderr, flush=True)
    try:
        if entry.kind == START:
            _, detector = load_detr(file.absolute())
            _check_sizes(entry, file, detector)
        else:
            convert = convert_hoiclip if entry.kind == "hoiclip" else convert_gen_vlkt
            model = convert(file, entry.vocabulary)
            _check_sizes(entry, file, model.config.detector)
    except HoiError as error:
        raise _WrongFileError(str(error)) from error
    if entry.kind == START:
        shutil.copyfile(file, folder / f"{entry.name}.pth")
    else:
        save_model(model, folder)


def _check_sizes(entry: ZooEntry, file: Path, detector: object) -> None:
    """Compare a file's backbone and decoder with the entry: other models of the same kind and vocabulary have others.

    Raises:
        HoiError: they differ.
    """
    from hoiclip.models.configuration import RESNETS

    depths, layers = list(detector.backbone_config.depths), detector.decoder_layers  # type: ignore[attr-defined]
    expected = entry.backbone.split()[0].replace("R", "resnet")
    found = next((name for name, known in RESNETS.items() if known == depths), str(depths))
    if (found, str(layers)) != (expected, entry.layers):
        raise HoiError(
            f"{file}: has a {found} and {layers} decoder layers where {entry.name} has a {expected} and "
            f"{entry.layers}; give the file of that name"
        )
