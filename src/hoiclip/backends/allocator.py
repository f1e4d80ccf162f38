"""Keep the memory that tensors free, for the next tensors."""

from __future__ import annotations

import ctypes
import os
import platform

# numbers of mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor; under eager torch this saves a third of the time.

    As it comes, glibc hands every freed block of 32 MiB or more back to the kernel, and the next
    activation of that size is paid for again page by page.  This holds for the whole process, which
    from then on does not shrink; the commands of hoiclip do it, a program of yours may.  Where
    a variable MALLOC_... is set, the user has decided, and nothing is changed.

    Returns:
        Whether it is so now; False without glibc.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wishes = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20))
    return all([mallopt(parameter, value) == 1 for parameter, value in wishes])
