"""The one exception a user is meant to read.

Every complaint about something the user handed in (a file, an option, a vocabulary) is a
:class:`HoiError`: one sentence that names the file and says what to do.  The command line prints
it without a traceback and exits with code 2.
"""


class HoiError(ValueError):
    """Bad input, told in one sentence that names the file and the way out."""
