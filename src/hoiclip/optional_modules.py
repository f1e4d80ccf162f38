"""Packages that not everybody needs, loaded when they are."""

from __future__ import annotations

import importlib
from typing import Any

from hoiclip.errors import HoiError


def optional_module(package: str, extra: str) -> Any:
    """Import a package that not everybody needs.

    Raises:
        HoiError: if it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise HoiError(f"this needs {package}: pip install 'hoiclip[{extra}]'") from error
