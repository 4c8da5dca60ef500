"""The ring: which nodes own which partition, as one immutable value per epoch.

Fixed equal partitions, placed freely on nodes (Dynamo, SOSP'07, section 6.2, strategy 3). This file holds the value, its O(1)
lookups and what a good ring promises (`Ring.check`, `fair_shares`); ring_planner.py decides the assignment. It knows nothing of
addresses being reachable or nodes being alive: ownership changes by plan and commit only, never by failure detection.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from xxhash import xxh3_64_intdigest

from kvproto.errors import BadRequest
from kvproto.partitions import partition_of as hash_to_partition
from kvproto.partitions import partition_shift


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the ring. `zone`: what fails together (empty is a zone like any other); `weight` >= 1: its share of the data."""

    id: str
    address: str = ""
    zone: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Ring:
    """One epoch's assignment. Only the five fields of the constructor are given; the rest follows from them.

    `members` are sorted by id; `owners` holds for each partition the indices of its owners in preference order, the first of which
    coordinates by convention. `placements` are the distinct owner tuples and `placement_of` leads from a partition to its own, so
    that a coordinator groups a batch by placement. `hash` (64 bits) names the assignment: nodes with equal hashes route alike.
    """

    epoch: int
    members: tuple[Member, ...]
    partitions: int
    replicas: int
    owners: tuple[tuple[int, ...], ...]
    placements: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    placement_of: tuple[int, ...] = field(init=False, repr=False, compare=False)
    hash: int = field(init=False, compare=False)
    shift: int = field(init=False, repr=False, compare=False)
    _owner_ids: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)
    _partitions_of: dict[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert len(self.owners) == self.partitions, "one owner tuple for each partition"
        assert all(0 <= node < len(self.members) for row in self.owners for node in row), "owners are indices into members"
        numbers: dict[tuple[int, ...], int] = {}
        placement_of = tuple(numbers.setdefault(row, len(numbers)) for row in self.owners)
        ids = [tuple(self.members[node].id for node in row) for row in numbers]
        owned: dict[str, list[int]] = {member.id: [] for member in self.members}
        for partition, placement in enumerate(placement_of):
            for node_id in ids[placement]:
                owned[node_id].append(partition)
        self._derive("placements", tuple(numbers))
        self._derive("placement_of", placement_of)
        self._derive("shift", partition_shift(self.partitions))
        self._derive("_owner_ids", tuple(ids[placement] for placement in placement_of))
        self._derive("_partitions_of", {node_id: tuple(partitions) for node_id, partitions in owned.items()})
        self._derive("hash", _ring_hash(self))

    def _derive(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the only way to set a field of a frozen dataclass

    @classmethod
    def from_packed(cls, *, epoch: int, members: Sequence[Member], partitions: int, replicas: int, packed: bytes) -> Ring:
        """The ring that another node described: `packed` as `packed_owners` gives it, `members` in its order.

        Raises `BadRequest` if the parts do not fit each other; whether it is a *good* ring is for `check` to say.
        """
        if not 1 <= replicas <= len(members) or len(packed) != 2 * partitions * replicas:
            raise BadRequest(f"{len(packed)} bytes are not the owners of {partitions} partitions, {replicas} each")
        if [member.id for member in members] != sorted({member.id for member in members}):
            raise BadRequest("the members of a ring come sorted by id, each once")
        flat = struct.unpack(f">{partitions * replicas}H", packed)
        if max(flat) >= len(members):
            raise BadRequest(f"an owner has index {max(flat)}, but there are {len(members)} members")
        owners = tuple(flat[at : at + replicas] for at in range(0, len(flat), replicas))
        try:
            return cls(epoch, tuple(members), partitions, replicas, owners)
        except ValueError as error:
            raise BadRequest(str(error)) from error

    def partition_of(self, key: bytes) -> int:
        """The partition of `key`, 0 to partitions - 1."""
        return hash_to_partition(key, self.shift)

    def owners_of(self, partition: int) -> tuple[str, ...]:
        """Ids of the nodes that own `partition`, in preference order."""
        assert partition >= 0, "partitions count from 0"
        return self._owner_ids[partition]

    def partitions_of(self, node_id: str) -> tuple[int, ...]:
        """The partitions of which `node_id` is any owner, ascending; none for a node outside the ring."""
        return self._partitions_of.get(node_id, ())

    def packed_owners(self) -> bytes:
        """`ClusterInfo.owners` of the wire: partitions x replicas indices into members, 2 bytes big-endian each."""
        return struct.pack(f">{self.partitions * self.replicas}H", *(node for row in self.owners for node in row))

    def check(self) -> None:
        """Asserts every promise of docs/ring.md: shape, distinct owners, zone spread, balance, coordinators, derived fields."""
        self._check_shape()
        self._check_zones()
        self._check_balance()
        self._check_coordinators()
        assert tuple(self.placements[number] for number in self.placement_of) == self.owners, "placements repeat the owners"
        assert len(set(self.placements)) == len(self.placements), "placements are distinct"
        assert self.hash == _ring_hash(self), "the hash is that of the fields"

    def _check_shape(self) -> None:
        ids = [member.id for member in self.members]
        assert self.epoch >= 1, "epochs count from 1"
        assert ids == sorted(set(ids)), "members are sorted by id, each once"
        assert all(member.weight >= 1 for member in self.members), "weights are at least 1"
        assert 1 <= self.replicas <= len(ids), "no more replicas than members"
        for partition, row in enumerate(self.owners):
            assert len(row) == self.replicas, f"partition {partition} has {len(row)} owners, not {self.replicas}"
            assert len(set(row)) == self.replicas, f"partition {partition} has an owner twice (tail violation)"

    def _check_zones(self) -> None:
        zones = [member.zone for member in self.members]
        spread = min(self.replicas, len(set(zones)))
        for partition, row in enumerate(self.owners):
            assert len({zones[node] for node in row}) == spread, f"partition {partition} is not spread over {spread} zones"

    def _check_balance(self) -> None:
        shares = fair_shares(self.members, partitions=self.partitions, replicas=self.replicas)
        for member, share in zip(self.members, shares, strict=True):
            load = len(self.partitions_of(member.id))
            assert abs(load - share) < 1, f"{member.id} owns {load} partitions, its fair share is {float(share):.2f}"

    def _check_coordinators(self) -> None:
        loads = [len(self.partitions_of(member.id)) for member in self.members]
        if len({member.weight for member in self.members}) > 1 or max(loads) - min(loads) > 1:
            return  # promised for equal nodes only: a node cannot coordinate what it does not own
        firsts = Counter(row[0] for row in self.owners)
        counts = [firsts[node] for node in range(len(self.members))]
        assert max(counts) - min(counts) <= 1, f"first owners are unbalanced: {counts}"


def fair_shares(members: Sequence[Member], *, partitions: int, replicas: int) -> tuple[Fraction, ...]:
    """How many owner slots each member ideally has; sums to partitions x replicas.

    In proportion to weight, as far as two rules allow: a node owns a partition at most once, and the owners of a partition are
    spread over min(replicas, zones) zones. So with at least as many zones as replicas no zone has more than `partitions` slots, and
    with at most as many none has less. Shares inside these bounds can always be rounded up or down to an assignment (integral
    flows), which makes them the measure of balance. `replicas` is at most the number of members.
    """
    zones: dict[str, list[int]] = {}
    for member in members:
        zones.setdefault(member.zone, []).append(member.weight)
    bounds = {zone: _zone_bounds(len(weights), len(zones), partitions, replicas) for zone, weights in zones.items()}

    def slots_at(zone: str, scale: Fraction) -> Fraction:
        asked = sum((min(Fraction(partitions), scale * weight) for weight in zones[zone]), Fraction(0))
        return min(max(asked, Fraction(bounds[zone][0])), Fraction(bounds[zone][1]))

    def total_at(scale: Fraction) -> Fraction:
        return sum((slots_at(zone, scale) for zone in zones), Fraction(0))

    # total_at is piecewise linear and never falls: find the piece that reaches the wanted total, and interpolate.
    bends = {_scale_for(zones[zone], slots, partitions) for zone in zones for slots in bounds[zone]}
    bends |= {Fraction(partitions, member.weight) for member in members} | {Fraction(0)}
    pieces = sorted(bends)
    wanted = Fraction(partitions * replicas)
    at = bisect_left(pieces, wanted, key=total_at)
    scale = pieces[at]
    if (reached := total_at(scale)) > wanted:
        start, before = pieces[at - 1], total_at(pieces[at - 1])
        scale = start + (scale - start) * (wanted - before) / (reached - before)
    scales = {zone: _scale_for(zones[zone], slots_at(zone, scale), partitions) for zone in zones}
    return tuple(min(Fraction(partitions), scales[member.zone] * member.weight) for member in members)


def _zone_bounds(nodes: int, zones: int, partitions: int, replicas: int) -> tuple[int, int]:
    least = partitions if replicas >= zones else 0
    most = partitions if replicas <= zones else partitions * nodes
    return least, most


def _scale_for(weights: Sequence[int], slots: Fraction | int, partitions: int) -> Fraction:
    """The scale at which nodes of these weights, each taking scale x weight but at most `partitions`, take `slots` together."""
    heaviest_first, left = sorted(weights, reverse=True), Fraction(slots)
    full = 0
    while (scale := left / sum(heaviest_first[full:])) * heaviest_first[full] > partitions:
        left -= partitions
        full += 1
    return scale


def _ring_hash(ring: Ring) -> int:
    """xxh3_64 of a canonical encoding. Addresses stay out: a node that moves to another port owns what it owned."""
    parts = [struct.pack(">QII", ring.epoch, ring.partitions, len(ring.members))]
    for member in ring.members:
        for text in (member.id.encode(), member.zone.encode()):
            parts += (struct.pack(">I", len(text)), text)
        parts.append(struct.pack(">I", member.weight))
    for row in ring.owners:
        parts.append(struct.pack(f">H{len(row)}H", len(row), *row))
    return xxh3_64_intdigest(b"".join(parts))
