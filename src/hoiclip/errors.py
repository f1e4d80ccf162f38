"""The one exception a user is meant to read.

Every complaint about something the user handed in (a file, an option, a vocabulary) is a
:class:`HoiError`: one sentence that names the file and says what to do.  The command line prints
it without a traceback and exits with code 2.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST = 1500  # characters of a sentence: whatever a file quotes, it does not fill the screen
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # line ends, and what a terminal obeys


class HoiError(ValueError):
    """Bad input, told in one sentence that names the file and the way out.

    Line ends and other control characters are escaped; of more than :data:`LONGEST` characters the middle is left out.
    """

    def __init__(self, sentence: str) -> None:
        line = CONTROL.sub(lambda found: ascii(found[0])[1:-1], sentence)
        if len(line) > LONGEST:
            line = f"{line[: 2 * LONGEST // 3]} [...] {line[-LONGEST // 4 :]}"
        super().__init__(line)


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first line of what a library says, or the kind of its error, to be quoted in a sentence of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:limit]


def whole_number(name: str, value: Any, least: int, most: int) -> None:
    """Raise HoiError unless ``value`` is a whole number in this range."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise HoiError(f"{name} must be a whole number from {least} to {most}, not {str(value)[:60]!r}")
