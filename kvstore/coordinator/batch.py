"""From a client's group to sub-batches: what is refused, who owns what, which level was asked.

A sub-batch holds operations of one group whose keys have the same home replicas, so that one tally decides them all. Planning is
pure and per column; the operations of a group that break a rule are answered alone and the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from xxhash import xxh3_64_intdigest

from kvproto.columns import REQUEST_ID_BYTES, GroupReply, Kind, Level, NamespaceInfo, OperationGroup, Sloppy
from kvproto.errors import BadRequest, DeadlineExceeded, KvError, TooLarge
from kvstore.cluster.view import OwnerSet, RingView, Space
from kvstore.coordinator.dial import LINEARIZABLE, check_dial
from kvstore.coordinator.operations import VALUED, check_fields, check_kind
from kvstore.storage.layout import NAMESPACE_AT


class Story(Protocol):
    """Who was asked when, and who answered when."""

    def facts(self) -> tuple[str, float, dict[str, object]]:
        """Who was slow, in words; the seconds that were spent waiting; and the milliseconds of each node."""


TTL_MS_MAX = 3_200_000_000_000
"""A hundred years, as in the configuration. An expiry is stored in 64 bits."""


TYPED = frozenset(Kind) - {Kind.GET, Kind.PUT, Kind.DELETE}
"""Kinds of operations on counters, sets and maps."""

SLOPPY_PRESETS = frozenset(("pa-el", "pa-ec"))


@dataclass(slots=True, frozen=True)
class Limits:
    """What clients may send, in bytes and siblings. Repair and replication are never limited by these."""

    key_bytes_max: int = 4096
    value_bytes_max: int = 1024 * 1024
    siblings_max: int = 100

    @property
    def typed_bytes_max(self) -> int:
        """Of a counter, set or map with everything that is remembered of it; it travels as a whole with every write."""
        return 4 * self.value_bytes_max


@dataclass(slots=True)
class SubBatch:
    """Operations with the same home replicas. `positions` None: the whole group, in order. `store_keys` are parallel to them.
    `trace` is the id of the batch they came with; `story` tells who was waited for, should it have taken long."""

    group_index: int
    group: OperationGroup
    space: Space
    owners: OwnerSet
    positions: Sequence[int] | None
    store_keys: list[bytes]
    need: int
    view: RingView
    partitions: Sequence[int] = field(default=())
    trace: bytes = b""
    story: Story | None = None

    @property
    def id_bytes(self) -> bytes:
        """The namespace's id, as in store keys."""
        return self.store_keys[0][NAMESPACE_AT]

    @property
    def counting(self) -> tuple[str, ...]:
        """The home replicas whose answers count: all of them, but for a quorum of our own zone."""
        return in_zone(self.view, self.owners) if self.group.level is Level.ZONE_QUORUM else self.owners.nodes

    @property
    def degrades(self) -> bool:
        """See `degrades`."""
        return degrades(self.space.info, self.group)

    @property
    def sloppy(self) -> bool:
        """See `is_sloppy`."""
        return is_sloppy(self.space.info, self.group)

    def original(self, positions: Sequence[int] | None) -> Sequence[int] | None:
        """Positions of this sub-batch as positions of its group."""
        if positions is None:
            return self.positions
        return positions if self.positions is None else [self.positions[position] for position in positions]

    def at(self) -> Sequence[int]:
        """The group positions of its operations, in order."""
        return range(len(self.store_keys)) if self.positions is None else self.positions


def in_zone(view: RingView, owners: OwnerSet) -> tuple[str, ...]:
    """Those of `owners` that are in the zone of this node."""
    zone = view.zones.get(view.me, "")
    return tuple([node for node in owners.nodes if view.zones.get(node, "") == zone])


def degrades(info: NamespaceInfo, group: OperationGroup) -> bool:
    """Whether fewer nodes than were asked for will do. Only a preset degrades: a level, r or w that was given, with the request or
    in the namespace's table, is met or refused, and so is a preset of which it is asked that it be not sloppy."""
    if group.level is not Level.PRESET or info.preset not in SLOPPY_PRESETS or group.sloppy is Sloppy.NO:
        return False
    return not (info.r_is_exact if group.kind is Kind.GET else info.w_is_exact)


def is_sloppy(info: NamespaceInfo, group: OperationGroup) -> bool:
    """Whether stand-ins may answer for home replicas that cannot be reached: where it degrades, and where it is asked for."""
    return group.sloppy is Sloppy.YES or degrades(info, group)


def part_of(sub: SubBatch, positions: Sequence[int]) -> SubBatch:
    """The operations at `positions` of a sub-batch, as one of its own."""
    at = sub.at()
    return replace(
        sub,
        positions=[at[position] for position in positions],
        store_keys=[sub.store_keys[position] for position in positions],
        partitions=[sub.partitions[position] for position in positions],
    )


def needed(info: NamespaceInfo, group: OperationGroup) -> int:
    """How many answers the group's level takes in this namespace; of a zone's quorum, whose replicas are known with the key, at
    least. Raises `BadRequest` for r or w of 0 or above n."""
    reading = group.kind is Kind.GET
    if info.mode == LINEARIZABLE:
        return info.n // 2 + 1
    if group.level is Level.PRESET:
        return info.r if reading else info.w
    if group.level in (Level.ONE, Level.ZONE_QUORUM):
        return 1
    if group.level in (Level.QUORUM, Level.ATOMIC):
        return info.n // 2 + 1
    if group.level is Level.ALL:
        return info.n
    asked, name = (group.r, "r") if reading else (group.w, "w")
    if not 1 <= asked <= info.n:
        raise BadRequest(
            f"{name}={asked} is not between 1 and n={info.n} of namespace {info.name!r}"
            + (f" (n={info.n_asked} was asked for, the ring has fewer nodes)" if info.n < info.n_asked else ""),
            limit=info.n,
            actual=asked,
            subject=name,
        )
    return asked


def plan(view: RingView, index: int, group: OperationGroup, limits: Limits) -> tuple[list[SubBatch], list[GroupReply]]:
    """The group's sub-batches, and the replies to what is refused at once. Never raises: a group refused whole is one reply."""
    try:
        space = view.space(group.namespace)
        if group.kind is not Kind.GET:
            check_kind(space.info, group.kind, (other.info for other in view.spaces.values()))
        _check_columns(group)
        check_dial(space.info, group, (other.info for other in view.spaces.values()))
        need = needed(space.info, group)
        if group.fields or group.kind in TYPED:
            check_fields(space.info, group)
    except KvError as error:
        return [], [GroupReply(index, error=error)]
    keys = group.keys
    refused = _refused(group, limits, space.info.value_bytes_max)
    positions: Sequence[int] | None = None
    replies: list[GroupReply] = []
    if refused:
        replies = [GroupReply(index, positions=[position], error=error) for position, error in refused.items()]
        positions = [position for position in range(len(keys)) if position not in refused]
        if not positions:
            return [], replies
        keys = [keys[position] for position in positions]
    shift, prefixes = view.ring.shift, space.prefixes
    partitions = [xxh3_64_intdigest(key) >> shift for key in keys]
    store_keys = [prefixes[partition] + key for partition, key in zip(partitions, keys, strict=True)]
    sets = view.owner_sets[space.info.n]
    if len(sets) == 1:
        subs = [SubBatch(index, group, space, sets[0], positions, store_keys, need, view, partitions)]
    else:
        subs = _by_owners(view, index, group, space, positions, partitions, store_keys, need)
    if group.level is Level.ZONE_QUORUM:
        for sub in subs:
            sub.need = len(sub.counting) // 2 + 1
    return subs, replies


def _by_owners(
    view: RingView,
    index: int,
    group: OperationGroup,
    space: Space,
    positions: Sequence[int] | None,
    partitions: Sequence[int],
    store_keys: list[bytes],
    need: int,
) -> list[SubBatch]:
    set_of, sets = view.set_of_partition[space.info.n], view.owner_sets[space.info.n]
    subs: dict[int, SubBatch] = {}
    for at, partition in enumerate(partitions):
        chosen = set_of[partition]
        sub = subs.get(chosen)
        if sub is None:
            sub = subs[chosen] = SubBatch(index, group, space, sets[chosen], [], [], need, view, [])
        sub.positions.append(at if positions is None else positions[at])  # type: ignore[union-attr]
        sub.store_keys.append(store_keys[at])
        sub.partitions.append(partition)  # type: ignore[attr-defined]
    return list(subs.values())


def _check_columns(group: OperationGroup) -> None:
    """Raises `BadRequest` when columns that must be parallel are not."""
    count = len(group.keys)
    if not count:
        raise BadRequest("a group without keys")
    columns = [
        ("values", len(group.values), (count,) if group.kind in VALUED else (0,)),
        ("amounts", len(group.amounts), (count,) if group.kind is Kind.INCREMENT else (0,)),
        ("contexts", len(group.contexts), (0, count)),
        ("request_ids", len(group.request_ids), (0, count * REQUEST_ID_BYTES)),
        ("ttls_ms", len(group.ttls_ms), (0, 1, count)),
        ("timeouts_ms", len(group.timeouts_ms), (0, 1, count)),
        ("conditions", len(group.conditions), (0,) if group.kind is Kind.GET else (0, count)),
        ("seen", len(group.seen), (0, count) if group.kind is Kind.GET else (0,)),
    ]
    for name, length, allowed in columns:
        if length not in allowed:
            raise BadRequest(
                f"{name} has length {length}; with {count} keys it must be one of {sorted(set(allowed))}",
                actual=length,
                subject=name,
            )
    if group.ttls_ms and max(group.ttls_ms) > TTL_MS_MAX:
        raise BadRequest(
            f"a time to live of {max(group.ttls_ms)} ms is longer than a hundred years; 0 is for ever",
            limit=TTL_MS_MAX,
            actual=max(group.ttls_ms),
            subject="ttls_ms",
        )


def _refused(group: OperationGroup, limits: Limits, value_bytes_max: int) -> dict[int, KvError]:
    """The operations that break a limit; `value_bytes_max`: the namespace's own, 0: the cluster's. The usual answer, none, costs
    two passes in C."""
    refused: dict[int, KvError] = {}
    where = f" in namespace {group.namespace!r}" if value_bytes_max else ""
    value_bytes_max = value_bytes_max or limits.value_bytes_max
    if group.timeouts_ms and min(group.timeouts_ms) == 0:
        for position in range(len(group.keys)):
            if group.timeouts_ms[position if len(group.timeouts_ms) > 1 else 0] == 0:
                refused[position] = DeadlineExceeded("the deadline had passed when the request was sent: it was not executed")
    sizes = list(map(len, group.keys))
    if min(sizes) == 0 or max(sizes) > limits.key_bytes_max:
        for position, size in enumerate(sizes):
            if size == 0:
                refused[position] = BadRequest("an empty key: keys have at least one byte", subject="key")
            elif size > limits.key_bytes_max:
                refused[position] = TooLarge(
                    f"the key has {size} bytes, at most {limits.key_bytes_max} are allowed",
                    limit=limits.key_bytes_max,
                    actual=size,
                    subject="key",
                )
    if group.values and max(map(len, group.values)) > value_bytes_max:
        for position, value in enumerate(group.values):
            if len(value) > value_bytes_max:
                refused[position] = TooLarge(
                    f"the value has {len(value)} bytes, at most {value_bytes_max} are allowed{where}",
                    limit=value_bytes_max,
                    actual=len(value),
                    subject="value",
                )
    if group.fields and max(map(len, group.fields)) > limits.key_bytes_max:
        for position, name in enumerate(group.fields):
            if len(name) > limits.key_bytes_max:
                refused[position] = TooLarge(
                    f"the field's name has {len(name)} bytes, at most {limits.key_bytes_max} are allowed",
                    limit=limits.key_bytes_max,
                    actual=len(name),
                    subject="field",
                )
    return refused


def subset(group: OperationGroup, positions: Sequence[int]) -> OperationGroup:
    """The operations of `group` at `positions`, as a group of their own."""

    def take(column: Sequence[object]) -> list[object]:
        return [column[at] for at in positions] if len(column) == len(group.keys) else list(column)

    ids = group.request_ids
    return OperationGroup(
        kind=group.kind,
        namespace=group.namespace,
        keys=take(group.keys),  # type: ignore[arg-type]
        values=take(group.values),  # type: ignore[arg-type]
        contexts=take(group.contexts),  # type: ignore[arg-type]
        request_ids=b"".join([ids[16 * at : 16 * at + 16] for at in positions]) if ids else b"",
        ttls_ms=take(group.ttls_ms),  # type: ignore[arg-type]
        timeouts_ms=take(group.timeouts_ms),  # type: ignore[arg-type]
        level=group.level,
        r=group.r,
        w=group.w,
        explain=group.explain,
        attempt=group.attempt,
        fields=take(group.fields),  # type: ignore[arg-type]
        amounts=take(group.amounts),  # type: ignore[arg-type]
        conditions=take(group.conditions),  # type: ignore[arg-type]
        seen=take(group.seen),  # type: ignore[arg-type]
        bound_ms=group.bound_ms,
        sloppy=group.sloppy,
        ids_ahead_ms=group.ids_ahead_ms,
    )
