"""How many operations a node takes on at a time: as many as it can answer soon.

What is under way beyond what a node can work on only waits, and if it waits longer than its clients do, all the work is for nobody:
throughput does not level off under overload, it collapses. So the number of operations under way has a limit, and the limit
follows from latency, because nobody knows beforehand what an operation costs (TCP Vegas, Brakmo and Peterson 1995; concurrency
limiters of servers do the same). By Little's law it is throughput times the latency that is aimed at, and so it is computed.

- **What is measured** is the *least* latency of a short window, per kind of work: a standing queue delays everybody, while large
  batches, slow keys and stalled replicas delay only their own (CoDel, Nichols and Jacobson 2012). What a batch takes by itself, by
  the rate of late, is not counted: it did not wait for that.
- **What is aimed at** is `target_s`: a queue shorter than that is none of ours, it makes batches larger and hence cheaper. Where
  even the emptiest node takes longer (a distant replica, a slow disk), it is `stretch` times that.
- **The least latency ever** is only believed when it was measured at the smallest limit, or was less: measured under load it would
  drift upwards with the queue that it is to reveal. It is forgotten after a while, and then measured again.

Pure: `answered` is called once a batch. Called by coordinator/intake.py.
"""

from __future__ import annotations

from dataclasses import dataclass

NEVER = float("inf")


@dataclass(slots=True, frozen=True, kw_only=True)
class Aim:
    """Bounds of the limit in operations, and what it aims at; `target_s` 0: the limit stays what it is at first."""

    target_s: float = 0.2
    stretch: float = 2.0
    limit_min: int = 32
    limit_first: int = 4096
    limit_max: int = 65_536
    window_s: float = 0.1
    window_batches: int = 4
    """A window ends when both are reached, or after `window_s_max` with one batch."""
    window_s_max: float = 1.0
    floor_windows: int = 5
    """So many windows in a row at the smallest limit are not the queue's fault."""
    least_s_max: float = 1.0
    least_age_s: float = 60.0

    def __post_init__(self) -> None:
        assert 0 < self.limit_min <= self.limit_first <= self.limit_max
        assert self.target_s >= 0 and self.stretch > 1 and self.window_s > 0


class _Kind:
    """Latencies of one kind of work. `base_s`: what it takes without any queue, as far as that is more than the target allows."""

    __slots__ = ("base_at_s", "base_s", "least_s")

    def __init__(self) -> None:
        self.least_s = NEVER  # of this window
        self.base_s = 0.0
        self.base_at_s = 0.0


class AdmissionLimit:
    """`limit`: how many operations may be under way. `latency_s`: the standing latency, as of the last window with any answer."""

    __slots__ = (
        "_at_floor",
        "_batches",
        "_before",
        "_began_s",
        "_kinds",
        "_operations",
        "_peak",
        "_was_pressed",
        "aim",
        "latency_s",
        "limit",
        "pressure",
        "s_per_operation",
    )

    def __init__(self, aim: Aim) -> None:
        self.aim = aim
        self.limit = aim.limit_first
        self.latency_s = 0.0
        self.pressure = 0.0
        """The standing latency in parts of what is aimed at; above 1 there is too much under way."""
        self.s_per_operation = 0.0
        """One by the rate of late; 0: not known yet."""
        self._kinds = (_Kind(), _Kind())
        self._operations = 0
        self._began_s = -NEVER
        self._batches = 0
        self._peak = 0
        self._at_floor = 0
        self._before = 0  # the limit before it began to fall
        self._was_pressed = False

    def answered(self, writes: bool, operations: int, latency_s: float, under_way: int, now_s: float) -> None:
        """A batch of so many operations was answered `latency_s` after it came; `under_way` were then, itself included."""
        kind = self._kinds[writes]
        waited_s = latency_s - min(self.aim.least_s_max, operations * self.s_per_operation)
        kind.least_s = min(kind.least_s, max(0.0, waited_s))
        self._peak = max(self._peak, under_way)
        self._operations += operations
        self._batches += 1
        lasted_s, aim = now_s - self._began_s, self.aim
        if lasted_s >= aim.window_s and (self._batches >= aim.window_batches or lasted_s >= aim.window_s_max):
            self._adjust(now_s)
            if lasted_s <= 2 * aim.window_s_max:  # else there was nothing to do
                self._note_rate(lasted_s / self._operations)
            self._began_s = now_s
            self._batches = self._operations = self._peak = 0

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert self.aim.limit_min <= self.limit <= self.aim.limit_max

    def _adjust(self, now_s: float) -> None:
        aim, peak, limit = self.aim, self._peak, self.limit
        if not aim.target_s:
            return
        pressure = latency_s = 0.0
        for kind in self._kinds:
            if kind.least_s < NEVER:
                kind.base_s = min(kind.base_s, kind.least_s)
                if now_s - kind.base_at_s > aim.least_age_s:
                    kind.base_s = 0.0  # the target decides again, until the floor says otherwise
                pressure = max(pressure, kind.least_s / max(aim.target_s, aim.stretch * kind.base_s))
                latency_s = max(latency_s, kind.least_s)
        self.pressure, self.latency_s = pressure, latency_s
        if pressure > 1.0 and not self._was_pressed:
            self._before = limit
        self._was_pressed = pressure > 1.0
        if pressure > 1.0:
            self._learn(now_s) if limit == aim.limit_min else self._shrink(min(peak, limit) / pressure)
        else:
            self._at_floor = 0
            if peak * 2 >= limit:
                self.limit = min(aim.limit_max, limit + max(1, int(limit * 0.25 * (1.0 - pressure))))
            elif limit < aim.limit_first:  # nothing speaks for a limit that an earlier flood has left
                self.limit = min(aim.limit_first, limit + max(1, (aim.limit_first - limit) // 16))
        for kind in self._kinds:
            kind.least_s = NEVER

    def _note_rate(self, s_per_operation: float) -> None:
        """Quickly when it is higher than thought, slowly when it is lower: that may just be for want of work."""
        known_s = self.s_per_operation
        weight = 1.0 if not known_s else 0.75 if s_per_operation < known_s else 0.1
        self.s_per_operation += (s_per_operation - known_s) * weight

    def _shrink(self, wanted: float) -> None:
        """Half of the way to what Little's law says: latencies tell of the queue as it was when they began."""
        self.limit = max(self.aim.limit_min, int((self.limit + wanted) / 2))

    def _learn(self, now_s: float) -> None:
        """At the smallest limit, and still late: after some windows that is how long it takes, and the limit need not have fallen.
        It begins anew at a part of what it was: if that is too much all the same, it is soon found out."""
        self._at_floor += 1
        if self._at_floor < self.aim.floor_windows:
            return
        self._at_floor = 0
        for kind in self._kinds:
            if self.aim.target_s < kind.least_s < NEVER:
                kind.base_s = min(kind.least_s, self.aim.least_s_max)
                kind.base_at_s = now_s
        self.limit = max(self.aim.limit_min, min(self.aim.limit_first, self._before // 4))
