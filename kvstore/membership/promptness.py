"""How long peers take to answer, from the answers to what they are asked anyway, and who is slow by that (kvproto/slowness.py).

A batch adds a sample; ten times a second what is out without an answer is a sample too, the judge decides, and whoever is marked
slow is sent an empty message now and then, or nobody would see that it is quick again. Where nothing is asked it looks less often:
an idle node is not to be woken for nothing. detection.py makes an opinion of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from kvproto.slowness import SlowPeers

LOOK_S = 0.1
QUIET_LOOK_S = 0.5
"""While nothing is out, nothing has been answered since the last look, and nobody is slow."""


class Asked(Protocol):
    """What is asked at each look, and told."""

    def lag_s(self, node: str) -> float:
        """How long `node` has owed an answer to data; 0 when it owes none."""

    def measure(self, node: str, took: Callable[[float], None]) -> None:
        """Calls `took` with the seconds that an empty message there and back takes."""

    def slow_max(self) -> int:
        """How many may be slow at a time."""

    def slow_changed(self, node: str, *, slow: bool) -> None:
        """Takes what was decided."""


class Promptness:
    """Of each of `peers`, by `timer`."""

    def __init__(self, peers: tuple[str, ...], *, timer: Callable[[], float]) -> None:
        self._judge = SlowPeers(peers)
        self._peers = peers
        self._timer = timer
        self._look_at: asyncio.TimerHandle | None = None
        self._asked: Asked | None = None
        self._is_quiet = False
        self._was_heard = False

    def start(self, asked: Asked) -> None:
        """Looks and decides from here on."""
        self._asked = asked
        self._look_again(asked, quiet=False)

    def stop(self) -> None:
        """Looks no more."""
        if self._look_at is not None:
            self._look_at.cancel()

    def record(self, node: str, elapsed_s: float, now_s: float) -> None:
        """`node` has answered a batch after `elapsed_s`; `now_s` by the timer."""
        self._judge.record(node, elapsed_s * 1000.0, now_s * 1000.0)
        self._was_heard = True
        if self._is_quiet:
            self._hurry()

    def record_ping(self, node: str, took_ms: float) -> None:
        """A ping of `node` took so long. It has nothing to read and no disk to wait for, so a quick one says only that the peer is
        not slow; by its milliseconds a peer that works would look slow beside one that is only pinged."""
        floor_ms = self._judge.tolerance.floor_ms
        if node not in self._judge.slow and took_ms < floor_ms:
            took_ms = floor_ms
        self._judge.record(node, took_ms, self._timer() * 1000.0)

    def latency_ms(self, node: str) -> float:
        """What an answer of `node` takes at present; 0: not known."""
        return self._judge.latency_ms(node) or 0.0

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._judge.check()

    def _look_again(self, asked: Asked, *, quiet: bool) -> None:
        self._is_quiet = quiet
        self._look_at = asyncio.get_running_loop().call_later(QUIET_LOOK_S if quiet else LOOK_S, self._look, asked)

    def _hurry(self) -> None:
        self._is_quiet = False
        if self._look_at is not None and self._asked is not None and not self._look_at.cancelled():
            self._look_at.cancel()
            self._look_again(self._asked, quiet=False)

    def _look(self, asked: Asked) -> None:
        was_heard, self._was_heard = self._was_heard, False
        is_waiting = False
        now_ms = self._timer() * 1000.0
        for node in self._peers:
            lag_s = asked.lag_s(node)
            if lag_s:
                is_waiting = True
                self._judge.record_waiting(node, lag_s * 1000.0, now_ms)
        for node, slow in self._judge.decide(now_ms, asked.slow_max()):
            asked.slow_changed(node, slow=slow)
        for node in self._judge.due_probes(now_ms):
            asked.measure(node, partial(self._measured, node))
        self._look_again(asked, quiet=not (is_waiting or was_heard or self._judge.slow))

    def _measured(self, node: str, took_s: float) -> None:
        self.record_ping(node, took_s * 1000.0)
