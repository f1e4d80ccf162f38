"""What every try is held to, whatever the file: see :func:`attempt`."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hoiclip.cli import main
from hoiclip.errors import HoiError

# Pillow reads images of up to 179 million pixels; as RGB they take 4 bytes each, and up to three copies are there while
# one is converted or drawn: 2.1 GiB.  A bomb of an archive, a gzip file, a pickle or a header has no such end.
MOST_MEMORY = 3 << 30  # bytes more than before the try
LONGEST = 60  # seconds
LONGEST_COMPLAINT = 2000  # characters
# Lines on stderr that tell something and refuse nothing.
NOTES = re.compile(r"not looked at|playground model|new to this model|now called|moving average|interrupted|: read as ")
LEFTOVERS = (".writing-", ".unfinished-", ".unpacking-", ".replaced-")
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: audit events that change files, and which of their arguments are paths
CHANGES = {
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.link": (0, 1),
    "os.symlink": (1,), "os.truncate": (0,), "os.chmod": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
PROGRAMS = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
            "socket.connect", "socket.getaddrinfo"}  # fmt: skip


class TooSlow(BaseException):
    """Not an Exception, so that no reader takes it for a damaged file."""


@dataclass
class Box:
    """The folders of one try: what is read, what may be written, and where it stands."""

    root: Path
    given: Path = field(init=False)
    out: Path = field(init=False)
    canary: Path = field(init=False)

    def __post_init__(self) -> None:
        self.given, self.out, self.canary = self.root / "in", self.root / "out", self.root / "canary"
        for folder in (self.given, self.out, self.root / "tmp", self.root / "cwd"):
            folder.mkdir()

    def put(self, name: str, data: bytes) -> Path:
        """A file that is given."""
        path = self.given / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


@dataclass
class Try:
    """A command line or a function to call, and what else must hold after it: ``check(accepted)`` names what does not.

    ``accepted`` is False where the input was refused.
    """

    call: list[Any] | Callable[[], Any]
    check: Callable[[bool], str | None] = lambda accepted: None
    alone: bool = False  # in a process of its own


@dataclass
class Outcome:
    accepted: bool
    faults: list[str]
    traceback: bool
    seconds: float
    memory: int  # bytes more than before, at the most


# --- memory and time -------------------------------------------------------------------------------


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    return 0


def peak_memory(*, forget: bool = False) -> int:
    """The most resident memory since it was last forgotten, where the system can; else since the process began."""
    try:
        if forget:
            _give_back()
            Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS" if forget else "VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _give_back() -> None:
    """Return freed memory to the system: ``detect`` keeps it, and a bomb would hide in what the last one left."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def limit_memory() -> None:
    """Let the system itself refuse this process what no try may take: a bomb ends the try, not the machine."""
    with contextlib.suppress(OSError, ValueError):
        most = _status("VmData") + MOST_MEMORY + (2 << 30)  # the libraries that are loaded later
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextlib.contextmanager
def _clock() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- files and programs ----------------------------------------------------------------------------


class _Guard:
    """Sees every file that Python opens for writing, and every program it starts, while a try runs."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] = ()
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.allowed:
            return
        if event in PROGRAMS:
            self.seen.append(f"{event} {arguments[:2]!r}"[:300])
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING_FLAGS:
            self._path(event, arguments[0])
        elif event in CHANGES:
            for place in CHANGES[event]:
                self._path(event, arguments[place])

    def _path(self, event: str, path: Any) -> None:
        if isinstance(path, int) or path is None:
            return
        name = os.fsdecode(path)
        if name == os.devnull or not os.path.isabs(name):  # relative to a folder of the try, which is looked at later
            return
        real = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
        if not any(real == root or real.startswith(root + os.sep) for root in self.allowed):
            self.seen.append(f"{event} {real}")


GUARD = _Guard()


def watch() -> None:
    """Hook the guard in, for good: Python knows no way back; it sleeps between tries."""
    if GUARD not in _HOOKED:
        sys.addaudithook(GUARD)
        _HOOKED.append(GUARD)


_HOOKED: list[_Guard] = []


def _state(box: Box) -> dict[str, tuple[int, int, int]]:
    """Everything in the box but what may be written."""
    found = {}
    for folder, folders, files in os.walk(box.root):
        if Path(folder) == box.root:
            folders[:] = [name for name in folders if name not in ("out", "tmp")]
        for name in (*folders, *files):
            status = os.lstat(os.path.join(folder, name))
            size = status.st_size if name in files else 0
            found[os.path.join(folder, name)] = (status.st_mode, size, status.st_mtime_ns if name in files else 0)
    return found


# --- one try ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _inside(box: Box) -> Iterator[None]:
    before, temporary = os.getcwd(), tempfile.tempdir
    os.chdir(box.root / "cwd")
    tempfile.tempdir = str(box.root / "tmp")
    GUARD.seen = []
    GUARD.allowed = (os.path.realpath(box.out), os.path.realpath(box.root / "tmp"))
    try:
        yield
    finally:
        GUARD.allowed = ()
        tempfile.tempdir = temporary
        os.chdir(before)


def complaints(code: int, err: str) -> list[str]:
    """What is wrong with how a command ended: 0, or 2 with exactly one sentence on stderr."""
    lines = [line for line in err.splitlines() if not NOTES.search(line)]
    if code == 0:
        return [f"exit code 0, but stderr says {lines[0][:300]!r}"] if lines else []
    if code != 2:
        return [f"exit code {code}: {err[-300:]!r}"]
    if len(lines) != 1 or not lines[0].startswith("hoiclip: "):
        return [f"exit code 2 with {len(lines)} lines on stderr, not one sentence: {err[:600]!r}"]
    return [f"a sentence of {len(lines[0])} letters"] if len(lines[0]) > LONGEST_COMPLAINT else []


def _command(arguments: list[str]) -> tuple[bool, list[str]]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as stop:  # argparse: not from the contents of a file
            code = stop.code if isinstance(stop.code, int) else 1
    return code == 0, complaints(code, err.getvalue())


def _alone(arguments: list[str], box: Box) -> tuple[bool, list[str], int]:
    """The command in a process of its own, its memory limited; the last value is its peak."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY + (2 << 30), resource.RLIM_INFINITY))

    environment = {**os.environ, "TMPDIR": str(box.root / "tmp"), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    log = box.root / "tmp" / "stderr"
    with log.open("wb") as err:
        program = subprocess.Popen(
            [sys.executable, "-m", "hoiclip", *arguments], stdout=subprocess.DEVNULL, stderr=err, env=environment,
            cwd=box.root / "cwd", preexec_fn=limited,
        )  # fmt: skip
        try:
            _, status, usage = os.wait4(program.pid, 0)
        except TooSlow:
            program.kill()
            program.wait()
            raise
    program.returncode = os.waitstatus_to_exitcode(status)
    told = log.read_text(errors="replace")
    log.unlink()
    most = usage.ru_maxrss << 10  # begins with what this process has: a child starts as its copy
    return program.returncode == 0, complaints(program.returncode, told), most if most > _status("VmRSS") else 0


def attempt(make: Callable[[Box], Try], folder: Path) -> Outcome:
    """One try in a fresh folder, which is removed after it.

    Held to: a result, or exactly one sentence (:class:`HoiError`, exit code 2); no other exception; no program
    started, no canary; nothing written outside ``out``, nothing given changed, no temporary file left; no more than
    :data:`MOST_MEMORY` and :data:`LONGEST`; and what the try itself checks, such as lines that must stay.
    """
    box = Box(Path(tempfile.mkdtemp(dir=folder)))
    wanted = make(box)
    before, base, start = _state(box), peak_memory(forget=True), time.perf_counter()
    faults, accepted, failed, peak = [], False, False, 0
    call = [str(a) for a in wanted.call] if isinstance(wanted.call, list) else wanted.call
    try:
        with _clock(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(call, list) and wanted.alone:
                accepted, faults, peak = _alone(call, box)
            else:
                with _inside(box):
                    if isinstance(call, list):
                        accepted, faults = _command(call)
                    else:
                        accepted = _called(call, faults)
    except TooSlow:
        faults.append(f"took more than {LONGEST} s")
    except KeyboardInterrupt:
        raise
    except BaseException:
        failed = True
        faults.append(traceback.format_exc())
    seconds = time.perf_counter() - start
    memory = peak or max(0, peak_memory() - base)
    faults += [f"outside of the output folder: {seen}" for seen in GUARD.seen[:3] if not wanted.alone]
    after = _state(box)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    faults += [f"changed outside of the output folder: {name}" for name in changed[:3]]
    left = [p.name for p in (*box.out.rglob("*"), *(box.root / "tmp").iterdir()) if p.name.startswith(LEFTOVERS)]
    faults += [f"left behind: {name}" for name in left[:3]]
    if memory > MOST_MEMORY:
        faults.append(f"took {memory >> 20} MiB")
    if not failed and (wrong := wanted.check(accepted)):
        faults.append(wrong)
    shutil.rmtree(box.root, ignore_errors=True)
    return Outcome(accepted, faults, failed, seconds, memory)


def _called(call: Callable[[], Any], faults: list[str]) -> bool:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            call()
        except HoiError as error:
            if not str(error) or len(str(error).splitlines()) != 1 or len(str(error)) > LONGEST_COMPLAINT:
                faults.append(f"not one sentence: {str(error)[:600]!r} ({len(str(error))} letters)")
            return False
    return True
