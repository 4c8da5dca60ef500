"""Who knew what: the oracle of explicit causal histories that the checkers of siblings share. Pure.

A write supersedes the writes its author was shown (`knew`), what those superseded, and, when it came without a context, whatever
its coordinator held. The last part cannot be seen from outside: then it *may* have superseded every write that had begun before it
ended, and nothing that rests on it is an accusation. Where executions are known, because a simulation watched the disks, it is
exact.

An execution is one coordinator's minting of a write. A retry through a coordinator that has not heard of the first execution makes
a second one; ADR 2 says which false siblings that may leave, and the checkers excuse exactly those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from kvchaos.history import Call, Event, reads_of, writes_of

_ACTOR_DIGITS = 24
_DOT_DIGITS = 40
_HORIZON = "f" * _ACTOR_DIGITS  # a row that is a time and no actor (ADR 2)


def vector_of(token: str) -> dict[str, int]:
    """Actor to counter, of a context token in hex: kind u8, rows u16, rows of 20 bytes, single dots. "" covers nothing."""
    rows = int(token[2:6] or "0", 16)
    vector: dict[str, int] = {}
    for at in range(6, 6 + rows * _DOT_DIGITS, _DOT_DIGITS):
        actor = token[at : at + _ACTOR_DIGITS]
        if actor != _HORIZON:
            vector[actor] = int(token[at + _ACTOR_DIGITS : at + _DOT_DIGITS], 16)
    return vector


def dots_of(token: str) -> list[str]:
    """The single dots of a context token in hex, beyond its vector."""
    rows = int(token[2:6] or "0", 16)
    return [token[at : at + _DOT_DIGITS] for at in range(6 + rows * _DOT_DIGITS, len(token), _DOT_DIGITS)]


def reach_of(token: str) -> tuple[dict[str, int], frozenset[str]]:
    """Actor to counter, and the single dots beyond, of a context token in hex; dots that follow on their actor's counter count
    in."""
    vector, beyond = vector_of(token), set[str]()
    for dot in sorted(dots_of(token)):
        actor, counter = dot[:_ACTOR_DIGITS], int(dot[_ACTOR_DIGITS:], 16)
        if counter == vector.get(actor, 0) + 1:
            vector[actor] = counter
        elif counter > vector.get(actor, 0):
            beyond.add(dot)
    return vector, frozenset(beyond)


def covers(vector: Mapping[str, int], version: str) -> bool:
    """Whether `vector` has seen the dot `version`."""
    return vector.get(version[:_ACTOR_DIGITS], 0) >= int(version[_ACTOR_DIGITS:] or "0", 16)


@dataclass(frozen=True, slots=True)
class Execution:
    """One minting: which write (None: a delete of which no more is known), under which version, for which request, by whom, over
    which live siblings (versions; None where the record it was built on was never seen)."""

    write: str | None
    version: str
    node: str
    base: tuple[str, ...] | None
    request: str = ""


def executions_of(events: Iterable[Event]) -> dict[str, list[Execution]] | None:
    """Key to its executions; None where nobody watched."""
    found: defaultdict[str, list[Execution]] = defaultdict(list)
    watched = False
    for event in events:
        if event.f == "watch":
            watched = True
        elif event.f == "execute":
            value = event.value
            base = None if value["base"] is None else tuple(value["base"])
            execution = Execution(value["write"], value["version"], event.node or "", base, value.get("request", ""))
            found[event.key or ""].append(execution)
    return dict(found) if watched else None


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """What one write knew for certain, what it may have known besides, and until when it may have met anything at all."""

    surely: frozenset[str]
    meant: frozenset[str]
    horizon_ns: float


@dataclass
class KeyStory:
    """Everything the history says about one key. `executions` None: nobody watched. `robbed`: nodes that lost copies."""

    key: str
    writes: dict[str, Call]
    reads: list[Call]
    final: Call | None
    executions: list[Execution] | None = None
    robbed: frozenset[str] = frozenset()
    _known: dict[str, _Knowledge] = field(default_factory=dict)

    def must_be_kept(self, call: Call) -> bool:
        """Whether the write was acknowledged, and somebody who acknowledged it has lost no copies since. Only a degraded answer may
        rest on fewer copies than were asked for, and says so."""
        return call.is_ok and not (call.fact("degraded") and self.robbed.issuperset(call.fact("acknowledged", ())))

    @cached_property
    def by_write(self) -> dict[str, list[Execution]]:
        """The executions of each write. Those of a delete are known by the version it was acknowledged with, and by its request."""
        deletes = {str(call.fact("version")): name for name, call in self.writes.items() if call.f == "delete" and call.is_ok}
        requests = {
            execution.request: deletes[execution.version]
            for execution in self.executions or ()
            if execution.request and execution.version in deletes
        }
        found: defaultdict[str, list[Execution]] = defaultdict(list)
        for execution in self.executions or ():
            name = execution.write or deletes.get(execution.version) or requests.get(execution.request)
            if name is not None:
                found[name].append(execution)
        return dict(found)

    @cached_property
    def _write_of_version(self) -> dict[str, str]:
        return {execution.version: name for name, found in self.by_write.items() for execution in found}

    @cached_property
    def final_vector(self) -> dict[str, int]:
        """What the final state has seen."""
        return vector_of(str(self.final.fact("context", ""))) if self.final is not None else {}

    def is_present(self, name: str) -> bool | None:
        """Whether the final state has seen the write; None: cannot be told."""
        call = self.writes[name]
        if call.is_refused:
            return False
        if self.final is None:
            return None
        if name in self.final.siblings:
            return True
        versions = [execution.version for execution in self.by_write.get(name, ())]
        if call.is_ok:
            versions.append(str(call.fact("version")))
        if any(covers(self.final_vector, version) for version in versions):
            return True
        # A delete of unknown outcome cannot be told from others by what it left.
        return False if call.is_ok or (self.executions is not None and call.f != "delete") else None

    def is_executed_once(self, name: str) -> bool:
        """Whether certainly one coordinator minted it."""
        if self.executions is None:
            return bool(self.writes[name].fact("attempts") == 1)
        return len(self.by_write.get(name, ())) == 1

    def surely_knew(self, name: str) -> frozenset[str]:
        """What `name` superseded if it was applied."""
        return self._knowledge(name).surely

    def may_have_known(self, name: str, other: str) -> bool:
        """Whether `name` may have superseded `other`."""
        known = self._knowledge(name)
        return other in known.surely or other in known.meant or self.writes[other].began_ns < known.horizon_ns

    def may_be_superseded(self, name: str) -> bool:
        """Whether some write that the final state may have seen may have known `name`."""
        return any(
            other != name and self.is_present(other) is not False and self.may_have_known(other, name) for other in self.writes
        )

    def may_have_been_superseded(self, name: str, before_ns: float) -> bool:
        """Whether some write that had begun by `before_ns`, and may have been executed, may have known `name`. The final state need
        not have seen it: of a write that was never acknowledged the only copy may be lost since."""
        return any(
            other != name and call.began_ns < before_ns and self._may_be_executed(other) and self.may_have_known(other, name)
            for other, call in self.writes.items()
        )

    def _may_be_executed(self, name: str) -> bool:
        call = self.writes[name]
        if call.is_refused:
            return False
        return call.is_ok or self.executions is None or call.f == "delete" or name in self.by_write

    def _knowledge(self, name: str) -> _Knowledge:
        found = self._known.get(name)
        if found is None:
            surely = self._reach(name, certain=True)
            meant = self._reach(name, certain=False)
            horizon_ns = max((self._horizon_ns(other) for other in (name, *sorted(meant))), default=0.0)
            found = self._known[name] = _Knowledge(surely, meant, horizon_ns)
        return found

    def _reach(self, name: str, *, certain: bool) -> frozenset[str]:
        reached: set[str] = set()
        waiting = [name]
        while waiting:
            for other in self._told(waiting.pop(), certain=certain):
                if other not in reached and other in self.writes:
                    reached.add(other)
                    waiting.append(other)
        return frozenset(reached - {name})

    def _told(self, name: str, *, certain: bool) -> set[str]:
        call = self.writes[name]
        told = set(call.knew)
        if not certain:
            told |= {*call.invoke.facts.get("meant", ()), *call.fact("meant", ())}
        if call.overwrites:
            for execution in self.by_write.get(name, ()):
                if not certain or self.final is None or covers(self.final_vector, execution.version):
                    told |= {self._write_of_version[at] for at in execution.base or () if at in self._write_of_version}
        return told

    def _horizon_ns(self, name: str) -> float:
        """Until when `name` may have met writes at its coordinators that nobody saw it meet."""
        call = self.writes[name]
        if not call.overwrites:
            return 0.0
        met = self.by_write.get(name, ())
        if met and all(execution.base is not None for execution in met):
            return 0.0
        return call.ended_ns


def stories_of(
    calls: Sequence[Call], executions: Mapping[str, list[Execution]] | None = None, robbed: Iterable[str] = ()
) -> list[KeyStory]:
    """One story for each key, in the order of the keys. `robbed`: nodes from which copies were taken away."""
    victims = frozenset(robbed)
    writes: defaultdict[str, dict[str, Call]] = defaultdict(dict)
    for call in writes_of(calls):
        writes[call.key][call.write] = call
    reads: defaultdict[str, list[Call]] = defaultdict(list)
    for call in reads_of(calls, final=False):
        reads[call.key].append(call)
    final = {call.key: call for call in reads_of(calls, final=True)}  # the last one counts
    return [
        KeyStory(key, writes[key], reads[key], final.get(key), None if executions is None else executions.get(key, []), victims)
        for key in sorted({*writes, *reads, *final})
    ]
