"""Conditional writes on their way: what is sent, and what becomes of a condition that failed, also after attempts whose outcome
is not known. The nodes are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from kvclient import AsyncClient, ConditionFailed, Entry, KvError, NodeUnreachable
from kvclient.conditions import bounds, check_mode, comparison, condition_of, has_consensus
from kvclient.dispatcher import _final
from kvclient.errors import BadRequest, WrongMode, copy_error
from kvclient.locks import fencing_token
from kvclient.retry import Failure
from kvclient.testing import FakeStore
from kvproto import errors as wire
from kvproto.columns import ClusterInfo, GroupReply, Kind, OperationGroup, Receipt
from kvproto.conditions import ABSENT, between, value_is, version_is
from kvproto.errors import DeadlineExceeded
from tests.client.scripted import Scripted, World
from tests.client.waiting import until

VERSION = bytes(range(20))


class Consensus(World):
    """A world whose default namespace is linearizable, and whose nodes answer when the test says so."""

    def dial(self, address: str, ring: object) -> Scripted:
        made = self.transports.setdefault(address, Linearizable(address, self))
        made.on_its_own = False
        return made

    @property
    def asked(self) -> Scripted:
        return next(node for node in self.transports.values() if node.open)

    async def until_asked(self) -> OperationGroup:
        await until(lambda: any(node.open for node in self.transports.values()))
        ((groups, _), *_) = self.asked.open
        return groups[0]

    def tell(self, *replies: GroupReply) -> None:
        _, on_reply = self.asked.open.pop(0)
        on_reply(list(replies), True)


class Linearizable(Scripted):
    async def describe(self) -> ClusterInfo:
        info = await super().describe()
        return replace(info, namespaces=tuple(replace(space, mode="linearizable", preset="pc-ec") for space in info.namespaces))


@pytest.fixture
def world() -> Consensus:
    return Consensus()


@pytest.fixture
async def client(world: Consensus) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial) as client:
        yield client


def failed(*positions: int, held: bool = True, index: int = 0) -> GroupReply:
    count = len(positions) or 1
    return GroupReply(
        index,
        positions=positions or None,
        counts=() if held else [0] * count,
        values=[b"there"] * count if held else (),
        versions=VERSION * count if held else b"",
        error=wire.ConditionFailed("not so", trace_id="ab"),
    )


async def test_a_condition_goes_with_its_write_and_ordinary_ones_stay_without(world: Consensus, client: AsyncClient) -> None:
    """Writes of one turn travel in one batch: each kind of them in a group of its own."""
    calls = [
        asyncio.ensure_future(call)
        for call in (
            client.put("k", b"1", if_absent=True),
            client.put("k", b"2", if_version=VERSION.hex()),
            client.compare_and_set("k", b"old", b"3", ttl_s=5),
            client.delete("k", if_version=VERSION.hex()),
            client.touch("k", 7, if_version=VERSION.hex()),
            client.increment("k", 2, min=0, max=9),
            client.put("k", b"4"),
        )
    ]
    await world.until_asked()
    ((groups, _),) = world.asked.open
    told = [(group.kind, list(group.conditions), list(group.values), list(group.ttls_ms)) for group in groups]
    version = version_is(VERSION)
    assert told == [
        (Kind.PUT, [ABSENT, version], [b"1", b"2"], []),
        (Kind.PUT, [value_is(b"old")], [b"3"], [5000]),
        (Kind.DELETE, [version], [], []),
        (Kind.TOUCH, [version], [], [7000]),
        (Kind.INCREMENT, [between(0, 9)], [], []),
        (Kind.PUT, [], [b"4"], []),
    ]
    assert list(groups[4].amounts) == [2] and all(len(group.request_ids) == 16 * len(group.keys) for group in groups)
    world.tell(*[GroupReply(index, error=wire.KvError("enough")) for index in range(len(groups))])
    assert all(isinstance(one, KvError) for one in await asyncio.gather(*calls, return_exceptions=True))


async def test_each_of_several_gets_an_error_of_its_own_with_what_is_there(world: Consensus, client: AsyncClient) -> None:
    calls = [asyncio.ensure_future(client.put("k", b"%d" % number, if_absent=True)) for number in range(3)]
    await world.until_asked()
    won = GroupReply(0, positions=[1], versions=bytes(20))
    world.tell(won, failed(0, held=False), failed(2))
    first, second, third = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, ConditionFailed) and not first.entry.found and first.entry.key == b"k"
    assert isinstance(third, ConditionFailed) and third.entry.value == b"there" and third.entry.version == VERSION.hex()
    assert first is not third and first.trace_id == "ab" and not isinstance(second, BaseException)


async def test_a_failed_condition_is_not_tried_again(world: Consensus, client: AsyncClient) -> None:
    call = asyncio.ensure_future(client.put("k", b"v", if_absent=True))
    await world.until_asked()
    world.tell(failed())
    with pytest.raises(ConditionFailed):
        await call
    assert client.stats.retries == 0


async def test_a_failed_condition_is_certain_also_after_an_attempt_that_is_not(world: Consensus, client: AsyncClient) -> None:
    """The second node knows the write by its id: had the first attempt been applied, it would say what came of it."""
    call = asyncio.ensure_future(client.put("k", b"v", if_absent=True))
    first = await world.until_asked()
    world.asked.fail(NodeUnreachable("gone", may_have_applied=True))
    second = await world.until_asked()
    assert second.request_ids == first.request_ids and list(second.conditions) == [ABSENT] and second.attempt == 1
    world.tell(failed())
    with pytest.raises(ConditionFailed) as raised:
        await call
    assert not raised.value.may_have_applied and raised.value.entry.value == b"there"


async def test_a_write_that_may_have_been_applied_stays_unknown(world: Consensus, client: AsyncClient) -> None:
    call = asyncio.ensure_future(client.put("k", b"v", if_absent=True))
    await world.until_asked()
    world.asked.fail(DeadlineExceeded("no majority in time", retryable=False, may_have_applied=True))
    with pytest.raises(DeadlineExceeded) as raised:
        await call
    assert raised.value.may_have_applied


async def test_an_increment_may_be_asked_of_anybody_where_there_is_consensus(world: Consensus, client: AsyncClient) -> None:
    """Its id is in the register; in an eventual namespace only the node that counted knows it (safety rule 8)."""
    call = asyncio.ensure_future(client.increment("k", 3))
    await world.until_asked()
    here = world.asked.address
    world.asked.fail(DeadlineExceeded("perhaps", may_have_applied=True))
    again = await world.until_asked()
    assert world.asked.address != here and again.attempt == 1
    world.tell(GroupReply(0, values=[b"3"], versions=VERSION))
    assert (await call).value == 3


async def test_a_reply_whose_columns_do_not_fit_is_no_condition_that_failed(world: Consensus, client: AsyncClient) -> None:
    call = asyncio.ensure_future(client.put("k", b"v", if_absent=True, timeout_s=0.3))
    await world.until_asked()
    world.tell(GroupReply(0, counts=[2], values=[b"one"], versions=VERSION, error=wire.ConditionFailed("?")))
    with pytest.raises(KvError) as raised:
        await call
    assert not isinstance(raised.value, wire.ConditionFailed)


def test_conditions_are_read_from_what_callers_give() -> None:
    assert (condition_of(), condition_of(if_absent=True)) == (b"", ABSENT)
    assert condition_of(if_version=VERSION.hex()) == version_is(VERSION) == condition_of(if_version=VERSION.hex().upper())
    assert (comparison(None), comparison(b"")) == (ABSENT, value_is(b""))
    assert bounds(None, None) == b"" and bounds(0, None) == between(0, 2**63 - 1) and bounds(None, -1) == between(-(2**63), -1)
    for low, high in ((2, 1), (1.5, None), (True, None), (None, 2**63), (-(2**63) - 1, None)):
        with pytest.raises(BadRequest):
            bounds(low, high)  # type: ignore[arg-type]


def test_only_what_is_known_to_be_eventual_is_refused_before_it_is_sent() -> None:
    info = FakeStore(namespaces={"orders": "pc-el"}).describe("n1")
    with pytest.raises(WrongMode, match="namespace 'orders' is one"):
        check_mode(info, "default", "a condition")
    for namespace in ("orders", "made since"):
        check_mode(info, namespace, "a condition")
    assert [has_consensus(info, name) for name in ("default", "orders", "made since")] == [False, True, False]


def test_a_copy_of_a_failed_condition_keeps_what_is_there() -> None:
    entry = Entry(b"k", b"v", VERSION, 0, b"", 0, Receipt())
    copy = copy_error(ConditionFailed("no").with_entry(entry), may_have_applied=True)
    assert isinstance(copy, ConditionFailed) and copy.entry is entry and not copy.may_have_applied


def test_a_fencing_token_grows_as_versions_do() -> None:
    def version(ballot: int, sequence: int) -> str:
        return (ballot.to_bytes(8, "big") + sequence.to_bytes(8, "big") + b"node").hex()

    ordered = [version(1, 1), version(1, 2), version(1, 2**40 - 1), version(2, 0), version(2, 7), version(9, 1)]
    assert ordered == sorted(ordered)
    tokens = [fencing_token(one) for one in ordered]
    assert tokens == sorted(set(tokens)) and tokens[0] == 2**40 + 1


def test_bug_a_condition_that_failed_at_the_deadline_was_told_as_unknown() -> None:
    failed = ConditionFailed("the condition does not hold")
    assert _final(Failure(failed, 0, now_s=5.0, deadline_s=5.0, maybe_applied=True)) is failed
    late = _final(Failure(wire.QuorumUnreachable("too few"), 0, now_s=5.0, deadline_s=5.0, maybe_applied=True))
    assert isinstance(late, DeadlineExceeded) and late.may_have_applied
