"""What reads of large values put on the wire between nodes: digests, and one copy where the coordinator has not got it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from kvproto.v1 import peer_pb2
from kvstore.transport.peer_link import PeerLink
from tests.support.cluster import ALL, ONE, QUORUM, Cluster
from tests.support.waiting import until

LARGE = 1_000_000
VALUE = bytes(LARGE)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


@contextmanager
def counted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Bytes of records that peers have answered fetches with, by who was answered."""
    received = dict.fromkeys(cluster.ids, 0)
    names = {id(link): node for node, member in cluster.members.items() for link in member.peers.links.values()}
    receive = PeerLink.receive

    def count(self: PeerLink, message: peer_pb2.PeerReply) -> None:
        received[names[id(self)]] += sum([len(record) for record in message.records])
        receive(self, message)

    with monkeypatch.context() as patched:
        patched.setattr(PeerLink, "receive", count)
        yield received


@pytest.mark.parametrize("options", [QUORUM, ALL])
async def test_equal_replicas_send_digests_only(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    await cluster.put("n1", b"k", VALUE, **ALL)
    with counted(cluster, monkeypatch) as received:
        assert (await cluster.get("n1", b"k", **options)).value == VALUE
        assert sum(received.values()) == 0


async def test_a_quorum_read_by_a_node_that_has_missed_the_value_carries_one_copy(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third replica is asked as well, for it may be stale: it is told what was found, and sends nothing of it."""
    cluster.isolate("n1")
    await cluster.put("n2", b"k", VALUE, **QUORUM)
    cluster.rejoin("n1")
    cluster.clock.advance_s(1)
    repairs = cluster.members["n1"].local.serving.read_repair
    with counted(cluster, monkeypatch) as received:
        assert (await cluster.get("n1", b"k", **QUORUM)).value == VALUE
        await until(lambda: repairs.repaired == 1)
        assert LARGE <= received["n1"] < 1.1 * LARGE
    assert cluster.held("n1", b"k") == cluster.held("n3", b"k")


async def test_repairs_go_at_the_pace_of_all_that_nobody_waits_for(cluster: Cluster) -> None:
    for at in range(4):
        cluster.isolate("n1")
        await cluster.put("n2", b"%d" % at, VALUE, **QUORUM)
        cluster.rejoin("n1")
    cluster.clock.advance_s(1)
    pace, repairs = cluster.members["n1"].local.pace, cluster.members["n1"].local.serving.read_repair
    pace.bytes_per_s_max = pace.bytes_per_s_min = 10.0 * LARGE
    pace.charge(10 * LARGE)
    for at in range(4):
        assert (await cluster.get("n1", b"%d" % at, **QUORUM)).value == VALUE
    assert repairs.repaired == 0, "there is work before them"
    await until(lambda: repairs.repaired == 4)
    assert pace.waited_s > 0.1 and pace.turns == 4


async def test_what_waits_for_its_turn_when_the_node_stops_is_dropped(cluster: Cluster) -> None:
    cluster.isolate("n1")
    await cluster.put("n2", b"k", VALUE, **QUORUM)
    cluster.rejoin("n1")
    cluster.clock.advance_s(1)
    member = cluster.members["n1"].local
    repairs = member.serving.read_repair
    member.pace.charge(1 << 40)
    await cluster.get("n1", b"k", **QUORUM)
    await until(lambda: repairs._in_flight == 1)
    repairs.stop()
    assert (repairs._in_flight, repairs.dropped, repairs.repaired) == (0, 1, 0)
    assert (await cluster.get("n1", b"k", **ONE)).count == 0
