"""``hoiclip serve``: a web page to try a model, and plain HTTP on the same port."""

from __future__ import annotations

import argparse

from hoiclip.cli.arguments import backend_arguments, model_argument, positive_int, quiet_libraries, size_argument


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
    from hoiclip.inference.detector import load
    from hoiclip.serving.server import serve
    from hoiclip.serving.service import DetectionService, ServiceLimits

    quiet_libraries()
    detector = load(
        args.model,
        device=args.device,
        backend=args.backend,
        precision=args.precision,
        revision=args.revision,
        token=args.token,
        detector=args.detector,
        clip=args.clip,
    )
    if args.size:
        detector.set_size(args.size)
    limits = ServiceLimits(waiting=args.waiting, megabytes=args.megabytes)
    serve(DetectionService(detector, limits, args.model or "playground (drawn scenes)"), args.host, args.port)
    return 0
