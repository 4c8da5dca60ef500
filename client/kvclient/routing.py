"""Which link an operation takes (Dynamo, SOSP'07, section 5: a client that knows the ring goes straight to a replica).

The table is made once per ring: for each partition its owners' links in preference order, the coordinator by convention first.
Choosing is one hash, one shift and two index operations while everything is up; what to do when it is not is decided apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from xxhash import xxh3_64_intdigest

from kvproto.columns import ClusterInfo, Level
from kvproto.partitions import partition_shift

LinkT = TypeVar("LinkT", bound="Routed")
LinkT_co = TypeVar("LinkT_co", bound="Routed", covariant=True)


class Routed(Protocol):
    """What routing needs of a link: whether it is thought to be up, whether it owes an answer that is late or long overdue, whether
    its node is far slower than the others, and whether none answers much sooner."""

    up: bool
    late: bool
    silent: bool
    slow: bool
    near: bool


class Asked(Protocol):
    """What routing needs of a read or write."""

    namespace: str
    writes: bool
    level: Level
    may_gather: bool


class Choose(Protocol[LinkT_co]):
    """Where to send a key now; not to `avoid`, if there is another."""

    def __call__(self, key: bytes, avoid: object = None) -> LinkT_co:
        """The link."""


_PRESET = Level.PRESET
ALONE = frozenset((Level.TIMELINE, Level.BOUNDED))
"""Levels of reads that each home replica may answer without asking others."""


class Router(Generic[LinkT]):
    """The links of one ring. `links` are in the order of `info.members`. `turn` is any number: clients with another one read the
    same key elsewhere, where it does not matter.

    `read_width`, `write_width`: so many owners of each key take part in what may be gathered (gathering.py); all of them: each key
    has the coordinator by convention. While there is something to be `held` by, such writes go there. `before`: the router whose
    place this one takes; it goes on as that did.
    """

    __slots__ = (
        "_alone",
        "_gathers",
        "_shift",
        "_table",
        "_tables",
        "_turn",
        "held",
        "info",
        "links",
        "owners_max",
        "read_width",
        "write_width",
    )

    def __init__(self, info: ClusterInfo, links: Sequence[LinkT], *, turn: int = 0, before: Router[LinkT] | None = None) -> None:
        if len(links) != len(info.members) or not links:
            raise ValueError(f"{len(links)} links for {len(info.members)} members")
        self.info = info
        self.links = tuple(links)
        self._shift = partition_shift(info.partitions)
        self._turn = turn
        self._alone = frozenset(space.name for space in info.namespaces if space.mode == "linearizable" and space.preset == "pc-el")
        """Namespaces of which any home replica may answer reads of the preset alone."""
        self._table = tuple(
            tuple(links[member] for member in info.preference_list(partition)) or self.links for partition in range(info.partitions)
        )
        self._gathers = frozenset(space.name for space in info.namespaces if space.mode == "eventual" and min(space.r, space.w) > 1)
        """Namespaces whose preset asks quorums: where one replica is enough, it should be the one that others take as well."""
        self.owners_max = max(map(len, self._table))
        ranks = {
            link: xxh3_64_intdigest(member.id.encode(), turn % 2**64) for link, member in zip(self.links, info.members, strict=True)
        }
        self._tables = (*[gathered(self._table, ranks, width) for width in range(1, self.owners_max)], self._table)
        """By width, from 1 on."""
        self.read_width = self.write_width = self.owners_max
        if before is not None:
            if before.read_width < before.owners_max:
                self.read_width = min(before.read_width, self.owners_max)
            if before.write_width < before.owners_max:
                self.write_width = min(before.write_width, self.owners_max)
        self.held: LinkT | None = None if before is None else before.held

    def owners(self, key: bytes) -> tuple[LinkT, ...]:
        """The links to the key's home replicas in preference order."""
        return self._table[xxh3_64_intdigest(key) >> self._shift]

    def choose(self, key: bytes, avoid: object = None) -> LinkT:
        """Where to send `key` now: the first owner that is up and not `avoid`, the link that just failed; a slow one only if there
        is no other."""
        owners = self._table[xxh3_64_intdigest(key) >> self._shift]
        first = owners[0]
        if first.up and not first.slow and first is not avoid:
            return first
        for link in owners:
            if link.up and not link.slow and link is not avoid:
                return link
        return choose_fallback(owners, self.links, avoid)

    def choose_gathered(self, key: bytes, avoid: object = None) -> LinkT:
        """As `choose`, for writes that are gathered."""
        if self.held is not None:
            return self.held
        for link in self._tables[self.write_width - 1][xxh3_64_intdigest(key) >> self._shift]:
            if link.up and not link.slow and link is not avoid:
                return link
        return self.choose(key, avoid)

    def choose_gathered_read(self, key: bytes, avoid: object = None) -> LinkT:
        """As `choose_read`, for reads that are gathered."""
        for link in self._tables[self.read_width - 1][xxh3_64_intdigest(key) >> self._shift]:
            if link.up and not link.silent and not link.slow and link is not avoid:
                return link
        return self.choose_read(key, avoid)

    def choose_read(self, key: bytes, avoid: object = None) -> LinkT:
        """As `choose`, for a read: an owner that owes an answer for long is passed over, as long as there is one that does not."""
        owners = self._table[xxh3_64_intdigest(key) >> self._shift]
        first = owners[0]
        if first.up and not first.silent and not first.slow and first is not avoid:
            return first
        for may_be_slow in (False, True):
            for link in owners:
                if link.up and not link.silent and link.slow <= may_be_slow and link is not avoid:
                    return link
        return choose_fallback(owners, self.links, avoid) if avoid is first or not first.up else first

    def is_gathered(self, asked: Asked) -> bool:
        """Whether it may go through few of the owners (gathering.py)."""
        return asked.may_gather and asked.namespace in self._gathers

    def chooser(self, asked: Asked) -> Choose[LinkT]:
        """How to choose for such a read or write."""
        if asked.may_gather and asked.namespace in self._gathers:
            return self.choose_gathered if asked.writes else self.choose_gathered_read
        if asked.writes:
            return self.choose
        level = asked.level
        if level is _PRESET:
            near = asked.namespace in self._alone
        else:
            near = level in ALONE
        return self.choose_near if near else self.choose_read

    def choose_near(self, key: bytes, avoid: object = None) -> LinkT:
        """As `choose_read`, for a read that any owner may answer alone: the near ones share the keys, each client in its own way,
        so that no owner has all the reads and a client goes on to read a key where it did before."""
        hashed = xxh3_64_intdigest(key)
        owners = self._table[hashed >> self._shift]
        count = len(owners)
        first = (hashed + self._turn) % count
        for at in range(first, first + count):
            link = owners[at % count]
            if link.near and link.up and not link.silent and not link.slow and link is not avoid:
                return link
        return self.choose_read(key, avoid)

    def other_owner(self, key: bytes, link: LinkT | None) -> LinkT | None:
        """An owner of `key` that is up, owes no late answer and is not `link`, a slow one last; None if there is none."""
        others = [owner for owner in self.owners(key) if owner.up and not owner.late and owner is not link]
        return next((owner for owner in others if not owner.slow), others[0] if others else None)


def gathered(table: Sequence[tuple[LinkT, ...]], ranks: Mapping[LinkT, int], width: int) -> tuple[tuple[LinkT, ...], ...]:
    """The owners of each partition as a client asks them: the first `width` of its own ranking take turns as the first."""
    rows: list[tuple[LinkT, ...]] = []
    for partition, owners in enumerate(table):
        ranked = sorted(owners, key=ranks.__getitem__)
        turn = partition % min(width, len(ranked))
        rows.append((*ranked[turn:], *ranked[:turn]))
    return tuple(rows)


def choose_fallback(owners: Sequence[LinkT], links: Sequence[LinkT], avoid: object) -> LinkT:
    """When the first owner will not do: an owner before a stranger (which has to forward), up before down, `avoid` last of all.

    When nothing is up, the owners take turns: the opinion may be wrong, and the caller's deadline bounds the attempt.
    """
    for candidates in (owners, links):
        for link in candidates:
            if link.up and link is not avoid:
                return link
    for link in owners:
        if link.up:
            return link
    after_avoided = next((turn + 1 for turn, link in enumerate(owners) if link is avoid), 0)
    return owners[after_avoided % len(owners)]


def addresses_of(info: ClusterInfo, address_map: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each member's id and where this client reaches it: what the node advertises, unless `address_map` says otherwise."""
    return [(member.id, address_map.get(member.id, member.address)) for member in info.members]
