"""``hoiclip reproduce``: a table of the paper, several seeds, from training to Markdown and figure."""

from __future__ import annotations

import argparse
from pathlib import Path

from hoiclip.cli.arguments import CommandParser, experiment_arguments, positive_int, quiet_libraries, whole_numbers


def add_arguments(parser: CommandParser) -> None:
    """The options of this command, and those of its experiments."""
    from hoiclip.reproduction.tables import DATASETS, TABLES

    parser.add_argument("table", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--dataset", choices=DATASETS, default="playground", help="default: the playground")
    parser.add_argument(
        "--seeds", type=whole_numbers, default=[0, 1, 2], metavar="0,1,2", help="a run of each cell for each"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="tables and runs (default: reproduction/DATASET)")
    parser.add_argument("--jobs", type=positive_int, default=1, help="runs at once: they share the cores, or the GPUs")
    parser.add_argument("--list", action="store_true", help="only print the training command of every line")
    experiment_arguments(parser, own=("name", "seed", "out"))


def run(args: argparse.Namespace) -> int:
    """Reproduce the table and print it, or list its commands."""
    if args.list:
        from hoiclip.reproduction.tables import cell_command, paper_table

        for cell in paper_table(args.table, args.dataset).cells:
            print(f"{cell.name}: {cell_command(cell, args.options)}")
        return 0
    from hoiclip.reproduction.plan import reproduce

    quiet_libraries()
    path = reproduce(
        args.table, dataset=args.dataset, seeds=args.seeds, out=args.out, options=args.options, jobs=args.jobs
    )
    if path is not None:
        print(f"\n{path.read_text(encoding='utf-8')}\n{path}, figure and numbers beside it")
    return 0
