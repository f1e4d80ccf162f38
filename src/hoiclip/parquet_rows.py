"""Detections as rows of Parquet: one row an image, in a folder of files that many processes write.

    file_name   string                            the image's path or address, which occurs once in a folder
    image_size  list<int32>                       [height, width] in pixels; null where it could not be read
    triplets    list<struct<human_box: list<double>, object_box: list<double>, verb: string, object: string,
                interaction: string, score: double, interaction_score: double, hoi_id: int32>>
                                                  best first; null where the image could not be read
    error       string                            what is wrong with the image, else null
    calibration list<double>                      temperature and bias that made interaction_score a probability

Names and numbers are those of a line of detections.jsonl.  Every file says in its metadata, under ``hoiclip``, what
it was made by.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hoiclip.errors import HoiError, first_line
from hoiclip.object_stores import EXTRA, is_folder, list_folder, opened, remove, write_bytes
from hoiclip.optional_modules import optional_module

SUFFIX = ".parquet"
PART = "part-"  # how the name of a file begins that we wrote
MADE_BY = b"hoiclip"


def schema() -> Any:
    """The ``pyarrow.Schema`` of a file.  Raises HoiError if pyarrow is not installed."""
    arrow = optional_module("pyarrow", EXTRA)
    box, number, text = arrow.list_(arrow.float64()), arrow.float64(), arrow.string()
    triplet = arrow.struct(
        [("human_box", box), ("object_box", box), ("verb", text), ("object", text), ("interaction", text),
         ("score", number), ("interaction_score", number), ("hoi_id", arrow.int32())]
    )  # fmt: skip
    return arrow.schema(
        [
            arrow.field("file_name", text, nullable=False),
            ("image_size", arrow.list_(arrow.int32())),
            ("triplets", arrow.list_(triplet)),
            ("error", text),
            ("calibration", arrow.list_(number)),
        ]
    )


def row(file_name: str, found: Mapping[str, Any] | None, error: str | None = None) -> dict[str, Any]:
    """The row of one image.

    Args:
        file_name: its key.
        found: ``Detections.to_dict()``; None where the image could not be read.
        error: what is wrong with it.
    """
    found = found or {}
    known = {"image_size": None, "triplets": None, **found}  # and the calibration, where there is one
    return {"file_name": file_name, "error": error, **known}


def write_rows(folder: str, rows: Sequence[Mapping[str, Any]], made_by: str) -> None:
    """Write rows as one file of a folder, whose name follows from their keys: written again, it takes its own place.

    Args:
        folder: a path, or a URI such as ``s3://bucket/found``.
        rows: of :func:`row`.
        made_by: what names model and options, as JSON.

    Raises:
        HoiError: if it cannot be written; no half of it is left.
    """
    keys = "\0".join(r["file_name"] for r in rows).encode("utf-8", "surrogatepass")
    base, mark, query = folder.partition("?")
    name = f"{PART}{hashlib.sha256(keys).hexdigest()[:20]}{SUFFIX}"
    table = optional_module("pyarrow", EXTRA).Table.from_pylist(list(rows), schema())
    _write(f"{base.rstrip('/')}/{name}{mark}{query}", table.replace_schema_metadata({MADE_BY: made_by.encode()}))


def _write(name: str, table: Any) -> None:
    content = io.BytesIO()
    optional_module("pyarrow.parquet", EXTRA).write_table(table, content, compression="zstd")
    write_bytes(name, content.getvalue())


def is_parquet(source: str | Path) -> bool:
    """Whether a name means a Parquet file, or a folder that holds any."""
    return bool(parquet_files(source))


def parquet_files(source: str | Path) -> list[str]:
    """The Parquet files that a name means: itself, or those right in the folder.

    Raises:
        HoiError: if the folder cannot be read.
    """
    if not is_folder(source):
        return [str(source)] if str(source).partition("?")[0].lower().endswith(SUFFIX) else []
    return [name for name in list_folder(source) if name.partition("?")[0].lower().endswith(SUFFIX)]


def read_rows(source: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of a file or folder, with where it stands, to be told; images that could not be read too.

    Raises:
        HoiError: a file that is damaged, or has no such rows.
    """
    wanted = ["file_name", "image_size", "triplets", "error", "calibration"]
    for name in parquet_files(source):
        with parquet_file(name) as file:
            missing = [column for column in wanted[:3] if column not in file.schema_arrow.names]
            if missing:
                raise HoiError(f"{name}: has no column {missing[0]!r}; give what hoiclip detect --ray wrote")
            number = 0
            for batch in file.iter_batches(columns=[c for c in wanted if c in file.schema_arrow.names]):
                for entry in batch.to_pylist():
                    number += 1
                    yield f"{name}: row {number}", _without_nulls(entry)


def _without_nulls(entry: dict[str, Any]) -> dict[str, Any]:
    """A row as the JSON line of the same image has it: a score or calibration that there is none of has no key."""
    if entry.get("calibration") is None:
        entry.pop("calibration", None)
    triplets = entry["triplets"]
    if triplets is not None:
        entry["triplets"] = [{k: v for k, v in t.items() if v is not None} for t in triplets]
    return entry


@contextmanager
def parquet_file(name: str) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile``; what is wrong with it is a HoiError, in the block too."""
    arrow, parquet = optional_module("pyarrow", EXTRA), optional_module("pyarrow.parquet", EXTRA)
    with opened(name) as (system, path):
        try:
            with parquet.ParquetFile(path, filesystem=system) as file:
                yield file
        except FileNotFoundError:
            raise
        except (arrow.ArrowException, OSError) as error:
            raise HoiError(
                f"{name}: is damaged or no Parquet file ({first_line(error)}); make or copy it again"
            ) from error


# --- a job that goes on ------------------------------------------------------------------------------


def settle(folder: str, made_by: str, *, drop_failed: bool) -> tuple[set[str], set[str]]:
    """Put a folder that a job wrote in order: each image once, and nothing that cannot be read.

    A file that a crash of the machine cut off goes, and is told; its images are detected again.  Of an image
    that stands in two files, as where a lost worker came to an end after all, the second row goes.

    Args:
        folder: it need not exist.
        made_by: what names model and options now.
        drop_failed: take away the rows of images that could not be read, so that they are tried again.

    Returns:
        Keys of the images that are there, and of those among them that could not be read.

    Raises:
        HoiError: if the folder holds rows of another model or other options, or files that are none of ours.
    """
    done: set[str] = set()
    failed: set[str] = set()
    for name in parquet_files(folder):
        try:
            with parquet_file(name) as file:
                _refuse_others(name, (file.schema_arrow.metadata or {}).get(MADE_BY), made_by)
                columns = file.read(columns=["file_name", "error"]).to_pydict()
        except HoiError as error:
            if "damaged" not in str(error) or not _base_name(name).startswith(PART):
                raise
            print(f"hoiclip: {name}: was cut off by a crash; its images are detected again", file=sys.stderr)
            remove(name)
            continue
        kept = []
        for key, problem in zip(columns["file_name"], columns["error"], strict=True):
            wanted = key not in done and not (drop_failed and problem is not None)
            kept.append(wanted)
            if wanted:
                done.add(key)
                if problem is not None:
                    failed.add(key)
        if not any(kept):
            remove(name)
        elif not all(kept):
            with parquet_file(name) as file:
                table = file.read()
            _write(name, table.filter(kept))
    return done, failed


def _base_name(name: str) -> str:
    return name.partition("?")[0].rpartition("/")[2]


def _refuse_others(name: str, found: bytes | None, made_by: str) -> None:
    """Raise HoiError for a file that this job would not have written."""
    if found is None:
        raise HoiError(f"{name}: was not written by hoiclip detect --ray; use another --out")
    before, now = json.loads(found), json.loads(made_by)
    if before != now:
        differs = next(key for key in (*now, *before) if before.get(key) != now.get(key))
        was, wanted = (json.dumps(made.get(differs), ensure_ascii=False) for made in (before, now))
        raise HoiError(
            f"{name}: holds results of another {differs} ({was[:80]}, now {wanted[:80]}); "
            "go on with the same one, or use another --out"
        )
