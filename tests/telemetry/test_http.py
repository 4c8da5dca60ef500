"""The http address of real nodes: what it answers while they start, serve, stop and fail, and whom it does not let in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from kvproto.errors import StorageError, UserError
from kvstore.api import condition, http_server
from kvstore.api.http_server import HttpServer
from kvstore.config import TelemetryConfig
from kvstore.node import Node
from kvstore.simulation.logs import caught_logs
from tests.support.nodes import Nodes, free_ports
from tests.support.waiting import until
from tests.telemetry.http_client import fetch, fetch_json


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, has_http=True) as nodes:
        yield nodes


async def test_a_node_lists_what_it_answers_and_says_that_it_lives_and_serves(nodes: Nodes) -> None:
    await nodes.start()
    address = nodes.http["n1"]
    status, index = await fetch_json(address, "/")
    assert status == 200 and index["node"] == "n1" and set(index["pages"]) == {"/health", "/ready", "/metrics"}
    for page in index["pages"]:
        assert (await fetch(address, page))[0] == 200
    assert await fetch_json(address, "/health") == (200, {"node": "n1", "status": "ok"})
    assert await fetch_json(address, "/ready") == (200, {"node": "n1", "ready": True, "peers": {"n2": "alive"}})
    assert (await fetch(address, "/nothing"))[0] == 404
    await nodes.stop("n2")
    await until(lambda: ("n2", "dead", 0) in nodes.running["n1"].link_states())
    assert await fetch_json(address, "/ready") == (200, {"node": "n1", "ready": True, "peers": {"n2": "dead"}})


async def test_a_node_that_starts_or_stops_lives_and_is_not_ready(nodes: Nodes) -> None:
    node = nodes.running["n1"] = Node(nodes.config("n1"))
    seen: list[tuple[int, str]] = []

    async def look() -> None:
        status, body = await fetch_json(nodes.http["n1"], "/ready")
        seen.append((status, body.get("reason", "")))
        assert (await fetch(nodes.http["n1"], "/health"))[0] == 200

    start_http = node.parts.start_http

    async def start_http_and_look() -> None:
        await start_http()
        await look()

    node.parts.start_http = start_http_and_look  # type: ignore[method-assign]
    await node.start()
    await look()
    server = node.parts.server
    assert server is not None
    stop = server.stop

    async def look_and_stop(grace_s: float) -> None:
        await look()
        await stop(grace_s)

    server.stop = look_and_stop  # type: ignore[method-assign]
    await nodes.stop("n1")
    assert seen == [(503, "n1 is starting"), (200, ""), (503, "n1 is shutting down")]


async def test_a_failed_disk_and_a_commit_that_hangs_are_unhealthy(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    await nodes.start("n1")
    committer = nodes.local("n1").committer
    monkeypatch.setattr(condition, "COMMIT_STUCK_S", -1.0)
    status, body = await fetch_json(nodes.http["n1"], "/health")
    assert (status, body["status"]) == (503, "failing") and "commit" in body["reason"]
    assert (await fetch_json(nodes.http["n1"], "/ready"))[0] == 503
    monkeypatch.setattr(condition, "COMMIT_STUCK_S", 30.0)
    monkeypatch.setattr(committer, "failure", StorageError("I/O error"))
    status, body = await fetch_json(nodes.http["n1"], "/health")
    assert (status, body["reason"]) == (503, "I/O error")


async def test_a_port_in_use_ends_the_start_before_anything_is_served(nodes: Nodes) -> None:
    host, port = nodes.http["n1"].split(":")
    with socket.create_server((host, int(port))):
        node = Node(nodes.config("n1"))
        with pytest.raises(UserError, match=f"cannot serve http on {nodes.http['n1']}: .*in use"):
            await node.start()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*nodes.addresses["n1"].split(":"))
    await nodes.start("n1")  # and it left nothing behind


async def test_without_an_http_address_nothing_listens_and_without_metrics_there_are_none(tmp_path: Path) -> None:
    off = TelemetryConfig(metrics=False)
    async with Nodes(tmp_path, ["n1"], has_http=True, telemetry=off) as nodes:
        await nodes.start()
        assert "/metrics" not in (await fetch_json(nodes.http["n1"], "/"))[1]["pages"]
        assert (await fetch(nodes.http["n1"], "/metrics"))[0] == 404
        assert nodes.running["n1"].parts.loop_lag is None
        await nodes.stop("n1")
        nodes.http = {}
        await nodes.start()
        assert nodes.running["n1"].parts.http is None


async def test_a_defect_behind_a_page_is_one_answer_and_one_line(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    await nodes.start("n1")
    caught: list[tuple[str, dict[str, object]]] = []
    with caught_logs(lambda level, event, facts: caught.append((event, facts))), monkeypatch.context() as patch:
        patch.setattr(nodes.local("n1"), "committer", None)
        status, _, body = await fetch(nodes.http["n1"], "/health")
    assert status == 500 and "AttributeError" not in body
    (line,) = caught
    assert line[0] == "http_failed" and line[1]["path"] == "/health" and isinstance(line[1]["exc_info"], AttributeError)


class Answering:
    """A server of its own, whose application answers with `size_bytes`."""

    def __init__(self, size_bytes: int = 2) -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.body = b"x" * size_bytes
        self.server = HttpServer(self.address, self._application)
        self._writers: list[asyncio.StreamWriter] = []

    async def _application(self, scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(self.body))]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": self.body})  # type: ignore[operator]

    async def __aenter__(self) -> Answering:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await self.server.stop()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address.split(":"))
        self._writers.append(writer)
        return reader, writer


async def ended(reader: asyncio.StreamReader) -> bool:
    with suppress(ConnectionError):
        await reader.read(-1)
    return reader.at_eof() or reader.exception() is not None


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + b"GET /"])
async def test_a_client_that_does_not_finish_its_request_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http_server, "REQUEST_S_MAX", 0.05)
    async with Answering() as answering:
        reader, writer = await answering.connect()
        writer.write(sent)
        async with asyncio.timeout(10):
            assert await ended(reader)


async def test_a_body_that_trickles_in_behind_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_S_MAX", 0.05)
    async with Answering() as answering:
        reader, writer = await answering.connect()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        await reader.readuntil(b"xx")
        writer.write(b"y")
        async with asyncio.timeout(10):
            assert await ended(reader)


async def test_a_client_that_does_not_read_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "UNREAD_S_MAX", 0.05)
    async with Answering(16 << 20) as answering:
        _, writer = await answering.connect()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        state = answering.server._server.server_state
        await until(lambda: state.connections)
        await until(lambda: not state.connections)


async def test_an_endless_header_is_refused() -> None:
    async with Answering() as answering:
        reader, writer = await answering.connect()
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * (http_server.REQUEST_BYTES_MAX + 1000))
        async with asyncio.timeout(10):
            assert b" 400 " in (await reader.read(-1)).split(b"\r\n")[0]


async def test_one_connection_too_many_is_closed_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS_MAX", 3)
    async with Answering() as answering:
        opened = [await answering.connect() for _ in range(3)]
        await until(lambda: len(answering.server._server.server_state.connections) == 3)
        reader, writer = await answering.connect()
        async with asyncio.timeout(10):
            assert await ended(reader)
        for reader, writer in opened:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b" 200 " in await reader.readline()


async def test_a_server_that_was_never_started_lets_go_of_its_port() -> None:
    answering = Answering()
    await answering.server.stop()
    async with await asyncio.start_server(lambda *_: None, *answering.address.split(":")):
        pass
