"""Group commit: what waits leaves together, nobody is told before the disk was, and a failure is the last word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvproto.errors import Overloaded, StorageError
from kvproto.link import LinkBounds
from kvstore.storage.commit import Commit, Committer
from tests.support.engines import GatedEngine
from tests.support.waiting import turns, until

Told = list[StorageError | None]


class Rig:
    """A committer over a gated engine, and what its waiters and its owner were told."""

    def __init__(self, bounds: LinkBounds | None = None, *, sync: bool = True) -> None:
        self.engine = GatedEngine()
        self.failures: list[StorageError] = []
        self.told: dict[bytes, Told] = {}
        self.order: list[bytes] = []
        self.committer = Committer(self.engine, sync=sync, on_failure=self.failures.append, bounds=bounds)

    def submit(self, *keys: bytes, size_bytes: int = 10) -> None:
        name = b"+".join(keys)
        told = self.told[name] = []

        def done(error: StorageError | None) -> None:
            told.append(error)
            self.order.append(name)

        self.committer.submit(Commit([(key, b"v") for key in keys], size_bytes, done))

    async def close(self) -> None:
        self.engine.release()
        await self.committer.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


async def test_whatever_waits_while_a_batch_is_written_leaves_as_one(rig: Rig) -> None:
    rig.engine.hold()
    rig.submit(b"first")
    await until(lambda: rig.engine.batches)
    for at in range(100):
        rig.submit(b"%d" % at)
    assert rig.committer.queued_count == 100
    rig.engine.release()
    await until(lambda: len(rig.order) == 101)
    assert [len(batch) for batch in rig.engine.batches] == [1, 100]
    assert rig.order == [b"first", *(b"%d" % at for at in range(100))]
    assert (rig.committer.commits, rig.committer.records) == (2, 101)


async def test_nobody_is_told_before_the_write_has_returned(rig: Rig) -> None:
    rig.engine.hold()
    rig.submit(b"a", b"b")
    await until(lambda: rig.engine.batches)
    await turns(20)
    assert rig.told[b"a+b"] == [] and rig.engine.durable == {}
    rig.engine.release()
    await until(lambda: rig.told[b"a+b"])
    assert rig.told[b"a+b"] == [None] and rig.engine.durable == {b"a": b"v", b"b": b"v"}


@pytest.mark.parametrize("sync", [True, False])
async def test_batches_are_synced_as_the_owner_said(sync: bool) -> None:
    rig = Rig(sync=sync)
    rig.submit(b"a")
    await until(lambda: rig.order)
    assert rig.engine.syncs == [sync]
    await rig.close()


async def test_an_empty_commit_waits_for_everything_before_it(rig: Rig) -> None:
    rig.engine.hold()
    rig.submit(b"a")
    rig.submit()
    await turns(20)
    assert rig.order == []
    rig.engine.release()
    await until(lambda: len(rig.order) == 2)
    assert rig.order == [b"a", b""]


async def test_after_a_failed_write_everybody_hears_of_it_and_nothing_is_written_again(rig: Rig) -> None:
    rig.engine.hold()
    rig.engine.fail_next(StorageError("no space left on device"))
    rig.submit(b"a")
    await until(lambda: rig.engine.batches)
    rig.submit(b"b")
    rig.submit(b"c")
    rig.engine.release()
    await until(lambda: len(rig.order) == 3)
    rig.submit(b"d")
    for told in rig.told.values():
        (error,) = told
        assert error is not None and error.may_have_applied and "no space" in error.message
    assert len(rig.failures) == 1 and rig.committer.failure is rig.failures[0]
    with pytest.raises(StorageError, match="no space"):
        rig.committer.admit(1, 1)
    await turns(20)
    assert len(rig.engine.batches) == 1 and rig.engine.durable == {}


async def test_bug_a_full_batch_queued_behind_a_failing_one_was_written_after_it() -> None:
    """1. A batch is being written; a full one passes beside the slot and waits in the thread's queue. 2. The first write fails.
    3. The thread took up the second before the loop had noted the failure, and wrote to a disk that had failed (rule 4)."""
    rig = Rig(LinkBounds(batch_count_max=2))
    rig.engine.hold()
    rig.engine.fail_next()
    rig.submit(b"a")
    await until(lambda: rig.engine.batches)
    rig.submit(b"b", b"c")
    rig.submit(b"d", b"e")
    assert rig.committer.queued_count == 0, "both passed beside the slot"
    rig.engine.release()
    await until(lambda: len(rig.order) == 3)
    assert all(told[0] is not None for told in rig.told.values())
    assert len(rig.engine.batches) == 1 and len(rig.failures) == 1
    await rig.close()


async def test_an_engine_that_raises_something_else_is_a_failed_disk_too(rig: Rig) -> None:
    rig.engine.fail_next(RuntimeError("who wrote this"))
    rig.submit(b"a")
    await until(lambda: rig.order)
    (error,) = rig.told[b"a"]
    assert error is not None and error.may_have_applied and "who wrote this" in error.message
    assert len(rig.failures) == 1


async def test_closing_waits_for_everything_that_was_accepted() -> None:
    rig = Rig()
    rig.engine.hold()
    for key in (b"a", b"b", b"c"):
        rig.submit(key)
    closing = asyncio.get_running_loop().create_task(rig.committer.close())
    await turns(20)
    assert not closing.done() and rig.order == []
    rig.engine.release()
    await closing
    assert rig.order == [b"a", b"b", b"c"] and set(rig.engine.durable) == {b"a", b"b", b"c"}
    await rig.committer.close()  # once more is no harm


async def test_closing_after_a_failure_does_not_wait_for_ever(rig: Rig) -> None:
    rig.engine.fail_next()
    rig.submit(b"a")
    await until(lambda: rig.order)
    await asyncio.wait_for(rig.committer.close(), 5)


async def test_past_its_bounds_nothing_more_is_admitted() -> None:
    rig = Rig(LinkBounds(queue_count_max=3, queue_bytes_max=100))
    rig.engine.hold()
    rig.submit(b"in flight")
    await until(lambda: rig.engine.batches)
    rig.committer.admit(1000, 1000)  # nothing waits: it is taken, however large
    rig.submit(b"a", b"b")
    rig.committer.admit(1, 90)
    for count, size_bytes in ((2, 1), (1, 91)):
        with pytest.raises(Overloaded) as caught:
            rig.committer.admit(count, size_bytes)
        assert caught.value.retry_after_s > 0 and not caught.value.may_have_applied
        assert (caught.value.limit, caught.value.actual) == (3, 2)
    assert rig.committer.queued_count == 2
    await rig.close()


def test_commits_have_no_deadline() -> None:
    with pytest.raises(AssertionError):
        Commit([], 0, lambda error: None).expire()
