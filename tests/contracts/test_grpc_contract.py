"""The simulated gRPC and the real one: what a client and a service see of each other, and of each other's end, is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
import grpc.aio
import pytest

from kvstore.simulation.channel import SimChannel
from kvstore.simulation.connection import NetworkSettings
from kvstore.simulation.events import EventLog
from kvstore.simulation.loop import SimLoop
from kvstore.simulation.network import Network
from kvstore.simulation.process import Process
from kvstore.simulation.server import SimServer
from tests.support.nodes import free_ports

EOF: Any = vars(grpc.aio)["EOF"]


class Service:
    """Answers, waits, fails, echoes; notes what becomes of its handlers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def answer(self, request: bytes, context: Any) -> bytes:
        if request == b"wait":
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                self.notes.append("cancelled")
                raise
        if request == b"fail":
            raise ValueError("broken")
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        return b"answer to " + request

    async def count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            for number in range(int(request)):
                yield b"%d" % number
                if number == 99:
                    await asyncio.sleep(20)
        finally:
            self.notes.append("counted")

    async def echo(self, iterator: Any, context: Any) -> None:
        try:
            while (message := await context.read()) is not EOF:
                await context.write(message)
            self.notes.append("half closed")
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise

    def add_to(self, server: Any) -> None:
        as_they_are: Any = {"request_deserializer": bytes, "response_serializer": bytes}
        handlers = {
            "Answer": grpc.unary_unary_rpc_method_handler(self.answer, **as_they_are),
            "Count": grpc.unary_stream_rpc_method_handler(self.count, **as_they_are),
            "Echo": grpc.stream_stream_rpc_method_handler(self.echo, **as_they_are),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
        server.add_registered_method_handlers("test.Service", handlers)


class Both:
    """A server with the service, and a channel to it."""

    def __init__(self, channel: Any, server: Any, service: Service) -> None:
        self.channel, self.server, self.service = channel, server, service

    def answer(self, request: bytes, **options: Any) -> Any:
        return self.channel.unary_unary("/test.Service/Answer", request_serializer=bytes, response_deserializer=bytes)(
            request, **options
        )

    def count(self, request: bytes) -> Any:
        return self.channel.unary_stream("/test.Service/Count", request_serializer=bytes, response_deserializer=bytes)(request)

    def echo(self) -> Any:
        return self.channel.stream_stream("/test.Service/Echo", request_serializer=bytes, response_deserializer=bytes)()

    async def noted(self, *either: str) -> None:
        async with asyncio.timeout(10):
            while not set(either) & set(self.service.notes):
                await asyncio.sleep(0.01)


Test = Callable[[Both], Coroutine[Any, Any, None]]


async def with_real_grpc(test: Test) -> None:
    server, service = grpc.aio.server(), Service()
    service.add_to(server)
    port = server.add_insecure_port(f"127.0.0.1:{free_ports(1)[0]}")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        await test(Both(channel, server, service))
    finally:
        await channel.close(None)
        await server.stop(None)


def with_simulated_grpc(test: Test) -> None:
    loop = SimLoop(1)  # type: ignore[abstract]
    network = Network(loop, loop.rng, EventLog(), NetworkSettings())
    network.hosts["server:1"] = "server"
    service, remote = Service(), Process(loop, "server")
    server = SimServer(network, remote, loop.rng)
    service.add_to(server)
    server.add_insecure_port("server:1")

    async def main() -> None:
        await server.start()
        channel = SimChannel(network, loop.main, "server:1", loop.rng)
        try:
            await test(Both(channel, server, service))
        finally:
            await channel.close(None)
            await server.stop(None)
        await asyncio.sleep(1)

    loop.run(main())
    assert network.open_connections() == [] and loop.timers() == []


@pytest.fixture(params=["real", "simulated"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    def run_real(test: Test) -> None:
        asyncio.run(with_real_grpc(test))

    return run_real if request.param == "real" else with_simulated_grpc


Run = Callable[[Test], None]


def code_of(error: Any) -> Any:
    return error.value.code()


def test_a_call_is_answered(run: Run) -> None:
    async def test(both: Both) -> None:
        assert await both.answer(b"x") == b"answer to x"
        assert await asyncio.gather(*map(both.answer, (b"a", b"b"))) == [b"answer to a", b"answer to b"]

    run(test)


def test_a_handler_that_aborts_says_why(run: Run) -> None:
    async def test(both: Both) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await both.answer(b"abort")
        assert code_of(error) is grpc.StatusCode.NOT_FOUND and error.value.details() == "no such thing"

    run(test)


def test_a_method_that_is_not_served_is_unimplemented(run: Run) -> None:
    async def test(both: Both) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await both.channel.unary_unary("/test.Service/None", request_serializer=bytes, response_deserializer=bytes)(b"")
        assert code_of(error) is grpc.StatusCode.UNIMPLEMENTED

    run(test)


def test_a_deadline_ends_the_call_at_both_sides(run: Run) -> None:
    async def test(both: Both) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await both.answer(b"wait", timeout=0.1)
        assert code_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED
        await both.noted("cancelled")

    run(test)


def test_a_client_that_gives_up_ends_the_handler(run: Run) -> None:
    async def test(both: Both) -> None:
        task = asyncio.ensure_future(_await(both.answer(b"wait")))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await both.noted("cancelled")

    run(test)


async def _await(call: Any) -> Any:
    return await call


def test_messages_come_in_order_and_then_the_end(run: Run) -> None:
    async def test(both: Both) -> None:
        assert [message async for message in both.count(b"50")] == [b"%d" % number for number in range(50)]
        await both.noted("counted")

    run(test)


def test_a_reader_that_leaves_early_ends_the_handler(run: Run) -> None:
    async def test(both: Both) -> None:
        call = both.count(b"1000")
        async for message in call:
            if message == b"5":
                break
        call.cancel()
        await both.noted("counted")

    run(test)


def test_a_stream_goes_both_ways_and_ends_when_the_client_has_said_all(run: Run) -> None:
    async def test(both: Both) -> None:
        call = both.echo()
        for number in range(20):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is EOF
        assert await call.code() is grpc.StatusCode.OK
        await both.noted("half closed")

    run(test)


def test_a_stream_that_is_cancelled_here_raises_cancelled_here(run: Run) -> None:
    async def test(both: Both) -> None:
        call = both.echo()
        await call.write(b"x")
        assert await call.read() == b"x"
        call.cancel()
        assert call.cancelled() and call.done()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"y")
        await both.noted("cancelled", "half closed")

    run(test)


def test_a_server_that_stops_ends_streams_as_unavailable_or_cancelled_and_takes_nothing_new(run: Run) -> None:
    async def test(both: Both) -> None:
        call = both.echo()
        await call.write(b"x")
        assert await call.read() == b"x"
        reading = asyncio.ensure_future(_await(call.read()))
        await asyncio.sleep(0.05)
        await both.server.stop(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await reading
        assert code_of(error) in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        await both.noted("cancelled", "half closed")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await both.answer(b"x")
        assert code_of(error) is grpc.StatusCode.UNAVAILABLE

    run(test)


def test_what_is_under_way_may_end_within_the_grace(run: Run) -> None:
    async def test(both: Both) -> None:
        call = both.echo()
        await call.write(b"x")
        assert await call.read() == b"x"
        stopping = asyncio.ensure_future(_await(both.server.stop(5)))
        await asyncio.sleep(0.05)
        await call.write(b"y")
        assert await call.read() == b"y"
        await call.done_writing()
        assert await call.read() is EOF
        await stopping

    run(test)
