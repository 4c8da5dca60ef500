"""The planner: members in, ring out. A pure function, so that every node that is told the same plan computes the same ring.

Placing owners is a minimum-cost flow with convex costs, and the promises are an order of costs, each unit dearer than all of the
next together: zone spread, then balance, then evenness over zones, then owners moved. Distinctness is no cost: a move that would
break it does not exist. Start from what is there, fill gaps greedily, then cancel negative cycles until none is left; then no plan
is better (Klein, Management Science 14(3), 1967). Greedy claim algorithms lack the second half, which is where Riak's tail
violations and greedy donors came from. docs/ring.md states the promises; cluster/ commits plans.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise

from kvproto.errors import BadRequest
from kvproto.partitions import partition_shift
from kvstore.core.ring import Member, Ring, fair_shares

MEMBERS_MAX = 1 << 16  # an owner is 2 bytes on the wire
WEIGHT_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Move:
    """What a change of rings does to one partition: ids of the nodes that gained and lost it, each sorted."""

    partition: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]


def plan_ring(
    members: Sequence[Member],
    *,
    partitions: int = 256,
    replicas: int = 3,
    previous: Ring | None = None,
    epoch: int = 1,
) -> Ring:
    """The best ring for `members`, in any order, that moves the fewest owners away from `previous`.

    Each partition gets min(replicas, members) owners. The result satisfies `Ring.check`, and is the same for the same arguments on
    every machine. Raises `BadRequest` for no, repeated or out-of-range members, and for a number of partitions that is not a power
    of two or not that of `previous`: partitions are fixed for the life of a cluster.
    """
    ordered = tuple(sorted(members, key=lambda member: member.id))
    _refuse_unplannable(ordered, partitions, replicas, previous)
    count = min(replicas, len(ordered))
    before = _carried_over(previous, ordered, partitions)

    zone_names = sorted({member.zone for member in ordered})
    slots = _Assignment(
        candidates=[range(len(ordered))] * partitions,
        rows=[set([node for node in old if node >= 0][:count]) for old in before],
        preferred=[frozenset(old) for old in before],
        zones=[zone_names.index(member.zone) for member in ordered],
        shares=fair_shares(ordered, partitions=partitions, replicas=count),
        width=count,
    )
    slots.solve()

    # Where the first is gone the next in line starts out as first, but only a first that stayed is worth a cost to keep: where
    # the coordinator changes anyway, a new node takes its coordinators without changing more.
    heirs = [[node for node in old if node in row][:1] for old, row in zip(before, slots.rows, strict=True)]
    firsts = _Assignment(
        candidates=[sorted(row) for row in slots.rows],
        rows=[set(heir) for heir in heirs],
        preferred=[frozenset(old[:1]) for old in before],
        zones=[0] * len(ordered),
        shares=fair_shares(ordered, partitions=partitions, replicas=1),
        width=1,
    )
    firsts.solve()
    owners = tuple(_preference_order(row, min(first)) for row, first in zip(slots.rows, firsts.rows, strict=True))
    return Ring(epoch, ordered, partitions, count, owners)


def plan_moves(old: Ring, new: Ring) -> tuple[Move, ...]:
    """What leads from `old` to `new`: one entry for each partition whose set of owners differs, ascending.

    A change of preference order alone moves no data and is no move. Both rings have the same number of partitions.
    """
    assert old.partitions == new.partitions, "partitions are fixed for the life of a cluster"
    moves = []
    for partition in range(new.partitions):
        had, has = set(old.owners_of(partition)), set(new.owners_of(partition))
        if had != has:
            moves.append(Move(partition, tuple(sorted(has - had)), tuple(sorted(had - has))))
    return tuple(moves)


def _refuse_unplannable(ordered: Sequence[Member], partitions: int, replicas: int, previous: Ring | None) -> None:
    ids = [member.id for member in ordered]
    if not 1 <= len(ids) <= MEMBERS_MAX:
        raise BadRequest(f"a ring has 1 to {MEMBERS_MAX} members, not {len(ids)}", limit=MEMBERS_MAX, actual=len(ids))
    if twice := next((one for one, other in pairwise(ids) if one == other), None):
        raise BadRequest(f"{twice} is a member twice", subject=twice)
    for member in ordered:
        if not member.id or not 1 <= member.weight <= WEIGHT_MAX:
            raise BadRequest(f"a member has an id and a weight of 1 to {WEIGHT_MAX}, not {member}", subject=member.id)
    if replicas < 1:
        raise BadRequest(f"a partition has at least 1 replica, not {replicas}", actual=replicas)
    try:
        partition_shift(partitions)
    except ValueError as error:
        raise BadRequest(str(error), actual=partitions) from error
    if previous is not None and previous.partitions != partitions:
        raise BadRequest(f"the ring has {previous.partitions} partitions for ever", limit=previous.partitions, actual=partitions)


def _carried_over(previous: Ring | None, ordered: Sequence[Member], partitions: int) -> list[list[int]]:
    """For each partition its previous owners in preference order, as indices into `ordered`; -1 stands for one that has left."""
    if previous is None:
        return [[] for _ in range(partitions)]
    index = {member.id: node for node, member in enumerate(ordered)}
    return [[index.get(owner, -1) for owner in previous.owners_of(p)] for p in range(partitions)]


def _preference_order(row: set[int], first: int) -> tuple[int, ...]:
    """Owners by id, rotated so that `first` leads.

    A function of the set and its first alone: the others never swap places between epochs, and the number of placements stays
    small, so that a coordinator's sub-batches stay large.
    """
    ordered = sorted(row)
    at = ordered.index(first)
    return (*ordered[at:], *ordered[:at])


_Arc = tuple[int, int, int, float]  # from node, to node, row whose slot moves (-1: to or from the hub), cost
_Offer = tuple[float, int, int]  # cost, tie-break, row
_NO_OFFER: _Offer = (math.inf, 0, -1)


class _Assignment:
    """Rows (partitions) that each choose `width` distinct candidates (nodes), improved until no cheaper choice exists.

    `preferred` are the choices that cost no move. The graph searched has a vertex for each node and a hub, not one for each slot:
    an arc a to b stands for the cheapest row that can hand its slot from a to b, and the hub takes a unit of load from one node
    and gives it to another. A negative cycle is an improvement; without one the assignment is optimal.
    """

    def __init__(
        self,
        *,
        candidates: Sequence[Sequence[int]],
        rows: list[set[int]],
        preferred: Sequence[frozenset[int]],
        zones: Sequence[int],
        shares: Sequence[Fraction],
        width: int,
    ) -> None:
        self.rows = rows
        self._candidates, self._preferred, self._zones, self._width = candidates, preferred, zones, width
        self._shares, self._nodes = shares, len(shares)
        self._hub = self._nodes
        self._low, self._high = [math.floor(share) for share in shares], [math.ceil(share) for share in shares]
        # A unit outweighs the largest possible sum of everything below it; moves are the unit 1.
        self._even_unit = 2 * len(rows) * width + 1
        self._load_unit = self._even_unit * (len(rows) * width * width + 1)
        self._zone_unit = self._load_unit * (self._nodes * (len(rows) + 1) ** 2 + 1)
        self._owned: list[set[int]] = [set() for _ in shares]
        for row, chosen in enumerate(rows):
            for node in chosen:
                self._owned[node].add(row)
        self._best: list[list[_Offer]] = [[_NO_OFFER] * self._nodes for _ in shares]

    def solve(self) -> None:
        """Completes every row, then cancels negative cycles. Each one lowers an integer cost, so this ends."""
        self._fill()
        for row in range(len(self.rows)):
            self._offer(row)
        while cycle := self._negative_cycle():
            self._apply(cycle)

    def _fill(self) -> None:
        """A good start: the node furthest below its share first, a new zone before a used one, new neighbours before old ones."""
        scale = math.lcm(*(share.denominator for share in self._shares))
        left = [int(share * scale) - len(owned) * scale for share, owned in zip(self._shares, self._owned, strict=True)]
        together = [[0] * self._nodes for _ in range(self._nodes)]
        for row, chosen in enumerate(self.rows):
            while len(chosen) < self._width:
                used = {self._zones[node] for node in chosen}
                _, _, _, _, node = min(
                    (self._zones[node] in used, -left[node], sum(together[node][o] for o in chosen), _mix(row, node), node)
                    for node in self._candidates[row]
                    if node not in chosen
                )
                chosen.add(node)
                self._owned[node].add(row)
                left[node] -= scale
            for one, other in combinations(sorted(chosen), 2):
                together[one][other] += 1
                together[other][one] += 1

    def _offer(self, row: int) -> None:
        """Puts forward `row` for every arc it can serve."""
        chosen = self.rows[row]
        for source in chosen:
            best = self._best[source]
            for target in self._candidates[row]:
                if target not in chosen:
                    best[target] = min(best[target], (self._cost(source, target, row), _mix(row, target), row))

    def _cheapest(self, source: int, target: int) -> _Offer:
        able = (row for row in self._owned[source] if target not in self.rows[row] and target in self._candidates[row])
        return min(((self._cost(source, target, row), _mix(row, target), row) for row in able), default=_NO_OFFER)

    def _withdraw(self, changed: Collection[int]) -> None:
        """Finds anew the arcs whose best row has changed since, then offers the changed rows: cheaper than all arcs anew."""
        for source, offers in enumerate(self._best):
            for target, (_, _, row) in enumerate(offers):
                if row in changed:
                    offers[target] = self._cheapest(source, target)
        for row in sorted(changed):
            self._offer(row)

    def _cost(self, source: int, target: int, row: int) -> int:
        """What it costs to hand the slot of `row` from `source` to `target`, load aside; negative is a gain."""
        preferred = self._preferred[row]
        cost = (source in preferred) - (target in preferred)
        leaves, enters = self._zones[source], self._zones[target]
        if leaves != enters:
            held = [self._zones[node] for node in self.rows[row]]
            leaving, entering = held.count(leaves), held.count(enters)
            cost += self._zone_unit * ((leaving == 1) - (entering == 0)) + self._even_unit * (entering - leaving + 1)
        return cost

    def _load_cost(self, node: int, load: int) -> int:
        outside = max(self._low[node] - load, load - self._high[node], 0)
        return self._load_unit * (outside * (outside + 1) // 2)

    def _arc_costs(self) -> list[list[float]]:
        """The matrix to search: offers between nodes; from and to the hub, what one unit of load less or more costs a node."""
        costs = [[cost for cost, _, _ in offers] for offers in self._best]
        gives: list[float] = []
        for node, owned in enumerate(self._owned):
            load = len(owned)
            costs[node].append(self._load_cost(node, load + 1) - self._load_cost(node, load))
            gives.append(self._load_cost(node, load - 1) - self._load_cost(node, load) if load else math.inf)
        return [*costs, [*gives, math.inf]]

    def _negative_cycle(self) -> list[_Arc]:
        """Arcs of a cycle that lowers the cost, or none (Bellman-Ford from everywhere at once)."""
        distance: list[float] = [0] * (self._nodes + 1)
        parent = [-1] * (self._nodes + 1)
        matrix, changed = self._arc_costs(), True
        while changed:
            changed = False
            for source, costs in enumerate(matrix):
                here = distance[source]
                for target, cost in enumerate(costs):
                    if here + cost < distance[target]:
                        distance[target], parent[target], changed = here + cost, source, True
            if vertices := _cycle_among(parent):
                arcs = list(zip(vertices, vertices[1:] + vertices[:1], strict=True))
                return self._untangled([(a, b, self._row_between(a, b), matrix[a][b]) for a, b in arcs])
        return []

    def _row_between(self, source: int, target: int) -> int:
        return -1 if self._hub in (source, target) else self._best[source][target][2]

    def _untangled(self, cycle: list[_Arc]) -> list[_Arc]:
        """A part of `cycle` that lowers the cost by what its arcs say.

        Two arcs of one row that both change zones may leave, or enter, the same one, which costs more than the sum of the two.
        Reconnecting them splits the cycle in two shorter ones of no larger sum, so that one of them is negative.
        """
        for (i, (a, b, row, _)), (j, (c, d, other, _)) in combinations(enumerate(cycle), 2):
            if row == other >= 0 and self._zones[a] != self._zones[b] and self._zones[c] != self._zones[d]:
                outer = [*cycle[:i], (a, d, row, self._cost(a, d, row)), *cycle[j + 1 :]]
                inner = [*cycle[i + 1 : j], (c, b, row, self._cost(c, b, row))]
                return self._untangled(min(outer, inner, key=_sum_of_costs))
        assert _sum_of_costs(cycle) < 0, "only improvements are applied"
        return cycle

    def _apply(self, cycle: list[_Arc]) -> None:
        for source, target, row, _ in cycle:
            if row >= 0:
                self.rows[row].remove(source)
                self.rows[row].add(target)
                self._owned[source].remove(row)
                self._owned[target].add(row)
        self._withdraw({row for _, _, row, _ in cycle if row >= 0})


def _sum_of_costs(cycle: Sequence[_Arc]) -> float:
    return sum(cost for _, _, _, cost in cycle)


def _cycle_among(parent: Sequence[int]) -> list[int]:
    """The vertices of a cycle of the parent graph, in the direction of its arcs; empty if there is none."""
    seen_from = [-1] * len(parent)
    for start in range(len(parent)):
        vertex = start
        while vertex >= 0 and seen_from[vertex] < 0:
            seen_from[vertex] = start
            vertex = parent[vertex]
        if vertex >= 0 and seen_from[vertex] == start:
            cycle, back = [vertex], parent[vertex]
            while back != vertex:
                cycle.append(back)
                back = parent[back]
            return cycle[::-1]
    return []


def _mix(row: int, node: int) -> int:
    """Breaks ties: any fixed order would do, a scattered one spreads a node's partitions over all its possible neighbours."""
    return (row * 0x9E3779B1 + node * 0x85EBCA6B) >> 4 & 0xFFFF
