"""Locks: fencing tokens grow, nobody holds what another holds, and what a lock guards refuses who was overtaken. Pure.

Calls: `acquire` (its end's value is the token, a number; the invocation's fact `lease_ms` says how long it lasts), `release`
(value: the token) and `guarded` (value: the token with which something was done to what the lock guards). A holder holds for
certain from the end of its acquire to the beginning of its release, or until the lease counted from the *beginning* of the
acquire is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

TOKENS = "fencing tokens grow, and each is given once"
EXCLUSIVE = "a lock has one holder"
FENCED = "what a lock guards refuses tokens that were overtaken"


@dataclass(frozen=True, slots=True)
class Holding:
    """A lock held for certain, ns."""

    call: Call
    token: int
    since: float
    until: float


def check_locks(calls: Iterable[Call], *, exclusive: bool = True) -> list[Violation]:
    """At most one violation of each promise for each lock. `exclusive` False: leases rest on clocks that are not trusted, and only
    tokens count."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.f in ("acquire", "release", "guarded"):
            by_key[call.key].append(call)
    violations = []
    for key, about in sorted(by_key.items()):
        holdings = _holdings(about)
        violations += _tokens(key, holdings)
        if exclusive:
            violations += _exclusive(key, holdings)
        violations += _fenced(key, [call for call in about if call.f == "guarded" and call.is_ok])
    return violations


def _holdings(calls: Sequence[Call]) -> list[Holding]:
    released: dict[int, Call] = {}
    for call in calls:
        if call.f == "release" and not call.is_refused:
            released.setdefault(int(call.invoke.value), call)
    holdings = []
    for call in calls:
        if call.f == "acquire" and call.is_ok and call.end is not None:
            token, lease_ms = int(call.end.value), call.invoke.facts.get("lease_ms")
            until = float("inf") if lease_ms is None else call.began_ns + lease_ms * 1e6
            if token in released:
                until = min(until, released[token].began_ns)
            holdings.append(Holding(call, token, call.ended_ns, until))
    return sorted(holdings, key=lambda holding: holding.since)


def _tokens(key: str, holdings: Sequence[Holding]) -> list[Violation]:
    given: dict[int, Holding] = {}
    highest: Holding | None = None
    at = 0
    for holding in holdings:
        if (other := given.setdefault(holding.token, holding)) is not holding:
            return [Violation(TOKENS, key, f"token {holding.token} was given twice", events_of(other.call, holding.call))]
    for holding in sorted(holdings, key=lambda holding: holding.call.began_ns):
        while at < len(holdings) and holdings[at].since < holding.call.began_ns:
            if highest is None or holdings[at].token > highest.token:
                highest = holdings[at]
            at += 1
        if highest is not None and highest.token > holding.token:
            text = f"token {holding.token} was given after {highest.token}"
            return [Violation(TOKENS, key, text, events_of(highest.call, holding.call))]
    return []


def _exclusive(key: str, holdings: Sequence[Holding]) -> list[Violation]:
    last: Holding | None = None
    for holding in holdings:
        if holding.until <= holding.since:
            continue  # over before its holder heard of it
        if last is not None and holding.since < last.until:
            both_ms = (min(last.until, holding.until) - holding.since) / 1e6
            text = f"{last.token} and {holding.token} held it together for {both_ms:.1f} ms"
            return [Violation(EXCLUSIVE, key, text, events_of(last.call, holding.call))]
        if last is None or holding.until > last.until:
            last = holding
    return []


def _fenced(key: str, guarded: Sequence[Call]) -> list[Violation]:
    """What was done with a token, after something had been done with a greater one."""
    ended = sorted(guarded, key=lambda call: call.ended_ns)
    highest: Call | None = None
    at = 0
    for call in sorted(guarded, key=lambda call: call.began_ns):
        while at < len(ended) and ended[at].ended_ns < call.began_ns:
            if highest is None or ended[at].invoke.value > highest.invoke.value:
                highest = ended[at]
            at += 1
        if highest is not None and highest.invoke.value > call.invoke.value:
            text = f"token {call.invoke.value} was let in after {highest.invoke.value}"
            return [Violation(FENCED, key, text, events_of(highest, call))]
    return []
