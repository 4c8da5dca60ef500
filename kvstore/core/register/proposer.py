"""The machine of whoever proposes: operations in, rounds out; replies in, answers out. Pure, and batch-wide.

Operations gather until `turn`, which applies those of one key in order and makes one accept of them all; accepts are pipelined, for
(ballot, sequence) orders them, and the next operation on a key builds on one that is still in flight. What makes it safe, and what
tests/laws/test_register_schedules.py breaks when it is left out:

- A group's first operation takes a ballot above all that were seen; the first touch of a key reads it from a majority, which
  promise the ballot thereby. What is found is chosen if a majority holds the identical stamp and payload, or nothing; else it is
  accepted again before anything is answered from it (`_is_chosen`, `_adopt`).
- A write is answered when a majority has accepted it. A read or a failed condition is answered when what it rests on is committed
  *and* the ballot was confirmed by a majority after the operation came: by a round for that, or by whatever else was sent since.
- A ballot that another one has passed, or of which an accept did not reach a majority, is given up with all that is known under it
  (`_lose`). Operations without an answer begin again under the next one; their request ids keep them from being executed twice.

It knows no clock, no network and no chance: those are handed in. Called by coordinator/linearizable/proposing.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from kvstore.core.quorum import Outcome as Settled
from kvstore.core.register import payload as payloads
from kvstore.core.register.ballot import GROUP_BYTES, NO_BALLOT, SEQUENCE_MAX, STAMP_BYTES, make_ballot, round_of, version_of
from kvstore.core.register.changes import Kind, Operation, decide, expire
from kvstore.core.register.messages import Ask, Reply, Step, Why
from kvstore.core.register.reaping import Reaping
from kvstore.core.register.remembered import Budget, Memory
from kvstore.core.register.rounds import NO_REGISTER, Entry, Group, Register, Round

ENTRIES_MAX = 4096
BYTES_MAX = 4 * 1024 * 1024
"""What one round carries at most, but one register is always carried."""

KEY_OVERHEAD_BYTES = 600
ORDER_MAX = 4096
BACKOFF_S = 0.01
BACKOFF_S_MAX = 0.3


class Proposer:
    """All groups that one node proposes for. `owners_of` gives a group's home replicas, `promised_of` what this node's own
    acceptor has promised (a hint: the next ballot is above it), `chance` a number between 0 and 1."""

    def __init__(
        self,
        *,
        tag: int,
        incarnation: int,
        owners_of: Callable[[bytes], tuple[str, ...]],
        promised_of: Callable[[bytes], bytes],
        chance: Callable[[], float],
        retry_window_ms: int,
        cache_bytes_max: int,
    ) -> None:
        self._tag = tag
        self._incarnation = incarnation
        self._owners_of = owners_of
        self._promised_of = promised_of
        self._chance = chance
        self._retry_window_ms = retry_window_ms
        self._cache_bytes_max = cache_bytes_max
        self.groups: dict[bytes, Group] = {}
        self.rounds: dict[int, Round] = {}
        """Those that are not settled."""
        self.answered: list[tuple[Operation, tuple[str, ...]]] = []
        """Operations with their `answer`, and who stands behind it; the caller takes them."""
        self.failed: list[tuple[Operation, Round]] = []
        """Operations for which too few could answer; `was_sent` says whether they may have been applied."""
        self._arrived: list[Operation] = []
        self._to_read: dict[bytes, tuple[Group, Register]] = {}
        self._changed: dict[bytes, tuple[Group, Register]] = {}
        self._to_confirm: dict[bytes, list[Operation]] = {}
        self._parked: dict[bytes, Group] = {}
        self.reaping = Reaping(self, retry_window_ms)
        self._order: deque[tuple[Group, bytes, Register]] = deque()
        self._order_max = ORDER_MAX
        self._operations = 0
        self._round = 0
        self._budget = Budget()
        self.cached_bytes = 0
        self.ballots = 0
        """How many were taken; those that were passed by another's are `losses`."""
        self.losses = 0

    # --- from the caller

    def submit(self, operations: Iterable[Operation]) -> None:
        """Takes operations, to be applied in this order by the next turn."""
        for operation in operations:
            self._operations += 1
            operation.number = self._operations
            self._arrived.append(operation)

    def abandon(self, operation: Operation) -> None:
        """Nobody waits for it any more. What was sent of it may still be chosen."""
        operation.done = True
        group = self.groups.get(operation.store_key[:GROUP_BYTES])
        if group is not None:
            group.live.pop(operation.number, None)

    def taken(self, group: bytes) -> bytes:
        """A ballot that is not below any that was taken here of `group`."""
        known = self.groups.get(group)
        return NO_BALLOT if known is None else make_ballot(known.round_seen, self._tag, self._incarnation)

    @property
    def has_work(self) -> bool:
        """Whether a turn has something to do."""
        return bool(self._arrived or self._to_read or self._changed or self._to_confirm or self.reaping.has_work)

    def wake_s(self) -> float | None:
        """When parked operations are to be looked at again."""
        return min([group.resume_s for group in self._parked.values()], default=None)

    def turn(self, now_ms: int, now_s: float) -> list[Round]:
        """Applies what has arrived and gives the rounds that are to be sent, in this order."""
        for name in [name for name, group in self._parked.items() if group.resume_s <= now_s]:
            group = self._parked.pop(name)
            self._arrived, group.parked = [*group.parked, *self._arrived], []
        arrived, self._arrived = self._arrived, []
        for operation in arrived:
            if not operation.done:
                self._begin(operation, now_ms, now_s)
        rounds = self._make_rounds(now_s)
        if self.cached_bytes > self._cache_bytes_max or len(self._order) > self._order_max:
            self._evict()
        return rounds

    def heard(self, number: int, node: str, reply: Reply, now_s: float) -> None:
        """`node` answered a round."""
        round_ = self.rounds.get(number)
        if round_ is None or not round_.take(node, reply):
            return
        for position, (why, promised) in reply.refused.items():
            if why is Why.PROMISED:
                self._passed(round_.groups[position], round_.ballots[position], promised, now_s)
            elif why is Why.LATER:
                round_.later.add(position)
            elif why is Why.LOST and round_.ask.step is Step.ACCEPT:
                round_.groups[position].has_lost = True
        self._settle(round_, now_s)

    def silent(self, number: int, node: str, now_s: float) -> None:
        """`node` will not answer a round."""
        round_ = self.rounds.get(number)
        if round_ is not None and node in round_.tally.waiting:
            round_.tally.fail(node)
            self._settle(round_, now_s)

    # --- operations

    def _begin(self, operation: Operation, now_ms: int, now_s: float) -> None:
        store_key = operation.store_key
        name = store_key[:GROUP_BYTES]
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group(name, self._owners_of(name))
        group.live[operation.number] = operation
        if group.ballot and (group.sequence > SEQUENCE_MAX - 8 or (group.has_lost and operation.kind == Kind.SETTLE)):
            self._lose(group)  # what an acceptor has lost it accepts anew under a later ballot only
            return
        if not group.ballot:
            if group.resume_s > now_s:
                group.parked.append(operation)
                self._parked[name] = group
                return
            self._take_ballot(group)
        register = group.keys.get(store_key)
        if register is None:
            register = group.keys[store_key] = Register()
            self._to_read[store_key] = group, register
            self._order.append((group, store_key, register))
            self.cached_bytes += KEY_OVERHEAD_BYTES
        if register.reading:
            register.queue.append(operation)
        else:
            self._apply(group, register, operation, now_ms, now_s)

    def _take_ballot(self, group: Group) -> None:
        round_ = max(group.round_seen, round_of(self._promised_of(group.name))) + 1
        group.round_seen = round_
        group.ballot = make_ballot(round_, self._tag, self._incarnation)
        group.sequence = 0
        group.has_lost = False
        self.ballots += 1

    def _apply(self, group: Group, register: Register, operation: Operation, now_ms: int, now_s: float) -> None:
        store_key, held, memory = operation.store_key, register.payload, register.memory
        cutoff_ms = now_ms - self._retry_window_ms
        if memory is None:
            window_s = self._retry_window_ms / 1000
            memory = register.memory = Memory(self._budget, held, cutoff_ms=cutoff_ms, window_s=window_s, now_s=now_s)
        else:
            memory.settle(now_s)
        if held is not None and payloads.has_expired(held, now_ms):
            tombstone = expire(held, version_of(group.ballot, group.sequence + 1), cutoff_ms)
            memory.take(held, tombstone, now_s, added=0)
            held = tombstone
            self._change(group, store_key, register, held)
        new, operation.answer = decide(operation, held, version_of(group.ballot, group.sequence + 1), cutoff_ms, memory)
        if new is not None:
            memory.take(held, new, now_s, added=1 if operation.request_id else 0)
            self._change(group, store_key, register, new)
        if store_key in self._changed:  # what this turn sends comes after the operation: it confirms the ballot as well
            operation.needs = 1
            operation.was_sent = operation.was_sent or new is not None
            register.waiting.append((register.latest, operation))
        else:
            self._rest(group, register, operation)

    def _rest(self, group: Group, register: Register, operation: Operation) -> None:
        """The operation changes nothing: it is answered from what is there, once that is committed and the ballot was confirmed."""
        operation.needs = 0
        if not self._may_answer_from(register):
            operation.needs = 1
            register.waiting.append((register.latest, operation))
        if self._must_confirm(operation):
            operation.needs += 1
            self._to_confirm.setdefault(group.name, []).append(operation)
        if not operation.needs:
            self._answer(group, operation, operation.confirmed_by)

    def _may_answer_from(self, register: Register) -> bool:
        return register.committed

    def _must_confirm(self, operation: Operation) -> bool:
        return not operation.confirmed_by

    def _change(self, group: Group, store_key: bytes, register: Register, payload: bytes) -> None:
        group.sequence += 1
        self.cached_bytes += len(payload) - len(register.payload or b"")
        register.payload, register.latest, register.committed = payload, group.sequence, False
        self._changed[store_key] = group, register

    def _answer(self, group: Group, operation: Operation, acknowledged: tuple[str, ...]) -> None:
        group.live.pop(operation.number, None)
        if not operation.done:
            operation.done = True
            self.answered.append((operation, acknowledged))

    def is_changing(self, store_key: bytes) -> bool:
        """Whether this turn has changed a register."""
        return store_key in self._changed

    # --- rounds

    def _make_rounds(self, now_s: float) -> list[Round]:
        rounds: list[Round] = []
        if self._changed:
            changed, self._changed = self._changed, {}
            # In the order of their sequences: the watermark goes by the first that is outstanding.
            entries = sorted([(group, key, register) for key, (group, register) in changed.items()], key=_latest)
            rounds += [self._accept(some, now_s) for some in self.alike(entries)]
        if self._to_read:
            to_read, self._to_read = self._to_read, {}
            entries = [(group, key, register) for key, (group, register) in to_read.items()]
            rounds += [self._read(some, now_s) for some in self.alike(entries)]
        if self._to_confirm:
            to_confirm, self._to_confirm = self._to_confirm, {}
            groups = [(self.groups[name], name, NO_REGISTER) for name in to_confirm if self.groups[name].ballot]
            for some in self.alike(groups):
                round_ = self.make_round(Step.CONFIRM, some, [group.ballot for group, _, _ in some], now_s)
                round_.rest = {position: to_confirm[name] for position, (_, name, _) in enumerate(some)}
                rounds.append(round_)
        if self.reaping.has_work:
            rounds += self.reaping.make_rounds(now_s)
        return rounds

    def make_round(self, step: Step, entries: Sequence[Entry], ballots: Sequence[bytes], now_s: float) -> Round:
        """A round about entries of the same owners, to be sent."""
        groups = [group for group, _, _ in entries]
        owners = groups[0].owners
        self._round += 1
        ask = Ask(step, [key for _, key, _ in entries], ballots)
        round_ = self.rounds[self._round] = Round(self._round, ask, groups, owners, len(owners) // 2 + 1, now_s)
        round_.registers = [register for _, _, register in entries]
        return round_

    def _accept(self, entries: Sequence[Entry], now_s: float) -> Round:
        stamps = [group.ballot + register.latest.to_bytes(8, "big") for group, _, register in entries]
        round_ = self.make_round(Step.ACCEPT, entries, stamps, now_s)
        round_.sequences = [register.latest for _, _, register in entries]
        for group, _, register in entries:
            group.outstanding[register.latest] = None
        if self._to_confirm:
            for position, (group, _, _) in enumerate(entries):
                resting = self._to_confirm.pop(group.name, None)
                if resting is not None:
                    round_.rest[position] = resting
        round_.ask.marks = [group.mark() for group in round_.groups]
        round_.ask.payloads = [register.payload or b"" for _, _, register in entries]
        return round_

    def _read(self, entries: Sequence[Entry], now_s: float) -> Round:
        for _, _, register in entries:
            register.covered = len(register.queue)
        return self.make_round(Step.READ, entries, [group.ballot for group, _, _ in entries], now_s)

    @staticmethod
    def alike(entries: Sequence[Entry]) -> list[list[Entry]]:
        """Entries of the same owners together, as many as one round may carry; what was lost meanwhile is gone."""
        out: list[list[Entry]] = []
        open_at: dict[tuple[str, ...], tuple[list[Entry], list[int]]] = {}
        for entry in entries:
            group, store_key, register = entry
            if register is not NO_REGISTER and group.keys.get(store_key) is not register:
                continue
            size = len(register.payload or b"")
            gathered = open_at.get(group.owners)
            if gathered is None or len(gathered[0]) >= ENTRIES_MAX or gathered[1][0] + size > BYTES_MAX:
                gathered = open_at[group.owners] = ([], [0])
                out.append(gathered[0])
            gathered[0].append(entry)
            gathered[1][0] += size
        return out

    # --- replies

    def _settle(self, round_: Round, now_s: float) -> None:
        for settled, positions in round_.tally.settle():
            wanted = range(round_.tally.size) if positions is None else positions
            if settled is Settled.MET:
                acknowledged = round_.tally.answered if positions is None else round_.tally.answered_for(positions[0])
                self._met(round_, wanted, acknowledged, now_s)
            else:
                self._unreachable(round_, wanted, now_s)
        if round_.tally.settled:
            self.rounds.pop(round_.number, None)

    def _met(self, round_: Round, positions: Sequence[int], acknowledged: tuple[str, ...], now_s: float) -> None:
        step = round_.ask.step
        for position in positions:
            group = round_.groups[position]
            if group.ballot != round_.ballots[position]:
                continue  # given up meanwhile
            if step is Step.ACCEPT:
                self._committed(group, round_.registers[position], round_.sequences[position], acknowledged)
            elif step is Step.READ:
                self._adopt(round_, position, acknowledged)
            elif step is Step.STATE:
                self.reaping.told(round_, position)
            for operation in round_.rest.get(position, ()):
                self._one_less(group, operation, acknowledged)

    def _committed(self, group: Group, register: Register, sequence: int, acknowledged: tuple[str, ...]) -> None:
        """A majority has accepted the register as of `sequence`, or something that was built on it."""
        group.outstanding.pop(sequence, None)
        group.losses = 0
        if register.latest == sequence:
            register.committed = True
        waiting = register.waiting
        while waiting and waiting[0][0] <= sequence:
            self._one_less(group, waiting.popleft()[1], acknowledged)

    def _one_less(self, group: Group, operation: Operation, acknowledged: tuple[str, ...]) -> None:
        operation.needs -= 1
        if operation.needs <= 0:
            self._answer(group, operation, acknowledged)

    def _adopt(self, round_: Round, position: int, acknowledged: tuple[str, ...]) -> None:
        """Takes over what a majority holds of a key; what is not chosen for certain is accepted again (Paxos, phase 2)."""
        group, register, store_key = round_.groups[position], round_.registers[position], round_.ask.keys[position]
        states = [round_.states[node][position] for node in acknowledged]
        best = max(states, key=lambda state: state[:STAMP_BYTES])
        register.reading, register.committed = False, True
        if best:
            if self._is_chosen(states, best, round_.tally.need):
                register.payload = best[STAMP_BYTES:]
                self.cached_bytes += len(register.payload)
            else:
                self._change(group, store_key, register, best[STAMP_BYTES:])
        queue, register.queue = register.queue, []
        for operation in queue[: register.covered]:
            operation.confirmed_by = acknowledged
        self._arrived = [*queue, *self._arrived]

    def _is_chosen(self, states: Sequence[bytes], best: bytes, need: int) -> bool:
        """Whether a majority holds the identical stamp and payload (safety rule 16)."""
        return states.count(best) >= need

    def _unreachable(self, round_: Round, positions: Sequence[int], now_s: float) -> None:
        for position in positions:
            group = round_.groups[position]
            if group.ballot != round_.ballots[position]:
                continue
            if round_.ask.step is Step.ACCEPT:
                # It may be chosen all the same: only another ballot finds out.
                for sequence, operation in round_.registers[position].waiting:
                    if sequence <= round_.sequences[position]:
                        self._fail(group, operation, round_)
                self._fail_all(group, round_.rest.get(position, ()), round_)
                self._lose(group)
            elif round_.ask.step is Step.READ:
                register, store_key = round_.registers[position], round_.ask.keys[position]
                if position in round_.later:
                    self._to_read[store_key] = group, register
                    continue
                self.forget(group, store_key)
                self._fail_all(group, register.queue, round_)
            else:
                self._fail_all(group, round_.rest.get(position, ()), round_)

    def _fail_all(self, group: Group, operations: Iterable[Operation], round_: Round) -> None:
        for operation in operations:
            self._fail(group, operation, round_)

    def _fail(self, group: Group, operation: Operation, round_: Round) -> None:
        group.live.pop(operation.number, None)
        if not operation.done:
            operation.done = True
            self.failed.append((operation, round_))

    def _passed(self, group: Group, ballot: bytes, promised: bytes, now_s: float) -> None:
        """An acceptor has promised `promised` instead of `ballot`."""
        group.round_seen = max(group.round_seen, round_of(promised))
        if group.ballot != ballot:
            return
        self.losses += 1
        # Two who pass each other in turn would go on for ever if both began again at once.
        group.resume_s = now_s + min(BACKOFF_S_MAX, BACKOFF_S * 2**group.losses) * self._chance()
        group.losses = min(group.losses + 1, 16)
        self._lose(group)

    def _lose(self, group: Group) -> None:
        """Gives the ballot up. What has no answer begins again, in the order in which it came."""
        for register in group.keys.values():
            self._gone(register)
        group.ballot = b""
        group.keys = {}
        group.outstanding = {}
        self._to_confirm.pop(group.name, None)
        again = list(group.live.values())
        for operation in again:
            operation.answer, operation.needs, operation.confirmed_by = None, 0, ()
        numbers = group.live.keys()
        self._arrived = [*again, *(operation for operation in self._arrived if operation.number not in numbers)]
        group.parked = []
        self._parked.pop(group.name, None)

    def forget(self, group: Group, store_key: bytes) -> None:
        """What is known of a register is read again when it is asked for."""
        register = group.keys.pop(store_key, None)
        if register is not None:
            self._gone(register)

    def _gone(self, register: Register) -> None:
        self.cached_bytes -= KEY_OVERHEAD_BYTES + len(register.payload or b"")
        if register.memory is not None:
            register.memory.clear()

    def _evict(self) -> None:
        """Forgets registers that are idle, the oldest first; they are read again when they are asked for."""
        for _ in range(len(self._order)):
            group, store_key, register = self._order.popleft()
            if group.keys.get(store_key) is not register:
                continue
            if self.cached_bytes > self._cache_bytes_max and register.is_idle:
                self.forget(group, store_key)
            else:
                self._order.append((group, store_key, register))
        self._order_max = 2 * len(self._order) + ORDER_MAX


def _latest(entry: Entry) -> int:
    return entry[2].latest
