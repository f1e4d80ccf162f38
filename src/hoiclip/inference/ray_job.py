"""A job of detection on a Ray cluster that loses nothing: what ``hoiclip detect --ray`` does.

    pieces (a few hundred images each) -> workers, one model each: detect, write one Parquet file a piece
                                       -> here: how many are done, which images could not be read

A piece is done when its file is there.  A piece whose worker died goes to another one, and its file would take its own
place; one that kills its workers is halved until the image that does it stands alone.  Plain actors rather than
``Dataset.map_batches``: there, batches of a lost node wait until their worker can start again elsewhere, files are
read by tasks that need cores besides, and an image that kills its worker is tried for ever.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from hoiclip.errors import HoiError, first_line
from hoiclip.inference.image_detector import ImageDetector
from hoiclip.inference.ray_data import RowDetector
from hoiclip.optional_modules import optional_module
from hoiclip.parquet_rows import parquet_file, row, write_rows

PIECE_ROWS = 256  # images of a file: what a worker that dies has to do again at most
IN_LINE = 2  # pieces of a worker: one in work, one waiting
PATIENCE = 30.0  # seconds without a worker until the reason is told
LOOK_AGAIN = 5.0  # seconds after which new nodes are looked for
WORKER_MEMORY = 4 << 30  # bytes; with a full-size model in OpenVINO a process takes 3.1 GiB at its peak
MOST_CORES = 4  # of a worker, unless they are asked for
MOST_DEATHS = 3  # of a piece of one image, and of workers in a row before any did something


@dataclass
class Piece:
    """Images that one worker takes at once.

    Attributes:
        keys: of the images.
        images: paths, addresses or URIs; or none, and they stand in a Parquet file.
        file, group, rows, column: where they stand: file, row group, rows of it in order, and column.
        deaths: how many workers died of it.
    """

    keys: list[str]
    images: list[str] = field(default_factory=list)
    file: str = ""
    group: int = 0
    rows: list[int] = field(default_factory=list)
    column: str = ""
    deaths: int = 0

    def named(self) -> Iterator[tuple[str, Any]]:
        """Key and image, one after the other."""
        if not self.file:
            yield from zip(self.keys, self.images, strict=True)
            return
        wanted = iter(zip(self.rows, self.keys, strict=True))
        following = next(wanted, None)
        number = 0
        with parquet_file(self.file) as file:
            for batch in file.iter_batches(batch_size=32, row_groups=[self.group], columns=[self.column]):
                for value in batch.column(0):
                    if following is not None and following[0] == number:
                        yield following[1], value.as_py()
                        following = next(wanted, None)
                    number += 1

    def halves(self) -> list[Piece]:
        """The same images in two pieces."""
        middle = len(self.keys) // 2
        return [
            Piece(self.keys[part], self.images[part], self.file, self.group, self.rows[part], self.column, 1)
            for part in (slice(middle), slice(middle, None))
        ]


@dataclass
class Done:
    """What a worker did: so many images, and what is wrong with those that could not be read."""

    images: int
    errors: list[str]
    problem: str | None = None  # why it cannot go on


class PieceWorker:
    """The actor: one model, one piece after the other."""

    def __init__(
        self,
        open_detector: Callable[[], ImageDetector],
        threads: int,
        options: dict[str, Any],
        folder: str,
        made_by: str,
    ) -> None:
        self._folder, self._made_by = folder, made_by
        self._problem: str | None = None
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                self._detector = RowDetector(open_detector, threads, options)
        except HoiError as error:
            self._problem = str(error)
        self._said = said.getvalue()

    def ready(self) -> tuple[str | None, str]:
        """Once the model is open: why it could not be, and what it said on stderr."""
        return self._problem, self._said

    def work(self, piece: Piece) -> Done:
        """Detect in a piece and write what was found."""
        done = Done(0, [])
        try:
            coming = piece.named()
            while rows := list(self._detector.rows(islice(coming, PIECE_ROWS))):
                write_rows(self._folder, rows, self._made_by)
                done.images += len(rows)
                done.errors += [r["error"] for r in rows if r["error"] is not None]
        except HoiError as error:
            done.problem = str(error)
        return done


@dataclass
class Resources:
    """What a worker asks Ray for."""

    cpus: int
    gpus: int = 0

    def workers(self, nodes: Sequence[dict[str, Any]]) -> int:
        """How many fit on the nodes that are alive."""
        count = 0
        for node in nodes:
            has = node["Resources"] if node["Alive"] else {}
            fits = int(has.get("CPU", 0) // self.cpus) if self.cpus else sys.maxsize
            count += min(fits, int(has.get("GPU", 0) // self.gpus)) if self.gpus else fits
        return count


def connect(address: str | None) -> Any:
    """The module ``ray``, connected: to a cluster, or to one of this machine alone that ends with this process.

    Raises:
        HoiError: if ray is not installed, or nobody answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # reports nothing to anybody
    ray = optional_module("ray", "ray")
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", include_dashboard=None if
                 address else False)  # fmt: skip
    except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
        raise HoiError(
            f"--ray {address or ''}: no Ray answers ({first_line(error)}); "
            "see ray status, and set RAY_AUTH_MODE=token if the cluster asks for a token"
        ) from error
    return ray


def choose_resources(ray: Any, cpus: int | None, on_cpu: bool) -> Resources:
    """One worker for each accelerator; without any, or if the CPU is to compute, one for each core or a few.

    Single cores give the most images a second; where memory is short, up to four of them share a model.

    Args:
        ray: connected.
        cpus: cores of a worker, where they are chosen.
        on_cpu: no accelerator is wanted.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpu = [has for has in nodes if has.get("GPU", 0) >= 1]
    if with_gpu and not on_cpu:
        share = min(int(has.get("CPU", 0) // has["GPU"]) for has in with_gpu)
        return Resources(cpus or max(0, min(8, share)), 1)
    working = [has for has in nodes if has.get("CPU", 0) >= 1]
    room = min((has.get("memory", 0) / has["CPU"] for has in working), default=0)  # of a core
    wanted = math.ceil(WORKER_MEMORY / room) if room else MOST_CORES
    return Resources(cpus or min([MOST_CORES, wanted, *(int(has["CPU"]) for has in working)]))


class Job:
    """Pieces on their way through the workers of a cluster.

    Args:
        ray: connected.
        pieces: all that is to be done.
        resources: of a worker.
        make: arguments of :class:`PieceWorker`.
        tell: called with sentences for people.
    """

    def __init__(
        self,
        ray: Any,
        pieces: Sequence[Piece],
        resources: Resources,
        make: tuple[Callable[[], ImageDetector], dict[str, Any], str, str],
        tell: Callable[[str], None],
    ) -> None:
        self._ray, self._waiting, self._resources, self._tell = ray, deque(pieces), resources, tell
        self._open_detector, self._options, self._folder, self._made_by = make
        self._actor = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=0)(PieceWorker)
        self._starting: dict[Any, Any] = {}  # by what tells that it is ready
        self._lines: dict[Any, deque[tuple[Any, Piece]]] = {}  # of each worker, in order
        self._deaths = 0  # since the last piece that was done
        self._told: set[str] = set()

    def run(self) -> Iterator[Done]:
        """What becomes done, as it does.

        Raises:
            HoiError: if the model cannot be opened, nothing can be written, or all workers die.
        """
        looked = told = 0.0
        try:
            while self._waiting or any(self._lines.values()):
                now = time.monotonic()
                if now - looked > LOOK_AGAIN:
                    looked = now
                    self._hire()
                if self._lines:
                    told = now
                elif told and now - told > PATIENCE:
                    self._tell("no worker is ready yet: the model is being opened, or the cluster has no free room "
                               f"for {self._resources.cpus} cores; ray status tells")  # fmt: skip
                    told = now + 1e9
                told = told or now
                self._hand_out()
                refs = [*self._starting, *(ref for line in self._lines.values() for ref, _ in line)]
                for ref in self._ray.wait(refs, num_returns=1, timeout=LOOK_AGAIN)[0] if refs else ():
                    if ref in self._starting:
                        self._started(ref)
                    elif done := self._finished(ref):
                        yield done
                if not refs:
                    time.sleep(1)
        finally:
            for worker in (*self._starting.values(), *self._lines):
                with contextlib.suppress(Exception):  # the cluster may be gone
                    self._ray.kill(worker)

    def _hire(self) -> None:
        room = max(1, self._resources.workers(self._ray.nodes()))
        wanted = min(room, len(self._waiting) + sum(map(len, self._lines.values())))
        threads = max(1, self._resources.cpus)
        for _ in range(wanted - len(self._starting) - len(self._lines)):
            worker = self._actor.remote(self._open_detector, threads, self._options, self._folder, self._made_by)
            self._starting[worker.ready.remote()] = worker

    def _hand_out(self) -> None:
        for depth in range(IN_LINE):  # everybody's first piece before anybody's second
            for worker, line in self._lines.items():
                if self._waiting and len(line) == depth:
                    piece = self._waiting.popleft()
                    line.append((worker.work.remote(piece), piece))

    def _started(self, ref: Any) -> None:
        worker = self._starting.pop(ref)
        try:
            problem, said = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._count_death(error)
            self._hire()
            return
        if problem is not None:
            raise HoiError(problem)
        for line in said.splitlines():
            if line not in self._told:
                self._told.add(line)
                self._tell(line.removeprefix("hoiclip: "))
        self._lines[worker] = deque()

    def _finished(self, ref: Any) -> Done | None:
        worker = next((worker for worker, line in self._lines.items() if any(r == ref for r, _ in line)), None)
        if worker is None:
            return None
        try:
            done = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._buried(worker, error)
        self._lines[worker] = deque(entry for entry in self._lines[worker] if entry[0] != ref)
        self._deaths = 0
        if done.problem is not None:
            raise HoiError(done.problem)
        return done

    def _buried(self, worker: Any, error: BaseException) -> Done | None:
        """A worker is gone: what it had goes to others."""
        with contextlib.suppress(Exception):
            self._ray.kill(worker)
        pieces = [piece for _, piece in self._lines.pop(worker)]
        self._count_death(error)
        first = pieces[0]
        first.deaths += 1
        lost = None
        if first.deaths >= MOST_DEATHS and len(first.keys) == 1:
            key = first.keys[0]
            problem = f"{key}: {first.deaths} workers died of it ({first_line(error, 80)}); look at it by itself"
            write_rows(self._folder, [row(key, None, problem)], self._made_by)
            lost, self._deaths = Done(1, [problem]), 0
            pieces = pieces[1:]
        elif first.deaths >= 2 and len(first.keys) > 1:
            pieces = [*first.halves(), *pieces[1:]]
            self._deaths = 0  # halving comes to an end by itself
        self._waiting.extendleft(reversed(pieces))
        self._hire()
        return lost

    def _count_death(self, error: BaseException) -> None:
        self._deaths += 1
        if self._deaths > MOST_DEATHS * max(1, self._resources.workers(self._ray.nodes())):
            raise HoiError(
                f"every worker dies ({first_line(error)}); give a worker more memory or cores (--ray-cpus), "
                "then run the same command again: what is done stays"
            )
