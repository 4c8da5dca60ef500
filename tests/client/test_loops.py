"""Event loops: whichever kind, several in one process, and what happens on the wrong one; tasks that are cancelled."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

from kvclient import AsyncClient, Client, WrongLoop
from tests.client.fake_server import FakeCluster
from tests.client.test_blocking import ClusterThread
from tests.client.test_forks import run

NewLoop = Callable[[], asyncio.AbstractEventLoop]
KINDS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@pytest.fixture(scope="module")
def seeds() -> Iterator[str]:
    """Where a cluster listens that runs on a thread of its own, so that tests may have loops of theirs."""
    thread = ClusterThread()
    yield thread.cluster.seeds
    thread.close()


async def use(seeds: str, tag: str, count: int = 50) -> None:
    async with AsyncClient(seeds) as client:
        await asyncio.gather(*(client.put(f"{tag}{number}", b"%d" % number) for number in range(count)))
        entries = await asyncio.gather(*(client.get(f"{tag}{number}") for number in range(count)))
        assert [entry.value for entry in entries] == [b"%d" % number for number in range(count)]
        assert len([entry async for entry in client.scan(tag)]) == count


@KINDS
def test_a_client_works_on_either_loop_and_one_loop_after_the_other(seeds: str, new_loop: NewLoop) -> None:
    for turn in range(3):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(use(seeds, f"turn{turn}-"))


def test_loops_of_several_threads_have_a_client_each(seeds: str) -> None:
    def work(number: int) -> None:
        kind = (asyncio.new_event_loop, uvloop.new_event_loop)[number % 2]
        with asyncio.Runner(loop_factory=kind) as runner:
            runner.run(use(seeds, f"thread{number}-"))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [None] * 4


async def test_bug_a_client_of_a_loop_that_had_ended_left_messages_in_the_log_of_the_next(cluster: FakeCluster) -> None:
    """gRPC told the closed loop that the cancelled stream had ended: "Event loop is closed", for nearly every asyncio.run."""
    script = (
        "import asyncio, kvclient, sys\n"
        "async def use():\n"
        "    async with kvclient.AsyncClient(sys.argv[1]) as client:\n"
        "        for number in range(5):\n"
        "            await client.get(f'k{number}')\n"
        "for _ in range(12):\n"
        "    asyncio.run(use())\n"
        "print('done')\n"
    )
    code, out, err = await run("-c", script, cluster.seeds)
    assert (code, out.split(), err) == (0, ["done"], "")


def test_a_second_loop_is_told_so_at_once(seeds: str, other_loop: asyncio.AbstractEventLoop) -> None:
    client = AsyncClient(seeds)
    with asyncio.Runner() as first:
        first.run(client.put("k", b"v"))
        with pytest.raises(WrongLoop, match="one for each loop"):
            asyncio.run_coroutine_threadsafe(client.get("k"), other_loop).result(10)
        for call in (client.get_many(["k"]), client.delete("k"), client.admin.status(), client.close(), client.connect()):
            with pytest.raises(WrongLoop):
                asyncio.run_coroutine_threadsafe(call, other_loop).result(10)
        assert first.run(client.get("k")).value == b"v", "its own loop may go on"
        first.run(client.close())


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs on another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


async def test_a_cancelled_call_never_leaves_its_answer_to_another(cluster: FakeCluster, client: AsyncClient) -> None:
    """Thousands of calls, half of them cancelled at any moment: each of the others gets the answer to its own question."""
    rng = random.Random(8)
    keys = [f"k{number}" for number in range(200)]
    await client.put_many({key: key.encode() for key in keys})
    wrong: list[object] = []

    async def one() -> None:
        key = rng.choice(keys)
        if rng.random() < 0.7:
            entry = await client.get(key)
            wrong.extend([] if (entry.key, entry.value) == (key.encode(), key.encode()) else [entry])
        elif rng.random() < 0.5:
            chosen = rng.sample(keys, 20)
            for asked, entry in (await client.get_many(chosen)).items():
                wrong.extend([] if entry.value == asked.encode() else [entry])
        else:
            await client.put(key, key.encode())

    for _ in range(60):
        tasks = [asyncio.create_task(one()) for _ in range(50)]
        victims = rng.sample(tasks, 25)
        for victim in victims:
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            victim.cancel()
        for task in tasks:
            try:
                await task
            except asyncio.CancelledError:
                assert task in victims
    assert not wrong
    for link in client.membership.all_links():
        link.check()
    assert client.stats.operations > 1000


def test_many_threads_share_one_blocking_client_and_each_gets_its_own_answers(seeds: str) -> None:
    with Client(seeds) as client:

        def work(thread: int) -> list[bytes | None]:
            for number in range(20):
                client.put(f"t{thread}-{number}", b"%d-%d" % (thread, number))
            return [client.get(f"t{thread}-{number}").value for number in range(20)]

        with ThreadPoolExecutor(16) as pool:
            for thread, values in enumerate(pool.map(work, range(16))):
                assert values == [b"%d-%d" % (thread, number) for number in range(20)]
        assert client.stats.batches < client.stats.operations, "operations of several threads share batches"
