"""A world for the register's own code: acceptors that commit late and crash, proposers that duel and forget, a network that delays,
drops, duplicates and reorders, clients that try again. Everything is drawn from one seed.

What runs is kvstore/core/register and its bytes; only time, network and disk are these few lines. `PLANTS` leaves out one rule
each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from kvproto.conditions import ABSENT, read_condition
from kvstore.core.register import held as registers
from kvstore.core.register import payload as payloads
from kvstore.core.register import remembered
from kvstore.core.register.acceptor import Acceptor, GroupState
from kvstore.core.register.ballot import GROUP_BYTES, NO_BALLOT, STAMP_BYTES, round_of
from kvstore.core.register.changes import Kind, Operation, Outcome
from kvstore.core.register.copying import Page, decode_page, encode_page, read_page
from kvstore.core.register.messages import (
    OF_NO_BALLOT,
    Ask,
    Reply,
    Step,
    Why,
    decode_ask,
    decode_reply,
    encode_ask,
    encode_reply,
    part_of,
    widen,
)
from kvstore.core.register.progress import Progress
from kvstore.core.register.proposer import Proposer
from kvstore.core.register.readmission import Copied, Readmission
from kvstore.core.register.rounds import Round
from kvstore.core.register.tracker import Tracker
from tests.laws.register_horizons import HORIZONS, PROGRESSES, Horizons

NODES = ("n1", "n2", "n3")
GROUP = b"\x00\x01\x00\x00\x00\x02"
OTHER = b"\x00\x02\x00\x00\x00\x02"
KEYS = (GROUP + b"a", GROUP + b"b", OTHER + b"c")
STARTED_MS = 1_000_000
STEP = 1000
RENEWED_MAX = 3
"""Puts bring multiples of it, increments add one."""


@dataclass
class Entry:
    """One operation of a client, over all its attempts. `out`: what a read or failed condition saw, or the number of an
    increment."""

    key: bytes
    kind: str
    value: int
    call: int
    ret: int | None = None
    ok: bool | None = None
    out: int | None = None
    certainly_not: bool = False
    attempts: int = 0
    renewed: int = 0
    request_id: bytes = b""
    sent_ever: bool = False
    version: bytes = b""


@dataclass
class Disk:
    """What one acceptor has made durable, and what waits to be: in order."""

    held: dict[bytes, bytes] = field(default_factory=dict)
    groups: dict[bytes, GroupState] = field(default_factory=dict)
    queue: list[tuple[dict[bytes, bytes | None], dict[bytes, GroupState], Callable[[], None]]] = field(default_factory=list)
    lost: set[bytes] = field(default_factory=set)
    """Groups that it may not vote on."""


class Replica:
    """An acceptor with a disk that takes its time."""

    def __init__(self, world: World, at: int) -> None:
        self.world = world
        self.at = at
        self.disk = Disk()
        self.start()

    def start(self) -> None:
        self.staged: dict[bytes, bytes | None] = {}
        self.disk.queue.clear()
        groups = {group: replace(state) for group, state in self.disk.groups.items()}
        self.tracker = Tracker(NODES[self.at], self.world.rng.getrandbits(60) + 1)
        self.tracker.track(dict.fromkeys((GROUP, OTHER), NODES))
        for group, progress in self.tracker.groups.items():
            self.tracker.groups[group] = self.world.progress(progress.told)
        self.core = self.world.acceptor(self.lookup, groups, self.taken, self.tracker.is_chosen, self.tracker.watched)
        self.again: dict[bytes, Readmission] = {}
        self.ending: set[bytes] = set()
        """Groups whose last page is on its way to the disk."""

    def taken(self, group: bytes) -> bytes:
        return self.world.proposers[self.at].taken(group)

    def lookup(self, store_key: bytes) -> bytes | None:
        return self.staged[store_key] if store_key in self.staged else self.disk.held.get(store_key)

    def on(self, data: bytes, reply: Callable[[bytes], None]) -> None:
        whole = decode_ask(data)
        lost = () if whole.step is Step.HORIZON else self.disk.lost
        at = [position for position, key in enumerate(whole.keys) if key[:GROUP_BYTES] not in lost]
        if len(at) < len(whole.keys):
            self.answer(part_of(whole, at), lambda told: reply(encode_reply(widen(told, whole, at))))
        else:
            self.answer(whole, lambda told: reply(encode_reply(told)))

    def answer(self, ask: Ask, reply: Callable[[Reply], None]) -> None:
        if ask.step in OF_NO_BALLOT:
            self.world.horizons.answer(self, ask, reply)
            return
        verdict = self.core.answer(ask, bytes_max=60 if self.world.rng.random() < 0.1 else 1 << 30)
        written: dict[bytes, bytes | None] = {**dict(verdict.writes), **dict.fromkeys(verdict.deletes)}
        marks = self.tracker.decide(verdict.writes, verdict.deletes, verdict.replaced, self.world.now)
        self.staged.update(written)
        told = verdict.reply
        if ask.step is Step.CONFIRM:
            reply(told)
            return
        groups = {group: replace(self.core.groups[group]) for group in verdict.groups}

        def tell() -> None:
            self.tracker.became_durable(marks)
            if ask.step is Step.COPY:
                pages = [encode_page(self.page(cursor)) for cursor in ask.keys]
                told.states = [b"" if at in told.refused else page for at, page in enumerate(pages)]
            reply(told)

        self.disk.queue.append((written, groups, tell))

    def page(self, cursor: bytes) -> Page:
        held, floor = self.disk.held, self.core.groups.get(cursor[:GROUP_BYTES], GroupState()).floor
        pairs = [(key, held[key]) for key in sorted(held) if key[:GROUP_BYTES] == cursor[:GROUP_BYTES] and key >= cursor]
        return read_page(pairs, cursor, floor, 1 if self.world.small_pages else 1 << 30)

    def take_in(self, copied: Copied) -> None:
        """What the others hold comes in the place of what was lost, in one batch with the promise."""
        self.core.take_in(copied.group, copied.promised, copied.floor, [])
        written: dict[bytes, bytes | None] = {**dict(copied.writes), **dict.fromkeys(copied.deletes)}
        self.staged.update(written)

        def done() -> None:
            if copied.is_last:
                self.disk.lost.discard(copied.group)
                self.again.pop(copied.group, None)
                self.world.readmitted += 1

        self.disk.queue.append((written, {copied.group: replace(self.core.groups[copied.group])}, done))

    def commit(self) -> None:
        """Makes what waits longest durable, then tells."""
        if self.disk.queue:
            written, groups, tell = self.disk.queue.pop(0)
            for store_key, held in written.items():
                if held is None:
                    self.disk.held.pop(store_key, None)
                else:
                    assert registers.verify(held)
                    self.disk.held[store_key] = held
            self.disk.groups.update(groups)
            tell()


class World:
    """One run. `plant` names the rule that is left out."""

    def __init__(self, seed: int, plant: str = "") -> None:
        self.rng = rng = random.Random(f"registers/{seed}")
        self.plant = plant
        self.acceptor, self.proposer = PLANTS.get(plant, (Acceptor, Proposer))
        self.readmission = READMISSIONS.get(plant, Readmission)
        wiping = random.Random(f"wipes/{seed}")  # apart from the rest, which goes as before where nothing is wiped
        self.wiping = wiping.choice([0, 0, 0.03, 0.1])
        self.small_pages = wiping.random() < 0.5
        self.wiped = self.readmitted = 0
        self.hangs = random.Random(f"hangs/{seed}")  # apart, too
        self.hanging = 0.0
        self.patience = 60
        self.stays = False
        self.hung: list[tuple[int, Operation]] = []
        self.late_arrivals = 0
        self.now = 0
        self.history: list[Entry] = []
        self.timeline: dict[tuple[bytes, int | None], int] = {}
        self.resting = random.Random(f"resting/{seed}").choice([0, 0.02, 0.1])
        self.progress = PROGRESSES.get(plant, Progress)
        self.horizons = HORIZONS.get(plant, Horizons)(self, seed)
        self.queue: list[Callable[[], None]] = []
        self.pace = rng.choice([0.85, 0.93, 0.97])
        self.steady = rng.choice([0.5, 0.9, 0.97])
        self.loss = rng.choice([0, 0.01, 0.05, 0.3])
        self.duplicates = rng.choice([0, 0.05, 0.2])
        self.disorder = rng.choice([0.1, 0.5])
        self.upset = rng.choice([0, 0.02, 0.05])
        self.cutting = rng.choice([0, 0.1, 0.3])
        self.reaping = rng.choice([0.06, 0.06, 0.4])
        self.kinds = ["r", "r", "w", "d", "c", "i", "i"] if self.reaping < 0.1 else ["r", "w", "d", "d"]
        self.retry_window_ms = rng.choice([20, 150]) if self.reaping < 0.1 else 1
        self.keys = rng.choice([KEYS, KEYS[:1]])
        self.healing = rng.choice([0.1, 0.5, 1.0])
        self.cuts: set[tuple[int, int]] = set()
        for name, value in FOCUS.get(plant, {}).items():
            setattr(self, name, value)
        self.replicas = [Replica(self, at) for at in range(len(NODES))]
        self.lives = [0] * len(NODES)
        self.proposers = [self.new_proposer(at) for at in range(len(NODES))]
        self.open: list[tuple[int, Operation, Entry, int]] = []
        self.values = self.ids = 0

    @property
    def now_ms(self) -> int:
        return STARTED_MS + self.now

    def new_proposer(self, at: int) -> Proposer:
        self.lives[at] += 1
        incarnation = 1 if self.plant == "ballot-reused" else self.lives[at]
        return self.proposer(
            tag=at + 1,
            incarnation=incarnation << 32,
            owners_of=lambda group: NODES,
            promised_of=lambda group: self.replicas[at].core.groups.get(group, GroupState()).promised,
            chance=self.rng.random,
            retry_window_ms=self.retry_window_ms,
            cache_bytes_max=self.rng.choice([1, 1 << 30]),
        )

    # --- what happens

    def run(self, operations: int) -> None:
        while len(self.history) < operations:
            self.step()
        for _ in range(3000):
            self.now += 1
            self.deliver(0)
            for replica in self.replicas:
                replica.commit()
            self.turns()
            if not self.queue and not any(replica.disk.queue for replica in self.replicas) and self.now % 50 == 0:
                self.give_up_rounds(age=0)
                if not self.queue:
                    break

    def step(self) -> None:
        self.now += 1
        rng = self.rng
        if rng.random() < self.pace:
            if self.queue and rng.random() < 0.8:
                self.deliver(rng.randrange(len(self.queue)) if rng.random() < self.disorder else 0)
            else:
                rng.choice(self.replicas).commit()
        else:
            self.happen()
        if rng.random() < 0.5:
            self.turns()
        if self.hung and self.hangs.random() < 0.02:
            self.arrive()
        if self.hung and self.hangs.random() < 0.05:
            self.try_again()
        for replica in self.replicas:
            if replica.disk.lost and rng.random() < 0.3:
                self.readmit(replica, rng.choice(sorted(replica.disk.lost)))

    def happen(self) -> None:
        rng, draw = self.rng, self.rng.random()
        at = 0 if rng.random() < self.steady else rng.randrange(len(NODES))
        if rng.random() < self.cutting:
            self.cut_or_heal()
        if draw < self.upset:
            self.restart(at)
        elif draw < self.upset + 0.05:
            self.give_up_rounds(age=40)
        elif draw < self.upset + 0.1:
            self.try_again()
        elif draw < self.upset + 0.1 + self.reaping:
            self.reap(at)
        else:
            self.operate(at)
        self.horizons.happen()
        if self.wiping and rng.random() < self.wiping and not any(replica.disk.lost for replica in self.replicas):
            self.wipe(rng.randrange(len(NODES)))
        if self.plant == "amnesia" and rng.random() < 0.05:
            lost = rng.choice(self.replicas)
            lost.disk = Disk()
            lost.start()

    def operate(self, at: int) -> None:
        rng = self.rng
        kind = rng.choice(self.kinds)
        self.values += STEP
        entry = Entry(rng.choice(self.keys), kind, self.values, self.now)
        entry.request_id = self.new_id()
        self.history.append(entry)
        self.send(at, entry)
        if rng.random() < 0.3 and kind != "r":  # another of the same turn, on the same key
            self.operate(at)

    def new_id(self) -> bytes:
        self.ids += 1
        return self.now_ms.to_bytes(6, "big") + self.ids.to_bytes(10, "big")

    def send(self, at: int, entry: Entry) -> None:
        kinds = {"r": Kind.GET, "w": Kind.PUT, "c": Kind.PUT, "d": Kind.DELETE, "i": Kind.INCREMENT}
        operation = Operation(
            kinds[entry.kind],
            entry.key,
            value=b"%d" % entry.value if entry.kind in "wc" else b"",
            condition=read_condition(ABSENT) if entry.kind == "c" else None,
            amount=1,
            request_id=b"" if entry.kind == "r" else entry.request_id,
            attempt=entry.attempts,
            is_late=entry.call <= self.now - self.retry_window_ms,
            issued_s=(int.from_bytes(entry.request_id[:6], "big") - STARTED_MS) / 100,
        )
        entry.attempts += 1
        self.open.append((at, operation, entry, self.now))
        if operation.attempt == 0 and self.hangs.random() < self.hanging:
            self.hung.append((at, operation))  # on its way; its client tries again meanwhile
        else:
            self.proposers[at].submit([operation])

    def arrive(self) -> None:
        """A first attempt that hung arrives, whether anybody still waits for it or not."""
        at, operation = self.hung.pop(self.hangs.randrange(len(self.hung)))
        self.late_arrivals += operation.done
        operation.done = False
        self.proposers[at].submit([operation])

    def cut_or_heal(self) -> None:
        """Messages from one node to another, or everything from or to one, are lost from now on."""
        if self.cuts:
            if self.rng.random() < self.healing:
                self.cuts.clear()
            return
        one, other = self.rng.sample(range(len(NODES)), 2)
        self.cuts = self.rng.choice([{(one, other)}, {(one, other), (other, one)}, {(one, 0), (one, 1), (one, 2)} - {(one, one)}])

    def try_again(self) -> None:
        """A client has waited for long enough, and asks another node."""
        waiting = [one for one in self.open if self.now - one[3] > self.patience]
        if waiting:
            at, operation, entry, _ = one = self.rng.choice(waiting)
            self.open.remove(one)
            self.proposers[at].abandon(operation)
            entry.sent_ever = entry.sent_ever or operation.was_sent
            if entry.attempts < 3:
                self.send(at if self.stays else self.rng.randrange(len(NODES)), entry)

    def restart(self, at: int) -> None:
        """The node's process ends: what was not durable is gone, and everything that its proposer knew."""
        for one in [one for one in self.open if one[0] == at]:
            self.open.remove(one)
            one[2].sent_ever = True
            if one[2].attempts < 3 and self.rng.random() < 0.5:
                self.send((at + 1) % len(NODES), one[2])
        seen = {name: group.round_seen for name, group in self.proposers[at].groups.items()}
        self.replicas[at].start()
        self.proposers[at] = self.new_proposer(at)
        if self.plant == "ballot-reused":
            self.proposers[at].rounds_before = seen  # type: ignore[attr-defined]

    def wipe(self, at: int) -> None:
        """A node loses its disk, and its process with it."""
        self.wiped += 1
        self.replicas[at].disk = Disk(lost={GROUP, OTHER})
        self.restart(at)

    def readmit(self, replica: Replica, group: bytes) -> None:
        """Asks the others for the next page of a group; what was asked before and comes later is taken as well."""
        if group in replica.ending:
            return
        again = replica.again.get(group)
        if again is None:
            self.lives[replica.at] += 1
            incarnation = (self.lives[replica.at] << 32) + len(replica.again) + 1
            above = round_of(replica.core.groups.get(group, GroupState()).promised)
            again = self.readmission(
                group, NODES, NODES[replica.at], tag=replica.at + 1, incarnation=incarnation, round_above=above
            )
            replica.again[group] = again
        cursor, ballot = again.cursor, again.ballot
        ask = Ask(Step.COPY, [cursor], [ballot])
        pages: dict[str, Page] = {}

        def heard(target: str, answer: bytes) -> None:
            if replica.again.get(group) is not again or group in replica.ending or (again.cursor, again.ballot) != (cursor, ballot):
                return
            reply = decode_reply(answer, ask)
            if 0 in reply.refused:
                if reply.refused[0][0] is Why.PROMISED:
                    again.passed(round_of(reply.refused[0][1]))
                return
            pages[target] = decode_page(reply.states[0], cursor)
            copied = again.take(pages, replica.page(cursor)) if len(pages) >= again.needed else None
            if copied is not None:
                replica.take_in(copied)
                if copied.is_last:
                    replica.ending.add(group)
                for key, stamp, payload in copied.proposed:
                    self.send_ask(replica.at, Ask(Step.ACCEPT, [key], [stamp], [0], [payload]), again.others, lambda *_: None)

        self.send_ask(replica.at, ask, again.others, heard)

    def give_up_rounds(self, age: int) -> None:
        for proposer in self.proposers:
            for round_ in list(proposer.rounds.values()):
                if self.now - round_.sent_s * 100 >= age:
                    for node in round_.tally.waiting_in_order:
                        proposer.silent(round_.number, node, self.now / 100)

    def reap(self, at: int) -> None:
        for round_ in self.proposers[at].reaping.ask(self.keys, self.now_ms, self.now / 100):
            self.send_round(at, round_)

    # --- the network

    def turns(self) -> None:
        for at, proposer in enumerate(self.proposers):
            if proposer.has_work or proposer.wake_s() is not None:
                for round_ in proposer.turn(self.now_ms, self.now / 100):
                    self.send_round(at, round_)
            self.take_answers(at, proposer)

    def send_round(self, at: int, round_: Round) -> None:
        proposer = self.proposers[at]
        self.send_ask(
            at,
            round_.ask,
            round_.targets,
            lambda target, answer: self.heard(at, proposer, round_.ask, round_.number, target, answer),
        )

    def send_ask(self, at: int, ask: Ask, targets: Sequence[str], heard: Callable[[str, bytes], None]) -> None:
        data = encode_ask(ask)
        for target in targets:
            replica = self.replicas[NODES.index(target)]

            def reply(answer: bytes, target: str = target) -> None:
                path = NODES.index(target), at
                self.pass_on(path, lambda: heard(target, answer))

            path = at, NODES.index(target)
            self.pass_on(path, lambda replica=replica, reply=reply: replica.on(data, reply))  # type: ignore[misc]

    def heard(self, at: int, proposer: Proposer, ask: Ask, number_: int, target: str, answer: bytes) -> None:
        if proposer is self.proposers[at]:
            proposer.heard(number_, target, decode_reply(answer, ask), self.now / 100)
            self.take_answers(at, proposer)

    def pass_on(self, path: tuple[int, int], arrive: Callable[[], None]) -> None:
        if path not in self.cuts and self.rng.random() >= self.loss:
            self.queue.append(arrive)
            if self.rng.random() < self.duplicates:
                self.queue.append(arrive)

    def deliver(self, at: int) -> None:
        if self.queue:
            self.queue.pop(at)()

    # --- answers

    def take_answers(self, at: int, proposer: Proposer) -> None:
        answered, proposer.answered = proposer.answered, []
        failed, proposer.failed = proposer.failed, []
        for operation, _ in answered:
            self.answer(operation)
        for operation, _ in failed:
            one = next((one for one in self.open if one[1] is operation), None)
            if one is not None:
                self.open.remove(one)
                entry = one[2]
                entry.sent_ever = entry.sent_ever or operation.was_sent
                if entry.attempts < 3 and self.rng.random() < 0.7:
                    self.send(self.rng.randrange(len(NODES)), entry)
                elif not entry.sent_ever:
                    entry.certainly_not = True

    def answer(self, operation: Operation) -> None:
        one = next((one for one in self.open if one[1] is operation), None)
        if one is None:
            return
        self.open.remove(one)
        entry, answer = one[2], operation.answer
        assert answer is not None
        if answer.outcome is Outcome.OVERTAKEN:
            self.renew(one[0], entry)
            return
        if answer.outcome in (Outcome.FORGOTTEN, Outcome.NO_NUMBER):
            assert answer.outcome is Outcome.FORGOTTEN
            return
        entry.ret = self.now
        entry.ok = answer.outcome is not Outcome.FAILED
        if answer.outcome in (Outcome.READ, Outcome.FAILED):
            entry.out = number(answer.payload)
        elif entry.kind == "i":
            entry.out = answer.number
        entry.version = answer.version if answer.outcome is Outcome.APPLIED else b""

    def renew(self, at: int, entry: Entry) -> None:
        """A first attempt was refused: if there was no other, certainly nothing was applied, and it is tried under a new id."""
        if entry.attempts > 1:
            return
        entry.certainly_not = entry.renewed == RENEWED_MAX
        if not entry.certainly_not:
            entry.renewed += 1
            entry.attempts = 0
            entry.request_id = self.new_id()
            self.send(at, entry)


def number(payload: bytes | None) -> int | None:
    return None if payloads.absent(payload) or payload is None else int(payloads.value(payload))


# --- rules left out


class NoConfirmation(Proposer):
    def _must_confirm(self, operation):  # type: ignore[no-untyped-def]
        return False


class AnswersBeforeCommit(Proposer):
    def _may_answer_from(self, register):  # type: ignore[no-untyped-def]
        return True


class FailsFromUncommitted(Proposer):
    def _rest(self, group, register, operation):  # type: ignore[no-untyped-def]
        if operation.answer.outcome is Outcome.FAILED:
            was, register.committed = register.committed, True
            super()._rest(group, register, operation)
            register.committed = was
        else:
            super()._rest(group, register, operation)


class NoWriteBack(Proposer):
    def _is_chosen(self, states, best, need):  # type: ignore[no-untyped-def]
        return True


class ReapsAtMajority(Proposer):
    def __init__(self, **options):  # type: ignore[no-untyped-def]
        super().__init__(**options)
        self.reaping.owners_needed = lambda owners: owners // 2 + 1  # type: ignore[method-assign]


class ReusesBallots(Proposer):
    rounds_before: dict[bytes, int] = {}  # noqa: RUF012 - replaced for each instance

    def _take_ballot(self, group):  # type: ignore[no-untyped-def]
        seen = self.rounds_before.pop(group.name, 0)
        if seen:
            self._promised_of, before = (lambda name: NO_BALLOT), self._promised_of
            group.round_seen = seen - 1
            super()._take_ballot(group)
            self._promised_of = before
        else:
            super()._take_ballot(group)


class ForgetsRequests(Proposer):
    def _adopt(self, round_, position, acknowledged):  # type: ignore[no-untyped-def]
        for node, told in round_.states.items():
            states = list(told)
            if states[position]:
                stamp, payload = states[position][:STAMP_BYTES], states[position][STAMP_BYTES:]
                bare = payloads.encode(payloads.version(payload), payloads.value(payload), tombstone=payloads.is_tombstone(payload))
                states[position] = stamp + bare
                round_.states[node] = states
        super()._adopt(round_, position, acknowledged)


class TrustsFirstAttempts(Proposer):
    def _apply(self, group, register, operation, now_ms, now_s):  # type: ignore[no-untyped-def]
        operation.is_alone = True
        super()._apply(group, register, operation, now_ms, now_s)


class ForgetsSilently(Proposer):
    def _apply(self, group, register, operation, now_ms, now_s):  # type: ignore[no-untyped-def]
        memory = register.memory
        before = None if memory is None else (memory.forgotten_ms, memory.since_s)
        super()._apply(group, register, operation, now_ms, now_s)
        if before is not None and register.memory is memory:
            memory.forgotten_ms, memory.since_s = before


class TrustsClocks(Proposer):
    """Takes an id that was issued before the register was read for one that nobody else can have executed."""

    def _apply(self, group, register, operation, now_ms, now_s):  # type: ignore[no-untyped-def]
        operation.issued_s += 1000.0
        super()._apply(group, register, operation, now_ms, now_s)
        operation.issued_s -= 1000.0


class AcceptsBelowPromise(Acceptor):
    def _promise(self, group, ballot, verdict):  # type: ignore[no-untyped-def]
        state = self._group(group)
        state.promised = max(state.promised, ballot)
        verdict.groups.add(group)
        return state


class TellsAccepted(Acceptor):
    def is_committed(self, store_key, held):  # type: ignore[no-untyped-def]
        return True


class HearsOne(Readmission):
    needed = 1


class CopiesNothing(Readmission):
    def take(self, pages, own):  # type: ignore[no-untyped-def]
        copied = super().take(pages, own)
        if copied is not None:
            copied.writes, copied.proposed = [], []
        return copied


PLANTS: dict[str, tuple[type[Acceptor], type[Proposer]]] = {
    "no-confirmation": (Acceptor, NoConfirmation),
    "answer-before-commit": (Acceptor, AnswersBeforeCommit),
    "failed-condition-uncommitted": (Acceptor, FailsFromUncommitted),
    "no-write-back": (Acceptor, NoWriteBack),
    "reap-at-majority": (Acceptor, ReapsAtMajority),
    "ballot-reused": (Acceptor, ReusesBallots),
    "amnesia": (Acceptor, Proposer),
    "accept-below-promise": (AcceptsBelowPromise, Proposer),
    "requests-forgotten": (Acceptor, ForgetsRequests),
    "first-attempts-trusted": (Acceptor, TrustsFirstAttempts),
    "memory-forgets-silently": (Acceptor, ForgetsSilently),
    "issued-before-the-read": (Acceptor, TrustsClocks),
    "timeline-of-accepted": (TellsAccepted, Proposer),
}
"""Rules of acceptors and proposers. Others are in `READMISSIONS`, `PROGRESSES` and `HORIZONS`."""


READMISSIONS: dict[str, type[Readmission]] = {"readmitted-by-one": HearsOne, "readmitted-unread": CopiesNothing}

RULES = sorted({*PLANTS, *READMISSIONS, *PROGRESSES, *HORIZONS})
"""All that can be left out."""


WIPED: dict[str, object] = {
    "wiping": 0.2,
    "loss": 0.2,
    "keys": KEYS[:1],
    "upset": 0,
    "reaping": 0.0,
    "cutting": 0.3,
    "healing": 0.1,
    "steady": 0.5,
    "kinds": ["r", "r", "w", "c"],
}

HANGING: dict[str, object] = {
    "hanging": 0.4,
    "patience": 20,
    "loss": 0,
    "duplicates": 0,
    "upset": 0,
    "cutting": 0,
    "wiping": 0,
    "keys": KEYS[:1],
    "kinds": ["i", "i", "w", "r"],
    "reaping": 0.0,
    "retry_window_ms": 100_000,
}

FOCUS: dict[str, dict[str, object]] = {
    "hanging": HANGING,
    "first-attempts-trusted": HANGING,
    "memory-forgets-silently": {**HANGING, "stays": True, "steady": 1.0},
    "issued-before-the-read": HANGING,
    "readmitted-by-one": WIPED,
    "readmitted-unread": WIPED,
    "reap-at-majority": {"reaping": 0.4, "kinds": ["r", "w", "d", "d"], "retry_window_ms": 1},
    "failed-condition-uncommitted": {"kinds": ["w", "c", "c", "r"], "loss": 0.3, "keys": KEYS[:1], "steady": 0.9},
    "answer-before-commit": {"kinds": ["r", "r", "w"], "loss": 0.3, "keys": KEYS[:1], "steady": 0.9},
}
"""What a schedule is mostly about where a rule shows rarely."""


# --- judging, as Wing and Gong (1993) do


def is_linearizable(world: World) -> bool:
    """Whether every key's history is: unanswered operations may have happened at any time after their call, or never. And whether
    every timeline read was what its proof says."""
    return all(_key_is(world, key) for key in KEYS) and world.horizons.are_true()


STATES_MAX = 6_000


def _key_is(world: World, key: bytes) -> bool:
    operations = [
        entry
        for entry in world.history
        if entry.key == key and not entry.certainly_not and not (entry.ret is None and entry.kind == "r")
    ]
    # A timeline read shows what was committed at some time before its end.
    operations += [Entry(key, "r", 0, 0, ret=at, ok=True, out=value) for (one, value), at in world.timeline.items() if one == key]
    full = sum(1 << at for at, entry in enumerate(operations) if entry.ret is not None)
    stack: list[tuple[int, int | None]] = [(0, None)]
    seen: set[tuple[int, int | None]] = set()
    while stack:
        mask, state = stack.pop()
        if mask & full == full:
            return True
        if (mask, state) in seen:
            continue
        seen.add((mask, state))
        if len(seen) > STATES_MAX:
            return True  # not judged
        first = min(entry.ret for at, entry in enumerate(operations) if not mask >> at & 1 and entry.ret is not None)
        for at, entry in enumerate(operations):
            if not mask >> at & 1 and entry.call <= first:
                follows, after = _apply(entry, state)
                if follows:
                    stack.append((mask | 1 << at, after))
    return False


def _apply(entry: Entry, state: int | None) -> tuple[bool, int | None]:
    if entry.kind == "r":
        return state == entry.out, state
    if entry.kind == "w":
        return True, entry.value
    if entry.kind == "d":
        return True, None
    if entry.kind == "i":
        return entry.ok is None or entry.out == (state or 0) + 1, (state or 0) + 1
    if entry.ok is None:
        return True, entry.value if state is None else state
    return (state is None, entry.value) if entry.ok else (state is not None and state == entry.out, state)


@contextmanager
def few_remembered() -> Iterator[None]:
    """Registers and proposers that remember hardly any request, so that schedules of a few operations forget some."""
    before = payloads.REQUESTS_MAX, remembered.REMEMBERED_MAX, remembered.CLOCK_SLACK_S
    payloads.REQUESTS_MAX, remembered.REMEMBERED_MAX, remembered.CLOCK_SLACK_S = 2, 2, 0.01
    try:
        yield
    finally:
        payloads.REQUESTS_MAX, remembered.REMEMBERED_MAX, remembered.CLOCK_SLACK_S = before


def broken(seeds: Sequence[int], plant: str = "", *, operations: int = 50, enough: int = 1 << 30) -> tuple[list[int], int, int]:
    """Seeds that are not linearizable, up to `enough`; and how many operations were answered of how many."""
    found: list[int] = []
    answered = total = 0
    for seed in seeds:
        world = World(seed, plant)
        world.run(operations)
        total += len(world.history)
        answered += sum(entry.ret is not None for entry in world.history)
        if not is_linearizable(world):
            found.append(seed)
            if len(found) >= enough:
                break
    return found, answered, total
