"""One batch that was taken on: what it holds, since when, and how long its first answer took. Made by key_value.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvproto.columns import GroupReply, Kind
from kvproto.errors import Code
from kvproto.v1 import key_value_pb2
from kvstore.coordinator.coordinator import DEFAULT_TIMEOUT_MS
from kvstore.coordinator.intake import Call


class Admitted:
    """What `Call.admit` has charged for a batch, until `end`. `came_s`: when it left its sender, as far as known, by our clock."""

    __slots__ = ("_call", "_cost_bytes", "_is_told", "_read_s", "_writes", "came_s", "operations")

    def __init__(
        self, request: key_value_pb2.BatchRequest, call: Call, operations: int, waited_s: float, size_bytes: int = 0
    ) -> None:
        """`size_bytes`: what the request took on its way, where that is known: a message is encoded to find out. Raises
        `Overloaded`: then nothing was charged."""
        self._cost_bytes = call.admit(size_bytes or request.ByteSize(), operations)
        self._call = call
        self._is_told = False
        self._writes = bool(request.groups) and int(request.groups[0].kind) != Kind.GET
        self._read_s = asyncio.get_running_loop().time()
        self.operations = operations
        self.came_s = self._read_s - waited_s

    def tell(self, replies: Sequence[GroupReply]) -> None:
        """A part of the answer is about to leave; the first that was worked for says how long work takes now."""
        if self._is_told or not any(map(_was_worked_for, replies)):
            return
        self._is_told = True
        now_s = asyncio.get_running_loop().time()
        self._call.answered(self._writes, self.operations, now_s - self._read_s, now_s)

    def end(self) -> None:
        """It is answered, or nobody waits for it any more."""
        self._call.release(self._cost_bytes)
        self._call.finish(self.operations)


def is_too_late(request: key_value_pb2.BatchRequest, waited_s: float) -> bool:
    """Whether the deadline of every operation passed while the request waited to be read."""
    waited_ms = waited_s * 1000
    return all(waited_ms >= (max(group.timeouts_ms, default=0) or DEFAULT_TIMEOUT_MS) for group in request.groups)


def _was_worked_for(reply: GroupReply) -> bool:
    """Not refused beforehand."""
    error = reply.error
    return error is None or error.may_have_applied or error.code is Code.DEADLINE_EXCEEDED
