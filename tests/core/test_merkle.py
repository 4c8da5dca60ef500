"""What hash trees cost and refuse, and what becomes of them when records are lost. Their laws are in tests/laws."""

from __future__ import annotations

from random import Random

import pytest

from kvstore.core.merkle.exchange import (
    LEVELS,
    NODES_MAX,
    Answer,
    Ask,
    Exchange,
    Listing,
    answer,
    persisting,
    summarise,
)
from kvstore.core.merkle.forest import START_DEPTH, START_TREES_MAX, Forest
from kvstore.core.merkle.tree import (
    DEPTH_MAX,
    DEPTH_MIN,
    KEYS_PER_LEAF_MAX,
    DamagedTree,
    HashTree,
    depth_for,
    key_hash,
    unpack_nodes,
)
from tests.support.merkle import exchanges_of

PREFIX = b"\x00\x07\x00\x00\x00\x01"


def forest_of(records: dict[bytes, bytes]) -> Forest:
    forest = Forest()
    forest.apply(list(records), [None] * len(records), list(records.values()))
    return forest


def namespace_of(keys: int, partitions: int = 256) -> dict[bytes, bytes]:
    """So many records of one namespace, spread over the partitions."""
    rng = Random(5)
    return {
        (at % partitions).to_bytes(2, "big") + b"\x00\x00\x00\x01user%07d" % at: rng.getrandbits(64).to_bytes(8, "big")
        for at in range(keys)
    }


class Cost:
    """Bytes that two nodes would send each other."""

    def __init__(self) -> None:
        self.sent = 0

    def compare(self, mine: Forest, theirs: Forest, prefixes: list[bytes], records: tuple[dict[bytes, bytes], ...]) -> list[bytes]:
        """The keys that differ, of both sides."""
        summary = summarise(theirs, prefixes)
        self.sent += len(summary)
        found: list[bytes] = []
        for prefix, exchange in exchanges_of(mine, prefixes, summary).items():
            tree = theirs.tree(prefix)
            assert tree is not None
            while (ask := exchange.ask()) is not None:
                reply = answer(tree, ask)
                self.sent += 4 * len(ask.nodes) + 8 * len(reply.nodes)
                exchange.take(ask, reply)
            ours, others = (Listing(exchange.depth, exchange.differing) for _ in range(2))
            for listing, side in zip((ours, others), records, strict=True):
                chosen = [key for key in side if key.startswith(prefix)]
                listing.add(chosen, [side[key] for key in chosen])
            self.sent += len(others.packed())
            rows = ours.compare(others.packed())
            found += {*ours.keys_of(rows), *others.keys_of(rows)}
        return sorted(found)


def test_comparing_equal_nodes_costs_nine_bytes_a_tree_however_many_keys() -> None:
    records = namespace_of(20_000)
    prefixes = sorted({key[:6] for key in records})
    cost = Cost()
    assert cost.compare(forest_of(records), forest_of(records), prefixes, (records, records)) == []
    assert cost.sent == 9 * 256 < 100_000


def test_one_difference_in_a_large_tree_costs_little_more_than_its_path_and_its_leaf() -> None:
    records = namespace_of(20_000, partitions=1)
    prefix = next(iter(records))[:6]
    theirs = {**records, prefix + b"new": b"x"}
    mine, other = forest_of(records), forest_of(theirs)
    for forest, held in ((mine, records), (other, theirs)):
        assert forest.crowded() == [prefix]
        forest.begin_rebuild(prefix)
        forest.add_scanned(prefix, list(held), list(held.values()))
        assert forest.end_rebuild(prefix) and forest.crowded() == []
    cost = Cost()
    assert cost.compare(mine, other, [prefix], (records, theirs)) == [prefix + b"new"]
    assert cost.sent < 1_000


@pytest.mark.long
def test_a_million_keys_are_compared_in_a_few_kilobytes_and_ten_thousand_differences_in_a_few_megabytes() -> None:
    records = namespace_of(1_000_000)
    theirs = dict(records)
    for at, key in enumerate(records):
        if at % 101 == 0:
            theirs[key] = b"changed"
    prefixes = sorted({key[:6] for key in records})
    forests = []
    for held in (records, theirs):
        forest = forest_of(held)
        assert forest.crowded() == []
        forests.append(forest)
    assert sum(len(data) for _, data in forests[0].dump()) < 2_300_000
    summary = summarise(forests[1], prefixes)
    exchanges = exchanges_of(forests[0], prefixes, summary)
    leaves, sent = 0, len(summary)
    for prefix, exchange in exchanges.items():
        tree = forests[1].tree(prefix)
        assert tree is not None
        while (ask := exchange.ask()) is not None:
            reply = answer(tree, ask)
            sent += 4 * len(ask.nodes) + 8 * len(reply.nodes)
            exchange.take(ask, reply)
        leaves += len(exchange.differing)
    assert 9_000 < leaves <= 9_901
    assert sent < 1_500_000
    assert exchanges_of(forests[0], prefixes, summarise(forests[0], prefixes)) == {}


# --- depth


def test_trees_are_as_deep_as_their_keys_need() -> None:
    assert [depth_for(keys) for keys in (0, 1, 127, 128, 4_000, 10**9)] == [DEPTH_MIN, DEPTH_MIN, DEPTH_MIN, 5, 9, DEPTH_MAX]
    for keys in (300, 4_000, 50_000):
        assert 4 <= keys / (1 << depth_for(keys)) < 8


def test_a_tree_is_crowded_or_roomy_with_room_between() -> None:
    tree = HashTree(8)
    for keys, crowded, roomy in ((100, False, True), (256, False, False), (KEYS_PER_LEAF_MAX << 8, False, False)):
        tree.keys = keys
        assert (tree.is_crowded, tree.is_roomy) == (crowded, roomy)
    tree.keys += 1
    assert tree.is_crowded
    deepest = HashTree(DEPTH_MIN)
    assert not deepest.is_roomy, "the least there is"


def test_a_tree_that_lost_its_keys_is_folded() -> None:
    records = namespace_of(2_000, partitions=1)
    forest = forest_of(records)
    prefix = next(iter(records))[:6]
    forest.begin_rebuild(prefix)
    forest.add_scanned(prefix, list(records), list(records.values()))
    forest.end_rebuild(prefix)
    kept = dict(list(records.items())[:50])
    gone = [key for key in records if key not in kept]
    forest.apply(gone, [records[key] for key in gone], [None] * len(gone))
    for _look in range(2):
        assert forest.crowded() == []
    tree = forest.tree(prefix)
    assert tree is not None and tree.depth == DEPTH_MIN
    forest.check(prefix, kept.items())


def test_bug_filling_a_store_had_all_its_trees_read_again() -> None:
    """A tree that began with the fewest leaves was crowded at 513 keys: all trees of a namespace together, while it was filled."""
    records = namespace_of(KEYS_PER_LEAF_MAX << START_DEPTH, partitions=1)
    forest = Forest()
    keys = list(records)
    for at in range(0, len(keys), 64):
        forest.apply(keys[at : at + 64], [None] * 64, [records[key] for key in keys[at : at + 64]])
        assert forest.crowded() == []
    forest.check(keys[0][:6], records.items())


def test_a_tree_has_room_to_grow_for_as_long_as_it_grows() -> None:
    forest = forest_of({PREFIX + b"0": b"v"})
    for at in range(1, 6):
        assert forest.crowded() == [] and depth_of(forest) == START_DEPTH
        forest.apply([PREFIX + b"%d" % at], [None], [b"v"])
    forest.apply([PREFIX + b"0"], [b"v"], [b"w"])
    assert forest.crowded() == [] and depth_of(forest) == START_DEPTH, "it has grown since the last look"
    forest.apply([PREFIX + b"0"], [b"w"], [b"x"])
    assert forest.crowded() == [] and depth_of(forest) == DEPTH_MIN, "it was only written over"


def test_many_trees_begin_small() -> None:
    forest = forest_of({b"%06d" % at + b"k": b"v" for at in range(START_TREES_MAX + 1)})
    assert depth_of(forest, b"%06d" % (START_TREES_MAX - 1)) == START_DEPTH
    assert depth_of(forest, b"%06d" % START_TREES_MAX) == DEPTH_MIN


def depth_of(forest: Forest, prefix: bytes = PREFIX) -> int:
    tree = forest.tree(prefix)
    assert tree is not None
    return tree.depth


# --- unknown trees


def test_an_unknown_tree_tells_nothing_until_it_is_rebuilt() -> None:
    records = {PREFIX + b"a": b"1", PREFIX + b"b": b"2"}
    forest, other = forest_of(records), forest_of({})
    forest.mark_unknown([PREFIX])
    assert exchanges_of(forest, [PREFIX], summarise(other, [PREFIX])) == {}
    assert exchanges_of(other, [PREFIX], summarise(forest, [PREFIX])) == {}
    forest.apply([PREFIX + b"c"], [None], [b"3"])
    assert forest.tree(PREFIX) is None and list(forest.dump()) == []
    forest.check(PREFIX, [])  # nothing is known, so nothing is wrong
    forest.begin_rebuild(PREFIX)
    forest.add_scanned(PREFIX, [*records, PREFIX + b"c"], [*records.values(), b"3"])
    assert forest.end_rebuild(PREFIX)
    assert list(exchanges_of(forest, [PREFIX], summarise(other, [PREFIX]))) == [PREFIX]


@pytest.mark.parametrize("give_up", ["mark_unknown", "drop"])
def test_a_rebuild_that_was_given_up_says_so(give_up: str) -> None:
    forest = forest_of({PREFIX + b"a": b"1"})
    forest.begin_rebuild(PREFIX)
    if give_up == "drop":
        forest.drop(PREFIX)
    else:
        forest.mark_unknown([PREFIX])
    assert not forest.add_scanned(PREFIX, [PREFIX + b"a"], [b"1"])
    assert not forest.end_rebuild(PREFIX)


def test_a_clean_stop_stores_what_the_next_start_loads() -> None:
    records = namespace_of(300, partitions=3)
    forest, started = forest_of(records), Forest()
    for prefix, data in forest.dump():
        started.load(prefix, data)
    for prefix in {key[:6] for key in records}:
        started.check(prefix, [(key, record) for key, record in records.items() if key.startswith(prefix)])


def test_a_tree_that_drifted_from_its_records_is_told() -> None:
    forest = forest_of({PREFIX + b"a": b"1"})
    forest.apply([PREFIX + b"a"], [b"what was never held"], [b"2"])
    with pytest.raises(AssertionError, match="drifted"):
        forest.check(PREFIX, [(PREFIX + b"a", b"2")])


@pytest.mark.parametrize("damage", ["bit", "short", "empty", "format", "depth", "length"])
def test_a_stored_tree_that_is_damaged_or_of_another_format_is_refused(damage: str) -> None:
    import google_crc32c

    data = HashTree().dump()
    body = bytearray(data[:-4])
    if damage == "format":
        body[0] = 2
    elif damage == "depth":
        body[1] = DEPTH_MAX + 1
    elif damage == "length":
        body += bytes(8)
    sealed = bytes(body) + google_crc32c.value(bytes(body)).to_bytes(4, "big")
    damaged = {"bit": bytes((data[0] ^ 1,)) + data[1:], "short": data[:-1], "empty": b""}.get(damage, sealed)
    with pytest.raises(DamagedTree):
        HashTree.load(damaged)


# --- what comes over the wire


@pytest.mark.parametrize("ask", [Ask(2, (4,)), Ask(0, (-1,)), Ask(9, tuple(range(NODES_MAX + 1))), Ask(0, (0,), LEVELS + 1)])
def test_an_ask_that_makes_no_sense_is_refused(ask: Ask) -> None:
    with pytest.raises(ValueError, match="levels"):
        answer(HashTree(), ask)


def test_answers_and_summaries_that_do_not_fit_are_refused() -> None:
    tree = HashTree()
    tree.update(b"key", None, b"record")
    for reply in (Answer(4, [1, 2]), Answer(5, [0] * 32)):
        exchange = Exchange(tree, 8)
        ask = exchange.ask()
        assert ask is not None
        with pytest.raises(ValueError, match="do not answer"):
            exchange.take(ask, reply)
    with pytest.raises(ValueError, match="no summary"):
        exchanges_of(Forest(), [PREFIX], b"\x04")
    with pytest.raises(DamagedTree):
        unpack_nodes(b"123")


def test_a_wide_difference_is_asked_for_in_bounded_parts() -> None:
    mine, theirs = HashTree(12), HashTree(12)
    for at in range(20_000):
        mine.update(b"key%d" % at, None, b"")
    exchange = Exchange(mine, theirs.depth)
    asks = 0
    while (ask := exchange.ask()) is not None:
        asks += 1
        reply = answer(theirs, ask)
        assert len(ask.nodes) <= NODES_MAX and len(reply.nodes) <= NODES_MAX << LEVELS
        exchange.take(ask, reply)
    assert asks == 1 + 1 + 1
    assert len(exchange.differing) == sum(node != 0 for node in mine.leaves)


def test_nodes_that_were_open_when_the_other_tree_was_folded_still_lead_to_what_differs() -> None:
    mine, theirs = HashTree(16), HashTree(16)
    for at in range(9_000):
        mine.update(b"key%d" % at, None, b"")
    exchange = Exchange(mine, theirs.depth)
    for _ in range(4):  # the last level has begun, most of it is still open
        ask = exchange.ask()
        assert ask is not None
        exchange.take(ask, answer(theirs, ask))
    theirs.fold_to(6)
    while (ask := exchange.ask()) is not None:
        exchange.take(ask, answer(theirs, ask))
    assert exchange.depth == 6
    assert exchange.differing == [at for at, node in enumerate(mine.nodes(6)) if node]


# --- differences that last


def test_only_what_differs_in_two_looks_while_one_side_stands_still_is_repaired() -> None:
    earlier = {1: (10, 0), 2: (20, 21), 3: (30, 31), 4: (40, 41)}
    now = {1: (10, 0), 2: (22, 21), 3: (32, 33), 5: (50, 51)}
    assert persisting(earlier, now) == {1: (10, 0), 2: (22, 21)}


def test_two_keys_of_one_hash_are_one_row_and_both_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvstore.core.merkle import exchange as module

    monkeypatch.setattr(module, "key_hash", lambda store_key: 7)
    mine, theirs = Listing(0, [0]), Listing(0, [0])
    mine.add([b"a", b"b"], [b"1", b"2"])
    theirs.add([b"a"], [b"1"])
    rows = mine.compare(theirs.packed())
    assert sorted(mine.keys_of(rows)) == [b"a", b"b"] and theirs.keys_of(rows) == [b"a"]


def test_keys_of_other_leaves_are_not_listed() -> None:
    leaf = key_hash(b"a") & 0xF
    listing = Listing(4, [leaf ^ 1])
    listing.add([b"a"], [b"1"])
    assert listing.packed() == b""
    assert listing.keys_of([key_hash(b"a")]) == []
