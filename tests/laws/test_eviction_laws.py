"""Laws of the map that never grows beyond its bound (storage/evicting.py)."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from kvstore.storage.evicting import ENTRY_OVERHEAD_BYTES, EvictingMap

_keys = st.integers(0, 12).map(lambda number: b"k%02d" % number)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.tuples(_keys, st.integers(0, 400).map(bytes)), min_size=1, max_size=6)),
        st.tuples(st.just("get"), _keys),
        st.tuples(st.just("remove"), st.lists(_keys, max_size=3)),
    ),
    max_size=60,
)
RECORD = bytes(100)
COST = len(b"00000") + len(RECORD) + ENTRY_OVERHEAD_BYTES


@given(bytes_max=st.integers(1, 8000), steps=_steps)
def test_it_is_over_its_bound_by_no_more_than_the_only_record_and_gives_what_was_put_or_nothing(
    bytes_max: int, steps: list[tuple[str, object]]
) -> None:
    held = EvictingMap(bytes_max)
    put: dict[bytes, bytes] = {}
    for now_ms, (what, about) in enumerate(steps):
        if what == "put":
            assert isinstance(about, list)
            held.put(about, now_ms)
            put.update(about)
            assert about[-1][0] in held, "what was put last is there, however large it is"
        elif what == "get":
            assert isinstance(about, bytes)
            assert held.get(about) in (None, put.get(about))
        else:
            assert isinstance(about, list)
            held.remove(about)
            for key in about:
                put.pop(key, None)
                assert held.get(key) is None
        held.check()


@given(bytes_max=st.integers(COST, 6 * COST), keys=st.lists(st.integers(0, 20), min_size=1, max_size=80))
def test_everything_that_went_was_stored_no_later_than_the_moment_it_remembers(bytes_max: int, keys: list[int]) -> None:
    held = EvictingMap(bytes_max)
    stored_ms: dict[bytes, int] = {}
    for now_ms, number in enumerate(keys, 1):
        key = b"%05d" % number
        held.put([(key, RECORD)], now_ms)
        stored_ms[key] = now_ms
        gone = [stored_ms[each] for each in stored_ms if each not in held]
        assert held.forgotten_ms >= max(gone, default=0)


def test_a_trace_as_caches_see_hits_more_often_than_by_chance_and_than_first_in_first_out() -> None:
    """Keys by Zipf's law, a tenth of them with room: margins are wide, the trace is always the same."""
    trace = _zipf_trace(keys=5000, length=60_000)
    room = 500
    sieve = _hit_ratio(trace, _sieve(room))
    assert sieve > _hit_ratio(trace, _at_random(room)) + 0.02
    assert sieve > _hit_ratio(trace, _first_in_first_out(room)) + 0.02
    assert sieve > _hit_ratio(trace, _least_recently_used(room)) - 0.02


def test_what_is_written_once_and_never_read_does_not_push_out_what_is_read() -> None:
    """A scan of three times what there is room for, between reads of the same hundred."""
    held = EvictingMap(200 * COST)
    hot = [b"%05d" % number for number in range(100)]
    for key in hot:
        held.put([(key, RECORD)], 1)
    for number in range(100, 700):
        held.put([(b"%05d" % number, RECORD)], 2)
        held.get(hot[number % 100])
    assert sum(key in held for key in hot) >= 95


def _zipf_trace(*, keys: int, length: int) -> list[bytes]:
    rng = random.Random("eviction")
    weights = [1 / (rank + 1) for rank in range(keys)]
    names = [b"%05d" % number for number in range(keys)]
    rng.shuffle(names)
    return rng.choices(names, weights, k=length)


def _hit_ratio(trace: Iterable[bytes], access: Callable[[bytes], bool]) -> float:
    hits = [access(key) for key in trace]
    return sum(hits) / len(hits)


def _sieve(room: int) -> Callable[[bytes], bool]:
    held = EvictingMap(room * COST)

    def access(key: bytes) -> bool:
        if held.get(key) is not None:
            return True
        held.put([(key, RECORD)], 1)
        return False

    return access


def _at_random(room: int) -> Callable[[bytes], bool]:
    rng, held, order = random.Random("by chance"), set[bytes](), list[bytes]()

    def access(key: bytes) -> bool:
        if key in held:
            return True
        if len(order) == room:
            at = rng.randrange(room)
            held.remove(order[at])
            order[at] = key
        else:
            order.append(key)
        held.add(key)
        return False

    return access


def _first_in_first_out(room: int) -> Callable[[bytes], bool]:
    held, order = set[bytes](), deque[bytes]()

    def access(key: bytes) -> bool:
        if key in held:
            return True
        if len(order) == room:
            held.remove(order.popleft())
        order.append(key)
        held.add(key)
        return False

    return access


def _least_recently_used(room: int) -> Callable[[bytes], bool]:
    held: OrderedDict[bytes, None] = OrderedDict()

    def access(key: bytes) -> bool:
        if key in held:
            held.move_to_end(key)
            return True
        if len(held) == room:
            held.popitem(last=False)
        held[key] = None
        return False

    return access
