"""One peer's link over a stream of our own: what is matched with what, and what becomes of it when the stream breaks."""

from __future__ import annotations

import asyncio

import pytest

from kvproto.codec import encode_error
from kvproto.errors import AvailabilityError, DeadlineExceeded, Overloaded, StorageError, WrongCluster, WrongEpoch
from kvproto.large_messages import whole
from kvproto.link import LinkBounds
from kvproto.v1 import peer_pb2
from kvstore.transport.codec import Request
from kvstore.transport.peer_link import PeerLink
from kvstore.transport.peers import FetchChunk, StoreChunk
from tests.support.clocks import ManualClock
from tests.support.waiting import turns

Chunk = StoreChunk | FetchChunk


class Stream:
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[peer_pb2.PeerRequest] = []

    def send(self, message: Request) -> None:
        self.sent.append(peer_pb2.PeerRequest.FromString(whole(message).SerializeToString()))


class Rig:
    def __init__(self, bounds: LinkBounds | None = None) -> None:
        self.clock = ManualClock()
        self.link = PeerLink("n2", clock=self.clock, ring_of=lambda: (7, 99), bounds=bounds)
        self.stream = Stream()
        self.answered: list[Chunk] = []
        self.link.up(self.stream)

    def store(self, *keys: bytes, left_s: float = 100.0) -> StoreChunk:
        deadline_s = asyncio.get_running_loop().time() + left_s
        chunk = StoreChunk("n2", keys, [b"record of " + key for key in keys], 10 * len(keys), deadline_s, self.answered.append)
        self.link.submit(chunk)
        return chunk

    def fetch(self, *keys: bytes, left_s: float = 100.0) -> FetchChunk:
        deadline_s = asyncio.get_running_loop().time() + left_s
        chunk = FetchChunk("n2", keys, b"".join(key.rjust(8) for key in keys), 10, deadline_s, self.answered.append)
        self.link.submit(chunk)
        return chunk

    def reply(self, sent: peer_pb2.PeerRequest, **parts: object) -> None:
        self.link.receive(peer_pb2.PeerReply(batch_id=sent.batch_id, **parts))  # type: ignore[arg-type]


async def test_an_idle_link_sends_at_once_and_says_by_which_ring_and_clock() -> None:
    rig = Rig()
    rig.store(b"a", b"b", left_s=2.0)
    (sent,) = rig.stream.sent
    assert (list(sent.store_keys), list(sent.store_records)) == ([b"a", b"b"], [b"record of a", b"record of b"])
    assert (sent.ring_epoch, sent.ring_hash, sent.sent_ms) == (7, 99, rig.clock.time_ms)
    assert 1900 < sent.timeout_ms <= 2000


async def test_what_gathers_behind_a_batch_leaves_together_with_its_first_part() -> None:
    rig = Rig()
    rig.store(b"a")
    chunks = [rig.store(b"b"), rig.fetch(b"x"), rig.store(b"c", b"d"), rig.fetch(b"y", b"z")]
    assert len(rig.stream.sent) == 1 and rig.link.queued_count == 6
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    sent = rig.stream.sent[1]
    assert list(sent.store_keys) == [b"b", b"c", b"d"] and list(sent.fetch_keys) == [b"x", b"y", b"z"]
    assert sent.fetch_digests == b"".join(key.rjust(8) for key in (b"x", b"y", b"z"))
    assert not set(chunks) & set(rig.answered)


async def test_fetches_are_answered_with_the_first_part_and_stores_with_the_second() -> None:
    rig = Rig()
    rig.store(b"a")
    store, first, second = rig.store(b"s", b"t"), rig.fetch(b"x", b"y"), rig.fetch(b"z")
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    sent = rig.stream.sent[1]
    rig.answered.clear()
    rig.reply(sent, fetched=True, differing=[1, 2], records=[b"Y", b""], lost=[0])
    assert rig.answered == [first, second]
    assert (first.differing, first.records, first.lost) == ([1], [b"Y"], [0])
    assert (second.differing, second.records, second.lost) == ([0], [b""], [])
    rig.store(b"next")
    assert len(rig.stream.sent) == 3, "the first part has freed the slot"
    rig.reply(sent, stored=True, refused=[1], last=True)
    assert rig.answered[-1] is store and store.refused == [1] and store.error is None


async def test_refusals_find_their_chunks() -> None:
    rig = Rig()
    rig.store(b"busy")
    chunks = [rig.store(b"a", b"b"), rig.store(b"c"), rig.store(b"d", b"e", b"f")]
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    rig.reply(rig.stream.sent[1], stored=True, refused=[5, 1, 3], last=True)
    assert [list(chunk.refused) for chunk in chunks] == [[1], [], [0, 2]]


async def test_an_error_of_a_batch_is_an_error_of_each_chunk_that_is_still_open() -> None:
    rig = Rig()
    rig.store(b"busy")
    fetch, store = rig.fetch(b"x"), rig.store(b"a")
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    rig.reply(rig.stream.sent[1], fetched=True)
    rig.reply(rig.stream.sent[1], last=True, error=encode_error(StorageError("full", may_have_applied=True)))
    assert fetch.error is None
    assert isinstance(store.error, StorageError) and store.error.may_have_applied


async def test_replies_to_unknown_batches_are_ignored() -> None:
    rig = Rig()
    chunk = rig.store(b"a")
    (sent,) = rig.stream.sent
    rig.link.receive(peer_pb2.PeerReply(batch_id=sent.batch_id + 1, stored=True, last=True))
    assert rig.answered == []
    rig.reply(sent, stored=True, last=True)
    rig.reply(sent, stored=True, last=True)
    assert rig.answered == [chunk], "the second reply came too late"


async def test_when_the_stream_breaks_what_was_sent_is_unknown_and_what_was_queued_was_not_executed() -> None:
    rig = Rig()
    sent = rig.store(b"a")
    queued: list[Chunk] = [rig.store(b"b"), rig.fetch(b"c")]
    rig.link.down("broke")
    assert isinstance(sent.error, AvailabilityError) and sent.error.may_have_applied and sent.error.retryable
    for chunk in queued:
        assert isinstance(chunk.error, AvailabilityError) and not chunk.error.may_have_applied
    assert set(rig.answered) == {sent, *queued} and len(rig.answered) == 3
    assert len(rig.stream.sent) == 1 and rig.link.queued_count == 0 and not rig.link.is_up


async def test_a_link_that_is_down_answers_at_once_but_never_within_the_call() -> None:
    rig = Rig()
    rig.link.down("broke")
    chunk = rig.store(b"a")
    assert rig.answered == []
    await turns(1)
    assert rig.answered == [chunk] and isinstance(chunk.error, AvailabilityError) and chunk.error.subject == "n2"


async def test_a_link_that_came_back_is_as_new() -> None:
    rig = Rig()
    rig.store(b"a")
    rig.link.down("broke")
    rig.link.up(rig.stream)
    chunk = rig.store(b"b")
    assert len(rig.stream.sent) == 2
    assert rig.stream.sent[0].batch_id != rig.stream.sent[1].batch_id
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    assert chunk not in rig.answered, "an answer of the old stream is nobody's"
    rig.reply(rig.stream.sent[1], stored=True, last=True)
    assert rig.answered[-1] is chunk and chunk.error is None


async def test_a_peer_that_refuses_us_is_the_reason_that_is_given() -> None:
    rig = Rig()
    rig.link.down("broke")
    rig.link.refused = WrongCluster("not ours")
    chunk = rig.store(b"a")
    await turns(1)
    assert isinstance(chunk.error, WrongCluster)
    rig.link.up(rig.stream)
    assert rig.link.refused is None


async def test_what_waits_is_bounded() -> None:
    rig = Rig(LinkBounds(queue_count_max=2))
    rig.store(b"in flight")
    rig.store(b"a", b"b")
    chunk = rig.store(b"c")
    assert rig.answered == []
    await turns(1)
    assert rig.answered == [chunk] and isinstance(chunk.error, Overloaded) and rig.link.overloaded == 1


async def test_work_whose_deadline_passed_while_it_waited_is_not_sent() -> None:
    rig = Rig()
    rig.store(b"busy")
    late, good = rig.store(b"late", left_s=0.0), rig.store(b"good")
    await turns(2)
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    assert isinstance(late.error, DeadlineExceeded) and not late.error.may_have_applied
    assert list(rig.stream.sent[1].store_keys) == [b"good"] and good.error is None


async def test_lag_is_that_of_the_oldest_unanswered_batch() -> None:
    rig = Rig()
    assert rig.link.lag_s() == 0.0
    rig.store(b"a")
    loop = asyncio.get_running_loop()
    since = loop.time()
    while loop.time() - since < 0.002:
        await asyncio.sleep(0)
    assert rig.link.lag_s() >= 0.002
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    assert rig.link.lag_s() == 0.0


async def test_a_second_stream_while_one_is_open_is_a_mistake() -> None:
    rig = Rig()
    with pytest.raises(AssertionError):
        rig.link.up(Stream())


async def test_bug_what_was_planned_by_an_older_ring_left_under_the_newer_ones_name() -> None:
    """A chunk waits behind a batch, the ring changes, the chunk leaves under the new epoch: a replica that goes by the new ring
    takes it, and its answer is counted with those that were given by the old one."""
    ring = (7, 99)
    rig = Rig()
    rig.link = PeerLink("n2", clock=rig.clock, ring_of=lambda: ring)
    rig.link.up(rig.stream)
    rig.store(b"a")
    old, new, any_ring = rig.store(b"b"), rig.fetch(b"x"), rig.fetch(b"y")
    old.ring_hash, new.ring_hash, any_ring.ring_hash = 99, 100, 0
    ring = (8, 100)
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    await turns()
    sent = rig.stream.sent[1]
    assert (list(sent.store_keys), list(sent.fetch_keys), sent.ring_epoch) == ([], [b"x", b"y"], 8)
    assert isinstance(old.error, WrongEpoch) and not old.error.may_have_applied
    assert new.error is None


async def test_a_link_of_which_everything_was_outdated_goes_on() -> None:
    ring = (7, 99)
    rig = Rig()
    rig.link = PeerLink("n2", clock=rig.clock, ring_of=lambda: ring)
    rig.link.up(rig.stream)
    rig.store(b"a")
    old = rig.store(b"b")
    old.ring_hash = 99
    ring = (8, 100)
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    await turns()
    assert isinstance(old.error, WrongEpoch)
    rig.store(b"c")
    assert list(rig.stream.sent[1].store_keys) == [b"c"]
    rig.link.check()


async def test_bug_a_batch_that_a_peer_ended_without_answering_all_of_it_was_never_answered() -> None:
    """Whoever had asked waited for its deadline, and the link counted the batch as done."""
    rig = Rig()
    store = rig.store(b"a")
    fetch = rig.fetch(b"x")
    rig.reply(rig.stream.sent[0], last=True)
    assert isinstance(store.error, AvailabilityError) and store.error.may_have_applied
    rig.reply(rig.stream.sent[1], last=True)
    assert isinstance(fetch.error, AvailabilityError) and rig.answered == [store, fetch]


@pytest.mark.parametrize("said", [{"differing": [7], "records": [b"r"]}, {"differing": [0]}, {"lost": [1]}])
async def test_bug_positions_that_nobody_had_asked_about_were_handed_on(said: dict[str, list[object]]) -> None:
    """A lone chunk got them as they came; with several the records of one chunk were missing and it was never answered."""
    rig = Rig()
    fetch = rig.fetch(b"x")
    with pytest.raises(ValueError, match=r"position beyond|differences with"):
        rig.reply(rig.stream.sent[0], fetched=True, last=True, **said)
    assert rig.answered == [], "nothing of it counts"
    rig.link.down("sent a reply that does not add up")
    assert rig.answered == [fetch] and fetch.error is not None


@pytest.mark.parametrize("said", [{"fetched": True}, {"fetched_below": 1}])
async def test_bug_records_of_no_position_left_their_chunk_without_any_answer(said: dict[str, object]) -> None:
    rig = Rig()
    fetch = rig.fetch(b"x")
    with pytest.raises(ValueError, match="0 differences with 1 records"):
        rig.reply(rig.stream.sent[0], records=[b""], last=True, **said)
    rig.link.down("sent a reply that does not add up")
    assert rig.answered == [fetch] and fetch.error is not None


# --- another stream in the place of the one that is open


async def test_a_better_stream_takes_over_when_nothing_is_on_its_way() -> None:
    rig, better = Rig(), Stream()
    first = rig.store(b"a")
    replacing = asyncio.create_task(rig.link.replace(better, "frames", 10.0))
    await turns()
    second = rig.store(b"b")
    assert not replacing.done() and len(rig.stream.sent) == 1, "what comes meanwhile waits"
    rig.reply(rig.stream.sent[0], stored=True)
    await turns()
    assert not replacing.done(), "more of it is to come"
    rig.reply(rig.stream.sent[0], last=True)
    assert await replacing and rig.link.over == "frames"
    assert [list(sent.store_keys) for sent in better.sent] == [[b"b"]] and len(rig.stream.sent) == 1
    rig.reply(better.sent[0], stored=True, last=True)
    assert rig.answered == [first, second] and rig.link.is_up
    rig.link.check()


async def test_an_idle_link_goes_over_at_once() -> None:
    rig, better = Rig(), Stream()
    assert await rig.link.replace(better, "frames", 10.0)
    rig.store(b"a")
    assert len(better.sent) == 1 and not rig.stream.sent


async def test_a_peer_that_owes_an_answer_for_too_long_keeps_its_stream() -> None:
    rig, better = Rig(), Stream()
    first = rig.store(b"a")
    assert not await rig.link.replace(better, "frames", 0.01)
    second = rig.store(b"b")
    rig.reply(rig.stream.sent[0], stored=True, last=True)
    assert [list(sent.store_keys) for sent in rig.stream.sent] == [[b"a"], [b"b"]] and not better.sent
    rig.reply(rig.stream.sent[1], stored=True, last=True)
    assert rig.answered == [first, second]
    rig.link.check()


async def test_a_stream_that_breaks_while_it_is_to_be_replaced_is_not_replaced() -> None:
    rig, better = Rig(), Stream()
    first = rig.store(b"a")
    replacing = asyncio.create_task(rig.link.replace(better, "frames", 10.0))
    await turns()
    second = rig.store(b"b")
    rig.link.down("broke")
    assert not await replacing and not rig.link.is_up and not better.sent
    assert {first, second} == set(rig.answered) and first.error is not None and second.error is not None
    assert first.error.may_have_applied and not second.error.may_have_applied
    rig.link.check()
