"""``hoiclip data prepare hicodet``: from nothing to a checked dataset.

report = prepare_hicodet("data/hicodet", archive="hico_20160224_det.tar.gz")
print(report.to_text())
"""

from __future__ import annotations

from pathlib import Path

from hoiclip.data.download import download
from hoiclip.data.hicodet import find_hicodet
from hoiclip.data.unpacking import DamagedArchive, unpack
from hoiclip.data.validation import CheckReport, check
from hoiclip.errors import HoiError


def prepare_hicodet(
    root: str | Path, archive: str | Path | None = None, url: str | None = None, sha256: str | None = None
) -> CheckReport:
    """Bring HICO-DET under ``root`` unless it is there (download, verify, unpack), then check it.

    Args:
        root: folder for the dataset, made if it does not exist.
        archive: the release as ``.tar``, ``.tar.gz`` or ``.zip``.
        url: where to download the archive from; continues a download that was cut off.
        sha256: expected checksum of the archive.

    Raises:
        HoiError: nothing to prepare from, a failed or wrong download, an archive that is damaged or
            wants to write outside ``root``, or no HICO-DET inside.  Nothing half-written stays, save
            the ``.part`` file of a download that can be continued; a downloaded archive that turns out
            to be damaged is removed.
    """
    root = Path(root)
    if not _there(root):
        if url is not None:
            archive, sha256 = download(url, root, sha256=sha256), None
        if archive is None:
            raise HoiError(f"{root}: holds no HICO-DET yet; give --archive FILE or --url URL of the release")
        try:
            unpack(archive, root, sha256=sha256)
        except DamagedArchive as error:
            if url is None:
                raise
            Path(archive).unlink(missing_ok=True)
            raise HoiError(f"{error}: it was removed, so the same command begins anew") from error
    return check(find_hicodet(root).root)


def _there(root: Path) -> bool:
    try:
        find_hicodet(root)
    except HoiError:
        return False
    return True
