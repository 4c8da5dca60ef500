"""Links and connections of the simulated network: two ends, each with what it has sent, what it waits for, and who owns it.

A connection is an ordered stream each way. Frames are opaque here, but for the messages of streams, which flow control counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_hexdigest

from kvstore.simulation.process import Process

if TYPE_CHECKING:
    from kvstore.simulation.network import Network

MS = 1_000_000  # nanoseconds
WINDOW_BYTES = 1 << 20
"""Of stream messages that are on their way on one connection; what flow control lets through."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One directed link. A message takes `delay_ms` and, drawn for each, up to `jitter_ms` more, mostly little; with probability
    `loss` it is sent again after `retransmit_ms`, doubling."""

    delay_ms: float = 0.2
    jitter_ms: float = 0.6
    loss: float = 0.0
    retransmit_ms: float = 200.0


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """`link` is what every link is like until `set_link`; `late_share`: how often what a dead connection had on its way across a
    cut still arrives after the healing (what a stall holds always does)."""

    link: LinkSettings = LinkSettings()
    late_share: float = 0.5


class Link:
    """One direction between two processes, by name."""

    __slots__ = ("blocked", "blocks", "held", "settings", "source", "target")

    def __init__(self, source: str, target: str, settings: LinkSettings) -> None:
        self.source = source
        self.target = target
        self.settings = settings
        self.blocked = ""  # "cut" or "stalled"
        self.blocks = 0  # how often it was blocked or freed so far: tells one cut from the next
        self.held: list[tuple[End, Any]] = []


class End:
    """One side of a connection. `receive` and `lost` (with a reason, once) are set by its owner and called in its process."""

    __slots__ = (
        "address",
        "back",
        "in_flight_bytes",
        "is_open",
        "last_ns",
        "link",
        "lost",
        "network",
        "number",
        "peer",
        "process",
        "receive",
        "waiting",
    )

    peer: End

    def __init__(self, network: Network, number: int, address: str, link: Link, back: Link) -> None:
        self.network = network
        self.number = number
        self.address = address
        self.link = link
        self.back = back
        self.process: Process | None = None  # None: nobody has accepted it yet
        self.receive: Callable[[Any], None] = ignore
        self.lost: Callable[[str], None] = ignore
        self.is_open = True
        self.last_ns = 0
        self.in_flight_bytes = 0
        self.waiting: list[asyncio.Future[None]] = []

    def send(self, frame: Any) -> None:
        """Sends `frame` behind everything sent before; silently nowhere, once the connection is lost."""
        if self.is_open:
            self._pass_on(frame)

    async def write(self, call_id: int, raw: bytes) -> None:
        """Sends a message of a stream, and returns when the next one may follow: in another turn of the loop, and not while more
        is on its way than the window holds. Never, if the connection is lost meanwhile: whoever writes learns it otherwise."""
        self.in_flight_bytes += len(raw)
        self.send(("message", call_id, raw))
        await asyncio.sleep(0)
        while self.in_flight_bytes > WINDOW_BYTES:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(room)
            await room

    def close(self, reason: str = "closed") -> None:
        """Ends this side now, without telling its owner; the other side learns it behind what is on its way."""
        if self.is_open:
            self.is_open = False
            self.network.forget(self)
            self._pass_on(Fin(reason))

    def drop(self, reason: str) -> None:
        """The connection is lost as this side sees it: ends it, and tells the owner in its process."""
        if self.is_open:
            self.close(reason)
            self.lost(reason)

    def _pass_on(self, frame: Any) -> None:
        if self.link.blocked:
            self.link.held.append((self, frame))
        else:
            self.network.carry(self, frame)

    def arrive(self, frame: Any) -> None:
        """`frame` has come from the other side; runs in this side's process."""
        if not self.is_open:
            return
        if isinstance(frame, Fin):
            self.drop(frame.reason)
            return
        if self.peer.in_flight_bytes and frame is not None and frame[0] == "message":
            self.peer.consumed(len(frame[2]))
        self.receive(frame)

    def consumed(self, size_bytes: int) -> None:
        """The other side has read a message: there may be room for the next."""
        self.in_flight_bytes -= size_bytes
        if self.waiting and self.in_flight_bytes <= WINDOW_BYTES and self.process is not None:
            waiting, self.waiting = self.waiting, []
            for room in waiting:
                self.process.post(_set, room)


@dataclass(frozen=True, slots=True)
class Syn:
    """The first thing over a connection."""

    address: str


@dataclass(frozen=True, slots=True)
class Fin:
    """The last thing over a connection."""

    reason: str


def shown(frame: Any) -> str:
    """What of a frame goes into the log: its kind, call and method, and a hash of its bytes."""
    if frame is None:
        return "accepted"
    if not isinstance(frame, tuple):
        return repr(frame)
    return " ".join([f"{len(part)}:{xxh3_64_hexdigest(part)}" if isinstance(part, bytes) else str(part) for part in frame])


def _set(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)


def ignore(_: Any) -> None:
    """Nobody is interested."""
    return
