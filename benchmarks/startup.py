"""How soon ``import hoiclip``, ``hoiclip --help`` and the first forward pass come, beside what must be loaded for them.

    python benchmarks/startup.py

Every line is the fastest of several fresh processes.  "every public name" is what ``import hoiclip`` loaded
before names were imported on first use (version 0.1); give a checkout of that version to measure the thing itself:

    python benchmarks/startup.py --before ../hoiclip-0.1/src
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVERY_NAME = "import hoiclip; [getattr(hoiclip, name) for name in hoiclip.__all__]"
LIBRARIES = """
import torch
from transformers import CLIPModel, PreTrainedModel
from transformers.models.detr import modeling_detr
"""
FIRST_PASS = """
import os
from hoiclip.cli import main
import hoiclip.models.modeling as modeling
modeling.HoiClipModel.forward = lambda *args, **kwargs: os._exit(0)
main(["detect", {image!r}, "--out", {out!r}])
os._exit(1)  # it never came to a forward pass
"""


def seconds(program: str, repeats: int, source: Path | None = None) -> float:
    """The fastest of several fresh Pythons that run a program."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=environment)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes per line (default 5)")
    parser.add_argument("--before", type=Path, help="src folder of version 0.1")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        from PIL import Image

        image = Path(scratch) / "a.png"
        Image.new("RGB", (128, 128), "white").save(image)
        first = FIRST_PASS.format(image=str(image), out=str(Path(scratch) / "out"))
        empty = seconds("pass", args.repeats)
        before = seconds("import hoiclip", args.repeats, args.before) if args.before else None
        everything = before or seconds(EVERY_NAME, args.repeats)
        help_before = "from hoiclip.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
        lines = [
            ("an empty Python", empty, None),
            ("import hoiclip 0.1" if before else "every public name, as version 0.1 imported them", everything, None),
            ("import hoiclip", seconds("import hoiclip", args.repeats), everything),
            ("hoiclip --help", seconds(help_before, args.repeats), everything),
            ("torch and the parts of transformers that the model is made of", seconds(LIBRARIES, args.repeats), None),
            ("hoiclip detect, to the first forward pass", seconds(first, args.repeats), None),
        ]
        print("| what | s | of version 0.1 |\n|---|---:|---:|")
        for what, measured, whole in lines:
            share = "" if whole is None else f"{100 * measured / whole:.0f} %"
            print(f"| {what} | {measured:.2f} | {share} |")


if __name__ == "__main__":
    main()
