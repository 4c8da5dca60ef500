"""What a store takes in of dropped namespaces: nothing, whoever sends it and however late; and what it keeps of unknown ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from kvproto.columns import NamespaceWish
from kvproto.errors import ClusterError, KvError, UnknownNamespace
from kvstore.core.catalog.catalog import RUN_TIME_ID_MIN, Catalog, create, drop
from kvstore.core.catalog.encoding import UnreadableCatalog, encode_catalog
from kvstore.core.catalog.settings import decide_settings
from kvstore.core.merkle.forest import Forest
from kvstore.storage.catalogs import CATALOG_KEY, Erased, erased_by, load_catalog, load_erased
from kvstore.storage.commit import Committer
from kvstore.storage.dropped_ids import DroppedIds
from kvstore.storage.layout import store_key_prefix
from kvstore.storage.memory import MemoryEngine
from kvstore.storage.store import Store
from kvstore.storage.trees import held_prefixes, load_forest
from tests.storage.test_store import record_of
from tests.support.waiting import until

NONE = frozenset[str]()
SETTINGS = decide_settings(NamespaceWish(name="orders"), replicas=3, nodes=3)
MADE = create(Catalog(), "orders", SETTINGS, configured=NONE)
DROPPED = create(drop(MADE, "orders", configured=NONE), "orders", SETTINGS, configured=NONE)
OLD, NEW, UNKNOWN = RUN_TIME_ID_MIN, RUN_TIME_ID_MIN + 1, RUN_TIME_ID_MIN + 2


def key(namespace: int, name: bytes = b"k", partition: int = 0) -> bytes:
    return store_key_prefix(partition, namespace) + name


class Rig:
    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.forest = Forest()
        self.committer = Committer(self.engine, sync=True, on_failure=lambda error: None)
        self.store = Store(self.engine, self.committer, cache_bytes_max=0, forest=self.forest)

    async def merge(self, *pairs: tuple[bytes, bytes]) -> tuple[KvError | None, list[int]]:
        told: list[tuple[KvError | None, list[int]]] = []
        self.store.merge([one for one, _ in pairs], [two for _, two in pairs], lambda error, refused: told.append((error, refused)))
        await until(lambda: bool(told))
        return told[0]

    async def done(self, work: object) -> KvError | None:
        told: list[KvError | None] = []
        work(told.append)  # type: ignore[operator]
        await until(lambda: bool(told))
        return told[0]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.committer.close()


async def test_of_a_batch_only_what_is_of_a_dropped_namespace_is_refused(rig: Rig) -> None:
    rig.store.go_by(DROPPED, {})
    rows = [(key(one), record_of(1, at)) for at, one in enumerate((1, OLD, NEW, UNKNOWN), 1)]
    assert await rig.merge(*rows) == (None, [1])
    assert [rig.engine.get(one) is not None for one, _ in rows] == [True, False, True, True]


async def test_a_write_that_was_under_way_when_its_namespace_was_dropped_is_told_so_and_leaves_nothing(rig: Rig) -> None:
    rig.store.stage(key(OLD), record_of(1, 1))
    rig.store.go_by(DROPPED, {})
    error = await rig.done(lambda take: rig.store.commit([(key(OLD), record_of(1, 1))], take, before=[0]))
    assert isinstance(error, UnknownNamespace)
    rig.store.stage(key(NEW), record := record_of(1, 2))
    rig.store.stage(key(OLD), late := record_of(1, 3))
    pairs = [(key(OLD), late), (key(NEW), record)]
    assert await rig.done(lambda take: rig.store.commit(pairs, take, before=[0, 0])) is None
    assert (rig.engine.get(key(OLD)), rig.engine.get(key(NEW))) == (None, record)
    assert not rig.store.pending


async def test_bug_a_copy_deleted_behind_the_forgotten_tree_made_it_count_fewer_than_no_keys(rig: Rig) -> None:
    record = record_of(1, 1)
    await rig.merge((key(OLD), record))
    rig.store.go_by(DROPPED, {})
    rig.store.forget_dropped()
    assert await rig.done(lambda take: rig.store.discard([(key(OLD), record)], (), take)) is None
    assert key(OLD)[:6] not in rig.forest.prefixes
    assert list(rig.forest.dump()) == []


async def test_erasing_leaves_neither_record_nor_tree(rig: Rig) -> None:
    await rig.merge((key(OLD), record_of(1, 1)), (key(NEW), record_of(1, 2)))
    rig.store.go_by(DROPPED, {})
    rig.store.forget_dropped()
    assert await rig.done(lambda take: rig.store.erase([key(OLD)], take)) is None
    assert list(held_prefixes(rig.engine)) == [key(NEW)[:6]] == rig.forest.prefixes


async def test_trees_of_namespaces_that_are_not_known_yet_are_unknown_after_an_unclean_stop(rig: Rig) -> None:
    await rig.merge((key(UNKNOWN, partition=3), record_of(1, 1)), (key(OLD), record_of(1, 2)))
    forest = load_forest(rig.engine, None, [], DroppedIds(DROPPED).is_of)
    assert forest.unknown == [key(UNKNOWN, partition=3)[:6]]


def test_which_ids_may_have_records_left_is_known_across_versions_and_starts() -> None:
    engine = MemoryEngine()
    assert not load_erased(engine).is_behind(MADE)
    state = erased_by(MADE)
    assert list(state.left(DROPPED)) == [OLD] == list(Erased().left(DROPPED))
    engine.write([erased_by(DROPPED).row()], sync=True)
    assert not load_erased(engine).is_behind(DROPPED)
    assert list(load_erased(engine).left(drop(DROPPED, "orders", configured=NONE))) == [NEW]


def test_a_directory_that_cannot_be_gone_by_is_refused_with_what_to_do() -> None:
    engine = MemoryEngine()
    assert load_catalog(engine, NONE) == Catalog()
    engine.write([(CATALOG_KEY, encode_catalog(MADE))], sync=True)
    assert load_catalog(engine, frozenset({"default"})) == MADE
    with pytest.raises(ClusterError, match="made at run time"):
        load_catalog(engine, frozenset({"default", "orders"}))
    engine.write([(CATALOG_KEY, b'{"format":9}')], sync=True)
    with pytest.raises(UnreadableCatalog):
        load_catalog(engine, NONE)


def test_only_ids_that_were_given_and_are_not_live_are_dropped() -> None:
    ids = DroppedIds(DROPPED)
    told = SimpleNamespace(**{name: ids.is_of(key(number)) for name, number in (("old", OLD), ("new", NEW), ("unknown", UNKNOWN))})
    assert (told.old, told.new, told.unknown, ids.is_of(key(1)), DroppedIds(MADE).any) == (True, False, False, False, False)
