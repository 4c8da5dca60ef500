"""A program that uses a client and forks, for test_forks: `python -m tests.client.forking ADDRESS KIND`.

Prints one line a child: how it ended, 42 if everything was as promised. Ends with 0 if the parent could go on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import kvclient

FORKS = 8
AS_PROMISED = 42


def child(use: Callable[[], object], address: str) -> int:
    """In the child: the parent's client refuses at once, and so does a new one, since gRPC has been used."""
    for attempt in (use, lambda: kvclient.Client(address).get("k")):
        try:
            attempt()
        except kvclient.ForkedClient:
            continue
        return 1
    return AS_PROMISED


def fork_and_wait(use: Callable[[], object], address: str) -> None:
    for _ in range(FORKS):
        pid = os.fork()
        if pid == 0:
            sys.exit(child(use, address))  # the interpreter shuts down as ever
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def blocking(address: str) -> None:
    with kvclient.Client(address) as client:
        client.put("k", b"v")
        fork_and_wait(lambda: client.get("k"), address)
        assert client.get("k").value == b"v"


def asynchronous(address: str) -> None:
    client = kvclient.AsyncClient(address)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.put("k", b"v"))

    async def use() -> None:
        await client.get("k")

    fork_and_wait(lambda: asyncio.run(use()), address)
    assert loop.run_until_complete(client.get("k")).value == b"v"
    loop.run_until_complete(client.close())
    loop.close()


if __name__ == "__main__":
    {"blocking": blocking, "asynchronous": asynchronous}[sys.argv[2]](sys.argv[1])
