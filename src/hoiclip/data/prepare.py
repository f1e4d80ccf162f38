"""``hoiclip data prepare hicodet``: from nothing to a checked dataset.

report = prepare_hicodet("data/hicodet", archive="hico_20160224_det.tar.gz")
print(report.to_text())
"""

from __future__ import annotations

import sys
from pathlib import Path

from hoiclip.data.download import download
from hoiclip.data.hicodet import find_hicodet
from hoiclip.data.layout import find_files, find_folders
from hoiclip.data.unpacking import DamagedArchive, unpack
from hoiclip.data.validation import CheckReport, check
from hoiclip.errors import HoiError
from hoiclip.hub import offline
from hoiclip.model_zoo import ZooEntry, find_entry

ANNOTATIONS, IMAGES, SHARES = "hicodet-annotations", "hicodet-images", "hicodet-annotations-fractions"
#: the folder of the dataset that each is unpacked into
FOLDERS = {ANNOTATIONS: "annotations", IMAGES: ".", SHARES: "annotations-fractions"}


def prepare_hicodet(
    root: str | Path,
    archive: str | Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
    *,
    shares: bool = False,
    progress: bool = True,
) -> CheckReport:
    """Bring HICO-DET under ``root`` unless it is there (download, verify, unpack), then check it.

    Without ``archive`` and ``url``, what is missing of annotations and images is fetched from where
    ``hoiclip models`` says; its licence and source are told on stderr first.  Where nothing may be
    fetched and annotations are there, it is told what to put where, and those are checked.

    Args:
        root: folder for the dataset, made if it does not exist.
        archive: the release as ``.tar``, ``.tar.gz`` or ``.zip``.
        url: where to download the archive from; continues a download that was cut off.
        sha256: expected checksum of the archive.
        shares: fetch the published shares of the training annotations too (5 to 50 %).
        progress: show bars.

    Raises:
        HoiError: nothing to prepare from, a failed or wrong download, an archive that is damaged or
            wants to write outside ``root``, or no HICO-DET inside.  Nothing half-written stays, save
            the ``.part`` file of a download that can be continued; a downloaded archive that turns out
            to be damaged is removed.
    """
    root = Path(root)
    if (archive is not None or url is not None) and not _there(root):
        if url is not None:
            archive, sha256 = download(url, root, sha256=sha256, progress=progress), None
        assert archive is not None
        try:
            unpack(archive, root, sha256=sha256, progress=progress)
        except DamagedArchive as error:
            if url is None:
                raise
            Path(archive).unlink(missing_ok=True)
            raise HoiError(f"{error}: it was removed, so the same command begins anew") from error
    elif archive is None and url is None:
        for entry in _missing(root, shares):
            _fetch(entry, root, progress)
    return check(find_hicodet(root).root)


def _missing(root: Path, shares: bool) -> list[ZooEntry]:
    """What ``root`` lacks and may be fetched.

    Raises:
        HoiError: it may not, and there is nothing to check.
    """
    folders = find_folders(root, {"train2015", "test2015"}) if root.is_dir() else {}
    files = find_files(root, {"trainval_hico_5%.json"}) if root.is_dir() else {}
    lacking = {ANNOTATIONS: not _there(root), IMAGES: len(folders) < 2, SHARES: shares and not files}
    entries = [find_entry(name) for name, lacks in lacking.items() if lacks]
    for name in FOLDERS.keys() - {entry.name for entry in entries}:
        (root / _archive(name)).unlink(missing_ok=True)  # of a process that was killed when it was just unpacked
    forbidden = offline()
    if forbidden is None or not entries:
        return entries
    ways = "; ".join(f"{e.address} ({e.figures}) unpacked into {root / FOLDERS[e.name]}" for e in entries)
    if lacking[ANNOTATIONS]:
        raise HoiError(
            f"{root}: holds no HICO-DET yet, and {forbidden}; give --archive FILE or --url URL of the release, "
            f"or put into place by hand: {ways}"
        )
    print(f"hoiclip: {root}: lacks {ways}; {forbidden}", file=sys.stderr)
    return []


def _fetch(entry: ZooEntry, root: Path, progress: bool) -> None:
    folder = FOLDERS[entry.name]
    print(
        f"hoiclip: fetching {entry.name}: {entry.figures}\n  from {entry.address} ({entry.page})\n"
        f"  licence: {entry.licence}; interrupt now if you do not agree to it",
        file=sys.stderr,
        flush=True,
    )
    try:
        archive = download(entry.address, root, name=_archive(entry.name), progress=progress)
    except HoiError as error:
        raise HoiError(f"{error}; or unpack a copy downloaded by hand into {root / folder}") from error
    try:
        unpack(archive, root / folder, progress=progress)
    except DamagedArchive as error:
        archive.unlink(missing_ok=True)
        raise HoiError(f"{error}: it was removed, so the same command begins anew") from error
    archive.unlink(missing_ok=True)


def _archive(name: str) -> str:
    """How a download is called while it is here: nobody's own copy has that name."""
    return f"{name}.archive"


def _there(root: Path) -> bool:
    try:
        find_hicodet(root)
    except HoiError:
        return False
    return True
