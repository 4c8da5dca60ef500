"""The proposer's shell: hands rounds to this node's acceptor and its peers', and answers to whoever waits.

Decides nothing: core/register/proposer.py does. Turns are taken at the end of the loop's turn in which work came, so that what
comes together leaves together. Rounds that nobody answers are given up after a while, with their ballot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from kvproto.errors import KvError
from kvstore.cluster.view import RingHolder
from kvstore.coordinator.linearizable.batches import Answered
from kvstore.core.register.ballot import node_tag
from kvstore.core.register.changes import Kind, Operation
from kvstore.core.register.messages import Ask, Reply, decode_reply, encode_ask
from kvstore.core.register.proposer import Proposer
from kvstore.core.register.rounds import Round
from kvstore.runtime import Clock
from kvstore.storage.registers import Registers
from kvstore.transport.peers import PeerTransport, RegisterChunk

ROUND_S_MAX = 10.0
"""A round without an answer of a majority for so long is given up. Operations have given up long before."""
SWEEP_S = 1.0
SETTLING_MAX = 4096


class Owner(Protocol):
    """Who an operation belongs to."""

    def take(self, answered: Sequence[Answered], failed: Sequence[Operation]) -> None:
        """Some of its operations are answered, or too few could answer them."""


class _Reading:
    """Reads that are only waited for."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.done = asyncio.Event()

    def take(self, answered: Sequence[Answered], failed: Sequence[Operation]) -> None:
        """Some of them are answered, or too few could answer them."""
        self._left -= len(answered) + len(failed)
        if self._left <= 0:
            self.done.set()


class Proposing:
    """One node's. Belongs to one event loop."""

    def __init__(
        self,
        *,
        me: str,
        ring: RingHolder,
        registers: Registers,
        peers: PeerTransport,
        clock: Clock,
        rng: random.Random,
        incarnation: int,
        retry_window_ms: int,
        cache_bytes_max: int,
    ) -> None:
        """`incarnation`: 64 random bits, of this process's ballots."""
        self._me = me
        self._ring = ring
        self._registers = registers
        self._peers = peers
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._wake: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self.incarnation = incarnation
        self._settling: set[bytes] = set()
        self.settled = 0
        """Registers that were accepted again, because they were not the same everywhere."""
        self.proposer = Proposer(
            tag=node_tag(me),
            incarnation=self.incarnation,
            owners_of=self._owners_of,
            promised_of=registers.promised,
            chance=rng.random,
            retry_window_ms=retry_window_ms,
            cache_bytes_max=cache_bytes_max,
        )

    def submit(self, operations: Iterable[Operation]) -> None:
        """Takes operations; their owner is told what came of each, unless it is abandoned."""
        self.proposer.submit(operations)
        self._schedule()

    def abandon(self, operations: Iterable[Operation]) -> None:
        """Nobody waits for them any more."""
        for operation in operations:
            self.proposer.abandon(operation)

    def settle(self, store_keys: Iterable[bytes]) -> None:
        """Has registers accepted once more: other owners hold something else (safety rule 17). What is being settled, or is more
        than may be at once, is not begun: whoever asked looks again."""
        begun = []
        for store_key in store_keys:
            if len(self._settling) < SETTLING_MAX and store_key not in self._settling:
                self._settling.add(store_key)
                deadline_s = self._loop.time() + ROUND_S_MAX
                begun.append(Operation(Kind.SETTLE, store_key, owner=self, deadline_s=deadline_s))
        if begun:
            self.submit(begun)

    def take(self, answered: Sequence[Answered], failed: Sequence[Operation]) -> None:
        """Registers were settled, or could not be."""
        for operation in (*(operation for operation, _ in answered), *failed):
            self._settling.discard(operation.store_key)
        self.settled += len(answered)

    async def read(self, store_keys: Sequence[bytes]) -> None:
        """Reads registers that this node proposes for: what is not committed becomes so, and is known here from then on."""
        reading = _Reading(len(store_keys))
        deadline_s = self._loop.time() + ROUND_S_MAX
        operations = [Operation(Kind.GET, store_key, owner=reading, deadline_s=deadline_s) for store_key in store_keys]
        self.submit(operations)
        try:
            async with asyncio.timeout_at(deadline_s):
                await reading.done.wait()
        except TimeoutError:
            self.abandon(operations)

    def reap(self, store_keys: Sequence[bytes]) -> None:
        """Has all owners forget tombstones that were read here a retry window ago, if all of them hold the same."""
        for round_ in self.proposer.reaping.ask(store_keys, self._clock.now_ms(), self._loop.time()):
            self._send(round_)

    def stop(self) -> None:
        """Ends the timers."""
        for timer in (self._wake, self._sweep):
            if timer is not None:
                timer.cancel()

    def _owners_of(self, group: bytes) -> tuple[str, ...]:
        """The home replicas of a group. Whoever asks has found the namespace in this node's view; if it was dropped since, there is
        nobody but us, whose acceptor refuses."""
        return self._ring.view.homes_of(group) or (self._me,)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        for round_ in self.proposer.turn(self._clock.now_ms(), self._loop.time()):
            self._send(round_)
        self._tell()
        if self.proposer.has_work:  # a ballot was given up in this turn
            self._schedule()
        wake_s = self.proposer.wake_s()
        if wake_s is not None:
            if self._wake is not None:
                self._wake.cancel()
            self._wake = self._loop.call_at(wake_s + 0.001, self._schedule)
        if self.proposer.rounds and self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_S, self._give_up_old)

    def _send(self, round_: Round) -> None:
        ask, number = round_.ask, round_.number
        deadline_s, ring_hash = self._loop.time() + ROUND_S_MAX, self._ring.view.ring.hash
        others = [node for node in round_.targets if node != self._me]
        if others:
            data, count = encode_ask(ask), len(ask.keys)
            for node in others:
                chunk = RegisterChunk(node, data, count, deadline_s, self._answered(ask, number), ring_hash)
                self._peers.register(chunk)
        if len(others) < len(round_.targets):
            self._registers.ask(ask, lambda error, reply: self._heard(number, self._me, error, reply))

    def _answered(self, ask: Ask, number: int) -> Callable[[RegisterChunk], None]:
        def answered(chunk: RegisterChunk) -> None:
            if chunk.error is not None:
                self._heard(number, chunk.node, chunk.error, None)
                return
            try:
                reply = decode_reply(chunk.reply, ask)
            except ValueError as failure:
                self._heard(number, chunk.node, KvError(str(failure)), None)
                return
            self._heard(number, chunk.node, None, reply)

        return answered

    def _heard(self, number: int, node: str, error: KvError | None, reply: Reply | None) -> None:
        now_s = self._loop.time()
        if reply is not None and error is None:
            self.proposer.heard(number, node, reply, now_s)
        else:
            self.proposer.silent(number, node, now_s)
        if self.proposer.answered or self.proposer.failed:
            self._tell()
        if self.proposer.has_work or self.proposer.wake_s() is not None:
            self._schedule()

    def _tell(self) -> None:
        proposer = self.proposer
        answered, proposer.answered = proposer.answered, []
        failed, proposer.failed = proposer.failed, []
        owners: dict[int, tuple[Owner, list[Answered], list[Operation]]] = {}
        for one in answered:
            owner: Owner = one[0].owner  # type: ignore[assignment]
            owners.setdefault(id(owner), (owner, [], []))[1].append(one)
        for operation, _ in failed:
            owner = operation.owner  # type: ignore[assignment]
            owners.setdefault(id(owner), (owner, [], []))[2].append(operation)
        for owner, done, broken in owners.values():
            owner.take(done, broken)

    def _give_up_old(self) -> None:
        self._sweep = None
        now_s = self._loop.time()
        for round_ in list(self.proposer.rounds.values()):
            if now_s - round_.sent_s >= ROUND_S_MAX:
                for node in round_.tally.waiting_in_order:
                    self.proposer.silent(round_.number, node, now_s)
        self._tell()
        self._schedule()
