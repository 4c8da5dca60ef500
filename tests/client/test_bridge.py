"""Between threads and the loop: nobody is left waiting, whatever ends first."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvclient import AsyncClient, Client, ClientClosed, KvError
from kvclient.bridge import Bridge
from kvclient.testing import FakeClient


async def _nothing() -> None:
    """The last thing a bridge does."""


def test_a_call_gets_what_its_coroutine_returns_or_raises_with_and_without_a_task() -> None:
    bridge = Bridge()

    async def double(number: int) -> int:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, number)
        return 2 * int(await future)

    async def fail() -> None:
        await double(1)
        raise KvError("as it is")

    for as_task in (True, False):
        assert bridge.call(double(21), as_task=as_task) == 42
        with pytest.raises(KvError, match="as it is"):
            bridge.call(fail(), as_task=as_task)
    assert not bridge.calls
    bridge.close(_nothing)


@pytest.mark.parametrize("as_task", [True, False])
def test_a_call_under_way_ends_when_the_bridge_does(as_task: bool) -> None:
    bridge = Bridge()

    async def wait_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bridge.call, wait_for_ever(), as_task=as_task)
        while not bridge.calls:
            threading.Event().wait(0.001)
        bridge.close(_nothing)
        with pytest.raises(ClientClosed):
            waiting.result(10)
    with pytest.raises(ClientClosed):
        bridge.call(_nothing())


def test_bug_threads_that_called_while_the_client_was_closed_waited_for_ever() -> None:
    """What reached the loop between its last turn and its end was never run, and nobody told the caller."""
    for _ in range(20):
        client = FakeClient()
        client.put("k", b"v")
        begin = threading.Barrier(5)

        def read(client: Client = client, begin: threading.Barrier = begin) -> bool:
            begin.wait(10)
            try:
                while True:
                    client.get("k")
            except ClientClosed:
                return True

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(4)]
            begin.wait(10)
            client.close()
            assert all(reader.result(10) for reader in readers)


def test_an_interrupted_call_gives_its_operation_up_and_the_client_goes_on() -> None:
    interrupted: list[BaseException] = []
    cancelled = threading.Event()
    bridge = Bridge()

    async def wait_for_ever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    timer, interval = signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        bridge.call(wait_for_ever(), as_task=False)
    except KeyboardInterrupt as error:
        interrupted.append(error)
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, timer, interval)
    assert interrupted and cancelled.wait(10)
    assert bridge.call(_answer(7)) == 7
    bridge.close(_nothing)


async def _answer(number: int) -> int:
    return number


@pytest.mark.parametrize("name", ["get", "put", "delete", "get_many", "put_many", "delete_many", "scan", "with_options"])
def test_a_method_is_described_as_the_asyncio_one_is(name: str) -> None:
    theirs, ours = getattr(AsyncClient, name), getattr(Client, name)
    assert inspect.signature(theirs).parameters.keys() == inspect.signature(ours).parameters.keys()
    assert inspect.getdoc(theirs) == inspect.getdoc(ours)
