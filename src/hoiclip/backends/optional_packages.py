"""Packages that not everybody needs: loaded when needed, kept quiet, and not allowed to report usage."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from hoiclip.errors import HoiError


def require(package: str, extra: str) -> Any:
    """Import a package that not everybody needs.

    Raises:
        HoiError: if it is not installed, with the command that installs it.
    """
    try:
        with no_telemetry():
            return importlib.import_module(package)
    except ImportError as error:
        raise HoiError(f"--backend {extra} needs {package}: pip install 'hoiclip[{extra}]'") from error


@contextlib.contextmanager
def no_telemetry() -> Iterator[None]:
    """Switch off usage reports: OpenVINO and NNCF send over the network what they are used for.

    They do so from forks of this process, which with a model in memory is not even cheap.
    """
    try:
        from openvino_telemetry.utils.opt_in_checker import ConsentCheckResult, OptInChecker
        from openvino_telemetry.utils.sender import TelemetrySender
    except ImportError:
        yield
        return
    send, check = TelemetrySender.send, OptInChecker.check
    TelemetrySender.send = lambda *args, **kwargs: None
    OptInChecker.check = lambda *args, **kwargs: ConsentCheckResult.DECLINED  # or it counts uses in the home folder
    try:
        yield
    finally:
        TelemetrySender.send, OptInChecker.check = send, check


@contextlib.contextmanager
def suppress_warnings() -> Iterator[None]:
    """Silence the warnings and progress of tracers and quantisers; their errors still come through."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), no_telemetry():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
