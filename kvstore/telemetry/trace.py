"""Ids by which a request is found again: in its error, in the log of the node that coordinated it and in those of the replicas.

16 bytes, as in W3C Trace Context. Clients send one with each batch; a unary call may bring a `traceparent` instead; what comes
without either is given one here, so that whatever is logged of it has a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TRACE_BYTES = 16
TRACEPARENT = "traceparent"

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class TraceIds:
    """Ids for what comes without one: this process's incarnation, and a count."""

    __slots__ = ("_count", "_prefix")

    def __init__(self, incarnation: int) -> None:
        self._prefix = incarnation.to_bytes(8, "big")
        self._count = 0

    def id_of(self, given: bytes, metadata: Iterable[tuple[str, str | bytes]] | None = None) -> bytes:
        """The id that a request brought, in its message or else in the metadata of its call; else a new one."""
        if len(given) == TRACE_BYTES:
            return given
        for name, value in metadata or ():
            if name == TRACEPARENT and isinstance(value, str):
                found = parse_traceparent(value)
                if found:
                    return found
        self._count += 1
        return self._prefix + self._count.to_bytes(8, "big")


def parse_traceparent(text: str) -> bytes:
    """The trace id of a `traceparent` header; b"" if it is none (W3C Trace Context, section 3.2.2)."""
    match = _TRACEPARENT.fullmatch(text)
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return b""
    if text.startswith("00-") and match[3]:
        return b""
    return bytes.fromhex(match[1])
