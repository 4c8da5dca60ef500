"""Laws of the hash trees: equal sets have equal roots, the order of updates does not matter, an exchange finds what differs,
exactly."""

from __future__ import annotations

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from kvstore.core.merkle.exchange import Exchange, Listing, answer, summarise
from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.standing import Differing, at_both
from kvstore.core.merkle.tree import DEPTH_MIN, HashTree, depth_for, key_hash
from tests.support.merkle import exchanges_of

PREFIX = b"\x00\x07\x00\x00\x00\x01"
OTHER = b"\x00\x08\x00\x00\x00\x01"

State = dict[bytes, bytes]

keys = st.binary(max_size=3).map(lambda key: PREFIX + key)
states = st.dictionaries(keys, st.binary(max_size=4), max_size=40)
depths = st.integers(0, 9)
deep = st.integers(1, 9)  # of a tree without leaves below its root the root has said it all


def tree_of(state: State, depth: int = DEPTH_MIN) -> HashTree:
    tree = HashTree(depth)
    for key, record in state.items():
        tree.update(key, None, record)
    return tree


@given(one=states, two=states, depth=depths, other_depth=depths)
def test_roots_are_equal_if_and_only_if_the_records_are(one: State, two: State, depth: int, other_depth: int) -> None:
    assert (tree_of(one, depth).root == tree_of(two, other_depth).root) is (one == two)
    assert tree_of(one, depth).root == tree_of(one, other_depth).root


@given(start=states, end=states, rng=st.randoms(use_true_random=False), depth=depths)
def test_updates_in_any_order_make_the_tree_that_a_rebuild_makes(start: State, end: State, rng: Random, depth: int) -> None:
    tree = tree_of(start, depth)
    changed = sorted(start.keys() | end.keys())
    rng.shuffle(changed)
    for key in changed:
        tree.update(key, start.get(key), end.get(key))
    tree.check(end.items())
    assert tree.dump() == tree_of(end, depth).dump()


@given(state=states, depth=depths, data=st.data())
def test_every_inner_node_is_the_xor_of_its_children(state: State, depth: int, data: st.DataObject) -> None:
    tree = tree_of(state, depth)
    for level in range(depth):
        nodes, children = tree.nodes(level), tree.nodes(level + 1)
        assert [children[at] ^ children[at + (1 << level)] for at in range(1 << level)] == list(nodes)
    level = data.draw(st.integers(0, depth))
    twin = tree.copy()
    twin.fold_to(level)
    assert twin.dump() == tree_of(state, level).dump()
    assert tree.dump() == tree_of(state, depth).dump(), "a copy is its own"


@given(state=states, depth=depths)
def test_a_stored_tree_comes_back_as_it_was(state: State, depth: int) -> None:
    tree = tree_of(state, depth)
    loaded = HashTree.load(tree.dump())
    loaded.check(state.items())
    assert (loaded.depth, loaded.mask, loaded.dump()) == (tree.depth, tree.mask, tree.dump())


def listed(state: State, depth: int, leaves: list[int]) -> Listing:
    listing = Listing(depth, leaves)
    listing.add(list(state), list(state.values()))
    return listing


@given(
    mine=states,
    changes=states,
    gone=st.sets(st.integers(0, 39)),
    depth=depths,
    their_depth=depths,
    folds=st.lists(depths, max_size=3),
)
def test_an_exchange_finds_exactly_the_keys_that_differ(
    mine: State, changes: State, gone: set[int], depth: int, their_depth: int, folds: list[int]
) -> None:
    theirs = {key: record for at, (key, record) in enumerate(mine.items()) if at not in gone} | changes
    here, there = tree_of(mine, depth), tree_of(theirs, their_depth)
    exchange = Exchange(here, there.depth)
    while (ask := exchange.ask()) is not None:
        exchange.take(ask, answer(there, ask))
        if folds:  # the other side has lost keys meanwhile, or so it thinks
            there.fold_to(min(folds.pop(), there.depth))
    leaves = exchange.differing
    ours, others = (listed(state, exchange.depth, leaves) for state in (mine, theirs))
    rows = ours.compare(others.packed())
    differing = {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)}
    assert {*ours.keys_of(rows), *others.keys_of(rows)} == differing
    assert others.compare(ours.packed()) == {key: (theirs_, mine_) for key, (mine_, theirs_) in rows.items()}


@given(
    start=states,
    moves=st.lists(st.tuples(keys, st.none() | st.binary(max_size=4)), max_size=30),
    rng=st.randoms(use_true_random=False),
    unknown=st.booleans(),
)
def test_a_rebuild_beside_which_updates_go_on_ends_with_what_is_there(
    start: State, moves: list[tuple[bytes, bytes | None]], rng: Random, unknown: bool
) -> None:
    forest, now = Forest(), dict(start)
    forest.apply(list(start), [None] * len(start), list(start.values()))
    before = forest.tree(PREFIX)
    root = before.root if before is not None else 0
    if unknown:
        forest.mark_unknown([PREFIX])
        assert forest.tree(PREFIX) is None and forest.unknown == [PREFIX]
    forest.begin_rebuild(PREFIX)
    snapshot = list(start.items())
    rng.shuffle(snapshot)
    while snapshot or moves:
        if moves and (not snapshot or rng.random() < 0.5):
            key, record = moves.pop()
            forest.apply([key], [now.pop(key, None)], [record])
            if record is not None:
                now[key] = record
        else:
            key, record = snapshot.pop()
            assert forest.add_scanned(PREFIX, [key], [record])
    assert forest.end_rebuild(PREFIX)
    tree = forest.tree(PREFIX)
    assert tree is not None and tree.depth == depth_for(tree.keys)
    forest.check(PREFIX, now.items())
    assert (tree.root == root) is (now == start)


@given(one=states, two=states)
def test_two_forests_exchange_where_their_summaries_differ(one: State, two: State) -> None:
    left, right = Forest(), Forest()
    left.apply([*one, OTHER], [None] * (len(one) + 1), [*one.values(), b"same"])
    right.apply([OTHER, *two], [None] * (len(two) + 1), [b"same", *two.values()])
    prefixes = [PREFIX, OTHER]
    assert list(exchanges_of(left, prefixes, summarise(right, prefixes))) == ([PREFIX] if one != two else [])


def looked(mine: HashTree, theirs: HashTree, before: Differing | None) -> Differing:
    """One look at the leaves, or another at those of `before`."""
    exchange = Exchange(mine, theirs.depth) if before is None else Exchange(mine, before.depth, before.leaves)
    while (ask := exchange.ask()) is not None:
        exchange.take(ask, answer(theirs, ask))
    found = Differing(exchange.depth, exchange.differing)
    return found if before is None else at_both(before, found)


@example(lasting={}, looks=[({}, {PREFIX: b""}, 6, 6), ({}, {}, 6, 1)])  # folded to less than what the second look asks about
@given(lasting=states, looks=st.lists(st.tuples(states, states, deep, deep), min_size=1, max_size=4))
def test_what_differs_at_every_look_is_among_the_leaves_and_a_leaf_that_was_once_equal_is_not(
    lasting: State, looks: list[tuple[State, State, int, int]]
) -> None:
    """Whatever else is written on either side meanwhile, and however the trees are folded or grown."""
    found: Differing | None = None
    held: list[tuple[State, State]] = []
    for number, (ours, others, depth, their_depth) in enumerate(looks):
        mine = ours | lasting
        theirs = {key: record for key, record in others.items() if key not in lasting}
        theirs |= {key: record + b"%d" % number for at, (key, record) in enumerate(lasting.items()) if at % 2}
        held.append((mine, theirs))
        found = looked(tree_of(mine, depth), tree_of(theirs, their_depth), found)
    assert found is not None
    mask = (1 << found.depth) - 1
    assert {key_hash(key) & mask for key in lasting} <= set(found.leaves)
    for leaf in found.leaves:
        for mine, theirs in held:
            sides = [{key: one[key] for key in one if key_hash(key) & mask == leaf} for one in (mine, theirs)]
            assert sides[0] != sides[1], "it was equal at this look"


@given(mine=states, changes=states, depth=depths)
def test_bug_an_exchange_kept_all_keys_of_the_leaves_that_it_had_listed(mine: State, changes: State, depth: int) -> None:
    leaves = list(range(1 << depth))
    ours, others = listed(mine, depth, leaves), listed(mine | changes, depth, leaves)
    rows = ours.compare(others.packed())
    keys = ours.keys_of(rows)
    ours.keep(rows)
    assert ours.keys_of(rows) == keys
    assert len(ours.packed()) == 16 * len(set(map(key_hash, keys)))
