"""The store inside the caller's process: one node a URL, counted opens, and clear words to other processes and forks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import kvclient
from kvproto.columns import GroupReply, OperationGroup, ScanQuery
from kvproto.errors import BadRequest, KvError, ShuttingDown, StorageError, StoreInUse
from kvstore import embedded
from kvstore.embedded import EmbeddedTransport, NoPeers, open_embedded
from kvstore.storage.directory import open_directory
from kvstore.transport.peers import FetchChunk, StoreChunk
from tests.support.cluster import Answer, gets, puts
from tests.support.waiting import until


@pytest.fixture
async def memory(request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedTransport]:
    transport = open_embedded(f"embedded::memory:{request.node.name}")
    yield transport
    await transport.close()
    assert not embedded._open, "every test lets go of what it opened"


async def run(transport: EmbeddedTransport, *groups: OperationGroup) -> Answer:
    answer = Answer(groups)
    transport.exchange(list(groups), answer.take)
    await until(lambda: answer.done)
    return answer


def child(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` in a process of its own, with this one's import path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )


async def test_what_was_put_is_got_scanned_and_described(memory: EmbeddedTransport) -> None:
    await run(memory, puts({b"b": b"2", b"a": b"1"}))
    answer = await run(memory, gets(b"a", b"b", b"c"))
    assert [answer[at].value for at in range(3)] == [b"1", b"2", None]
    assert [key async for page in memory.scan(ScanQuery("default")) for key in page.keys] == [b"a", b"b"]
    info, status = await memory.describe(), await memory.status()
    assert [member.id for member in info.members] == ["embedded"] and info.partitions == 1
    assert (status.keys, status.state, status.quarantined) == (2, "alive", 0)
    assert answer[0].receipt is not None and not answer[0].receipt.durable, "memory is not durable, and says so"


async def test_the_first_write_is_taken_as_soon_as_the_store_is_open(tmp_path: Path) -> None:
    for at in range(3):
        transport = open_embedded(f"embedded:{tmp_path / str(at)}")
        assert (await run(transport, puts({b"k": b"v"})))[0].error is None
        await transport.close()


async def test_one_url_is_one_store_and_another_is_another(memory: EmbeddedTransport) -> None:
    same, other = open_embedded(memory._key), open_embedded("embedded::memory:another")
    await run(memory, puts({b"k": b"v"}))
    assert (await run(same, gets(b"k")))[0].value == b"v"
    assert (await run(other, gets(b"k")))[0].value is None
    await same.close()
    await other.close()


async def test_ways_to_spell_a_path_are_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "data").mkdir()
    transports = [open_embedded(f"embedded:{path}") for path in (tmp_path / "data", "data", "./link", "data/../data")]
    await run(transports[0], puts({b"k": b"v"}))
    for transport in transports:
        assert (await run(transport, gets(b"k")))[0].value == b"v"
    assert len(embedded._open) == 1
    for transport in transports:
        await transport.close()
    assert not embedded._open


async def test_bug_a_store_with_a_linearizable_namespace_could_not_be_opened_once_more_by_the_same_url(tmp_path: Path) -> None:
    url = f"embedded:{tmp_path}?namespaces=orders:linearizable,hits:counter"
    one, other = open_embedded(url), open_embedded(url)
    modes = {space.name: space.mode for space in (await other.describe()).namespaces}
    assert modes == {"default": "eventual", "orders": "linearizable", "hits": "eventual"}
    with pytest.raises(BadRequest, match="whoever opens it first"):
        open_embedded(f"embedded:{tmp_path}?namespaces=orders")
    await one.close()
    await other.close()


async def test_opens_are_counted_and_the_last_close_ends_the_store(memory: EmbeddedTransport) -> None:
    first, second = open_embedded("embedded::memory:counted"), open_embedded("embedded::memory:counted")
    await run(first, puts({b"k": b"v"}))
    await first.close()
    await first.close()
    assert (await run(second, gets(b"k")))[0].value == b"v"
    assert isinstance((await run(first, gets(b"k")))[0].error, ShuttingDown)
    with pytest.raises(ShuttingDown):
        await first.describe()
    await second.close()
    third = open_embedded("embedded::memory:counted")
    assert (await run(third, gets(b"k")))[0].value is None, "memory ends with its last user"
    await third.close()


async def test_data_on_a_path_survives_reopening(tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'data'}"
    dots: set[bytes] = set()
    for at in range(3):
        transport = open_embedded(url)
        told = (await run(transport, puts({b"%d" % at: b"v"})))[0]
        assert told.receipt is not None and told.receipt.durable
        dots.add(told.versions[0])
        answer = await run(transport, gets(*(b"%d" % index for index in range(at + 1))))
        assert all(answer[index].value == b"v" for index in range(at + 1))
        await transport.close()
    assert len(dots) == 3, "no dot twice"


@pytest.mark.parametrize("url", ["embedded:", "embedded::memory:", "kv://host", ""])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(BadRequest):
        open_embedded(url)


async def test_callers_on_several_loops_and_threads_share_a_store(memory: EmbeddedTransport) -> None:
    def elsewhere(name: bytes) -> bytes | None:
        async def work() -> bytes | None:
            transport = open_embedded(memory._key)
            await run(transport, puts({name: b"v" + name}))
            value = (await run(transport, gets(name)))[0].value
            await transport.close()
            return value

        return asyncio.run(work())

    names = [b"%d" % at for at in range(4)]
    assert await asyncio.gather(*(asyncio.to_thread(elsewhere, name) for name in names)) == [b"v" + name for name in names]
    answer = await run(memory, gets(*names))
    assert [answer[at].value for at in range(4)] == [b"v" + name for name in names]


def test_the_public_client_opens_it_by_url(tmp_path: Path) -> None:
    for _ in range(2):
        with kvclient.open(f"embedded:{tmp_path / 'data'}") as store:
            store.put("k", b"v")
            assert store.get("k").value == b"v"
    assert not embedded._open


async def test_a_second_process_is_told_who_has_it_and_what_to_do(tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'data'}"
    transport = open_embedded(url)
    script = """
        import sys
        from kvproto.errors import StoreInUse
        from kvstore.embedded import open_embedded
        try:
            open_embedded(sys.argv[1])
        except StoreInUse as error:
            print(error.message)
    """
    told = await asyncio.to_thread(child, script, url)
    assert told.returncode == 0, told.stderr
    assert f"process {os.getpid()}" in told.stdout and "`kv dev`" in told.stdout
    assert (await run(transport, puts({b"k": b"v"})))[0].error is None, "the holder goes on"
    await transport.close()
    held = open_directory(tmp_path / "data", cluster_id="embedded", node_id="embedded")
    with pytest.raises(StoreInUse, match="this process"):
        open_embedded(url)
    held.close()


FORKING = """
    import asyncio, os, sys
    from kvproto.errors import KvError, StorageError
    from kvstore.embedded import open_embedded
    from tests.support.cluster import Answer, gets, puts

    url, again = sys.argv[1:]

    async def run(transport, group):
        answer, done = Answer([group]), asyncio.Event()
        def take(replies, last):
            answer.take(replies, last)
            done.set()
        transport.exchange([group], take)
        await asyncio.wait_for(done.wait(), 20)
        return answer[0]

    transport = open_embedded(url)
    told = asyncio.run(run(transport, puts({b"k": b"v"})))
    assert told.error is None, told.error
    child = os.fork()
    if not child:
        try:
            error = asyncio.run(run(transport, gets(b"k"))).error
            print("used:", type(error).__name__, error)
            asyncio.run(transport.close())
            try:
                mine = open_embedded(again)
                told = asyncio.run(run(mine, gets(b"k")))
                print("opened again:", told.value)
                asyncio.run(mine.close())
            except StorageError as error:
                print("refused:", type(error).__name__, error)
        finally:
            sys.stdout.flush()
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    print("parent:", asyncio.run(run(transport, gets(b"k"))).value)
    asyncio.run(transport.close())
"""


def test_after_a_fork_what_was_open_says_so_and_the_parent_goes_on() -> None:
    told = child(FORKING, "embedded::memory:x", "embedded::memory:x")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].startswith("used: StorageError") and "forked" in lines[0] and "open it again" in lines[0]
    assert lines[2] == "parent: b'v'"


def test_bug_a_store_opened_again_after_a_fork_waited_for_its_parents_thread() -> None:
    """1. A process opens a store and forks. 2. The child is told to open it again and does. 3. It was given the parent's node,
    whose thread a fork does not copy: every call waited for ever."""
    told = child(FORKING, "embedded::memory:x", "embedded::memory:x")
    assert "opened again: None" in told.stdout, told.stdout + told.stderr


def test_a_path_opened_again_after_a_fork_is_in_use_by_the_parent(tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'data'}"
    told = child(FORKING, url, url)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[1].startswith("refused: StoreInUse") and "in use by process" in lines[1]
    assert lines[2] == "parent: b'v'"


async def test_a_failed_disk_is_said_to_everybody_and_leaves_no_clean_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = open_embedded(f"embedded:{tmp_path / 'data'}")
    await run(transport, puts({b"k": b"v"}))
    engine = transport._node.local.engine

    def broken() -> None:
        raise StorageError("I/O error", may_have_applied=True)

    monkeypatch.setattr(engine, "prepare", lambda puts, *, sync: broken)
    error = (await run(transport, puts({b"k": b"w"})))[0].error
    assert error is not None and error.may_have_applied
    error = (await run(transport, gets(b"k")))[0].error
    assert isinstance(error, StorageError) and "open it again" in error.message
    await transport.close()
    assert not (tmp_path / "data" / "clean-shutdown.json").exists()
    transport = open_embedded(f"embedded:{tmp_path / 'data'}")
    assert (await run(transport, gets(b"k")))[0].value == b"v"
    await transport.close()


async def test_a_directory_that_cannot_be_had_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        open_embedded(f"embedded:{tmp_path / 'file'}")
    assert not embedded._open


async def test_a_node_that_is_alone_has_nobody_to_ask() -> None:
    peers = NoPeers()
    assert not peers.reachable("n2") and peers.lag_s("n2") == 0.0
    for call in (peers.page("n2", 1, b"", b"", 1, 1, 1.0), peers.forward("n2", gets(b"k"), 1.0), peers.status("n2", 1.0)):
        with pytest.raises(KvError):
            await call
    answered: list[object] = []
    with pytest.raises(AssertionError):
        peers.store(StoreChunk("n2", [], [], 0, 0.0, answered.append))
    with pytest.raises(AssertionError):
        peers.fetch(FetchChunk("n2", [], b"", 0, 0.0, answered.append))


async def test_a_call_that_is_under_way_at_the_last_close_is_answered(memory: EmbeddedTransport) -> None:
    transport = open_embedded("embedded::memory:closing")
    answers: list[list[GroupReply]] = []
    transport.exchange([puts({b"%d" % at: b"v" for at in range(500)})], lambda replies, last: answers.append(replies))
    await transport.close()
    await until(lambda: answers)
    assert all(reply.error is None or reply.error.retryable for reply in answers[0])
