"""The blocking client: the same promises, from threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvclient
from kvclient import BatchError, Client, ClientClosed
from kvproto.errors import UnknownNamespace, UnsupportedProtocol
from tests.client.fake_server import FakeCluster

FORKED_OK = 42


class ClusterThread:
    """A fake cluster on a loop of its own, since a blocking client blocks this one."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(self.cluster.__aenter__())

    def run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    def close(self) -> None:
        self.run(self.cluster.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    thread = ClusterThread()
    yield thread.cluster
    thread.close()


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    with Client(cluster.seeds) as connected:
        yield connected


def test_every_method_of_the_asyncio_client_is_there_and_blocks(client: Client) -> None:
    users = client.namespace("users")
    done = users.put("k", b"v", ttl_s=60, level="quorum")
    entry = users.get("k")
    assert (entry.value, entry.version) == (b"v", done.version)
    client.put_many({f"k{number:03}": b"v" for number in range(600)})
    assert set(client.get_many(["k000", "k599"])) == {"k000", "k599"}
    assert [entry.key for entry in client.scan("k")] == [b"k%03d" % number for number in range(600)]
    assert [entry.key for entry in client.scan(limit=2)] == [b"k000", b"k001"]
    client.delete("k000")
    client.delete_many(["k001"])
    assert not client.get("k000").found and not client.get("k001").found
    assert [row.state for row in client.admin.status()] == ["alive"] * 3
    assert client.admin.describe().cluster_id == "fake"
    with pytest.raises(UnsupportedProtocol):  # an older node
        client.admin.create_namespace("orders")


def test_errors_cross_the_thread_with_their_numbers(cluster: FakeCluster, client: Client) -> None:
    for node in cluster.nodes:
        node.errors = [UnknownNamespace("no such", subject="x")] * 5
    with pytest.raises(UnknownNamespace) as raised:
        client.get("k")
    assert raised.value.subject == "x"
    with pytest.raises(BatchError):
        client.get_many(["a", "b", "c", "d"])


def test_threads_share_one_client(client: Client) -> None:
    def work(number: int) -> bool:
        client.put(f"k{number}", b"%d" % number)
        return client.get(f"k{number}").value == b"%d" % number

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(400)))


def test_a_closed_client_says_so_and_closing_twice_is_fine(cluster: FakeCluster) -> None:
    before = threading.active_count()
    client = kvclient.open(cluster.seeds)
    client.put("k", b"v")
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        client.get("k")
    assert threading.active_count() == before, "its thread has ended"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_every_call_raises_instead_of_hanging() -> None:
    client = Client("127.0.0.1:1")  # not connected: gRPC itself must not be forked with channels open
    pid = os.fork()
    if pid == 0:
        outcome = 1
        try:
            client.get("k")
        except kvclient.ForkedClient:
            client.close()
            outcome = FORKED_OK
        finally:
            os._exit(outcome)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == FORKED_OK
    client.close()
