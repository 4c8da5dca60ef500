"""Timeline: every replica goes through the values of a key in one order, that of their commits, and lags by a bound. Pure.

(PNUTS, VLDB'08, section 2.1.) Facts that are needed: `order` of every acknowledged write and of every read, 0 for what there was
before the first write. A read says by `node` who served it; one that more than one has `acknowledged` was served by a majority. A
read that found nothing, and has no order, saw the latest delete that it can have seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

ONE_ORDER = "a place in the order of commits belongs to one value"
IN_TIME = "commits are in the order of time"
FORWARD = "a replica goes forward in the order of commits"
COMMITTED = "what one replica shows is committed: nothing that a majority answers after it is older"
BOUND = "a read lags by no more than the bound"


def check_timeline(calls: Iterable[Call], *, bound_ms: float | None = None) -> list[Violation]:
    """At most one violation of each promise for each key. `bound_ms`: a read must have what was acknowledged so long before it
    began; None: it may lag for ever."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    absent: defaultdict[str, list[Call]] = defaultdict(list)
    ended: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.is_ok and call.fact("order") is not None:
            by_key[call.key].append(call)
        elif call.is_ok and call.f == "read" and value_of(call) is None:
            absent[call.key].append(call)
        if call.f == "delete":
            ended[call.key].append(call)
    violations = []
    for key in sorted(by_key):
        ordered = by_key[key]
        writes = [call for call in ordered if call.f != "read"]
        reads = [call for call in ordered if call.f == "read"]
        found_nothing = _absent(writes, absent[key], ended[key], bound_ms)
        for found in (
            _one_order(ordered),
            _in_time(writes),
            _forward(reads),
            _bound(writes, reads, bound_ms) or found_nothing,
            _committed(reads),
        ):
            if found is not None:
                promise, text, accused = found
                violations.append(Violation(promise, key, text, events_of(*accused)))
    return violations


Found = tuple[str, str, tuple[Call, ...]] | None


def order_of(call: Call) -> Any:
    """Its value's place in the order of commits."""
    return call.fact("order")


def _one_order(calls: Sequence[Call]) -> Found:
    """Two values at one place, or one place taken by two writes."""
    holder: dict[Any, Call] = {}
    for call in sorted(calls, key=lambda call: call.f == "read"):
        other = holder.setdefault(order_of(call), call)
        if other is not call and (value_of(call) != value_of(other) or call.f != "read"):
            text = f"{value_of(other)} and {value_of(call)} both have place {order_of(call)}"
            return ONE_ORDER, text, (other, call)
    return None


def value_of(call: Call) -> Any:
    """What a write wrote, or a read found."""
    if call.f == "cas":
        return call.invoke.value[1]
    if call.f == "delete":
        return None
    return call.end.value if call.f == "read" and call.end is not None else call.fact("result", call.invoke.value)


def _in_time(writes: Sequence[Call]) -> Found:
    found = first_regression(writes)
    if found is None:
        return None
    later, earlier = found
    text = f"{value_of(earlier)} was acknowledged at place {order_of(earlier)} before {value_of(later)} began, at {order_of(later)}"
    return IN_TIME, text, (earlier, later)


def _forward(reads: Sequence[Call]) -> Found:
    """Reads that one node served; a node is told apart only where the history says who served."""
    by_node: defaultdict[str, list[Call]] = defaultdict(list)
    for read in reads:
        if read.end is not None and read.end.node is not None:
            by_node["a majority" if _is_together(read) else read.end.node].append(read)
    for node, served in sorted(by_node.items()):
        if (found := first_regression(served)) is not None:
            later, earlier = found
            return FORWARD, f"{node} served place {order_of(earlier)}, and {order_of(later)} after it", (earlier, later)
    return None


def _is_together(read: Call) -> bool:
    """Whether a majority has answered."""
    return len(read.fact("acknowledged") or ()) > 1


def _committed(reads: Sequence[Call]) -> Found:
    """What is shown before it is committed may never be: then a majority, which knows the latest, shows something older."""
    found = first_regression(reads, earlier=lambda call: not _is_together(call), accused=_is_together)
    if found is None:
        return None
    together, alone = found
    text = f"{value_of(alone)} was shown at place {order_of(alone)}, and a majority answered {order_of(together)} after it"
    return COMMITTED, text, (alone, together)


def _bound(writes: Sequence[Call], reads: Sequence[Call], bound_ms: float | None) -> Found:
    if bound_ms is None:
        return None
    found = first_regression([*writes, *reads], slack_ns=bound_ms * 1e6, earlier=lambda call: call.f != "read", later="read")
    if found is None:
        return None
    read, write = found
    lag_ms = (read.began_ns - write.ended_ns) / 1e6
    text = f"{value_of(read)} was read {lag_ms:.0f} ms after {value_of(write)} was acknowledged; the bound is {bound_ms:g} ms"
    return BOUND, text, (write, read)


def _absent(writes: Sequence[Call], reads: Sequence[Call], deletes: Sequence[Call], bound_ms: float | None) -> Found:
    """Reads that found nothing, although something was acknowledged for longer than the bound and no delete can have ended it."""
    if bound_ms is None:
        return None
    puts = [write for write in writes if write.f != "delete"]
    for read in reads:
        old = [write for write in puts if write.ended_ns + bound_ms * 1e6 < read.began_ns]
        latest = max(old, key=order_of, default=None)
        if latest is None:
            continue
        begun = [one for one in deletes if one.began_ns < read.ended_ns and not one.is_refused]
        if not any(one.fact("order") is None or order_of(one) > order_of(latest) for one in begun):
            lag_ms = (read.began_ns - latest.ended_ns) / 1e6
            text = f"nothing was found {lag_ms:.0f} ms after {value_of(latest)} was acknowledged; the bound is {bound_ms:g} ms"
            return BOUND, text, (latest, read)
    return None


def first_regression(
    calls: Sequence[Call],
    *,
    slack_ns: float = 0.0,
    earlier: Callable[[Call], bool] = lambda call: True,
    later: str | None = None,
    accused: Callable[[Call], bool] = lambda call: True,
) -> tuple[Call, Call] | None:
    """The first call, and one that was over more than `slack_ns` before it began and had a greater place. `earlier` says which may
    accuse, `later` of which kind the accused is, `accused` which may be."""
    ends = sorted(filter(earlier, calls), key=lambda call: call.ended_ns)
    greatest: Call | None = None
    at = 0
    for call in sorted(calls, key=lambda call: call.began_ns):
        while at < len(ends) and ends[at].ended_ns + slack_ns < call.began_ns:
            if greatest is None or order_of(ends[at]) > order_of(greatest):
                greatest = ends[at]
            at += 1
        if later in (None, call.f) and accused(call) and greatest is not None and order_of(greatest) > order_of(call):
            return call, greatest
    return None
