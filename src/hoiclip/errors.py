"""The one exception a user is meant to read.

Every complaint about something the user handed in (a file, an option, a vocabulary) is a
:class:`HoiError`: one sentence that names the file and says what to do.  The command line prints
it without a traceback and exits with code 2.
"""

from __future__ import annotations


class HoiError(ValueError):
    """Bad input, told in one sentence that names the file and the way out."""


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first line of what a library says, or the kind of its error, to be quoted in a sentence of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:limit]
