"""A process that forks: the child gets an error at once and ends as any process does, the parent goes on."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from tests.client.fake_server import FakeCluster
from tests.client.forking import AS_PROMISED, FORKS

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"


async def run(*arguments: str) -> tuple[int | None, str, str]:
    """Runs Python as its user starts it, without what gRPC was told here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
async def test_bug_a_fork_with_a_client_open_crashed_parent_or_child(cluster: FakeCluster, kind: str) -> None:
    """gRPC prepared for the fork while its asyncio side was in use; a child's new client waited for threads it did not have."""
    code, out, err = await run("-m", "tests.client.forking", cluster.seeds, kind)
    assert out.split() == [str(AS_PROMISED)] * FORKS, err
    assert code == 0, err


async def test_the_environment_is_as_it_was_once_grpc_is_imported_and_a_host_s_own_choice_stands() -> None:
    script = f"import os; {{}}import kvclient.grpc_transport; print(os.environ.get({FORK_SUPPORT!r}))"
    assert (await run("-c", script.format("")))[1].split() == ["None"]
    assert (await run("-c", script.format(f"os.environ[{FORK_SUPPORT!r}] = '1'; ")))[1].split() == ["1"]
