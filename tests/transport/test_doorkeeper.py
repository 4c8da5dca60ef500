"""Whom a node works with: each refusal by itself, and what is remembered of those who are admitted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvproto.codec import decode_error, encode_error
from kvproto.errors import Code, DuplicateNode, KvError, SettingsMismatch, WrongCluster
from kvstore.config import ClusterConfig
from kvstore.transport.hello import Doorkeeper, Greeting, Identity, remembers_more

CLUSTER = ClusterConfig(id="ours", partitions=16)


class Neighbourhood:
    """Which process lives at each node's configured address."""

    def __init__(self) -> None:
        self.living: dict[str, int] = {}
        self.asked: list[str] = []

    async def incarnation_of(self, node: str) -> int | None:
        self.asked.append(node)
        return self.living.get(node)


@pytest.fixture
def street() -> Neighbourhood:
    return Neighbourhood()


@pytest.fixture
def door(street: Neighbourhood) -> Doorkeeper:
    return Doorkeeper(Identity("n1", 11, CLUSTER, "127.0.0.1:1", ""), frozenset(("n1", "n2", "n3")), street.incarnation_of)


def greeting(**changes: object) -> Greeting:
    base = Greeting("ours", "n2", 22, CLUSTER.canonical_json(), "127.0.0.1:2", "n1", b"", 0)
    return replace(base, **changes)  # type: ignore[arg-type]


async def refusal(door: Doorkeeper, **changes: object) -> KvError:
    error = await door.admit(greeting(**changes))
    assert error is not None
    assert isinstance(decode_error(encode_error(error)), type(error)), "the wire keeps its type"
    assert not error.retryable
    assert door.incarnations == {} and door.leases == {}, "nothing is remembered of who is refused"
    return error


async def test_a_member_with_equal_settings_is_admitted_and_its_lease_remembered(door: Doorkeeper) -> None:
    assert await door.admit(greeting(actor=b"a" * 12, lease=10_000)) is None
    assert await door.admit(greeting(actor=b"a" * 12, lease=20_000)) is None
    assert await door.admit(greeting()) is None, "one that has leased nothing yet"
    assert door.leases == {"n2": (b"a" * 12, 20_000)} and door.incarnations == {"n2": 22}


async def test_another_cluster_is_refused_by_name(door: Doorkeeper) -> None:
    error = await refusal(door, cluster_id="theirs")
    assert isinstance(error, WrongCluster) and error.code is Code.WRONG_CLUSTER
    assert "'ours'" in error.message and "'theirs'" in error.message and error.subject == "ours"


async def test_whoever_meant_another_node_is_told_which_address_is_wrong(door: Doorkeeper) -> None:
    error = await refusal(door, expects="n3")
    assert isinstance(error, SettingsMismatch) and error.subject == "n3"
    assert "this is node n1, not n3" in error.message and "[peers]" in error.message


async def test_different_settings_are_refused_and_each_is_named_with_both_values(door: Doorkeeper) -> None:
    theirs = replace(CLUSTER, partitions=32, value_bytes_max=5)
    error = await refusal(door, settings=theirs.canonical_json())
    assert isinstance(error, SettingsMismatch) and error.subject == "n2"
    assert "cluster.partitions is 16 here and 32 there" in error.message
    assert f"cluster.value_bytes_max is {CLUSTER.value_bytes_max} here and 5 there" in error.message


@pytest.mark.parametrize("settings", ["", "not json", "[1]"])
async def test_settings_that_cannot_be_read_are_refused(door: Doorkeeper, settings: str) -> None:
    assert isinstance(await refusal(door, settings=settings), SettingsMismatch)


async def test_an_unknown_node_is_refused(door: Doorkeeper) -> None:
    error = await refusal(door, node_id="n9")
    assert isinstance(error, SettingsMismatch) and error.subject == "n9" and "[peers]" in error.message


async def test_a_second_process_under_our_own_id_is_refused(door: Doorkeeper) -> None:
    error = await refusal(door, node_id="n1", incarnation=12)
    assert isinstance(error, DuplicateNode) and error.subject == "n1"
    assert await door.admit(greeting(node_id="n1", incarnation=11)) is None, "ourselves, seen in a mirror"


async def test_a_second_process_is_refused_while_the_first_one_lives(door: Doorkeeper, street: Neighbourhood) -> None:
    street.living["n2"] = 22
    assert await door.admit(greeting()) is None
    error = await door.admit(greeting(incarnation=23))
    assert isinstance(error, DuplicateNode) and error.subject == "n2"
    assert await door.admit(greeting()) is None, "the first one stays"
    assert street.asked == ["n2"], "only a new incarnation is a reason to ask"


@pytest.mark.parametrize("living", [None, 23])
async def test_a_restarted_process_is_admitted(door: Doorkeeper, street: Neighbourhood, living: int | None) -> None:
    assert await door.admit(greeting()) is None
    if living is not None:
        street.living["n2"] = living
    assert await door.admit(greeting(incarnation=23, actor=b"b" * 12, lease=1)) is None
    assert door.incarnations == {"n2": 23} and door.leases == {"n2": (b"b" * 12, 1)}


def test_a_peer_remembers_more_when_it_knows_a_higher_lease_or_another_epoch() -> None:
    mine = b"a" * 12
    assert remembers_more((mine, 10_001), mine, 10_000)
    assert remembers_more((b"b" * 12, 1), mine, 10_000)
    assert not remembers_more((mine, 10_000), mine, 10_000)
    assert not remembers_more((mine, 9_999), mine, 10_000)
    assert not remembers_more(None, mine, 10_000)
