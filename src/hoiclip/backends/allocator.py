"""Memory: keep what tensors free for the next tensors, and let go of weights that were arranged anew."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

# numbers of mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MADV_DONTNEED = 4  # from linux/mman.h


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


def drop_mapped_pages(file: Path) -> int:
    """Take the pages of a file that is mapped for reading out of memory; whoever reads them again finds them again.

    A runtime that has arranged the weights to its liking does not look at the originals any more.

    Returns:
        Bytes that were mapped; 0 where the system has no ``/proc``.
    """
    dropped = 0
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return 0
    for line in mapped.splitlines():
        addresses, permissions, _, _, _, *name = line.split(maxsplit=5)
        if permissions.startswith("r--") and name == [os.path.realpath(file)]:  # written ones would be lost
            start, end = (int(address, 16) for address in addresses.split("-"))
            if madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED) == 0:
                dropped += end - start
    return dropped
