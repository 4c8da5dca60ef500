"""What a history says in numbers: operations of each side and kind, their latencies, and the share of stale reads. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kvchaos.causality import covers, vector_of
from kvchaos.history import Call, Event

READS, WRITTEN = "reads", "writes"


def is_answered(call: Call) -> bool:
    """Whether the store said what was asked of it: a condition that does not hold is an answer."""
    return call.is_ok or bool(call.fact("mismatch"))


@dataclass(slots=True)
class Figures:
    """One kind of operation of one side in one phase. Latencies in milliseconds, in order; `degraded` of those that are ok."""

    ok: int = 0
    refused: int = 0
    unknown: int = 0
    degraded: int = 0
    doubted: int = 0
    """Of these, reads that say so by right: see `doubted_reads`."""
    ok_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """All that were begun in the phase."""
        return self.ok + self.refused + self.unknown

    @property
    def ok_share(self) -> float:
        """Of all; 0 of none."""
        return self.ok / self.count if self.count else 0.0

    def add(self, call: Call, *, doubted: bool = False) -> None:
        """One more."""
        if is_answered(call):
            self.ok += 1
            self.doubted += doubted
            self.degraded += bool(call.fact("degraded"))
            self.ok_ms.append(_ms(call))
            return
        if call.is_refused:
            self.refused += 1
            self.refused_ms.append(_ms(call))
        else:
            self.unknown += 1
        said = str(call.fact("error", "no answer")).partition(":")[0]
        self.errors[said] = self.errors.get(said, 0) + 1

    def row(self) -> dict[str, object]:
        """As JSON."""
        return {
            "ok": self.ok,
            "refused": self.refused,
            "unknown": self.unknown,
            "degraded": self.degraded,
            "doubted": self.doubted,
            "p50_ms": percentile(self.ok_ms, 0.5),
            "p99_ms": percentile(self.ok_ms, 0.99),
            "refuse_ms_p99": percentile(self.refused_ms, 0.99),
            "errors": dict(sorted(self.errors.items())),
        }


def doubted_reads(
    calls: Sequence[Call],
    since_ns: float,
    writes: Iterable[Call] | None = None,
    place_of: Callable[[str], object] = str,
    strangers: Collection[tuple[str, str]] = (),
) -> frozenset[int]:
    """The reads (by the index of their invocation) that enough replicas answered and that say `degraded` all the same, because a
    node that is none of these has coordinated a write of their partition since then: it holds a hint for whoever is away, and until
    that is handed over nobody else's answer about the partition is whole (safety rule 12). `writes`: those of all namespaces, for
    hints are told by partition; by default those of `calls`. `place_of` gives the partition of a key; by default each key has its
    own. `strangers`: (node, coordinator) of which the first does not hear the second and is heard by it (`one_way`): it cannot say
    that it has taken nothing meanwhile."""
    by_place: dict[object, list[Call]] = {}
    for call in calls if writes is None else writes:
        if call.f != "read" and not call.is_refused:
            by_place.setdefault(place_of(call.key), []).append(call)
    found = set()
    for read in calls:
        needed, acknowledged = read.fact("needed", 0), read.fact("acknowledged", ())
        if read.f != "read" or not read.fact("degraded") or read.end is None or len(acknowledged) < max(2, needed):
            continue
        others = by_place.get(place_of(read.key), ())
        meanwhile = [call for call in others if call.ended_ns > since_ns and call.began_ns < read.ended_ns]
        is_unheard = read.ended_ns > since_ns and any(at == read.end.node and node not in acknowledged for node, at in strangers)
        if is_unheard or any(_coordinator(call) not in acknowledged for call in meanwhile):
            found.add(read.invoke.index)
    return frozenset(found)


def one_way(faults: Iterable[Event]) -> set[tuple[str, str]]:
    """(node, other) of which the first did not hear the second at some time, and the second the first all the time, as far as the
    links were looked at."""
    links: set[tuple[str, str]] = set()
    for event in faults:
        if event.f == "verify" and isinstance(event.value, dict):
            links |= {(source, target) for source, _, target in (link.partition("->") for link in event.value["links"])}
    return {(source, target) for source, target in links if (target, source) not in links}


def _coordinator(call: Call) -> str | None:
    """None: nobody said."""
    return call.end.node if call.is_ok and call.end is not None else None


def figures_of(
    calls: Iterable[Call], site_of: Mapping[int, str], sites: Sequence[str], doubted: frozenset[int] = frozenset()
) -> dict[str, dict[str, Figures]]:
    """By side, of reads and of writes. `site_of`: where a process stands, by its number modulo the number of processes."""
    found = {site: {READS: Figures(), WRITTEN: Figures()} for site in sites}
    for call in calls:
        process = call.invoke.process
        assert isinstance(process, int)
        kind = READS if call.f == "read" else WRITTEN
        found[site_of[process % len(site_of)]][kind].add(call, doubted=call.invoke.index in doubted)
    return found


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that so many are not above; None of none."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def stale_share(calls: Sequence[Call], judged: Iterable[Call]) -> float | None:
    """Of the reads of `judged` that were answered, how many had not heard of some write acknowledged before they began: by contexts
    where there are some, else by the order of commits. None if there is no such read with anything to miss."""
    acknowledged: dict[str, list[Call]] = {}
    for call in calls:
        if call.is_ok and call.f != "read":
            acknowledged.setdefault(call.key, []).append(call)
    stale = reads = 0
    for read in judged:
        before = [write for write in acknowledged.get(read.key, ()) if write.ended_ns < read.began_ns]
        if before and read.f == "read" and read.is_ok and (missed := _missed(read, before)) is not None:
            reads += 1
            stale += missed
    return stale / reads if reads else None


def _missed(read: Call, before: Sequence[Call]) -> bool | None:
    """Whether a read has not heard of one of the writes; None where it does not say what it has heard of: it found no value."""
    context, order = read.fact("context"), read.fact("order")
    if context is not None:
        vector = vector_of(str(context))
        return any(not covers(vector, str(write.fact("version", ""))) for write in before)
    return None if order is None else any(write.fact("order", 0) > order for write in before)


def _ms(call: Call) -> float:
    assert call.end is not None
    return (call.end.time_ns - call.invoke.time_ns) / 1e6
