"""``hoiclip serve``: a web page to try a model, and plain HTTP on the same port."""

from __future__ import annotations

import argparse

from hoiclip.cli.arguments import backend_arguments, model_argument, open_model, positive_int, size_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    model_argument(parser)
    backend_arguments(parser)
    size_argument(parser)
    parser.add_argument("--host", default="127.0.0.1", help="to listen at (default 127.0.0.1, this machine alone)")
    parser.add_argument("--port", type=int, default=7860, help="default 7860; 0 takes a free one")
    parser.add_argument("--waiting", type=positive_int, default=16, help="calls that may wait (default 16)")
    parser.add_argument("--megabytes", type=positive_int, default=20, help="of an upload at most (default 20)")


def run(args: argparse.Namespace) -> int:
    """Load the model and serve until interrupted."""
    from hoiclip.optional_modules import optional_module

    optional_module("gradio", "web")  # before minutes of loading
    from hoiclip.serving.server import serve
    from hoiclip.serving.service import DetectionService, ServiceLimits

    name = args.model or "playground (drawn scenes)"
    detector = open_model(args)
    limits = ServiceLimits(waiting=args.waiting, megabytes=args.megabytes)
    serve(DetectionService(detector, limits, name), args.host, args.port)
    return 0
