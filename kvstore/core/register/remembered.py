"""What a proposer remembers of one register's requests beyond those that lie in its payload. Pure.

A payload has room for 32 requests. What falls out of it while one proposer holds the ballot is kept here with what it was answered,
so that a retry is told the same, and so that a first attempt that comes late is known for what it is: a request that is remembered
nowhere is executed only if it *cannot* have been executed and forgotten (safety rule 8). Two proofs of that:

- its id was issued after every id that was forgotten. Ids name their time, and both times are read in ids: no clock comes into it;
- it was issued after this proposer read the register, by the node's own clock (docs/adr/0015), and nothing was forgotten since.
  That is for clients whose clock is far behind the others'.

What was read under the ballot holds all that was decided before (core/register/proposer.py), and whatever is decided by another
proposer afterwards ends this ballot.
"""

from __future__ import annotations

from collections import deque

from kvstore.core.register.payload import COUNT_AT, REQUEST_BYTES, Request, first_requests, forgotten_ms, read_request

REMEMBERED_MAX = 4096
"""Requests of one register: 0.8 s of 5,000 a second."""
ALL_MAX = 65_536
"""Of all registers of a proposer, some 20 MB."""
CLOCK_SLACK_S = 1.0
"""An event loop's clock stands still while a turn of it lasts: what was dropped was issued before, or so much later at most."""

ID_BYTES = 16
EPOCH, NEVER = float("-inf"), float("inf")
NOTHING: deque[tuple[float, bytes]] = deque()


class Budget:
    """How many requests all registers of one proposer remember together."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Memory:
    """Of one register, from when it was read under the ballot. `forgotten_ms`: when the latest id was issued that may have been
    forgotten; `since_s`: what was forgotten was issued before, by the node's clock."""

    __slots__ = ("_budget", "_known", "_made_s", "_order", "_window_s", "changed_s", "forgotten_ms", "since_s")

    def __init__(self, budget: Budget, held: bytes | None, *, cutoff_ms: int, window_s: float, now_s: float) -> None:
        """`held` is what was read, None: nothing. A tombstone that was reaped may have remembered ids issued up to `cutoff_ms`, by
        clocks that may be apart, and surely none that is younger than the window (`is_quiet`)."""
        self._budget = budget
        self._known: dict[bytes, bytes] | None = None  # most registers never drop any
        self._order: deque[tuple[float, bytes]] = NOTHING
        self._window_s = window_s
        self._made_s = self.changed_s = now_s
        self.forgotten_ms = cutoff_ms if held is None else forgotten_ms(held)
        self.since_s = now_s - window_s if held is None else NEVER

    def settle(self, now_s: float) -> None:
        """It is `now_s`, and the register was read before; in the turn in which it was read, the clock said less than it was."""
        if self.since_s == NEVER and now_s > self._made_s:
            self.since_s = now_s

    def is_quiet(self, now_s: float) -> bool:
        """Whether nothing was applied for the retry window."""
        return now_s - self.changed_s >= self._window_s

    def request(self, request_id: bytes) -> Request | None:
        """What the request was answered, if it is remembered here."""
        row = None if self._known is None else self._known.get(request_id)
        return None if row is None else read_request(row)

    def may_have_forgotten(self, request_id: bytes, issued_s: float) -> bool:
        """Whether a request that is remembered nowhere may have been executed. `issued_s`: by the node's clock it was issued no
        earlier, `EPOCH` if that is not known."""
        return issued_s <= self.since_s and int.from_bytes(request_id[:6], "big") <= self.forgotten_ms

    def take(self, before: bytes | None, after: bytes, now_s: float, *, added: int) -> None:
        """`after` follows `before`, with `added` requests more: keeps what fell out, and forgets what is older than the window."""
        self.changed_s = now_s
        if before is None:
            return
        fallen = before[COUNT_AT] + added - after[COUNT_AT]
        if fallen:
            self._keep(first_requests(before, fallen), now_s)
        while self._order and self._order[0][0] <= now_s - self._window_s:
            self._pop()

    def clear(self) -> None:
        """The register is forgotten, and this with it."""
        self._budget.count -= len(self._order)
        self._order = NOTHING

    def _keep(self, rows: bytes, now_s: float) -> None:
        if self._known is None:
            self._known, self._order = {}, deque()
        known, order, budget = self._known, self._order, self._budget
        for at in range(0, len(rows), REQUEST_BYTES):
            row = rows[at : at + REQUEST_BYTES]
            request_id = row[:ID_BYTES]
            known[request_id] = row
            order.append((now_s, request_id))
            budget.count += 1
            if len(order) > REMEMBERED_MAX or budget.count > ALL_MAX:
                self._pop()

    def _pop(self) -> None:
        assert self._known is not None
        dropped_s, request_id = self._order.popleft()
        del self._known[request_id]
        self._budget.count -= 1
        self.forgotten_ms = max(self.forgotten_ms, int.from_bytes(request_id[:6], "big"))
        if self.since_s != NEVER:
            self.since_s = max(self.since_s, dropped_s + CLOCK_SLACK_S)
