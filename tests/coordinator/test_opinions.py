"""What the coordinators make of the failure detector's opinions: whom they avoid, and that a wrong opinion costs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from kvstore.cluster.view import OwnerSet
from kvstore.config import ClusterConfig, NodeLimits
from kvstore.coordinator.seats import plan_seats
from tests.support.cluster import ALL, LONG, QUORUM, Cluster, Told
from tests.support.waiting import until

FIVE = ClusterConfig(partitions=16)
HOMES = OwnerSet(("a", "b", "c"), includes_me=True, stand_ins=("d", "e"))


@pytest.fixture
async def three() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


@pytest.fixture
async def five() -> AsyncIterator[Cluster]:
    async with Cluster(5, settings=FIVE) as running:
        yield running


def think(cluster: Cluster, *, dead: Iterable[str] = (), slow: Iterable[str] = ()) -> None:
    """Gives every node these opinions."""
    for member in cluster.members.values():
        member.local.opinions.dead, member.local.opinions.slow = frozenset(dead), frozenset(slow)


def key_at(cluster: Cluster, node: str) -> tuple[bytes, list[str], list[str]]:
    key = next(key for key in (b"key-%d" % at for at in range(99)) if cluster.owners(key)[0] == node)
    homes = cluster.owners(key)
    return key, homes, [other for other in cluster.ids if other not in homes]


def achieved(told: Told) -> tuple[set[str], bool, bool]:
    """Who answered, hinted, degraded."""
    assert told.error is None and told.receipt is not None, told
    return set(told.receipt.acknowledged), told.receipt.hinted, told.receipt.degraded


def test_whoever_is_called_dead_is_replaced_while_there_is_somebody_else() -> None:
    everybody = {"a", "b", "c", "d", "e"}.__contains__
    assert plan_seats(HOMES, "a", everybody, sloppy=True, dead={"b"}).holders == {"a": "a", "b": "d", "c": "c"}
    assert plan_seats(HOMES, "a", everybody, sloppy=True, dead={"b", "d", "e"}).holders == {"a": "a", "b": "b", "c": "c"}
    assert plan_seats(HOMES, "a", everybody, sloppy=False, dead={"b", "c"}).holders == {"a": "a", "b": "b", "c": "c"}


def test_stand_ins_go_first_to_the_seats_of_those_that_cannot_be_asked_at_all() -> None:
    seats = plan_seats(HOMES, "a", {"a", "b", "d"}.__contains__, sloppy=True, dead={"b"})
    assert seats.holders == {"a": "a", "b": "b", "c": "d"} and not seats.absent


def test_a_home_replica_that_was_passed_over_is_asked_once_the_stand_ins_have_failed() -> None:
    seats = plan_seats(HOMES, "a", {"a", "b", "c", "d"}.__contains__, sloppy=True, dead={"b"})
    assert seats.holders["b"] == "d"
    assert seats.fill("b") == "b" and seats.home_of("b") == "b"
    assert seats.fill("b") == "" and seats.absent == ["b"]


async def test_a_preset_does_not_wait_for_a_home_replica_that_is_called_dead(five: Cluster) -> None:
    """Its link is up and it answers nothing: without the opinion the write would wait for it."""
    key, homes, others = key_at(five, "n1")
    for home in homes[1:]:
        five.stall(home)
    think(five, dead=homes[1:])
    who, hinted, degraded = achieved(await five.put("n1", key, b"v", **LONG))
    assert who <= {"n1", *others} and len(who) == 2 and hinted and not degraded
    assert (await five.get("n1", key, **LONG)).value == b"v"


async def test_an_explicit_level_asks_the_dead_where_the_others_do_not_suffice(three: Cluster) -> None:
    """The opinion is wrong: everybody is there. Nothing may be refused for it."""
    think(three, dead=three.ids)
    assert achieved(await three.put("n1", b"k", b"v", **ALL))[0] == set(three.ids)
    assert (await three.get("n2", b"k", **ALL)).value == b"v"


async def test_a_preset_loses_no_copies_to_a_wrong_opinion(three: Cluster) -> None:
    """There are no stand-ins in a cluster of three: who is called dead is asked all the same."""
    think(three, dead=three.ids)
    who, hinted, degraded = achieved(await three.put("n1", b"k", b"v", **LONG))
    assert len(who) == 2 and not hinted and not degraded
    await until(lambda: all(three.held(node, b"k") for node in three.ids))


async def test_a_write_that_stand_ins_decline_goes_to_the_home_replica_that_was_passed_over() -> None:
    async with Cluster(4, settings=FIVE, limits=NodeLimits(hints_bytes_max=0)) as four:
        key, homes, _ = key_at(four, "n1")
        think(four, dead=homes[1:])
        four.stall(homes[2])
        assert achieved(await four.put("n1", key, b"v", **LONG)) == ({"n1", homes[1]}, False, False)


async def test_a_quorum_read_asks_neither_the_dead_nor_the_slow_while_another_answers(three: Cluster) -> None:
    await three.put("n1", b"k", b"v", **ALL)
    for avoided in ({"dead": ["n3"]}, {"slow": ["n3"]}):
        think(three, **avoided)
        three.stall("n3")
        before = three.wire("n1", "n3").messages
        for _ in range(4):
            assert (await three.get("n1", b"k", **QUORUM)).value == b"v"
        assert three.wire("n1", "n3").messages == before
        three.resume("n3")


async def test_a_node_without_the_key_forwards_to_a_home_replica_that_is_well(five: Cluster) -> None:
    key, homes, others = key_at(five, "n1")
    five.stall(homes[0])
    think(five, dead=homes[:1])
    told = await five.put(others[0], key, b"v", **QUORUM)
    assert told.error is None and told.receipt is not None and told.receipt.coordinator in homes[1:]
