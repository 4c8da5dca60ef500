"""Detectors in a network made of a list: messages take time, are lost, wait at slow members, end at cuts. Virtual time, seeded."""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from random import Random

from kvstore.core.membership.detector import FailureDetector
from kvstore.core.membership.incarnation import LEASE
from kvstore.core.membership.messages import Instruction, Message, Reserve, RoundTrip, Send
from kvstore.core.membership.suspicion import Timing
from kvstore.core.membership.table import Changed, State


class World:
    """`size` members n1, n2, … that know each other. `loss`: of messages; `slow`: members whose inbox waits for up to `lag_ms`."""

    def __init__(
        self,
        size: int,
        seed: int = 1,
        *,
        timing: Timing,
        loss: float = 0.0,
        slow: tuple[str, ...] = (),
        lag_ms: int = 0,
        latency_ms: int = 5,
    ) -> None:
        self.rng = Random(seed)
        self.timing = timing
        self.loss, self.slow, self.lag_ms, self.latency_ms = loss, slow, lag_ms, latency_ms
        self.now_ms = 0
        self.names = tuple(f"n{at + 1}" for at in range(size))
        self.floors = dict.fromkeys(self.names, 0)
        self.detectors: dict[str, FailureDetector] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.changes: list[tuple[int, str, Changed]] = []
        self.sent: Counter[str] = Counter()
        self.round_trips: Counter[str] = Counter()
        self._arrivals: list[tuple[int, int, str, str, Message]] = []
        self._number = 0
        self._ready_ms = dict.fromkeys(self.names, 0)
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        """A new life of `name`, with incarnations of its own."""
        first = self.floors[name]
        self.floors[name] = first + LEASE
        self.detectors[name] = FailureDetector(
            name,
            tuple(other for other in self.names if other != name),
            timing=self.timing,
            rng=Random(self.rng.getrandbits(64)),
            now_ms=self.now_ms,
            incarnation=first,
            reserved=first + LEASE,
        )

    def stop(self, name: str) -> None:
        """Ends a life of `name`; what is on its way to it is lost."""
        del self.detectors[name]
        self._arrivals = sorted(arrival for arrival in self._arrivals if arrival[3] != name)

    def cut(self, side: set[str]) -> None:
        """Nothing passes between `side` and the others."""
        self.cuts |= {(a, b) for a in self.names for b in self.names if (a in side) is not (b in side)}

    def run(self, duration_ms: int, *, standing_still: frozenset[str] = frozenset()) -> None:
        """Lets time pass; whoever stands still does nothing at all meanwhile, and finds its messages afterwards."""
        end_ms = self.now_ms + duration_ms
        awake = [name for name in self.detectors if name not in standing_still]
        wakes = {name: self.detectors[name].wake_ms for name in awake}
        held: list[tuple[int, int, str, str, Message]] = []
        while True:
            name = min(wakes, key=wakes.__getitem__)
            at_ms = max(self.now_ms, wakes[name])
            arrival = self._arrivals[0] if self._arrivals and self._arrivals[0][0] <= at_ms else None
            if (at_ms if arrival is None else arrival[0]) > end_ms:
                break
            if arrival is not None:
                heappop(self._arrivals)
                name = arrival[3]
                if name not in wakes:
                    if name in self.detectors:
                        held.append(arrival)
                    continue
                self.now_ms = max(self.now_ms, arrival[0])
                self.obey(name, self.detectors[name].receive(self.now_ms, arrival[2], arrival[4]))
            else:
                self.now_ms = at_ms
                self.obey(name, self.detectors[name].tick(self.now_ms))
            self.detectors[name].check()
            wakes[name] = self.detectors[name].wake_ms
        for arrival in held:
            heappush(self._arrivals, arrival)
        self.now_ms = end_ms

    def obey(self, name: str, instructions: list[Instruction]) -> None:
        """Does what a detector says."""
        for instruction in instructions:
            match instruction:
                case Send(to, message):
                    self.sent[type(message).__name__] += 1
                    self.post(name, to, message)
                case Changed():
                    self.changes.append((self.now_ms, name, instruction))
                case Reserve(up_to):
                    self.floors[name] = up_to
                    self.obey(name, self.detectors[name].reserved(self.now_ms, up_to))
                case RoundTrip(peer):
                    self.round_trips[peer] += 1

    def post(self, sender: str, to: str, message: Message) -> None:
        """Puts a message on its way, unless it is lost."""
        if to not in self.detectors or (sender, to) in self.cuts or self.rng.random() < self.loss:
            return
        at_ms = self.now_ms + self.rng.randint(1, self.latency_ms)
        if to in self.slow:
            # It is busy now and then: everything waits until it looks at its inbox again.
            if at_ms > self._ready_ms[to]:
                self._ready_ms[to] = at_ms + self.rng.choice((0, 0, self.lag_ms // 4, self.lag_ms))
            at_ms = self._ready_ms[to]
        self._number += 1
        heappush(self._arrivals, (at_ms, self._number, sender, to, message))

    def opinions(self, of: str) -> dict[str, State]:
        """What everybody thinks of a member."""
        return {name: detector.table.opinion(of) for name, detector in self.detectors.items() if name != of}

    def agree(self, of: str, state: State) -> bool:
        """Whether everybody thinks so."""
        return set(self.opinions(of).values()) == {state}

    def wait(self, of: str, state: State, at_most_ms: int) -> int:
        """Runs until everybody thinks so of `of`; how long it took."""
        began = self.now_ms
        while not self.agree(of, state):
            assert self.now_ms - began < at_most_ms, f"{of} is not {state.name} to all: {self.opinions(of)}"
            self.run(self.timing.gossip_interval_ms)
        return self.now_ms - began

    def called_dead(self, *, but: tuple[str, ...] = ()) -> list[tuple[str, str]]:
        """(who, whom) of each time a member was called dead."""
        return [
            (name, change.member) for _, name, change in self.changes if change.after is State.DEAD and change.member not in but
        ]
