"""Damage files of every kind, a seed for each try, and see that nothing is promised in vain.

make fuzz                                         the whole campaign, two processes at a time
make fuzz KIND=archives SEED=123 TRIES=1          one try again
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
TRIES = {"images": 300, "annotations": 400, "detections": 300, "yaml": 400, "checkpoints": 400, "archives": 400,
         "forms": 400}  # fmt: skip
HANGS = 100  # seconds after which a try ends its process


@dataclass
class Row:
    """The figures of one kind."""

    kind: str
    tries: int = 0
    read: int = 0
    refused: int = 0
    tracebacks: int = 0
    other_faults: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, seed: int, outcome: dict[str, object]) -> None:
        """Count one try."""
        faults = [str(fault) for fault in outcome["faults"]]  # type: ignore[attr-defined]
        self.tries += 1
        self.tracebacks += bool(outcome["traceback"])
        self.other_faults += bool(faults) and not outcome["traceback"]
        self.read += bool(outcome["accepted"]) and not faults
        self.refused += not outcome["accepted"] and not faults
        self.slowest = max(self.slowest, float(outcome["seconds"]))  # type: ignore[arg-type]
        self.memory = max(self.memory, int(outcome["memory"]))  # type: ignore[call-overload]
        self.faults += [f"make fuzz KIND={self.kind} SEED={seed} TRIES=1\n    {fault.strip()}" for fault in faults]


def run(kind: str, seed: int, tries: int, folder: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """(seed, outcome) of each try, in this process; the outcome comes as plain JSON types."""
    from kinds import KINDS
    from promises import attempt, watch
    from seeds import World

    watch()
    world = World(folder)
    for number in range(seed, seed + tries):
        rng = random.Random(f"{kind} {number}")
        outcome = attempt(lambda box, rng=rng: KINDS[kind](rng, world, box), folder)  # type: ignore[misc]
        yield number, vars(outcome)


def work(kind: str, seed: int, tries: int) -> None:
    """The process that does the tries of one kind, and writes a line before and after each."""
    import promises
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not in the way
    promises.limit_memory()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        done = run(kind, seed, tries, Path(folder).resolve())
        for number in range(seed, seed + tries):
            faulthandler.dump_traceback_later(HANGS, exit=True)
            print(json.dumps({"begins": number}), file=results)
            print(json.dumps(next(done)[1]), file=results)
        faulthandler.cancel_dump_traceback_later()


def campaign(kind: str, seed: int, tries: int) -> Row:
    """All tries of one kind, in as many processes as it takes: a crash is a fault of one try."""
    row, start, following = Row(kind), time.perf_counter(), seed
    while following < seed + tries:
        command = [sys.executable, str(HERE / "campaign.py"), "--worker", "--kind", kind, "--seed", str(following)]
        command += ["--tries", str(seed + tries - following)]
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as worker:
                assert worker.stdout is not None
                began = None
                for line in worker.stdout:
                    told = json.loads(line)
                    if "begins" in told:
                        began = told["begins"]
                        continue
                    row.add(following, told)
                    following += 1
            if worker.returncode:
                log.seek(0)
                fault = f"the process ended with {worker.returncode}:\n{log.read()[-3000:]}"
                if began != following:  # not in a try: nothing to go on with
                    raise SystemExit(f"{kind}: {fault}")
                row.add(following, {"faults": [fault], "traceback": True, "accepted": False, "seconds": 0, "memory": 0})
                following += 1
    row.seconds = time.perf_counter() - start
    return row


def table(rows: list[Row]) -> str:
    """As Markdown."""
    names = ("kind", "tries", "read", "refused", "tracebacks", "other faults", "slowest (s)", "seconds", "memory (MiB)")
    total = Row("all")
    for row in rows:
        for name in ("tries", "read", "refused", "tracebacks", "other_faults", "seconds"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
        total.slowest, total.memory = max(total.slowest, row.slowest), max(total.memory, row.memory)
    lines = [[*names], ["---", *["--:"] * 8]]
    for r in [*rows, total] if len(rows) > 1 else rows:
        counts = (r.tries, r.read, r.refused, r.tracebacks, r.other_faults)
        lines.append([r.kind, *map(str, counts), f"{r.slowest:.1f}", f"{r.seconds:.0f}", f"{r.memory >> 20}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def main() -> int:
    """Run the campaign, print faults and the table; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=TRIES, help="one of them (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the first try, the others follow (default 0)")
    parser.add_argument("--tries", type=int, help=f"of each kind (default: {TRIES})")
    parser.add_argument("--jobs", type=int, default=2, help="kinds at a time (default 2)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.worker:
        work(args.kind, args.seed, args.tries)
        return 0
    kinds = [args.kind] if args.kind else list(TRIES)
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda kind: campaign(kind, args.seed, args.tries or TRIES[kind]), kinds))
    for row in rows:
        for fault in row.faults:
            print(fault)
    print(table(rows))
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())
