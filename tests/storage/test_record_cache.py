"""The cache of recent records against a model that counts everything anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.storage.record_cache import RECORD_OVERHEAD_BYTES, RecordCache

names = st.integers(0, 9).map(lambda number: b"k%d" % number)
batches = st.lists(st.tuples(names, st.binary(min_size=1, max_size=300)), max_size=6)
steps = st.lists(batches | st.sets(names, max_size=4), max_size=30)


@given(done=steps, bytes_max=st.integers(0, 3000))
def test_what_is_kept_is_the_latest_and_within_the_bound(
    done: list[list[tuple[bytes, bytes]] | set[bytes]], bytes_max: int
) -> None:
    cache, latest = RecordCache(bytes_max), dict[bytes, bytes]()
    for step in done:
        if isinstance(step, set):
            cache.forget(step)
            for store_key in step:
                latest.pop(store_key, None)
        else:
            cache.update(step)
            latest.update(step)
            assert cache.records or not step
        cache.check()
        assert cache.records.items() <= latest.items()
    cache.clear()
    cache.check()
    assert not cache.records


def test_the_oldest_goes_first_and_a_record_that_is_written_again_keeps_its_place() -> None:
    cache = RecordCache(3 * (RECORD_OVERHEAD_BYTES + 4))
    for name in (b"k1", b"k2", b"k1", b"k3", b"k4"):
        cache.update([(name, b"rr")])
    assert list(cache.records) == [b"k2", b"k3", b"k4"]


def test_a_key_that_is_forgotten_and_kept_over_and_over_takes_one_place() -> None:
    cache = RecordCache(1 << 20)
    for number in range(10_000):
        cache.update([(b"k", b"%d" % number)])
        cache.forget([b"k"])
    assert len(cache._order) < 2_000
