"""``hoiclip detect --ray``: folders, buckets and Parquet in, Parquet out, on a Ray cluster."""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.cli.arguments import BAD_INPUT, positive_int
from hoiclip.errors import HoiError, first_line

if TYPE_CHECKING:
    from hoiclip.inference.image_detector import ImageDetector
    from hoiclip.inference.ray_job import Piece

HERE = "here"  # no cluster was named: one of this machine alone
PIECES_EACH = 8  # of a worker at least, so that all end at about the same time
FEWEST = 8  # images of a piece
NOT_THERE = {  # options of drawings and videos, and what they are where they are not given
    "attention": None, "html": False, "camera": None, "every": 1, "start": 0.0, "end": None, "line_width": None,
    "max_labels": 3,
}  # fmt: skip


def ray_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a cluster."""
    cluster = parser.add_argument_group("cluster (pip install 'hoiclip[ray]')")
    cluster.add_argument(
        "--ray", nargs="?", const=HERE, metavar="ADDRESS",
        help="detect with Ray, on this machine or on the cluster at auto or HOST:PORT, and write "
        "Parquet to --out, which may be s3:// or gs://, as sources may be, and Parquet; goes on where it was cut off",
    )  # fmt: skip
    cluster.add_argument("--ray-cpus", type=positive_int, metavar="N", help="cores of a worker (default: 1, up to 4 "
                         "where memory is short; one worker an accelerator, where there are any)")  # fmt: skip
    cluster.add_argument("--key-column", metavar="NAME", help="of Parquet sources: what names an image, and is the "
                         "file_name of its row (default: file_name, path, uri or image_path)")  # fmt: skip
    cluster.add_argument("--image-column", metavar="NAME", help="of Parquet sources: image bytes, paths or addresses "
                         "(default: image, bytes, or the key)")  # fmt: skip


def folder_name(text: str) -> Path | str:
    """A folder as a path; at an address such as s3:// as it stands."""
    return text if "://" in text else Path(text)


def check_ray_arguments(args: argparse.Namespace) -> None:
    """Raise HoiError for options that do not go together."""
    if args.ray is None:
        if isinstance(args.out, str):
            raise HoiError(f"--out {args.out}: is no folder of this machine; only --ray writes there")
        for option in ("ray_cpus", "key_column", "image_column"):
            if getattr(args, option) is not None:
                raise HoiError(f"--{option.replace('_', '-')}: is for --ray, which was not given")
        return
    if not args.sources and args.ray != HERE:
        raise HoiError(f"--ray {args.ray}: was taken for the address of a cluster; put --ray behind the sources")
    for option, unset in NOT_THERE.items():
        if getattr(args, option) != unset:
            raise HoiError(f"--{option.replace('_', '-')}: is not for --ray, which writes triplets of images only")


def detect_on_ray(args: argparse.Namespace) -> int:
    """Detect in what is not done yet; images that could not be read are told and make the exit code 2."""
    from tqdm import tqdm

    from hoiclip.cli.arguments import quiet_libraries
    from hoiclip.inference.ray_job import PIECE_ROWS, Job, choose_resources, connect
    from hoiclip.object_stores import is_uri
    from hoiclip.optional_modules import optional_module
    from hoiclip.parquet_rows import settle

    optional_module("ray", "ray")
    quiet_libraries()
    out = str(args.out) if is_uri(args.out) else os.path.abspath(args.out)
    made_by = json.dumps(what_it_is_made_by(args), sort_keys=True, default=str)
    listed, in_tables = find_sources(args)
    keys = set(listed).union(*(piece.keys for piece in in_tables))
    done, _ = settle(out, made_by, drop_failed=True)
    done &= keys
    waiting = len(keys) - len(done)
    if done:
        print(f"hoiclip: {args.out}: going on after {len(done):,} images", file=sys.stderr)
    if waiting:
        ray = connect(None if args.ray == HERE else args.ray)
        try:
            resources = choose_resources(ray, args.ray_cpus, computes_on_cpu(args))
            workers = max(1, resources.workers(ray.nodes()))
            rows = min(PIECE_ROWS, max(FEWEST, math.ceil(waiting / (PIECES_EACH * workers))))
            pieces = [*pieces_of(listed, done, rows), *left_of(in_tables, done)]
            make = (partial(open_in_worker, in_full(args)), options_of(args), out, made_by)
            with tqdm(total=len(keys), initial=len(done), unit="image", disable=None) as bar:
                job = Job(ray, pieces, resources, make, lambda said: tqdm.write(f"hoiclip: {said}", file=sys.stderr))
                for piece in job.run():
                    bar.update(piece.images)
                    for error in piece.errors:
                        tqdm.write(f"hoiclip: {error}", file=sys.stderr)
        except ray.exceptions.RayError as error:
            raise HoiError(
                f"--ray: the cluster was lost ({first_line(error)}); run the same command again, what is done stays"
            ) from error
        finally:
            ray.shutdown()
    done, failed = settle(out, made_by, drop_failed=False)
    if missing := keys - done:
        raise HoiError(f"{args.out}: {len(missing)} images have no row, {min(missing)} for one; run the command again")
    failed &= keys
    print(f"{len(keys) - len(failed)} of {len(keys)} images -> {args.out}")
    return BAD_INPUT if failed else 0


# --- what there is to do -----------------------------------------------------------------------------


def find_sources(args: argparse.Namespace) -> tuple[dict[str, str], list[Piece]]:
    """Everything that was named: images, each key with its path or address, and row groups of Parquet files.

    Raises:
        HoiError: if there is nothing, or a key of a Parquet file stands for two images.
    """
    from hoiclip.image_inputs import is_address
    from hoiclip.images import SUFFIXES, find_images
    from hoiclip.object_stores import is_uri, list_folder
    from hoiclip.parquet_rows import parquet_files

    images: dict[str, str] = {}
    tables: list[str] = []
    for source in args.sources:
        if is_address(source):
            images[source] = source
        elif found := parquet_files(source):
            tables += found
        elif is_uri(source):
            inside = [source] if _suffix(source) in SUFFIXES else list_folder(source)
            named = [name for name in inside if _suffix(name) in SUFFIXES]
            if not named:
                raise HoiError(f"{source}: no images in this folder; give one with JPEG, PNG or the like")
            images |= zip(named, named, strict=True)
        else:
            images |= {str(path): os.path.abspath(path) for path in find_images([source])}
    pieces = list(row_groups(tables, args))
    seen = set(images)
    for piece in pieces:
        for key in piece.keys:
            if key in seen:
                raise HoiError(f"{piece.file}: the key {key!r} stands for two images; name another --key-column")
            seen.add(key)
    if not seen:
        raise HoiError("nothing to detect in: give images, folders, addresses or Parquet files")
    return images, pieces


def _suffix(name: str) -> str:
    return os.path.splitext(name.partition("?")[0])[1].lower()


def row_groups(files: Sequence[str], args: argparse.Namespace) -> Iterator[Piece]:
    """Each row group of Parquet files as a piece; only the keys are read."""
    from hoiclip.inference.ray_data import find_columns
    from hoiclip.inference.ray_job import Piece
    from hoiclip.object_stores import is_uri
    from hoiclip.parquet_rows import parquet_file

    for name in files:
        with parquet_file(name) as file:
            try:
                key, image = find_columns(file.schema_arrow.names, args.key_column, args.image_column)
            except HoiError as error:
                raise HoiError(f"{name}: {error}") from None
            place = name if is_uri(name) else os.path.abspath(name)
            for group in range(file.num_row_groups):
                keys = [str(k) for k in file.read_row_group(group, columns=[key]).column(0).to_pylist()]
                yield Piece(keys, file=place, group=group, rows=list(range(len(keys))), column=image)


def pieces_of(images: dict[str, str], done: set[str], rows: int) -> Iterator[Piece]:
    """The images that wait, so many at once."""
    from hoiclip.inference.ray_job import Piece

    waiting = [key for key in images if key not in done]
    for start in range(0, len(waiting), rows):
        keys = waiting[start : start + rows]
        yield Piece(keys, [images[key] for key in keys])


def left_of(pieces: Sequence[Piece], done: set[str]) -> Iterator[Piece]:
    """Row groups without the rows that are done."""
    from hoiclip.inference.ray_job import Piece

    for piece in pieces:
        left = [(key, number) for key, number in zip(piece.keys, piece.rows, strict=True) if key not in done]
        if left:
            keys, rows = map(list, zip(*left, strict=True))
            yield Piece(keys, file=piece.file, group=piece.group, rows=rows, column=piece.column)


# --- with what ---------------------------------------------------------------------------------------


def what_it_is_made_by(args: argparse.Namespace) -> dict[str, Any]:
    """Plain values that name model and options: rows of others do not belong into the same folder.

    Raises:
        HoiError: if there is no such model, or vocabulary.
    """
    from hoiclip import __version__
    from hoiclip.checkpoints.by_name import find_folder
    from hoiclip.evaluation.kept_detections import stamp
    from hoiclip.hub import is_hub_id
    from hoiclip.inference.loading import SHIPPED_MODEL, TRAINING_FREE
    from hoiclip.vocabulary import HoiVocabulary

    model: list[Any] = [args.model]
    if args.model == TRAINING_FREE:
        model += [part if part is None or is_hub_id(part) else stamp(part) for part in (args.detector, args.clip)]
    else:
        model = stamp(find_folder(args.model or SHIPPED_MODEL, args.revision, args.token))
    vocabulary = None if args.vocabulary is None else HoiVocabulary.coerce(args.vocabulary)
    return {
        "hoiclip": __version__,
        "model": model,
        "words": [args.interactions, args.verbs, vocabulary and [list(pair) for pair in vocabulary.interactions]],
        "options": options_of(args),
        "runtime": [args.backend, args.precision, args.device, args.size],
    }


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """What :meth:`ImageDetector.detect_named` is called with."""
    return {name: getattr(args, name) for name in ("top_k", "threshold", "zero_shot_top_k", "draft")}


def computes_on_cpu(args: argparse.Namespace) -> bool:
    """Whether the model or an option says that no accelerator is to be used."""
    from hoiclip.backends.base import BACKENDS
    from hoiclip.backends.manifest import is_exported

    exported = args.model is not None and is_exported(args.model) and args.device is None
    on_cpu = args.backend in BACKENDS and BACKENDS[args.backend].on_cpu and args.device is None
    return bool(exported or on_cpu or (args.device or "").startswith("cpu"))


def in_full(args: argparse.Namespace) -> argparse.Namespace:
    """The same options with folders of this machine in full: a worker runs in another folder."""
    args = copy.copy(args)
    for name in ("model", "detector", "clip", "vocabulary"):
        given = getattr(args, name)
        if given is not None and os.path.exists(given):
            setattr(args, name, os.path.abspath(given))
    return args


def open_in_worker(args: argparse.Namespace) -> ImageDetector:
    """The detector that the options ask for, opened in a worker, which has none of this process's environment."""
    from hoiclip.cli.arguments import open_detector, streams_for
    from hoiclip.hub import OFFLINE

    if args.offline:
        os.environ[OFFLINE] = "1"
    return open_detector(args, streams=streams_for(None))  # more than one where a worker has more cores
