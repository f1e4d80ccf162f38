"""Import public names on first use (PEP 562), so that ``import hoiclip`` needs neither torch nor transformers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        homes: module -> the public names defined there.  No module of the package may bear the name of
            a public function: importing it would put the module in the function's place.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get_name(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)  # the next look-up does not come here
        return value

    return get_name
