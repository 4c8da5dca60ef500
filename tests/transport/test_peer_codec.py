"""Peer messages: chunks in, the very same parts out, whatever was coalesced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvproto.codec import encode_error
from kvproto.errors import Code, KvError, RecordLost
from kvproto.large_messages import whole
from kvproto.v1 import peer_pb2
from kvstore.transport.codec import answer_fetches, answer_stores, encode_refusals, encode_request, is_intact, reply_error
from kvstore.transport.peers import FetchChunk, StoreChunk

sizes = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@given(sizes=sizes, data=st.data())
def test_each_fetch_gets_exactly_what_differs_or_is_lost_among_its_own_keys(sizes: list[int], data: st.DataObject) -> None:
    answered: list[FetchChunk] = []
    chunks = [FetchChunk("n2", [b"k"] * size, bytes(8 * size), 1, 9.0, answered.append) for size in sizes]
    states = [[data.draw(st.sampled_from(["same", "differs", "absent", "lost"])) for _ in range(size)] for size in sizes]
    flat = [state for chunk in states for state in chunk]
    differing = [at for at, state in enumerate(flat) if state in ("differs", "absent")]
    message = peer_pb2.PeerReply(
        differing=differing,
        records=[b"" if flat[at] == "absent" else b"record %d" % at for at in differing],
        lost=[at for at, state in enumerate(flat) if state == "lost"],
    )
    answer_fetches(chunks, message)
    assert answered == chunks
    offset = 0
    for chunk, mine in zip(chunks, states, strict=True):
        assert list(chunk.lost) == [at for at, state in enumerate(mine) if state == "lost"]
        assert dict(zip(chunk.differing, chunk.records, strict=True)) == {
            at: b"" if state == "absent" else b"record %d" % (offset + at)
            for at, state in enumerate(mine)
            if state in ("differs", "absent")
        }
        offset += len(mine)


@given(sizes=sizes, data=st.data())
def test_each_store_gets_exactly_its_own_refusals(sizes: list[int], data: st.DataObject) -> None:
    answered: list[StoreChunk] = []
    chunks = [StoreChunk("n2", [b"k"] * size, [b"r"] * size, 1, 9.0, answered.append) for size in sizes]
    total = sum(sizes)
    refused = data.draw(st.permutations(range(total)))[: data.draw(st.integers(0, total))]
    answer_stores(chunks, encode_refusals(1, refused, last=True))
    assert answered == chunks
    expected = sorted(refused)
    offset, told = 0, []
    for chunk in chunks:
        told += [offset + at for at in chunk.refused]
        offset += chunk.count
    assert told == expected


def test_records_are_intact_only_under_a_checksum_over_all_of_them() -> None:
    chunks = [StoreChunk("n2", [b"a", b"b"], [b"A", b"B"], 1, 9.0, lambda chunk: None)]
    message = whole(encode_request(1, chunks, epoch=1, ring_hash=2, sent_ms=3, timeout_ms=4)[0])
    assert is_intact(message, [b"A", b"B"])
    assert not is_intact(message, [b"A", b"C"]) and not is_intact(message, [b"A"])
    message.ClearField("store_checksum")
    assert not is_intact(message, [b"A", b"B"]), "a peer that sends none has each record verified"


def test_a_request_carries_stores_and_fetches_in_order() -> None:
    stores = [
        StoreChunk("n2", [b"a"], [b"A"], 1, 9.0, lambda chunk: None),
        StoreChunk("n2", [b"b"], [b"B"], 1, 9.0, lambda chunk: None),
    ]
    fetches = [
        FetchChunk("n2", [b"x"], b"1" * 8, 1, 9.0, lambda chunk: None),
        FetchChunk("n2", [b"y"], b"2" * 8, 1, 9.0, lambda chunk: None),
    ]
    encoded, told_stores, told_fetches, _ = encode_request(
        5, [stores[0], fetches[0], stores[1], fetches[1]], epoch=1, ring_hash=2, sent_ms=3, timeout_ms=4
    )
    message = whole(encoded)
    assert told_stores == stores and told_fetches == fetches
    assert list(message.store_keys) == [b"a", b"b"] and list(message.fetch_keys) == [b"x", b"y"]
    assert message.fetch_digests == b"1" * 8 + b"2" * 8


def test_refusals_say_why() -> None:
    message = encode_refusals(1, [0, 3], last=True)
    assert message.stored and list(message.refused_codes) == [int(Code.RECORD_LOST)] * 2
    assert reply_error(message) is None


def test_errors_keep_their_type() -> None:
    error: KvError | None = reply_error(peer_pb2.PeerReply(error=encode_error(RecordLost("gone"))))
    assert isinstance(error, RecordLost)
