"""The end of tombstones, as whoever proposes for their groups decides it (consistency.md, section 5). Pure.

A tombstone is forgotten when all owners hold it identically, committed, and no request that it remembers can come again. All of
them: whoever missed it would bring back what is below. The floor of the group keeps late messages from doing so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvstore.core.register import payload as payloads
from kvstore.core.register.ballot import GROUP_BYTES, STAMP_BYTES
from kvstore.core.register.messages import Step
from kvstore.core.register.rounds import NO_REGISTER, Entry, Group, Round

if TYPE_CHECKING:
    from kvstore.core.register.proposer import Proposer


class Reaping:
    """One proposer's."""

    def __init__(self, proposer: Proposer, retry_window_ms: int) -> None:
        self._proposer = proposer
        self._retry_window_ms = retry_window_ms
        self._confirmed: list[tuple[Group, bytes, bytes]] = []
        self.reaped = 0
        """How many tombstones all owners were asked to forget."""

    @property
    def has_work(self) -> bool:
        """Whether a turn has something to send."""
        return bool(self._confirmed)

    def ask(self, store_keys: Iterable[bytes], now_ms: int, now_s: float) -> list[Round]:
        """Rounds that ask all owners about tombstones that are committed here, with all their requests beyond the retry window."""
        entries: list[Entry] = []
        for store_key in store_keys:
            group = self._proposer.groups.get(store_key[:GROUP_BYTES])
            register = group.keys.get(store_key) if group is not None and group.ballot else None
            if group is None or register is None or not register.is_idle or register.payload is None:
                continue
            is_quiet = register.memory is not None and register.memory.is_quiet(now_s)  # whatever clock stamped the ids
            is_over = payloads.requests_ms(register.payload) <= now_ms - self._retry_window_ms
            if payloads.is_tombstone(register.payload) and is_quiet and is_over:
                entries.append((group, store_key, register))
        rounds = []
        for some in self._proposer.alike(entries):
            round_ = self._proposer.make_round(Step.STATE, some, [group.ballot for group, _, _ in some], now_s)
            round_.sequences = [register.latest for register in round_.registers]
            round_.tally.need = self.owners_needed(len(round_.targets))
            rounds.append(round_)
        return rounds

    def owners_needed(self, owners: int) -> int:
        """How many have to hold the tombstone: all of them."""
        return owners

    def told(self, round_: Round, position: int) -> None:
        """As many owners as are needed have said what they hold."""
        group, register, store_key = round_.groups[position], round_.registers[position], round_.ask.keys[position]
        states = [states[position] for node, states in round_.states.items() if node in round_.tally.answered_for(position)]
        if not states[0] or any(state != states[0] for state in states):
            return
        if not register.is_idle or register.latest != round_.sequences[position] or register.payload != states[0][STAMP_BYTES:]:
            return
        if group.keys.get(store_key) is not register or self._proposer.is_changing(store_key):
            return
        self._proposer.forget(group, store_key)
        self._confirmed.append((group, store_key, states[0][:STAMP_BYTES]))

    def make_rounds(self, now_s: float) -> list[Round]:
        """Rounds that have all owners forget what was found to be held by all."""
        confirmed, self._confirmed = self._confirmed, []
        self.reaped += len(confirmed)
        rounds = []
        for owners in sorted({group.owners for group, _, _ in confirmed}):
            some = [(group, store_key, stamp) for group, store_key, stamp in confirmed if group.owners == owners]
            entries: list[Entry] = [(group, store_key, NO_REGISTER) for group, store_key, _ in some]
            rounds.append(self._proposer.make_round(Step.REAP, entries, [stamp for _, _, stamp in some], now_s))
        return rounds
