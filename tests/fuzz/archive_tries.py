"""Damaged and hostile archives, through ``unpack`` and ``data prepare``."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zipfile
from typing import Any

from mutations import damaged
from promises import Box, Try
from seeds import World, tar_of, zip_of

from hoiclip.data.unpacking import unpack

BOMB = 1 / 16
ALONE = 1 / 60  # of the command lines run in a process of their own
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
MODES = ("w", "w:gz", "w:bz2", "w:xz")
NAMES = (
    "../canary", "../../canary", "a/../../canary", "a/../b", "/canary", "//canary", "..\\canary", "C:\\canary",
    "C:canary", "./../canary", "..", ".", "", "/", "a//b", "a/./b", "a/", "a", "a/b", "A", "a\0b", "x" * 300,
    "x/" * 2000 + "y", "hico_20160224_det", "hico_20160224_det/images", "hico_20160224_det/anno_bbox.mat/x",
    ".unpacking-x/y", ".hidden", "é", "写真", "\udcff", "a\nb", "con", "~/canary", "$HOME/canary", "-rf", " ",
    "images/test2015/\x1b[2J.jpg",
)  # fmt: skip
LINKS = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CONTTYPE,
    b"S",
    b"Z",
)


def archives(rng: random.Random, world: World, box: Box) -> Try:
    """All of it or nothing, nothing outside its folder, no bomb."""
    zipped = rng.random() < 0.5
    name = "release.zip" if zipped else rng.choice(("release.tar", "release.tar.gz", "release.bin"))
    what = rng.random()
    if what < BOMB:
        data = _bomb(rng, zipped)
    elif what < 0.5:
        members = dict(world.release)
        data = damaged(rng, zip_of(members, rng.choice(METHODS)) if zipped else tar_of(members, rng.choice(MODES)))
    else:
        data = _hostile_zip(rng, world, box) if zipped else _hostile_tar(rng, world, box)
        data = damaged(rng, data) if rng.random() < 0.1 else data
    archive = box.put(name, data)
    root = box.out / "data"
    earlier = rng.random() < 0.3
    if earlier:
        (root / "earlier").mkdir(parents=True)
        (root / "earlier" / "kept").write_text("kept")

    whole = rng.random() < 0.5

    def check(accepted: bool) -> str | None:
        if earlier and (root / "earlier" / "kept").read_text() != "kept":
            return "what was there is lost"
        there = sorted(path.name for path in root.iterdir()) if root.exists() else []
        if not accepted and not whole and there != ["earlier"] * earlier:
            return f"a refused archive left {there[:5]}"
        if not accepted and not earlier and root.exists() and not there:
            return "a refused archive left an empty folder"
        strange = [path for path in root.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
        return f"{strange[0]} is a link or device" if strange else None

    if whole:
        return Try(["data", "prepare", "hicodet", "--root", root, "--archive", archive], check, rng.random() < ALONE)
    return Try(lambda: unpack(archive, root, progress=False), check)


def _bomb(rng: random.Random, zipped: bool) -> bytes:
    if not zipped:
        inside = io.BytesIO()
        with tarfile.open(fileobj=inside, mode="w:gz", compresslevel=1) as archive:
            info = tarfile.TarInfo("zeros")
            info.size = rng.choice((300, 400)) << 20
            archive.addfile(info, _Zeros(info.size))
        return inside.getvalue()
    if rng.random() < 0.5:
        return zip_of({f"empty{i}": b"" for i in range(3_000)})
    inside = io.BytesIO()
    with zipfile.ZipFile(inside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in range(20):  # one packed content of 16 MB each
            archive.writestr(f"zeros{i}", bytes(16 << 20))
    return inside.getvalue()


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return bytes(size)


def _hostile_zip(rng: random.Random, world: World, box: Box) -> bytes:
    """Odd names, links, flags, methods and sizes, in the list at the end and before each member."""
    file = io.BytesIO()
    members = list(world.release.items())
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members[: rng.randint(0, len(members))]:
            archive.writestr(name, data)
        for _ in range(rng.choice((0, 1, 1, 2))):
            info = zipfile.ZipInfo(rng.choice((*NAMES, str(box.canary))).replace("\udcff", "\xff")[:60_000])
            if rng.random() < 0.3:
                info.external_attr = rng.choice((0o120777, 0o020666, 0o010644, 0o040755, 0o104755)) << 16
            archive.writestr(info, rng.choice((b"", b"x", b"../canary", str(box.canary).encode())))
    data = bytearray(file.getvalue())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):  # the same damage in both places, or in one
        at = data.find(mark)
        if at >= 0 and rng.random() < 0.6:
            offset = flags + rng.choice((0, 2, 10, 14, 18))
            form, value = rng.choice((("<H", 1), ("<H", 99), ("<H", 0x0801), ("<I", 0xFFFFFFFF), ("<I", 0), ("<H", 9)))
            data[at + offset : at + offset + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(data)


def _hostile_tar(rng: random.Random, world: World, box: Box) -> bytes:
    file = io.BytesIO()
    members = list(world.release.items())
    with tarfile.open(
        fileobj=file,
        mode=rng.choice(MODES),
        format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
        errors="surrogateescape",
    ) as archive:
        for name, data in members[: rng.randint(0, len(members))]:
            _add(archive, name, data)
        for _ in range(rng.choice((0, 1, 1, 2))):
            changes: dict[str, Any] = {}
            if rng.random() < 0.4:
                changes = {
                    "type": rng.choice(LINKS),
                    "linkname": rng.choice((*NAMES[:10], str(box.canary), "/etc/passwd")),
                }
            elif rng.random() < 0.3 and archive.format == tarfile.PAX_FORMAT:
                key, value = rng.choice(
                    (("size", "99999999999"), ("size", "-1"), ("size", "x"), ("path", "../canary"),
                     ("path", str(box.canary)), ("mtime", "nan"), ("mtime", "1e400"), ("GNU.sparse.major", "1"),
                     ("GNU.sparse.map", "0,9,x"), ("GNU.sparse.realsize", "99999999999"), ("linkpath", "x"),
                     ("hdrcharset", "BINARY"))
                )  # fmt: skip
                changes = {"pax_headers": {key: value}}
            name = rng.choice((*NAMES, str(box.canary)))
            try:
                _add(archive, name, rng.choice((b"", b"x", b"../canary")), **changes)
            except (UnicodeError, ValueError):  # a name that this format cannot write
                _add(archive, "../canary", b"x")
    return file.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, **changes: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))
