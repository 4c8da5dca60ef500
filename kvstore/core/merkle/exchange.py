"""Two nodes find the keys that differ between them, in four steps; pure, what travels is values and bytes.

1. Each tells the roots of the trees that both have to keep, 9 bytes a tree (`summarise`); equal ones are done with.
2. For a tree that differs the one that began asks for the other's nodes, 4 levels at a time, below those that differ (`Exchange`).
   d differences in a tree of depth D cost at most d * D/4 asks of 128 bytes, and never more than the leaves themselves.
3. Each lists the keys of the leaves that differ (`Listing`): 16 bytes a key, from one scan of the partition.
4. What differs in two looks some seconds apart, while one side stood still, is no write on its way: it is repaired
   (`persisting`, `Listing.keys_of`). Only those records travel; merging them makes both sides equal (ADR 1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.tree import DEPTH_MAX, HashTree, item_of, key_hash, unpack_nodes

LEVELS = 4
NODES_MAX = 256
"""Nodes of one ask: at most 32 kB of answer."""

_ROOT = Struct(">BQ")
ROOT_BYTES = _ROOT.size
UNKNOWN = 0xFF
"""In the place of a depth: nobody knows this tree."""
_ROW = Struct(">QQ")


def summarise(forest: Forest, prefixes: Sequence[bytes]) -> bytes:
    """Depth and root of each tree, in the order of `prefixes`, which both sides agree on; unknown ones say so."""
    rows = []
    for prefix in prefixes:
        tree = forest.tree(prefix)
        rows.append(_ROOT.pack(UNKNOWN, 0) if tree is None else _ROOT.pack(tree.depth, tree.root))
    return b"".join(rows)


@dataclass(slots=True, frozen=True)
class Ask:
    """For the nodes `levels` below these `nodes` at `depth`: for each in turn all of them, by number."""

    depth: int
    nodes: tuple[int, ...]
    levels: int = LEVELS


@dataclass(slots=True, frozen=True)
class Answer:
    """Nodes at `depth`: that asked for, or the tree's own if it has no deeper ones. Less than the ask's own depth, and then without
    nodes: the tree was folded meanwhile."""

    depth: int
    nodes: Sequence[int]


def answer(tree: HashTree, ask: Ask) -> Answer:
    """What the other side says. Raises `ValueError` for an ask that makes no sense: it came over the wire."""
    if not (0 <= ask.levels <= LEVELS and 0 <= ask.depth <= DEPTH_MAX):
        raise ValueError(f"{ask.levels} levels below depth {ask.depth}")
    if len(ask.nodes) > NODES_MAX or any(not 0 <= node < 1 << ask.depth for node in ask.nodes):
        raise ValueError(f"{len(ask.nodes)} nodes at depth {ask.depth}, {ask.levels} levels")
    if tree.depth < ask.depth:
        return Answer(tree.depth, ())
    depth = min(tree.depth, ask.depth + ask.levels)
    nodes = tree.nodes(depth)
    return Answer(depth, [nodes[child] for node in ask.nodes for child in range(node, 1 << depth, 1 << ask.depth)])


class Exchange:
    """The side that began, for one tree: asks until it knows which leaves differ.

    It compares with the tree as it was at the beginning. What changes on either side meanwhile looks like a difference, or hides
    one until the next exchange. `among`: leaves at `their_depth`, the only ones that are asked about, and a few beside them.
    """

    __slots__ = ("_differing", "_mine", "_open", "depth")

    def __init__(self, mine: HashTree, their_depth: int, among: Iterable[int] | None = None) -> None:
        self._mine = mine.copy()
        self.depth = min(mine.depth, their_depth)
        self._differing: set[int] = set()
        self._open: list[tuple[int, list[int]]] = []  # depth, and nodes there that differ
        if among is None:
            self._note(0, [0])
        else:
            start = max(0, self.depth - LEVELS)
            self._note(start, sorted({leaf & ((1 << start) - 1) for leaf in among}))

    def ask(self) -> Ask | None:
        """What to ask next; None: `differing` is complete."""
        if not self._open:
            return None
        depth, nodes = self._open[-1]
        return Ask(depth, tuple(nodes[:NODES_MAX]), min(LEVELS, self.depth - depth))

    def take(self, ask: Ask, reply: Answer) -> None:
        """The answer to what `ask` asked. Raises `ValueError` if it does not fit it."""
        depth, nodes = self._open.pop()
        assert ask.nodes == tuple(nodes[:NODES_MAX]) and ask.depth == depth, "one ask at a time"
        if nodes[NODES_MAX:]:
            self._open.append((depth, nodes[NODES_MAX:]))
        if reply.depth < ask.depth + ask.levels:
            self._shorten(reply.depth)
        if reply.depth < ask.depth:
            # Folded meanwhile to less than what was asked about: the nodes above are compared instead.
            start = max(0, self.depth - LEVELS)
            self._note(start, sorted({node & ((1 << start) - 1) for node in ask.nodes}))
            return
        children = [child for node in ask.nodes for child in range(node, 1 << reply.depth, 1 << ask.depth)]
        if reply.depth > ask.depth + ask.levels or len(children) != len(reply.nodes):
            raise ValueError(f"{len(reply.nodes)} nodes at depth {reply.depth} do not answer the ask")
        mine = self._mine.nodes(reply.depth)
        self._note(reply.depth, [child for child, theirs in zip(children, reply.nodes, strict=True) if mine[child] != theirs])

    @property
    def differing(self) -> list[int]:
        """The leaves that differ, numbered at `depth`."""
        assert not self._open, "not all has been asked"
        return sorted(self._differing)

    def _note(self, depth: int, nodes: list[int]) -> None:
        if depth >= self.depth:
            self._differing.update(nodes)
        elif nodes:
            self._open.append((depth, nodes))

    def _shorten(self, depth: int) -> None:
        """Their tree has only `depth` levels now: what was found deeper differs there."""
        if depth < self.depth:
            self.depth = depth
            found = [(depth, [*self._differing]), *((min(depth, at), nodes) for at, nodes in self._open)]
            self._differing, self._open = set(), []
            for at, nodes in found:
                self._note(at, [node & ((1 << at) - 1) for node in nodes])


Rows = Mapping[int, tuple[int, int]]
"""Key hash to our item and theirs, which differ; 0 for none."""


class Listing:
    """The keys of some leaves of a tree as they are now, from a scan of everything that the tree covers."""

    __slots__ = ("_items", "_keys", "_leaves", "_mask")

    def __init__(self, depth: int, leaves: Collection[int]) -> None:
        self._mask = (1 << depth) - 1
        self._leaves = frozenset(leaves)
        self._items: dict[int, int] = {}
        self._keys: dict[int, list[bytes]] = {}

    def add(self, store_keys: Sequence[bytes], records: Sequence[bytes]) -> None:
        """A part of the scan; keys of other leaves are passed over."""
        for store_key, record in zip(store_keys, records, strict=True):
            key = key_hash(store_key)
            if key & self._mask in self._leaves:
                # Two keys of one hash are one row: if it differs both travel.
                self._items[key] = self._items.get(key, 0) ^ item_of(key, record)
                self._keys.setdefault(key, []).append(store_key)

    def packed(self) -> bytes:
        """16 bytes a key: its hash and its item."""
        return b"".join(_ROW.pack(*row) for row in sorted(self._items.items()))

    def compare(self, theirs: bytes) -> Rows:
        """The rows in which the other side's `packed` listing differs. Raises `DamagedTree` if it is none."""
        flat = unpack_nodes(theirs)
        others = dict(zip(flat[::2], flat[1::2], strict=True))
        keys = self._items.keys() | others.keys()
        rows = {key: (self._items.get(key, 0), others.get(key, 0)) for key in sorted(keys)}
        return {key: row for key, row in rows.items() if row[0] != row[1]}

    def keep(self, rows: Collection[int]) -> None:
        """Forgets all other keys: leaves hold many more than those that differ."""
        self._items = {key: item for key, item in self._items.items() if key in rows}
        self._keys = {key: store_keys for key, store_keys in self._keys.items() if key in rows}

    def keys_of(self, hashes: Iterable[int]) -> list[bytes]:
        """The store keys behind key hashes, as far as they are here: the records to send, or to be asked for by hash."""
        return [store_key for key in hashes for store_key in self._keys.get(key, ())]


def persisting(earlier: Rows, now: Rows) -> Rows:
    """What differs in both looks while at least one side stood still.

    A record that changed on both sides is being written, and its writers take it everywhere. One that changes here only, while the
    other side stands still, does not reach it.
    """
    return {
        key: row
        for key, row in now.items()
        if (before := earlier.get(key)) is not None and (before[0] == row[0] or before[1] == row[1])
    }
