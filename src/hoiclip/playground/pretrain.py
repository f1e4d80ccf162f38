"""Makes the playground's pretrained parts.

    python -m hoiclip.playground.pretrain clip --out runs/playground/clip
    python -m hoiclip.playground.pretrain detector --out runs/playground/detector

Both resume from ``--out`` when started again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from hoiclip.playground.clip_training import pretrain_clip
from hoiclip.playground.detector_training import pretrain_detector

__all__ = ["main", "pretrain_clip", "pretrain_detector"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of both pretrainings."""
    parser = argparse.ArgumentParser(prog="hoiclip playground pretrain", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("clip", "detector"):
        part = parts.add_parser(name)
        part.add_argument("--out", required=True, help="folder for the weights and the working checkpoint")
        part.add_argument("--seed", type=int, default=0)
        part.add_argument("--samples", type=int, default=None, help="pictures to see in all")
        part.add_argument("--batch", type=int, default=None)
        part.add_argument("--lr", type=float, default=None)
        part.add_argument("--start-from", default=None, help="folder of weights to begin with")
        part.add_argument("--device", default=None, help="cpu or cuda; by default a GPU if there is one")
        part.add_argument("--bf16", action="store_true", help="mixed precision, for CPUs with AVX-512 bf16 and GPUs")
        part.add_argument("--threads", type=int, default=1)
        part.add_argument("--workers", type=int, default=1)
        part.add_argument(
            "--stop-after-s", type=float, default=None, help="pause at a checkpoint after so many seconds"
        )
    options = vars(parser.parse_args(arguments))
    part = options.pop("part")
    given = {name: value for name, value in options.items() if value is not None}
    train: Any = {"clip": pretrain_clip, "detector": pretrain_detector}[part]
    print(train(given.pop("out"), **given))


if __name__ == "__main__":
    main()
