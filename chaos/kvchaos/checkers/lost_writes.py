"""No acknowledged write is lost unless it was causally overwritten. Pure.

A write is *accounted for* when its value is among those read back, or when a write that knew it, and so supersedes it, is itself
accounted for. A write of unknown outcome needs no case of its own: if it was never applied it is not read back and nothing
supersedes it, so it excuses nothing. Values must be unique per key. For workloads whose every causal past is known, and of which
only what is read back is known; where contexts and versions are recorded as well, checkers/siblings.py judges more sharply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from kvchaos.history import NEMESIS, Event, calls_of, writes_of

WIPE = "wipe"


class Fate(Enum):
    """What the client was told about a write."""

    ACKNOWLEDGED = "ok"
    REFUSED = "fail"  # certainly not applied
    UNKNOWN = "info"


@dataclass(frozen=True, slots=True)
class Write:
    """One attempt. `knew`: the values its causal context covered, which it replaces if it was applied."""

    key: str
    value: bytes
    fate: Fate
    knew: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Verdict:
    """Counts of writes by what became of them, and the violations as (key, value)."""

    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    read_back: int = 0
    overwritten: int = 0
    robbed: int = 0
    """Gone, and excused: whoever had acknowledged them was wiped."""
    lost: list[tuple[str, bytes]] = field(default_factory=list)
    applied_though_refused: list[tuple[str, bytes]] = field(default_factory=list)
    invented: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether every promise held."""
        return not self.violations()

    def violations(self) -> list[tuple[str, str, bytes]]:
        """(what is wrong, key, value) of each."""
        kinds = {"lost": self.lost, "applied though refused": self.applied_though_refused, "never written": self.invented}
        return [(name, key, value) for name, found in kinds.items() for key, value in found]

    def sentence(self) -> str:
        """One line with the counts."""
        robbed = f", {self.robbed:,} wiped with every copy" if self.robbed else ""
        return (
            f"{self.acknowledged:,} acknowledged "
            f"({self.read_back:,} read back, {self.overwritten:,} causally overwritten{robbed}), "
            f"{self.unknown:,} unknown, {self.refused:,} refused; {len(self.lost)} lost, "
            f"{len(self.applied_though_refused)} applied though refused, {len(self.invented)} never written"
        )


def writes_in(events: Iterable[Event]) -> list[Write]:
    """The writes of a history whose values are their ids, in the order of their beginnings. Deletes are not for this checker."""
    writes = []
    for call in writes_of(calls_of(events)):
        fate = Fate.ACKNOWLEDGED if call.is_ok else Fate.REFUSED if call.is_refused else Fate.UNKNOWN
        writes.append(Write(call.key, call.write.encode(), fate, frozenset(name.encode() for name in call.knew)))
    return writes


def robbed_in(events: Iterable[Event]) -> set[bytes]:
    """The values that nobody but nodes wiped together later had acknowledged. These may be gone: W copies are what was promised. A
    wipe is a fault `wipe` whose value names the nodes."""
    holders: dict[bytes, frozenset[str]] = {}
    robbed: set[bytes] = set()
    for event in events:
        if event.process == NEMESIS and event.f == WIPE:
            robbed.update(value for value, nodes in holders.items() if nodes <= frozenset(event.value))
        elif event.type == "ok" and event.f == "write" and (nodes := frozenset(event.facts.get("acknowledged", ()))):
            holders[str(event.value).encode()] = nodes
    return robbed


def check_lost_writes(
    writes: Iterable[Write], found: Mapping[str, Collection[bytes]], robbed: Collection[bytes] = frozenset()
) -> Verdict:
    """Judges `writes` by what is read back of each key after the faults: `found` maps a key to all its siblings' values. Those in
    `robbed` are counted apart when they are gone."""
    verdict = Verdict()
    of_key: defaultdict[str, list[Write]] = defaultdict(list)
    for write in writes:
        of_key[write.key].append(write)
    for key, attempts in of_key.items():
        _check_key(key, attempts, frozenset(found.get(key, ())), robbed, verdict)
    for key in found.keys() - of_key.keys():
        verdict.invented.extend((key, value) for value in sorted(found[key]))
    return verdict


def _check_key(key: str, attempts: list[Write], held: frozenset[bytes], robbed: Collection[bytes], verdict: Verdict) -> None:
    accounted = _accounted(attempts, held)
    for write in attempts:
        if write.fate is Fate.UNKNOWN:
            verdict.unknown += 1
        elif write.fate is Fate.REFUSED:
            verdict.refused += 1
            if write.value in held:
                verdict.applied_though_refused.append((key, write.value))
        else:
            verdict.acknowledged += 1
            if write.value in held:
                verdict.read_back += 1
            elif write.value in accounted:
                verdict.overwritten += 1
            elif write.value in robbed:
                verdict.robbed += 1
            else:
                verdict.lost.append((key, write.value))
    verdict.invented.extend((key, value) for value in sorted(held - {write.value for write in attempts}))


def _accounted(attempts: list[Write], held: frozenset[bytes]) -> set[bytes]:
    """Every value that is held, or known to a write whose value is accounted for: what is reachable from `held` through `knew`."""
    knew = {write.value: write.knew for write in attempts}
    accounted: set[bytes] = set()
    waiting = list(held)
    while waiting:
        value = waiting.pop()
        if value not in accounted:
            accounted.add(value)
            waiting.extend(knew.get(value, ()))
    return accounted
