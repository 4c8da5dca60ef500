"""Which operations a namespace's policy has, and a group's columns as operations of the core. Pure; called while a batch is
planned, so that a wrong one is refused before anything is minted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvproto.columns import Kind, NamespaceInfo, OperationGroup
from kvproto.errors import BadRequest, WrongMode
from kvstore.core.policies.operations import Add, Assign, Delete, Discard, Increment, Operation, Put, Remove

PLAIN = frozenset((Kind.PUT, Kind.DELETE, Kind.TOUCH))

LINEARIZABLE = "linearizable"

WRITES: dict[str, frozenset[Kind]] = {
    LINEARIZABLE: PLAIN | {Kind.INCREMENT},
    "siblings": PLAIN,
    "lww": PLAIN,
    "merge": PLAIN,
    "counter": frozenset((Kind.INCREMENT, Kind.DELETE)),
    "set": frozenset((Kind.ADD, Kind.REMOVE, Kind.DELETE)),
    "map": frozenset((Kind.ASSIGN, Kind.DISCARD, Kind.INCREMENT, Kind.ADD, Kind.REMOVE, Kind.DELETE)),
}

VALUED = frozenset((Kind.PUT, Kind.ADD, Kind.REMOVE, Kind.ASSIGN))
"""Kinds whose operations bring a value or element."""

_HOLDS = {
    "siblings": "plain values",
    "lww": "plain values",
    "merge": "plain values",
    "counter": "counters",
    "set": "sets",
    "map": "maps",
}
_NAMES = {
    Kind.PUT: "put",
    Kind.DELETE: "delete",
    Kind.TOUCH: "touch",
    Kind.INCREMENT: "increment",
    Kind.ADD: "add",
    Kind.REMOVE: "remove",
    Kind.ASSIGN: "put_field",
    Kind.DISCARD: "delete_field",
}


def check_kind(info: NamespaceInfo, kind: Kind, others: Iterable[NamespaceInfo]) -> None:
    """Raises `WrongMode` for an operation that the namespace's policy has not: names those it has, and which of `others` has it."""
    allowed = WRITES[LINEARIZABLE if info.mode == LINEARIZABLE else info.policy]
    if kind is Kind.GET or kind in allowed:
        return
    has = ", ".join(sorted(_NAMES[one] for one in allowed))
    able = sorted(other.name for other in others if other.mode != LINEARIZABLE and kind in WRITES[other.policy])
    policy = next(name for name in ("siblings", "counter", "set", "map") if kind in WRITES[name])
    way = (
        f"namespace {able[0]!r} has it" if able else f'policy = "{policy}" in [cluster.namespaces.NAME] makes a namespace that has'
    )
    raise WrongMode(
        f"namespace {info.name!r} {_what(info)}: no {_NAMES[kind]} there, but {has}; {way}",
        subject=info.name,
    )


def _what(info: NamespaceInfo) -> str:
    if info.mode == LINEARIZABLE:
        return f"is {LINEARIZABLE} and holds one value a key"
    return f"holds {_HOLDS[info.policy]} (policy {info.policy})"


def check_fields(info: NamespaceInfo, group: OperationGroup) -> None:
    """Raises `BadRequest` for fields where none belong, none where they do, and times to live of what does not expire."""
    count, given = len(group.keys), len(group.fields)
    wanted = count if info.policy == "map" and group.kind not in (Kind.GET, Kind.DELETE) else 0
    if given != wanted or (wanted and not all(group.fields)):
        said = "every operation on a map but delete names a field" if wanted else "only operations on the fields of a map name one"
        raise BadRequest(f"{given} fields for {count} keys of namespace {info.name!r}: {said}", actual=given, subject="fields")
    if group.kind is Kind.INCREMENT and info.mode != LINEARIZABLE and any(group.ttls_ms):
        raise BadRequest("a counter does not expire: increments have no time to live", subject="ttls_ms")


def operations_of(group: OperationGroup, at: Sequence[int]) -> list[Operation]:
    """The operations of `group` at the positions `at`, checked before."""
    kind, values, fields = group.kind, group.values, group.fields
    named = [fields[index] for index in at] if fields else [b""] * len(at)
    if kind is Kind.DELETE:
        return [Delete()] * len(at)
    if kind is Kind.DISCARD:
        return [Discard(field) for field in named]
    if kind is Kind.INCREMENT:
        return [Increment(group.amounts[index], field) for index, field in zip(at, named, strict=True)]
    brought = [values[index] for index in at]
    if kind is Kind.PUT:
        return [Put(value) for value in brought]
    if kind is Kind.ASSIGN:
        return [Assign(field, value) for field, value in zip(named, brought, strict=True)]
    make = Add if kind is Kind.ADD else Remove
    return [make(value, field) for value, field in zip(brought, named, strict=True)]
