"""Whether the system refused because there is no room: of the disk, of a quota, or up to the limit of a file's size. Pure."""

from __future__ import annotations

import errno
import os

_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEXTS = tuple(os.strerror(code) for code in _CODES)


def is_full(error: OSError) -> bool:
    """Whether `error` says so."""
    return error.errno in _CODES


def tells_full(text: str) -> bool:
    """Whether the system's own words in `text`, an error of a library that keeps no code, say so."""
    return any(full in text for full in _TEXTS)
