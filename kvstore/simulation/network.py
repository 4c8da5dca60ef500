"""The simulated network: what TCP shows of a bad network, and when each end of a connection learns of it.

A connection is an ordered stream each way. What is lost costs a retransmission and never a gap; a link that is cut or stalled holds
what is sent over it, and after a few seconds keepalive ends the connections across it (kvproto/options.py).
What an ended connection had on its way may still arrive later, in order and behind it the end: a request that its sender has given
up is executed then. Across connections nothing is ordered. Frames are opaque here: channel.py and server.py make sense of them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from kvstore.simulation.connection import MS, End, Link, NetworkSettings, Syn, ignore, shown
from kvstore.simulation.events import EventLog
from kvstore.simulation.loop import SimLoop
from kvstore.simulation.process import Process

KEEPALIVE_MS = (1500.0, 3500.0)
"""A black hole is noticed after a time between these: pings every 2 s, each given 1.5 s (kvproto/options.py)."""


class Network:
    """Links by name, listeners by address, and every connection that is open."""

    def __init__(self, loop: SimLoop, rng: Random, events: EventLog, settings: NetworkSettings) -> None:
        self.settings = settings
        self.hosts: dict[str, str] = {}  # address -> who lives there, running or not
        self._loop = loop
        self._rng = rng
        self._events = events
        self._links: dict[tuple[str, str], Link] = {}
        self._listeners: dict[str, tuple[Process, Callable[[End], None]]] = {}
        self._ends: dict[End, None] = {}
        self._connections = 0
        self.frames = 0
        self._methods: dict[tuple[int, int], str] = {}  # by connection and call; only for a log that is kept

    def link(self, source: str, target: str) -> Link:
        """The directed link between two processes."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link(source, target, self.settings.link)
        return found

    # --- connections

    def listen(self, process: Process, address: str, accept: Callable[[End], None]) -> None:
        """Connections to `address` are handed to `accept`, in `process`. Raises `RuntimeError` if the address is taken."""
        listener = self._listeners.get(address)
        if (listener is not None and listener[0].is_alive) or self.hosts.get(address, process.name) != process.name:
            raise RuntimeError(f"{address} is in use")
        self._listeners[address] = (process, accept)

    def unlisten(self, address: str) -> None:
        """Connections to `address` are refused from now on."""
        self._listeners.pop(address, None)

    def connect(self, process: Process, address: str, opened: Callable[[End], None], refused: Callable[[str], None]) -> End:
        """Begins a connection; `opened` or `refused` is called in `process`, or nothing is while packets do not pass."""
        me, them = process.name, self.hosts.get(address, address)
        there, back = self.link(me, them), self.link(them, me)
        self._connections += 1
        near, far = End(self, self._connections, address, there, back), End(self, self._connections, address, back, there)
        near.peer, far.peer = far, near
        near.process = process
        near.lost = refused

        def established(frame: Any) -> None:
            assert frame is None, "the first thing to arrive is that it was accepted"
            near.lost = ignore
            opened(near)

        near.receive = established
        self._ends[near] = None
        near.send(Syn(address))
        return near

    def _accept(self, far: End, address: str) -> None:
        """A connection reaches the machine at `address`; somebody there takes it, or it is refused."""
        listener = self._listeners.get(address)
        if listener is None or not listener[0].is_alive:
            far.close("connection refused")
            return
        process, accept = listener
        far.process = process
        self._ends[far] = None
        process.post(self._accepted, far, accept)

    def _accepted(self, far: End, accept: Callable[[End], None]) -> None:
        if far.is_open:
            accept(far)
            far.send(None)

    def carry(self, end: End, frame: Any) -> None:
        """Puts `frame` on its way; it arrives behind everything that its connection sent before."""
        self.frames += 1
        settings, draw = end.link.settings, self._rng.random
        jitter = draw()
        delay_ms = settings.delay_ms + settings.jitter_ms * jitter * jitter * jitter
        if settings.loss:
            wait_ms = settings.retransmit_ms
            while draw() < settings.loss and wait_ms <= 8 * settings.retransmit_ms:  # later keepalive would have ended it
                delay_ms += wait_ms
                wait_ms *= 2
        when_ns = max(end.last_ns + 1, self._loop.now_ns + int(delay_ms * MS))
        end.last_ns = when_ns
        self._events.add(
            self._loop.now_ns,
            "send",
            self._with_method(end, frame) if self._events.is_kept else None,
            source=end.link.source,
            target=end.link.target,
            connection=end.number,
            frame=shown(frame),
            arrives_ns=when_ns,
        )
        if isinstance(frame, Syn):
            self._loop.kernel.post_at(when_ns, self._accept, end.peer, frame.address)
            return
        peer = end.peer
        if peer.process is not None:
            peer.process.post_at(when_ns, peer.arrive, frame)
        else:
            self._loop.kernel.post_at(when_ns, self._deliver, peer, frame)

    def _with_method(self, end: End, frame: Any) -> tuple[str, Any]:
        """For readers of the log: the method that `frame` is about, which only the first of a stream names, and the frame."""
        if not isinstance(frame, tuple):
            return "", frame
        if frame[0] in {"unary", "stream"}:
            self._methods[end.number, frame[1]] = frame[2]
        return self._methods.get((end.number, frame[1]), ""), frame

    def name_calls(self, end: End, method: str) -> None:
        """For readers of the log: what is sent on this connection without a call is about `method`."""
        self._methods[end.number, 0] = method

    def _deliver(self, end: End, frame: Any) -> None:
        """The end of a connection that was still being made when it was sent."""
        if end.process is not None:
            end.process.post(end.arrive, frame)

    def forget(self, end: End) -> None:
        """`end` is closed. What it had on its way across a cut may be lost with it."""
        self._ends.pop(end, None)
        link = end.link
        if link.blocked == "cut" and link.held and self._rng.random() >= self.settings.late_share:
            link.held = [row for row in link.held if row[0] is not end]

    # --- faults

    def block(self, source: str, target: str, how: str) -> None:
        """Nothing passes from `source` to `target`; both ends of each connection notice after some seconds."""
        link = self.link(source, target)
        if not link.blocked:
            link.blocks += 1
            for end in list(self._ends):
                if link is end.link or link is end.back:
                    self._watch(end, link)
        link.blocked = how

    def unblock(self, source: str, target: str) -> None:
        """What was held arrives, in order."""
        link = self.link(source, target)
        if link.blocked:
            link.blocked = ""
            link.blocks += 1
            held, link.held = link.held, []
            for end, frame in held:
                self.carry(end, frame)

    def links(self) -> list[Link]:
        """Every link that was ever used or set."""
        return list(self._links.values())

    def _watch(self, end: End, link: Link) -> None:
        """Keepalive: if `link` is still blocked, by this very fault, when the ping's time is over, `end` is lost."""
        blocks = link.blocks

        def look() -> None:
            if link.blocks == blocks:
                end.drop("keepalive watchdog timeout")

        self._after_ping(end, look)

    def _after_ping(self, end: End, look: Callable[[], None]) -> None:
        assert end.process is not None
        low, high = KEEPALIVE_MS
        end.process.post_at(self._loop.now_ns + int((low + (high - low) * self._rng.random()) * MS), look)

    def silence(self, process: Process, pauses: Callable[[], bool]) -> None:
        """`process` answers no pings; whoever is connected to it notices if `pauses()` still holds then."""

        def watch(end: End) -> None:
            self._after_ping(end, lambda: end.drop("keepalive watchdog timeout") if pauses() else None)

        for end in list(self._ends):
            if end.peer.process is process and end.process is not process:
                watch(end)

    def reset(self, left: str, right: str) -> int:
        """Every connection between the two is reset: what is on its way is lost, both ends know at once. How many ends."""
        between = {(left, right), (right, left)}
        ends = [end for end in self._ends if (end.link.source, end.link.target) in between]
        for end in ends:
            for link in (end.link, end.back):
                link.held = [row for row in link.held if row[0] is not end]
            end.is_open = False
            self._ends.pop(end, None)
            if end.process is not None:
                end.process.post(end.lost, "connection reset by peer")
        return len(ends)

    def kill(self, process: Process, *, silently: bool) -> None:
        """`process` is gone. Its machine resets its connections, unless that went `silently` as well (power)."""
        for end in [end for end in self._ends if end.process is process]:
            if silently:
                end.is_open = False
                self._ends.pop(end, None)
                end.link.held = [row for row in end.link.held if row[0] is not end]
            else:
                end.close("connection reset by peer")
        if silently:
            self.silence(process, lambda: True)
        for address in [address for address, (owner, _) in self._listeners.items() if owner is process]:
            del self._listeners[address]

    def open_connections(self) -> list[str]:
        """Every open side of a connection, for people."""
        return [f"{end.link.source} > {end.link.target} #{end.number}" for end in self._ends]
