"""One replica's decisions: what it promises, accepts, reads and forgets. Pure; storage/registers.py makes it durable before it is
told.

Promise and floor are of a group (a partition of a namespace), what is accepted is of a key. `answer` decides on the state as of
every message before, durable or not, and says what has to be written before the reply may leave (safety rule 3).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from kvstore.core.register import held as register
from kvstore.core.register import payload as payloads
from kvstore.core.register.ballot import BALLOT_BYTES, GROUP_BYTES, NO_BALLOT, NO_STAMP, may_promise
from kvstore.core.register.messages import Ask, Reply, Step, Why
from kvstore.core.register.progress import LOST

Lookup = Callable[[bytes], bytes | None]
"""What is held of a store key, as of every decision before; None: nothing. Raises `Lost`."""


class Lost(Exception):
    """What was held of a key cannot be read: it is unknown, never absent (safety rule 5)."""


@dataclass(slots=True)
class GroupState:
    """What an acceptor remembers of a group: the ballot that it promised, the highest stamp that was reaped, and up to which stamp
    everything of that ballot is known to be committed."""

    promised: bytes = NO_BALLOT
    floor: bytes = NO_STAMP
    watermark: bytes = NO_STAMP


@dataclass(slots=True)
class Verdict:
    """The reply, and what has to be durable before it leaves: registers written and forgotten, groups whose promise or floor
    changed. `looked_at`: store keys on whose state the reply rests without changing it. `replaced`: what was held of the keys that
    are written or forgotten."""

    reply: Reply
    writes: list[tuple[bytes, bytes]] = field(default_factory=list)
    deletes: list[bytes] = field(default_factory=list)
    groups: set[bytes] = field(default_factory=set)
    looked_at: list[bytes] = field(default_factory=list)
    replaced: dict[bytes, bytes | None] = field(default_factory=dict)


class Acceptor:
    """One node's. `groups` is what it remembered, `lookup` what it holds. `taken` gives a ballot of a group, not
    below any that the proposer beside it has used; `is_chosen` says whether what is held of a key is known to be chosen by what
    other owners told. `watched`: groups of which reads may be answered without the proposer, None: all; there an accept keeps what
    it came over beside it."""

    def __init__(
        self,
        lookup: Lookup,
        groups: dict[bytes, GroupState] | None = None,
        taken: Callable[[bytes], bytes] = lambda group: NO_BALLOT,
        is_chosen: Callable[[bytes], bool] = lambda store_key: False,
        watched: Container[bytes] | None = None,
    ) -> None:
        self._lookup = lookup
        self._taken = taken
        self._is_chosen = is_chosen
        self._watched = watched
        self.groups: dict[bytes, GroupState] = groups or {}
        self._lost: dict[bytes, bytes] = {}
        """Keys that were found lost, with the ballot that was promised then: what is accepted in their place has a higher one, for
        of that ballot nobody knows what was accepted already."""

    def answer(self, ask: Ask, bytes_max: int = 1 << 62) -> Verdict:
        """Decides on `ask`; a reply of reads holds about `bytes_max` of states, and one at least."""
        verdict = Verdict(Reply(ask.step, len(ask.keys)))
        if ask.step is Step.ACCEPT:
            self._accept(ask, verdict)
        elif ask.step is Step.READ or ask.step is Step.STATE:
            self._read(ask, verdict, bytes_max)
        elif ask.step is Step.CONFIRM:
            self._confirm(ask, verdict)
        elif ask.step is Step.COPY:
            self._copy(ask, verdict)
        else:
            assert ask.step is Step.REAP, f"{ask.step.name} is no question to an acceptor"
            self._reap(ask, verdict)
        return verdict

    def is_committed(self, store_key: bytes, held: bytes) -> bool:
        """Whether what is held of a key is known to be committed: from its proposer, or from other owners."""
        state = self.groups.get(store_key[:GROUP_BYTES])
        return (state is not None and register.is_committed(held, state.watermark)) or self._is_chosen(store_key)

    def _group(self, group: bytes) -> GroupState:
        state = self.groups.get(group)
        if state is None:
            state = self.groups[group] = GroupState()
        return state

    def _promise(self, group: bytes, ballot: bytes, verdict: Verdict) -> GroupState | bytes:
        """The group's state when `ballot` is served, promised from now on; else the ballot that was."""
        state = self._group(group)
        promised = state.promised
        if promised == ballot:
            return state
        if not may_promise(ballot, promised):
            return promised
        state.promised = ballot
        verdict.groups.add(group)
        return state

    def _read(self, ask: Ask, verdict: Verdict, bytes_max: int) -> None:
        states: list[bytes] = []
        refused = verdict.reply.refused
        size_bytes = 0
        for position, (store_key, ballot) in enumerate(zip(ask.keys, ask.ballots, strict=True)):
            states.append(b"")
            if size_bytes >= bytes_max:
                refused[position] = (Why.LATER, NO_BALLOT)
                continue
            before = self._group(store_key[:GROUP_BYTES]).promised
            state = self._promise(store_key[:GROUP_BYTES], ballot, verdict)
            if isinstance(state, bytes):
                refused[position] = (Why.PROMISED, state)
                continue
            try:
                held = self._lookup(store_key)
            except Lost:
                self._lost.setdefault(store_key, before)
                refused[position] = (Why.LOST, NO_BALLOT)
                continue
            verdict.looked_at.append(store_key)
            if held is not None:
                states[-1] = register.state(held)
                size_bytes += len(states[-1])
        verdict.reply.states = states

    def take_in(self, group: bytes, promised: bytes, floor: bytes, store_keys: Iterable[bytes]) -> None:
        """What this acceptor had promised is lost, and was replaced by what others have; so was what it held of `store_keys`."""
        state = self._group(group)
        state.promised = max(state.promised, promised)
        state.floor = max(state.floor, floor)
        for store_key in store_keys:
            self._lost.pop(store_key, None)

    def _copy(self, ask: Ask, verdict: Verdict) -> None:
        """Promises; what is held is read once that is durable (`copying.read_page`). Who asks has lost answers that it gave, and
        the ballot they were given to may have been promised by nobody else yet, not even beside its own proposer."""
        for position, (cursor, ballot) in enumerate(zip(ask.keys, ask.ballots, strict=True)):
            group = cursor[:GROUP_BYTES]
            taken = self._taken(group)
            state = taken if ballot[:8] <= taken[:8] else self._promise(group, ballot, verdict)
            if isinstance(state, bytes):
                verdict.reply.refused[position] = (Why.PROMISED, state)
        verdict.reply.states = [b""] * len(ask.keys)

    def _accept(self, ask: Ask, verdict: Verdict) -> None:
        """The loop over a batch: an entry of the ballot that is promised, over what can be read, leaves it nowhere but for that."""
        refused, lookup, groups, encode = verdict.reply.refused, self._lookup, self.groups, register.encode
        written: dict[bytes, bytes] = {}
        replaced, watched = verdict.replaced, self._watched
        rows = zip(ask.keys, ask.ballots, ask.marks, ask.payloads, strict=True)
        for position, (store_key, stamp, mark, payload) in enumerate(rows):
            ballot, group = stamp[:BALLOT_BYTES], store_key[:GROUP_BYTES]
            state = groups.get(group)
            before = NO_BALLOT if state is None else state.promised
            if state is None or before != ballot:
                promised = self._promise(group, ballot, verdict)
                if isinstance(promised, bytes):
                    refused[position] = (Why.PROMISED, promised)
                    continue
                state = promised
            if mark and (known := ballot + mark.to_bytes(8, "big")) > state.watermark:
                state.watermark = known
            try:
                held = written.get(store_key) or lookup(store_key)
            except Lost:
                # Of the ballot promised when it was found lost nobody knows what was accepted here; of a later one nothing was.
                if ballot[:8] <= self._lost.setdefault(store_key, before)[:8]:
                    refused[position] = (Why.LOST, NO_BALLOT)
                    continue
                held, replaced[store_key] = None, LOST
            if held is None:
                if stamp <= state.floor:
                    refused[position] = (Why.FLOOR, NO_BALLOT)
                    continue
                replaced.setdefault(store_key, None)
                written[store_key] = encode(stamp, payload)
            elif stamp > register.stamp(held):
                if store_key in written:
                    written[store_key] = encode(stamp, payload)
                    continue
                replaced.setdefault(store_key, held)
                if (watched is None or group in watched) and (
                    register.is_committed(held, state.watermark) or self._is_chosen(store_key)
                ):
                    written[store_key] = register.over(held, stamp, payload)
                else:
                    written[store_key] = encode(stamp, payload)
            else:  # accepted before, or something that was built on it
                verdict.looked_at.append(store_key)
        verdict.writes = list(written.items())
        for store_key in written if self._lost else ():
            self._lost.pop(store_key, None)

    def _confirm(self, ask: Ask, verdict: Verdict) -> None:
        """No disk is needed: whoever has promised no higher ballot has accepted nothing of one."""
        for position, (group, ballot) in enumerate(zip(ask.keys, ask.ballots, strict=True)):
            promised = self._group(group).promised
            if ballot != promised and not may_promise(ballot, promised):
                verdict.reply.refused[position] = (Why.PROMISED, promised)

    def _reap(self, ask: Ask, verdict: Verdict) -> None:
        """Forgets tombstones that are still exactly those: all owners hold them, committed. Whatever comes later of before is below
        the floor."""
        for position, (store_key, stamp) in enumerate(zip(ask.keys, ask.ballots, strict=True)):
            group = store_key[:GROUP_BYTES]
            state = self._group(group)
            try:
                held = self._lookup(store_key)
            except Lost:
                verdict.reply.refused[position] = (Why.LOST, NO_BALLOT)
                continue
            if held is None or register.stamp(held) != stamp or not payloads.is_tombstone(register.accepted(held)):
                continue
            verdict.deletes.append(store_key)
            verdict.replaced[store_key] = held
            state.floor = max(state.floor, stamp)
            verdict.groups.add(group)
