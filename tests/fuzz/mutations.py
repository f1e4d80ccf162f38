"""Seeded damage: to bytes, to the values of JSON and YAML, to names of archive members."""

from __future__ import annotations

import copy
import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

DEEP, HUGE, NOT_A_NUMBER, INFINITE = "@deep@", "@huge@", "@nan@", "@inf@"  # no JSON writer writes these
WRITTEN = {DEEP: "[" * 6000 + "]" * 6000, HUGE: "9" * 5000, NOT_A_NUMBER: "NaN", INFINITE: "-Infinity"}
EDGES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

# --- bytes -----------------------------------------------------------------------------------------


def _span(rng: random.Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.randint(1, longest))


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def without_a_part(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def doubled(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data, 4096)
    return data[:end] + data[start:end] * rng.choice((1, 1, 3, 50)) + data[end:]


def zeros(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data, 512)
    return data[:start] + bytes(end - start) + data[end:]


def noise(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def edge(rng: random.Random, data: bytes) -> bytes:
    """A number of 1, 2, 4 or 8 bytes at the edge of what it can be: sizes and offsets live in such."""
    form = rng.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    start = rng.randrange(max(1, min(len(data), rng.choice((64, 512, 1 << 30))) - size))
    value = rng.choice(EDGES) if rng.random() < 0.7 else (1 << 8 * size) - 1
    return data[:start] + struct.pack(form, value % (1 << 8 * size)) + data[start + size :]


def appended(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0" * 1000, b"\n", data, rng.randbytes(200)))


def nothing_left(rng: random.Random, data: bytes) -> bytes:
    return rng.choice((b"", b"\0", b"\n", b"\xff\xd8\xff", b"PK\x03\x04", b"\x1f\x8b\x08", b"[", b"{}", b"\x80\x04."))


BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    flipped, flipped, flipped, cut, cut, without_a_part, doubled, zeros, noise, edge, edge, appended, nothing_left,
)  # fmt: skip


def damaged(rng: random.Random, data: bytes) -> bytes:
    """One to three of the above."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(BYTES)(rng, data) if data else data
    return data


# --- JSON and YAML values --------------------------------------------------------------------------


def odd_values(rng: random.Random) -> Any:
    """A value that nobody meant."""
    return rng.choice(
        (
            None, True, False, 0, -1, 1, 2, 7, 0.5, -0.0, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**63), 10**30,
            "", " ", "0", "1e5", "null", "person", "..", "../../canary", "/", "\0", "a\nb", "é", "写真", "\ud800",
            "%s%n", "{0}", "{x.__class__}", "x" * 100_000, [], {}, [None], [[]], [0], [1, 2], [1, 2, 3, 4], {"a": 1},
            {"": {}}, [0] * 1000, DEEP, HUGE, NOT_A_NUMBER, INFINITE,
        )
    )  # fmt: skip


def _places(tree: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    keys = range(len(tree)) if isinstance(tree, list) else list(tree) if isinstance(tree, dict) else ()
    for key in keys:
        yield tree, key
        if depth < 12:
            yield from _places(tree[key], depth + 1)


def with_odd_values(rng: random.Random, tree: Any) -> Any:
    """A copy in which one to three values, keys or list entries are others."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places or rng.random() < 0.02:
            return odd_values(rng)
        inside, key = rng.choice(places)
        what = rng.randrange(8)
        if what < 4:
            inside[key] = odd_values(rng)
        elif what == 4:
            del inside[key]
        elif what == 5 and isinstance(inside, dict):
            name = rng.choice(("", "x" * 3000, "../" + str(key), str(key).upper(), "__class__", "unknown", "\0"))
            inside[name] = inside.pop(key)
        elif what == 6 and isinstance(inside, list):
            inside.extend([inside[key]] * rng.choice((1, 3, 200)))
        else:
            other, elsewhere = rng.choice(places)
            if elsewhere in other if isinstance(other, dict) else elsewhere < len(other):
                inside[key] = copy.deepcopy(other[elsewhere])  # some other value of the same file
    return tree


def json_text(tree: Any) -> str:
    """JSON, with what no writer would write."""
    text = json.dumps(tree)
    for mark, written in WRITTEN.items():
        text = text.replace(f'"{mark}"', written)
    return text


def encoded(rng: random.Random, text: str) -> bytes:
    """In the encoding of some editor, mostly UTF-8; now and then packed."""
    choice = rng.random()
    name = "utf-8" if choice < 0.8 else rng.choice(("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252"))
    data = text.encode(name, "surrogatepass" if name.startswith("utf") else "replace")
    return gzip.compress(data, 1) if rng.random() < 0.05 else data


def damaged_json(rng: random.Random, tree: Any) -> bytes:
    """The file of a JSON tree after damage to its values or to its bytes."""
    if rng.random() < 0.7:
        return encoded(rng, json_text(with_odd_values(rng, tree)))
    return damaged(rng, encoded(rng, json_text(tree)))


# --- PNG -------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def damaged_png(rng: random.Random, data: bytes) -> bytes:
    """Chunks damaged inside, their checksums right: the damage gets past the first check."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    chunks[number] = (kind, rng.choice(BYTES)(rng, content) if content else b"x")
    if rng.random() < 0.2:
        chunks.append(chunks.pop(rng.randrange(len(chunks))))
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def one_bit_bomb(side: int) -> bytes:
    """A PNG of a few kilobytes with ``side`` times ``side`` pixels that are all there."""
    row = zlib.compressobj(9)
    data = b"".join([row.compress(bytes(side // 8 + 1 + (side % 8 > 0)) * side), row.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def gzip_bomb(megabytes: int) -> bytes:
    """Spaces, which JSON and YAML allow anywhere, as one gzip file of a thousandth of their size."""
    return gzip.compress(b" " * (1 << 24), 9) * (megabytes // 16)
