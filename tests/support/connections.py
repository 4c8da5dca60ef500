"""A stand-in for a connection that carries frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kvproto.frames import GREETING_BYTES_MAX


class Unread:
    """A connection whose other side reads when it is told to."""

    def __init__(self) -> None:
        self.take: Callable[[bytes], None] = lambda frame: None
        self.lost: Callable[[str], None] = lambda reason: None
        self.frame_bytes_max = GREETING_BYTES_MAX
        self.written: list[bytes] = []
        self.held: list[bytes] = []
        self.has_paused = self.is_closed = False
        self._room: asyncio.Future[None] | None = None

    @property
    def peer(self) -> str:
        return "frames:test"

    async def write(self, frame: bytes, tail: Sequence[bytes] = ()) -> None:
        self.written.append(b"".join([frame, *tail]))
        self._room = asyncio.get_running_loop().create_future()
        await self._room

    def pause(self) -> None:
        self.has_paused = True

    def resume(self) -> None:
        self.has_paused = False
        while self.held and not self.has_paused:
            self.take(self.held.pop(0))

    def deliver(self, frame: bytes) -> None:
        """Something has come from the other side."""
        self.held.append(frame)
        if not self.has_paused:
            self.resume()

    def is_paused(self) -> bool:
        return self.has_paused

    def close(self) -> None:
        self.is_closed = True

    def read_one(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set_result(None)
