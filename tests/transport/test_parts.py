"""What is too large for one message goes in parts, and nobody who handed it over can tell."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.errors import AvailabilityError, StorageError, TooLarge
from kvproto.v1 import peer_pb2
from kvstore.transport import parts as parts_module
from kvstore.transport.parts import PART_BYTES_MAX, RECORD_BYTES_MAX, StorePart, answer_first, store_in_turn, why_unsendable
from kvstore.transport.peers import FetchChunk, StoreChunk
from tests.support.waiting import turns
from tests.transport.test_peer_link import Rig


def store(*sizes: int) -> tuple[StoreChunk, list[StoreChunk]]:
    """A chunk of records of these sizes, and where it is answered."""
    answered: list[StoreChunk] = []
    keys, records = [b"%02d" % at for at in range(len(sizes))], [bytes(size) for size in sizes]
    return StoreChunk("n2", keys, records, sum(sizes) + 2 * len(sizes), 9.0, answered.append), answered


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.data())
def test_a_store_in_parts_is_the_same_store_and_each_part_is_within_bounds(sizes: list[int], data: st.DataObject) -> None:
    chunk, answered = store(*sizes)
    refused = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    parts: list[StorePart] = []
    store_in_turn(chunk, parts.append, bytes_max=12)
    done = 0
    while done < len(parts):
        assert len(parts) == done + 1, "one at a time"
        assert answered == []
        part = parts[done]
        part.refused = sorted(at - part.base for at in refused if part.base <= at < part.base + part.count)
        part.answered(part)
        done += 1
    assert answered == [chunk] and chunk.error is None and list(chunk.refused) == sorted(refused)
    assert [key for part in parts for key in part.keys] == list(chunk.keys)
    assert [record for part in parts for record in part.records] == list(chunk.records)
    for part in parts:
        assert part.count == len(part.keys) >= 1
        assert part.size_bytes == sum(map(len, part.records)) + sum(map(len, part.keys))
        assert part.size_bytes <= 12 or part.count == 1
    for one, other in itertools.pairwise(parts):
        assert one.size_bytes + len(other.keys[0]) + len(other.records[0]) > 12, "none is smaller than it must be"


def test_a_part_that_failed_fails_the_whole_store_and_is_the_last() -> None:
    chunk, answered = store(9, 9, 9)
    parts: list[StorePart] = []
    store_in_turn(chunk, parts.append, bytes_max=12)
    parts[0].refused = [0]
    parts[0].answered(parts[0])
    assert answered == []
    parts[1].fail(StorageError("full", may_have_applied=True))
    assert len(parts) == 2
    assert answered == [chunk] and isinstance(chunk.error, StorageError) and chunk.refused == ()


def test_only_a_single_record_can_fit_into_no_message() -> None:
    def part(size: int) -> StorePart:
        return StorePart(store(size)[0], 0, 1, lambda _: None)

    assert why_unsendable(part(RECORD_BYTES_MAX - 2)) is None
    error = why_unsendable(part(RECORD_BYTES_MAX - 1))
    assert isinstance(error, TooLarge)
    assert (error.limit, error.actual) == (RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1)
    assert not error.may_have_applied and not error.retryable


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_a_fetch_asked_for_again_and_again_tells_each_chunk_what_one_answer_would(sizes: list[int], data: st.DataObject) -> None:
    answered: list[FetchChunk] = []
    names = [[b"%d/%d" % (chunk, at) for at in range(size)] for chunk, size in enumerate(sizes)]
    whole = [FetchChunk("n2", keys, b"".join(key.rjust(8) for key in keys), 99, 9.0, answered.append) for keys in names]
    states = {key: data.draw(st.sampled_from(["same", "differs", "absent", "lost"])) for keys in names for key in keys}
    asked: list[FetchChunk] = list(whole)
    while asked:
        keys = [key for chunk in asked for key in chunk.keys]
        assert b"".join(chunk.digests for chunk in asked) == b"".join(key.rjust(8) for key in keys), "digests stay with their keys"
        assert [chunk.count for chunk in asked] == [len(chunk.keys) for chunk in asked]
        below = data.draw(st.integers(1, len(keys)))
        differing = [at for at, key in enumerate(keys[:below]) if states[key] in ("differs", "absent")]
        message = peer_pb2.PeerReply(
            fetched_below=below,
            differing=differing,
            records=[b"" if states[keys[at]] == "absent" else b"record of " + keys[at] for at in differing],
            lost=[at for at, key in enumerate(keys[:below]) if states[key] == "lost"],
        )
        asked = answer_first(asked, message)
        assert sum(chunk.count for chunk in asked) == len(keys) - below, "it comes to an end"
    assert answered == whole, "in order, each once"
    for chunk, mine in zip(whole, names, strict=True):
        assert chunk.error is None
        assert list(chunk.lost) == [at for at, key in enumerate(mine) if states[key] == "lost"]
        assert dict(zip(chunk.differing, chunk.records, strict=True)) == {
            at: b"" if states[key] == "absent" else b"record of " + key
            for at, key in enumerate(mine)
            if states[key] in ("differs", "absent")
        }


async def test_the_link_asks_for_the_rest_of_a_fetch_behind_what_waits() -> None:
    rig = Rig()
    fetch, other, late = rig.fetch(b"x", b"y", b"z"), rig.store(b"a"), rig.fetch(b"late")
    sent = rig.stream.sent[0]
    rig.reply(sent, fetched_below=2, differing=[1], records=[b"Y"], lost=[0], last=True)
    assert rig.answered == []
    assert list(rig.stream.sent[1].store_keys) == [b"a"] and list(rig.stream.sent[1].fetch_keys) == [b"late"]
    rig.reply(rig.stream.sent[1], fetched=True)
    again = rig.stream.sent[2]
    assert list(again.fetch_keys) == [b"z"] and again.fetch_digests == b"z".rjust(8)
    rig.reply(again, fetched=True, differing=[0], records=[b"Z"], last=True)
    assert rig.answered == [late, fetch] and other.error is None
    assert (list(fetch.differing), list(fetch.records), list(fetch.lost)) == ([1, 2], [b"Y", b"Z"], [0])


async def test_a_fetch_whose_rest_cannot_be_had_is_an_error_and_nothing_else() -> None:
    rig = Rig()
    fetch = rig.fetch(b"x", b"y")
    rig.reply(rig.stream.sent[0], fetched_below=1, differing=[0], records=[b"X"], last=True)
    rig.link.down("broke")
    assert rig.answered == [fetch] and isinstance(fetch.error, AvailabilityError)
    assert (fetch.differing, fetch.records) == ((), ())


async def test_a_fetch_in_very_many_parts_is_put_together_without_recursion() -> None:
    rig = Rig()
    fetch = rig.fetch(*(b"%d" % at for at in range(2000)))
    for at in range(2000):
        last = at == 1999
        rig.reply(rig.stream.sent[-1], fetched=last, fetched_below=0 if last else 1, differing=[0], records=[b"%d" % at], last=True)
    assert rig.answered == [fetch] and list(fetch.records) == [b"%d" % at for at in range(2000)]


async def test_the_link_sends_a_large_store_in_parts_and_answers_it_once() -> None:
    rig = Rig()
    deadline_s = asyncio.get_running_loop().time() + 100
    records = [bytes(PART_BYTES_MAX // 2)] * 3
    chunk = StoreChunk("n2", [b"a", b"b", b"c"], records, sum(map(len, records)) + 3, deadline_s, rig.answered.append)
    rig.link.submit(chunk)
    at = 0
    while at < len(rig.stream.sent):
        assert rig.answered == []
        assert len(rig.stream.sent[at].store_keys) == 1, "two of them and their keys are more than a part"
        rig.reply(rig.stream.sent[at], stored=True, refused=[0] if rig.stream.sent[at].store_keys[0] == b"b" else [], last=True)
        at += 1
    assert at == 3 and rig.answered == [chunk] and list(chunk.refused) == [1] and chunk.error is None


async def test_a_record_that_fits_into_no_message_is_refused_and_the_link_lives_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts_module, "RECORD_BYTES_MAX", PART_BYTES_MAX)
    rig = Rig()
    deadline_s = asyncio.get_running_loop().time() + 100
    chunk = StoreChunk("n2", [b"a"], [bytes(PART_BYTES_MAX)], PART_BYTES_MAX + 1, deadline_s, rig.answered.append)
    rig.link.submit(chunk)
    assert rig.answered == [], "never within the call"
    await turns(1)
    assert rig.answered == [chunk] and isinstance(chunk.error, TooLarge) and rig.stream.sent == []
    rig.store(b"b")
    assert len(rig.stream.sent) == 1
