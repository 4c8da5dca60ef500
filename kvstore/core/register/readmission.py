"""How an acceptor that has lost what it promised and accepted may vote again, for one group (safety rule 15, docs/adr/0020). Pure.

It takes part as a proposer that does not count its own acceptor: under a ballot above all that any other owner has promised *or
taken*, every other owner promises that ballot and tells, page by page, what it holds. Of each key the highest is what counts:

- What a majority of all owners holds identically without us is chosen: it is taken over as it is.
- Anything else may be chosen or not (what we had accepted may have made it so): it is accepted here under our ballot, and proposed
  to the others. Copying it as it is would make it look chosen (safety rule 17).

Where others have lost theirs as well, nobody can be asked what they held: an operator says that this is lost (`without`), and those
are not waited for. What they tell nevertheless counts.

Whatever we held before is replaced, also by nothing. A page has a ballot of its own where another proposer has passed the last:
what matters of each key is that all others had promised a ballot above those of our lost answers before they were read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kvstore.core.register import held as registers
from kvstore.core.register.ballot import BALLOT_BYTES, GROUP_BYTES, NO_STAMP, STAMP_BYTES, make_ballot, round_of
from kvstore.core.register.copying import Page


@dataclass(slots=True)
class Copied:
    """What one page comes to: registers to be written and forgotten here, and what else is to be remembered of `group` in the same
    commit. `proposed`: store key, stamp and payload of what the others are to accept as well. `is_last`: with this, the group is
    whole."""

    group: bytes
    promised: bytes
    floor: bytes
    is_last: bool
    writes: list[tuple[bytes, bytes]] = field(default_factory=list)
    deletes: list[bytes] = field(default_factory=list)
    proposed: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)


class Readmission:
    """One group's. `owners`: all of its home replicas; `incarnation`: of nobody else's ballots, in this life or another."""

    def __init__(self, group: bytes, owners: tuple[str, ...], me: str, *, tag: int, incarnation: int, round_above: int = 0) -> None:
        assert len(group) == GROUP_BYTES and me in owners
        self.group = group
        self.me = me
        self.without: frozenset[str] = frozenset()
        """Owners of which it is accepted that what only they held is lost."""
        self.others = tuple(node for node in owners if node != me)
        self._majority = len(owners) // 2 + 1
        self._tag = tag
        self._incarnation = incarnation
        self._sequence = 0
        self._floor = NO_STAMP
        self.cursor = group
        self.ballot = b""
        self.passed(round_above)

    @property
    def needed(self) -> int:
        """How many other owners have to be heard: all of them. A value that we and just enough others had accepted is held by those
        alone, and n - majority + 1 would find it. But each other owner may also be a proposer that counts a promise of our former
        life: its own ballots have to be heard, too. Who has no others is never admitted again: nobody knows what it held."""
        return max(1, len(self.others))

    def is_enough(self, heard: Collection[str]) -> bool:
        """Whether nobody has to be waited for who is not among `heard`. Without anybody nothing is left of the group: then all of
        its owners have to be named, we too."""
        if not heard:
            return self.without.issuperset((self.me, *self.others))
        return sum(node in heard or node in self.without for node in self.others) >= self.needed

    def passed(self, round_: int) -> None:
        """Some acceptor has promised, or some proposer taken, a ballot of `round_`: the next one is above it."""
        if round_ >= round_of(self.ballot):
            self.ballot = make_ballot(round_ + 1, self._tag, self._incarnation)
            self._sequence = 0

    def take(self, pages: Mapping[str, Page], own: Page) -> Copied | None:
        """What the pages behind the cursor come to; None: nothing, and they have to be asked for again. `pages` are those of other
        owners that have promised the ballot, `own` is what lies here."""
        pages = {node: page for node, page in pages.items() if not page.lost or node not in self.without}
        if not self.is_enough(pages) or any(page.lost for page in pages.values()):
            return None
        stamps = [state[:STAMP_BYTES] for page in pages.values() for state in page.states]
        highest = max(stamps, default=NO_STAMP)[:BALLOT_BYTES]
        if highest > self.ballot:  # somebody has passed us between the promise and the page
            self.passed(round_of(highest))
            return None
        ends = [page.keys[-1] for page in (*pages.values(), own) if page.more]
        end = min(ends, default=None)
        self._floor = max([self._floor, *(page.floor for page in pages.values())])
        copied = Copied(self.group, self.ballot, self._floor, end is None)
        held: dict[bytes, list[bytes]] = {}
        for page in pages.values():
            for store_key, state in zip(page.keys, page.states, strict=True):
                if end is None or store_key <= end:
                    held.setdefault(store_key, []).append(state)
        for store_key in sorted(held):
            self._take_key(store_key, held[store_key], copied)
        copied.deletes = [key for key in own.keys if key not in held and (end is None or key <= end)]
        if end is not None:
            self.cursor = end
        return copied

    def _take_key(self, store_key: bytes, states: list[bytes], copied: Copied) -> None:
        best = max(states, key=lambda state: state[:STAMP_BYTES])
        payload = best[STAMP_BYTES:]
        if states.count(best) >= self._majority:
            stamp = best[:STAMP_BYTES]
            copied.writes.append((store_key, registers.encode(stamp, payload, stamp)))
            return
        self._sequence += 1
        stamp = self.ballot + self._sequence.to_bytes(8, "big")
        copied.writes.append((store_key, registers.encode(stamp, payload)))
        copied.proposed.append((store_key, stamp, payload))
