"""``hoiclip push``: a model to the hub, where ``hoiclip.load("owner/name")`` finds it."""

from __future__ import annotations

import argparse
import sys

from hoiclip.cli.arguments import quiet_libraries, token_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", metavar="MODEL", help="model folder, or folder written by hoiclip export")
    parser.add_argument("repository", metavar="OWNER/NAME", help="of the hub; made if there is none")
    parser.add_argument(
        "--private", action="store_true", default=None, help="make a repository that its owner alone sees"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to, made if there is none (default: main)")
    token_argument(parser, "write there")
    parser.add_argument("--license", help="of the model, such as apache-2.0 (default: as its README.md states)")
    parser.add_argument("--message", help="of the commit")


def run(args: argparse.Namespace) -> int:
    """Load the model, so that nothing broken is pushed, push it and say how to load it."""
    from hoiclip.inference.loading import load
    from hoiclip.inference.model_card import stated_card

    quiet_libraries()
    detector = load(args.model, device="cpu")
    stated = stated_card(detector.folder)
    if args.license is None and (stated is None or not stated.data.license):
        print("hoiclip: no license is stated, so others may not use the model; name one by --license", file=sys.stderr)
    commit = detector.push_to_hub(
        args.repository,
        private=args.private,
        token=args.token,
        revision=args.revision,
        commit_message=args.message,
        license=args.license,
    )
    option = f" --revision {args.revision}" if args.revision else ""
    print(f"{commit}; hoiclip detect PHOTO --model {args.repository}{option}")
    return 0
