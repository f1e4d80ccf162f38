"""Several runs at once, each in a process of its own: ``python -m hoiclip.reproduction.run_queue`` makes one."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial

from hoiclip.errors import HoiError
from hoiclip.reproduction.runs import Outcome, Run, make_run


def run_all(runs: Sequence[Run], jobs: int) -> Generator[tuple[Run, Outcome], None, None]:
    """Make all runs, ``jobs`` at once; those that another command is busy with come last.

    Closing the generator asks the runs at work to end; each saves a checkpoint first.
    """
    make = _one_by_one if jobs == 1 else partial(_side_by_side, jobs=jobs)
    busy: list[Run] = []
    for patient in (False, True):
        with contextlib.closing(make(busy if patient else runs, patient)) as made:
            for run, outcome in made:
                if outcome.state == "busy":
                    busy.append(run)
                else:
                    yield run, outcome


def _one_by_one(runs: Sequence[Run], patient: bool) -> Generator[tuple[Run, Outcome], None, None]:
    for run in runs:
        yield run, make_run(run, patient=patient)


def _side_by_side(runs: Sequence[Run], patient: bool, jobs: int) -> Generator[tuple[Run, Outcome], None, None]:
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()  # which share of the machine is free
    for slot in range(jobs):
        slots.put(slot)
    at_work: dict[int, subprocess.Popen[bytes]] = {}
    closing = threading.Event()

    def make(run: Run) -> Outcome:
        slot = slots.get()
        command = [sys.executable, "-m", "hoiclip.reproduction.run_queue"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, env={**os.environ, **_share(slot, jobs)}, **pipes) as process:  # type: ignore[call-overload]
            at_work[slot] = process
            if closing.is_set():  # asked between the submission and now
                process.terminate()
            printed, _ = process.communicate(pickle.dumps((run, patient, os.getpid())))
        del at_work[slot]
        slots.put(slot)
        if process.returncode:
            return Outcome("failed", message=_death(run, process.returncode))
        return Outcome(**json.loads(printed.splitlines()[-1]))

    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(make, run): run for run in runs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            closing.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(at_work.values()):
                process.terminate()


def _death(run: Run, code: int) -> str:
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{run.folder}: its process ended with {how}; the same command goes on, with fewer --jobs if memory ran out"


def _share(slot: int, jobs: int) -> dict[str, str]:
    """Environment variables of one of several processes: its cores, its GPU."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    gpus = torch.cuda.device_count()
    if gpus > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(gpus)]
        share["CUDA_VISIBLE_DEVICES"] = names[slot % gpus]
    return share


# --- the process of one run ------------------------------------------------------------------------


def main() -> None:
    """Make the run that comes in through standard input; the outcome is the last line printed."""
    from transformers.utils import logging

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked, and ends its children
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    run, patient, parent = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    run.experiment.train.progress = False
    try:
        outcome = make_run(run, patient=patient)
    except HoiError as error:
        outcome = Outcome("failed", message=str(error))
    print(f"\n{json.dumps(asdict(outcome))}")


def _end_with(parent: int) -> None:
    """Ask this process to end, checkpoint saved, when its parent is no more."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
