"""The failure detector's shell: hands it what arrives, wakes it when it wants, does what it says (core/membership/detector.py).

Its opinions go to whoever routes (`Opinions`), to the log, and to those who ask for the status. Everything is local: nothing here
changes who owns what, and a node that everybody calls dead is still asked where the others do not suffice.

The detector judges by what has arrived, so its inbox is emptied first: a tick that comes late lets the loop go round a few times,
until what lay in the sockets meanwhile has been handed in, and only then counts what is missing.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from kvproto.columns import PeerOpinion
from kvstore.cluster.view import RingHolder
from kvstore.core.membership.detector import FailureDetector
from kvstore.core.membership.messages import Instruction, Message, Reserve, RoundTrip, Send
from kvstore.core.membership.opinions import Opinions
from kvstore.core.membership.suspicion import Timing
from kvstore.core.membership.table import Changed, State
from kvstore.membership.promptness import Promptness
from kvstore.storage.incarnations import IncarnationLedger
from kvstore.telemetry import log

LATE_MS = 10
"""A tick that is later finds work in the sockets that belongs before it."""

DRAIN_TURNS = 8
"""From a socket's bytes to `heard` it takes the loop about half as many."""


class Carrier(Protocol):
    """What takes messages to other detectors (transport/detector_calls.py)."""

    heard: Callable[[str, Message], None]

    def send(self, node: str, message: Message) -> None:
        """Sends it; whether it arrives is not told."""

    def measure(self, node: str, took: Callable[[float], None]) -> None:
        """Calls `took` with the seconds that an empty message there and back takes."""


class DataLinks(Protocol):
    """What is asked of the transport of data."""

    def lag_s(self, node: str) -> float:
        """How long `node` has owed an answer; 0 when it owes none."""

    def greeted_by(self, node: str) -> None:
        """`node` is there: if the link to it is down, it is dialled now."""


class FailureDetection:
    """What node `me` thinks of `others`, from `start` to `stop`; `data` is the transport of its data."""

    def __init__(
        self,
        me: str,
        others: tuple[str, ...],
        *,
        timing: Timing,
        rng: random.Random,
        carrier: Carrier,
        incarnations: IncarnationLedger,
        opinions: Opinions,
        promptness: Promptness,
        data: DataLinks,
        ring: RingHolder,
    ) -> None:
        self._me = me
        self._others = others
        self._timing = timing
        self._rng = rng
        self._carrier = carrier
        self._incarnations = incarnations
        self._opinions = opinions
        self._data = data
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._detector: FailureDetector | None = None
        self._wake: asyncio.Handle | None = None
        self._wake_ms = 0
        self._is_stopped = False
        self.changes: Counter[tuple[str, str]] = Counter()  # (node, state it was given)
        self.promptness = promptness
        carrier.heard = self._heard

    def start(self) -> None:
        """Begins to ask as soon as the incarnations that it may use are durably ours. Nobody waits for that."""
        if self._others:
            self._incarnations.lease(self._begin)

    def _begin(self, reserved: int) -> None:
        ledger = self._incarnations
        if self._is_stopped or reserved == ledger.first:
            return  # storage has failed, or something else ends this node
        self._detector = FailureDetector(
            self._me,
            self._others,
            timing=self._timing,
            rng=self._rng,
            now_ms=self._now_ms(),
            incarnation=ledger.first,
            reserved=ledger.reserved,
        )
        self.promptness.start(self)
        self._arm()

    def stop(self) -> None:
        """Asks no more, and answers no more."""
        self._is_stopped = True
        self._detector = None
        self.promptness.stop()
        if self._wake is not None:
            self._wake.cancel()

    @property
    def is_running(self) -> bool:
        """Whether it asks and answers: an incarnation is in use."""
        return self._detector is not None

    @property
    def incarnation(self) -> int:
        """Ours, as the others are told."""
        return self._incarnations.first if self._detector is None else self._detector.incarnation

    @property
    def health(self) -> int:
        """How far the detector doubts itself: 0, not at all, to 7."""
        return 0 if self._detector is None else self._detector.health.score

    def describe(self) -> tuple[PeerOpinion, ...]:
        """What we think of each peer."""
        detector, now_ms = self._detector, self._now_ms()
        if detector is None:
            return ()
        table = detector.table
        return tuple(
            PeerOpinion(
                id=node,
                state=table.opinion(node).name.lower(),
                incarnation=table.claim(node).incarnation,
                since_s=max(0, now_ms - table.opinion_since_ms(node)) / 1000,
                flaps=table.returns(node),
                latency_ms=self.promptness.latency_ms(node),
            )
            for node in table.others
        )

    # --- events

    def receive(self, sender: str, message: Message) -> list[Message]:
        """`sender` says `message`; what it is answered at once."""
        if self._detector is None:
            return []
        return self._carry_out(self._detector.receive(self._now_ms(), sender, message), sender)

    def link_broke(self, node: str) -> None:
        """The stream to `node` ended: it is asked next, sooner than its turn."""
        if self._detector is not None:
            self._detector.probe_soon(self._now_ms(), node)
            self._arm()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.promptness.check()
        if self._detector is not None:
            self._detector.check()
            assert self._detector.incarnation < self._incarnations.reserved, "an incarnation was used before it was durably ours"

    # --- what `Promptness` asks

    def lag_s(self, node: str) -> float:
        """See `promptness.Asked`."""
        return self._data.lag_s(node)

    def measure(self, node: str, took: Callable[[float], None]) -> None:
        """See `promptness.Asked`."""
        self._carrier.measure(node, took)

    def slow_max(self) -> int:
        """What the quorums of every namespace can do without."""
        return min((space.info.n - max(space.info.r, space.info.w) for space in self._ring.view.spaces.values()), default=0)

    def slow_changed(self, node: str, *, slow: bool) -> None:
        """See `promptness.Asked`."""
        if self._detector is not None:
            self._carry_out(self._detector.mark_slow(self._now_ms(), node, slow=slow), "")

    # --- the detector's clock

    def _now_ms(self) -> int:
        return round(self._loop.time() * 1000)

    def _arm(self) -> None:
        """A timer for the moment it wants; one that is due earlier stays, and does no harm."""
        assert self._detector is not None
        wake_ms = self._detector.wake_ms
        if self._wake is not None:
            if self._wake_ms <= wake_ms:
                return
            self._wake.cancel()
        self._wake_ms = wake_ms
        self._wake = self._loop.call_at(wake_ms / 1000, self._due)

    def _due(self) -> None:
        self._wake = None
        if self._detector is None:
            return
        late_ms = self._now_ms() - self._wake_ms
        if late_ms < 0 or self._detector.wake_ms > self._now_ms():
            self._arm()
        elif late_ms < LATE_MS:
            self._tick()
        else:
            self._wake = self._loop.call_soon(self._drain, DRAIN_TURNS)

    def _drain(self, turns: int) -> None:
        if turns:
            self._wake = self._loop.call_soon(self._drain, turns - 1)
        else:
            self._wake = None
            self._tick()

    def _tick(self) -> None:
        if self._detector is not None:
            self._carry_out(self._detector.tick(self._now_ms()), "")

    # --- instructions

    def _heard(self, sender: str, message: Message) -> None:
        for answer in self.receive(sender, message):
            self._carrier.send(sender, answer)

    def _carry_out(self, instructions: Sequence[Instruction], asker: str) -> list[Message]:
        """Does what is to be done, in order; what is for `asker`, who waits for it, is returned."""
        answers: list[Message] = []
        for instruction in instructions:
            match instruction:
                case Send(to, message):
                    if to == asker:
                        answers.append(message)
                    else:
                        self._carrier.send(to, message)
                case Changed():
                    self._note(instruction)
                case Reserve(up_to):
                    self._incarnations.reserve(up_to, self._reserved)
                case RoundTrip(peer, took_ms):
                    self.promptness.record_ping(peer, took_ms)
        self._arm()
        return answers

    def _reserved(self, up_to: int) -> None:
        if self._detector is not None:
            self._carry_out(self._detector.reserved(self._now_ms(), up_to), "")

    def _note(self, change: Changed) -> None:
        node, state = change.member, change.after
        opinions = self._opinions
        opinions.dead = opinions.dead | {node} if state is State.DEAD else opinions.dead - {node}
        opinions.slow = opinions.slow | {node} if state is State.SLOW else opinions.slow - {node}
        self.changes[node, state.name.lower()] += 1
        tell = log.info if state is State.ALIVE else log.warning
        facts = {"state": state.name.lower(), "was": change.before.name.lower(), "incarnation": change.incarnation, "by": change.by}
        tell("peer_opinion", peer=node, **facts)
        if change.before is State.DEAD:
            self._data.greeted_by(node)
