"""``hoiclip models``: what can be had by name, and a file downloaded by hand put into place."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.cli.arguments import quiet_libraries
from hoiclip.errors import HoiError

if TYPE_CHECKING:
    from hoiclip.model_zoo import ZooEntry

WIDTH = 100  # columns of the table
USES = {
    "hoiclip": "hoiclip detect PHOTO --model {name}",
    "gen-vlkt": "hoiclip detect PHOTO --model {name}",
    "training-free": "hoiclip detect PHOTO --model {name}",
    "detr": "hoiclip train hicodet --model.detr {name}",
    "data": "hoiclip data prepare hicodet --root FOLDER",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this one in full (default: list all)")
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="downloaded by hand: check it, and convert it into the cache under this name",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """List, show one, or take a file."""
    from hoiclip.model_zoo import cache_home, find_entry, zoo

    if args.name is None:
        if args.file is not None:
            raise HoiError(f"{args.file}: say which model it is: hoiclip models NAME --file {args.file}")
        entries = list(zoo().values())
        print(_json([facts(e) for e in entries]) if args.json else _table(entries, cache_home()))
        return 0
    entry = find_entry(args.name)
    if args.file is not None:
        from hoiclip.checkpoints.by_name import take_file

        quiet_libraries()
        take_file(entry, args.file)
    print(_json(facts(entry)) if args.json else _in_full(entry))
    return 0


def facts(entry: ZooEntry) -> dict[str, Any]:
    """All that is known of an entry: the columns of the table, and ``cached`` (a path, or None) with its bytes."""
    found = entry.cached()
    return asdict(entry) | {"cached": None if found is None else str(found), "bytes": entry.cached_bytes()}


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)


def _state(entry: ZooEntry) -> str:
    if entry.page == "shipped with hoiclip":
        return "shipped"
    size = entry.cached_bytes()
    return "" if size is None else f"{size / 2**20:.0f} MiB"


def _table(entries: list[ZooEntry], home: Path) -> str:
    return "\n".join(_table_lines(entries, home))


def _table_lines(entries: list[ZooEntry], home: Path) -> Iterator[str]:
    columns = ("name", "kind", "vocabulary")
    widths = [max(len(getattr(e, column)) for e in entries) for column in columns]
    room = WIDTH - sum(widths) - 2 * len(columns) - 11

    def row(*cells: str) -> str:
        return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, (*widths, 9, 0), strict=True)).rstrip()

    yield row("NAME", "KIND", "TRAINED ON", "IN CACHE", "PUBLISHED (mAP in %)")
    for (page, licence), group in groupby(entries, key=lambda e: (e.page, e.licence)):
        yield ""
        yield f"{page}, licence: {licence}"
        for entry in group:
            first, *more = textwrap.wrap(entry.figures, room)
            yield row(entry.name, entry.kind, entry.vocabulary, _state(entry), first)
            yield from (row("", "", "", "", line) for line in more)
    yield ""
    yield "hoiclip models NAME shows one in full. The cache, which HOICLIP_HOME moves elsewhere:"
    yield str(home)


def _in_full(entry: ZooEntry) -> str:
    found = entry.cached()
    lines = {
        "name": entry.name,
        "kind": entry.kind,
        "trained on": entry.vocabulary,
        "backbone": entry.backbone,
        "decoder layers": entry.layers,
        "published": entry.figures,
        "licence": entry.licence,
        "page": entry.page,
        "file": entry.address,
        "in the cache": "no" if found is None else f"{found} ({(entry.cached_bytes() or 0) / 2**20:.0f} MiB)",
        "use": USES[entry.kind].format(name=entry.name),
    }
    if entry.address != "-" and entry.kind != "data":
        lines["by hand"] = f"open the file's address in a browser, then: hoiclip models {entry.name} --file FILE"
    if entry.kind in ("data", "training-free"):
        del lines["in the cache"]
    return "\n".join(f"{name + ':':<16}{text}" for name, text in lines.items() if text != "-")
