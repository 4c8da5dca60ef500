"""Laws of store keys: order preserved, round trip, ranges cover exactly what they name, system keys collide with nothing."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kvstore.storage import layout

edges = st.sampled_from([b"", b"\x00", b"\xff", b"\xff" * 7, b"\x00\xff", b"a", b"a\x00"])
keys = st.one_of(edges, st.binary(max_size=12))
partitions = st.one_of(st.sampled_from([0, 1, 0xFFFE, 0xFFFF]), st.integers(0, layout.PARTITION_MAX))
namespaces = st.one_of(st.sampled_from([0, 1, 0xFF, layout.NAMESPACE_ID_MAX]), st.integers(0, layout.NAMESPACE_ID_MAX))
places = st.tuples(partitions, namespaces, keys)
LAST = (layout.PARTITION_MAX, layout.NAMESPACE_ID_MAX, b"\xff" * 7)


def store_key(place: tuple[int, int, bytes]) -> bytes:
    partition, namespace_id, key = place
    return layout.store_key_prefix(partition, namespace_id) + key


def inside(key: bytes, bounds: tuple[bytes, bytes]) -> bool:
    return bounds[0] <= key < bounds[1]


@given(places)
@example(LAST)
def test_splitting_a_store_key_gives_back_its_parts(place: tuple[int, int, bytes]) -> None:
    assert layout.split_store_key(store_key(place)) == place


@given(places, places)
def test_store_keys_sort_as_partition_then_namespace_then_key(left: tuple[int, int, bytes], right: tuple[int, int, bytes]) -> None:
    assert (store_key(left) < store_key(right)) == (left < right)


@given(places, places)
@example(LAST, LAST)
def test_the_ranges_cover_their_own_records_and_no_other(one: tuple[int, int, bytes], other: tuple[int, int, bytes]) -> None:
    key = store_key(one)
    assert inside(key, layout.partition_range(other[0])) == (one[0] == other[0])
    assert inside(key, layout.namespace_range(other[0], other[1])) == (one[:2] == other[:2])


@given(places, keys, keys)
def test_a_prefix_range_covers_exactly_the_keys_that_start_so(place: tuple[int, int, bytes], prefix: bytes, rest: bytes) -> None:
    partition, namespace_id, key = place
    bounds = layout.prefix_range(partition, namespace_id, prefix)
    assert inside(store_key(place), bounds) == key.startswith(prefix)
    assert inside(store_key((partition, namespace_id, prefix + rest)), bounds)


@given(st.one_of(edges, st.binary(max_size=6)), st.binary(max_size=6))
def test_the_successor_of_a_prefix_is_the_first_key_past_all_that_start_with_it(prefix: bytes, other: bytes) -> None:
    after = layout.prefix_successor(prefix)
    if after is None:
        assert prefix == b"\xff" * len(prefix)
        return
    assert prefix + b"\xff" * 20 < after
    assert not (prefix <= other < after) or other.startswith(prefix)


@given(places, keys)
@example(LAST, b"")
def test_a_record_never_collides_with_what_the_node_keeps_for_itself(place: tuple[int, int, bytes], name: bytes) -> None:
    record = store_key(place)
    own = (layout.system_key(name), layout.quarantine_key(record), layout.quarantine_key(name))
    assert all(record < key and inside(key, layout.system_range()) for key in own)
    assert not inside(record, layout.system_range())
    assert not any(inside(key, layout.partition_range(layout.PARTITION_MAX)) for key in own)


@given(places, places, keys)
def test_quarantine_keys_round_trip_in_order_and_apart_from_system_keys(
    one: tuple[int, int, bytes], other: tuple[int, int, bytes], name: bytes
) -> None:
    first, second = layout.quarantine_key(store_key(one)), layout.quarantine_key(store_key(other))
    assert layout.split_quarantine_key(first) == store_key(one)
    assert (first < second) == (one < other)
    assert inside(first, layout.quarantine_range())
    assert not inside(layout.system_key(name), layout.quarantine_range())


@given(st.integers(0, layout.PARTITION_MAX - 1))
def test_between_two_partitions_lies_only_the_reserved_namespace_id(partition: int) -> None:
    end, next_start = layout.partition_range(partition)[1], layout.partition_range(partition + 1)[0]
    assert end == partition.to_bytes(2, "big") + b"\xff" * 4
    assert next_start == (partition + 1).to_bytes(2, "big") + bytes(4)


def test_the_last_partition_ends_where_the_system_keys_begin() -> None:
    assert layout.partition_range(layout.PARTITION_MAX)[1] == layout.SYSTEM_PREFIX == layout.system_range()[0]
