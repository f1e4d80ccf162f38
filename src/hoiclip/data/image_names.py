"""The images that annotations name, by the paths that other programs have for them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from hoiclip.errors import HoiError


class ImageNames:
    """The names of the annotated images, and what paths end in them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self.by_path: dict[str, list[str]] = {}
        for name in sorted(self.names):
            self.by_path.setdefault(_with_slashes(name), []).append(name)

    def find(self, name: str) -> str:
        """The annotated name that is meant.  Raises HoiError where it is none, or any of several."""
        if name in self.names:
            return name
        parts = _with_slashes(name).split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        meant = [known for end in ends for known in self.by_path.get(end, ())]
        if len(meant) > 1:
            raise HoiError(
                f"{name!r} ends in {len(meant)} annotated names, {meant[0]!r} and {meant[1]!r}; "
                "name the image as the annotations do"
            )
        if not meant:
            example = f" (they name {min(self.names)!r}, for example)" if self.names else ""
            raise HoiError(f"the annotations do not contain {name!r}{example}")
        return meant[0]


def _with_slashes(name: str) -> str:
    """One spelling of a path: slashes, and accents as one character, which macOS writes as two."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")
