"""``hoiclip convert``: somebody else's checkpoint to a model folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from hoiclip.cli.arguments import quiet_libraries
from hoiclip.errors import HoiError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("kind", choices=("hoiclip", "gen-vlkt", "detr"), help="whose checkpoint it is")
    parser.add_argument("file", metavar="FILE|ID", help=".pth file; for detr also a folder, hub id or name")
    parser.add_argument(
        "--vocabulary", default="hico", help="what it was trained on: hico, hico_rf_uc, ..., vcoco, or YAML"
    )
    parser.add_argument("--clip", help="CLIP folder, hub id or OpenAI archive (needed by detr, optional for gen-vlkt)")
    parser.add_argument("--tokenizer", help="folder or hub id of CLIP's tokenizer, to be saved with the model")
    parser.add_argument(
        "--weights",
        choices=("raw", "ema"),
        help="of a file that holds weights and their moving average (default: raw, and what there is where it is one)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the fresh half of a model made from DETR (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")


def run(args: argparse.Namespace) -> int:
    """Convert, write and count the parameters."""
    from hoiclip.checkpoints import convert_gen_vlkt, convert_hoiclip, initialise_from, save_model

    quiet_libraries()
    if args.kind == "hoiclip":
        model = convert_hoiclip(args.file, args.vocabulary, weights=args.weights)
    elif args.kind == "gen-vlkt":
        model = convert_gen_vlkt(args.file, args.vocabulary, clip=args.clip, weights=args.weights)
    elif not args.clip:
        raise HoiError("--clip is missing: a model that starts from DETR also needs a CLIP folder, hub id or archive")
    else:
        model = initialise_from(
            args.file, args.clip, args.vocabulary, seed=args.seed, tokenizer=args.tokenizer, weights=args.weights
        )
    save_model(model, args.out, tokenizer=args.tokenizer)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(f"{args.out}: {args.vocabulary}, {total / 1e6:.1f} M parameters, {trained / 1e6:.1f} M of them trained")
    return 0
