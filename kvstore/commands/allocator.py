"""How much freed memory a node's process keeps for the next value, where the C library is glibc.

glibc gives large blocks back to the system as soon as they are free, and a value of a megabyte is 256 pages that the system has to
find and clear again, for each of the dozen copies that a batch makes on its way through a node.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h

KEPT_BYTES_MAX = 16 << 20
"""At the end of the heap; less than the record cache may take."""
BLOCK_BYTES_MAX = 4 << 20
"""A larger block is mapped by itself and given back at once."""

_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Has this process keep some of what it frees. Whether it does: not where whoever started it has set up the allocator, nor
    where there is no glibc."""
    if any(os.environ.get(name) for name in _SETTINGS):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(set_option(_MMAP_THRESHOLD, BLOCK_BYTES_MAX)) and bool(set_option(_TRIM_THRESHOLD, KEPT_BYTES_MAX))
