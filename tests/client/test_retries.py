"""What is tried again, how often, and under which identity."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from kvclient import AsyncClient
from kvclient.errors import BatchError, KvError, NodeUnreachable
from kvclient.retry import ANSWERED_ATTEMPTS_MAX, BACKOFF_BASE_S, BACKOFF_MAX_S, Failure, RetryBudget, backoff_s, decide_delay_s
from kvproto.errors import (
    AvailabilityError,
    BadRequest,
    NotOwner,
    Overloaded,
    QuorumUnreachable,
    QuotaExceeded,
    RecordLost,
    RetryWindowPassed,
    ShuttingDown,
    StorageError,
    UnknownNamespace,
    WrongEpoch,
)
from tests.client.fake_server import SERVER_TIME_MS, FakeCluster
from tests.client.scripted import World
from tests.client.waiting import until

WINDOW_MS = 10_000


def decide(
    error: KvError, *, budget: RetryBudget | None = None, window_ms: int = WINDOW_MS, seed: int = 1, **known: float
) -> float | None:
    facts = {"attempt": 0, "now_s": 0.0, "deadline_s": 5.0, "maybe_applied": False, "id_age_ms": 0} | known
    failure = Failure(error=error, **facts)  # type: ignore[arg-type]
    return decide_delay_s(failure, budget or RetryBudget(), Random(seed), retry_window_ms=window_ms)


@pytest.mark.parametrize(
    "error", [BadRequest("no"), UnknownNamespace("no"), RetryWindowPassed("old"), StorageError("disk"), KvError("bug")]
)
def test_what_cannot_succeed_later_is_not_retried(error: KvError) -> None:
    assert decide(error) is None


@pytest.mark.parametrize("error", [QuorumUnreachable("few"), Overloaded("busy"), AvailabilityError("not now"), RecordLost("bits")])
def test_what_may_succeed_later_is_retried_after_a_pause(error: KvError) -> None:
    delay_s = decide(error)
    assert delay_s is not None and 0 < delay_s <= 0.1


@pytest.mark.parametrize("error", [NodeUnreachable("gone"), ShuttingDown("bye")])
def test_another_node_is_tried_at_once_and_later_ones_after_a_pause(error: KvError) -> None:
    assert decide(error) == 0.0
    again_s = decide(error, attempt=1)
    assert again_s is not None and again_s > 0


def test_overload_waits_as_long_as_it_was_told_and_a_little_longer_at_random() -> None:
    """Whoever was refused together must not come back together."""
    waits_s = {decide(Overloaded("busy", retry_after_s=0.7), seed=seed) for seed in range(20)}
    assert len(waits_s) > 10 and all(wait_s is not None and 0.7 <= wait_s <= 1.05 for wait_s in waits_s)
    assert decide(Overloaded("busy", retry_after_s=7.0)) is None, "the deadline comes first"


def test_another_owner_is_asked_soon_when_a_node_is_overloaded_and_once_only() -> None:
    busy, over = Overloaded("busy", retry_after_s=0.7), QuotaExceeded("used up", retry_after_s=0.7)
    soon_s, believed_s, same_everywhere_s = (
        decide(busy, elsewhere=True),
        decide(busy, elsewhere=True, attempt=1),
        decide(over, elsewhere=True),
    )
    assert soon_s is not None and soon_s <= 0.02
    assert believed_s is not None and believed_s >= 0.7
    assert same_everywhere_s is not None and same_everywhere_s >= 0.7


def test_answered_errors_are_retried_a_few_times_only() -> None:
    assert decide(QuorumUnreachable("few"), attempt=ANSWERED_ATTEMPTS_MAX - 2) is not None
    assert decide(QuorumUnreachable("few"), attempt=ANSWERED_ATTEMPTS_MAX - 1) is None
    assert decide(WrongEpoch("old ring"), attempt=3) is not None
    assert decide(NotOwner("not mine"), attempt=8) is None


def test_the_outcome_of_a_write_that_may_have_been_applied_is_worth_more_than_a_quick_answer() -> None:
    """A node that stood still may have applied it, and one that sees no other has answered three times that it cannot."""
    refused, last = QuorumUnreachable("nothing was begun"), ANSWERED_ATTEMPTS_MAX - 1
    assert decide(refused, attempt=last) is None
    assert decide(refused, attempt=last, maybe_applied=True) is not None
    assert decide(refused, attempt=last, maybe_applied=True, now_s=5.999) is None, "the deadline has the last word"


def test_a_write_of_unknown_outcome_is_not_retried_past_the_retry_window() -> None:
    lost = NodeUnreachable("broke", may_have_applied=True)
    assert decide(lost, maybe_applied=True, id_age_ms=9_000) is not None
    assert decide(lost, maybe_applied=True, id_age_ms=9_600) is None
    assert decide(lost, maybe_applied=False, id_age_ms=60_000) is not None, "certainly not applied: it may get a new id"


def test_retries_are_a_tenth_of_the_traffic() -> None:
    budget = RetryBudget(share=0.1, tokens_max=5.0)
    assert [decide(Overloaded("busy"), budget=budget) is not None for _ in range(7)] == [True] * 5 + [False] * 2
    budget.pay_in(9)
    assert decide(Overloaded("busy"), budget=budget) is None
    budget.pay_in(2)
    assert decide(Overloaded("busy"), budget=budget) is not None
    assert decide(NodeUnreachable("gone"), budget=budget) == 0.0, "failing over is not a retry of answered work"


def test_backoff_doubles_within_bounds_and_is_spread() -> None:
    rng = Random(7)
    for attempt in range(40):
        full_s = min(BACKOFF_MAX_S, 0.02 * 2.0 ** min(attempt, 16))
        assert all(full_s / 2 <= backoff_s(attempt, rng) <= full_s for _ in range(20))
    assert len({backoff_s(3, rng) for _ in range(20)}) == 20


async def test_overload_is_retried_through_another_node_with_the_same_id(cluster: FakeCluster, client: AsyncClient) -> None:
    first, second = cluster.owners(b"k")[:2]
    first.errors = [Overloaded("busy", retry_after_s=0.01)]
    await client.put("k", b"v")
    assert first.groups[0].request_ids == second.groups[0].request_ids
    assert (first.groups[0].attempt, second.groups[0].attempt) == (0, 1)


async def test_a_user_error_is_raised_at_once(cluster: FakeCluster, client: AsyncClient) -> None:
    cluster.first_owner(b"k").errors = [UnknownNamespace("no such", subject="default")]
    with pytest.raises(UnknownNamespace) as raised:
        await client.get("k")
    assert raised.value.subject == "default" and cluster.batches == 1


async def test_an_error_keeps_its_numbers_and_each_caller_gets_one_of_its_own(cluster: FakeCluster, client: AsyncClient) -> None:
    for node in cluster.nodes:
        node.errors = [QuorumUnreachable("too few", needed=2, received=1, contacted=3)] * 20
    keys = ["k"] * 5
    errors = await asyncio.gather(*(client.get(key) for key in keys), return_exceptions=True)
    assert len({id(error) for error in errors}) == 5
    assert all(
        isinstance(error, QuorumUnreachable) and (error.needed, error.received, error.contacted) == (2, 1, 3) for error in errors
    )


async def test_once_unknown_an_outcome_stays_unknown(cluster: FakeCluster, client: AsyncClient) -> None:
    """1. The first attempt may have been applied. 2. The retry is refused, certainly not applied. 3. The first still may be."""
    first, second, third = cluster.owners(b"k")
    first.errors = [QuorumUnreachable("too few", may_have_applied=True)] * 9
    second.errors = [UnknownNamespace("dropped meanwhile")] * 9
    third.errors = [UnknownNamespace("dropped meanwhile")] * 9
    with pytest.raises(UnknownNamespace) as raised:
        await client.put("k", b"v")
    assert raised.value.may_have_applied


async def test_a_read_is_never_unknown(cluster: FakeCluster, client: AsyncClient) -> None:
    for node in cluster.nodes:
        node.errors = [QuorumUnreachable("too few", may_have_applied=True)] * 9
    with pytest.raises(QuorumUnreachable) as raised:
        await client.get("k")
    assert not raised.value.may_have_applied


@pytest.mark.parametrize("refusal", [WrongEpoch("ring 2 here"), NotOwner("not mine")])
async def test_a_refusal_by_a_newer_ring_fetches_it_and_goes_to_the_new_owner(
    cluster: FakeCluster, client: AsyncClient, refusal: KvError
) -> None:
    old = cluster.first_owner(b"k")
    old.errors = [refusal]
    cluster.epoch = 2
    cluster.members = [node for node in cluster.nodes if node is not old]
    await client.put("k", b"v")
    assert client.info.ring_epoch == 2
    assert {link.node_id for link in client.membership.all_links()} == {node.node_id for node in cluster.members}
    assert len(old.batches) == 1 and cluster.store.executions == 1
    await client.get("k")
    assert cluster.first_owner(b"k").groups[-1].keys == [b"k"]


async def test_a_reply_of_a_newer_ring_fetches_it_in_the_background(cluster: FakeCluster, client: AsyncClient) -> None:
    cluster.epoch = 2
    for node in cluster.nodes:
        node.reply_epoch = 2
    await client.put("k", b"v")
    await until(lambda: client.info.ring_epoch == 2)


async def test_an_older_ring_at_a_node_is_not_fetched(cluster: FakeCluster) -> None:
    cluster.epoch = 3
    # One seed: of several, all are asked at once, and some may answer after the client has gone on.
    async with AsyncClient(cluster.seeds.split(",")[0]) as client:
        asked = sum(node.describes for node in cluster.nodes)
        await client.put("k", b"v")  # answered with epoch 1
        await client.get("k")
        assert sum(node.describes for node in cluster.nodes) == asked and client.info.ring_epoch == 3


async def test_request_ids_carry_the_cluster_s_time_and_are_never_repeated(cluster: FakeCluster, client: AsyncClient) -> None:
    await asyncio.gather(*(client.put(f"k{number}", b"v") for number in range(300)))
    await client.put_many({f"m{number}": b"v" for number in range(300)})
    joined = b"".join(group.request_ids for node in cluster.nodes for group in node.groups)
    ids = [joined[at : at + 16] for at in range(0, len(joined), 16)]
    assert len(set(ids)) == 600
    assert len({one[6:12] for one in ids}) == 1, "one client, one tag"
    assert all(0 <= int.from_bytes(one[:6], "big") - SERVER_TIME_MS < 60_000 for one in ids)


def test_an_error_that_the_budget_does_not_let_be_retried_is_told_when_the_retry_would_have_been() -> None:
    """Callers that try again by themselves, in a loop, were refused thousands of times a second."""
    empty = RetryBudget(tokens_max=0.0)
    for attempt, least_s, most_s in ((0, BACKOFF_BASE_S / 2, BACKOFF_BASE_S), (1, BACKOFF_BASE_S, 2 * BACKOFF_BASE_S)):
        refused = Failure(QuorumUnreachable("too few", needed=2, received=1), attempt, 0.0, 10.0)
        assert decide_delay_s(refused, empty, Random(attempt), retry_window_ms=WINDOW_MS) is None
        assert least_s <= refused.pause_s <= most_s
    for error, now_s in ((Overloaded("busy"), 0.0), (BadRequest("no"), 0.0), (QuorumUnreachable("too few", needed=2), 9.999)):
        told_at_once = Failure(error, 0, now_s, 10.0)
        assert decide_delay_s(told_at_once, empty, Random(1), retry_window_ms=WINDOW_MS) is None
        assert told_at_once.pause_s == 0.0


async def test_whoever_is_refused_again_and_again_waits_a_little_but_not_for_a_client_that_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()

    async def refuse(task: asyncio.Task[object]) -> None:
        await until(lambda: any(node.open for node in world.transports.values()))
        for node in world.transports.values():
            while node.open:
                node.fail(QuorumUnreachable("too few", needed=2, received=1))
        assert not task.done()

    def start(call: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        return asyncio.get_running_loop().create_task(call)

    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial) as client:
        await client.get("k")
        assert client.dispatcher is not None
        client.dispatcher._budget = RetryBudget(tokens_max=0.0)
        for node in world.transports.values():
            node.on_its_own = False
        loop = asyncio.get_running_loop()
        for call, error in ((client.put("k", b"v"), QuorumUnreachable), (client.put_many({"a": b"1"}), BatchError)):
            task = start(call)
            began_s = loop.time()
            await refuse(task)
            with pytest.raises(error):
                await task
            assert loop.time() - began_s >= 0.9 * BACKOFF_BASE_S / 2
        monkeypatch.setattr("kvclient.retry.BACKOFF_BASE_S", 10.0)
        monkeypatch.setattr("kvclient.retry.BACKOFF_MAX_S", 10.0)
        last = start(client.put("k", b"v", timeout_s=60))
        await refuse(last)
        await asyncio.sleep(0)
        assert not last.done()
    with pytest.raises(QuorumUnreachable):
        await last
