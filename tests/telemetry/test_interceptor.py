"""Every gRPC call is counted under the names of go-grpc, and every handler works as it did without: those that write through their
context, and those that are generators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kvproto.codec import encode_batch, encode_scan
from kvproto.columns import ScanQuery
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2_grpc
from kvstore.api.interceptor import CallCounter
from kvstore.telemetry.meters import CallMeter, MethodMeter
from tests.support.cluster import puts
from tests.support.nodes import Nodes
from tests.support.waiting import until

KEY_VALUE = "kvproto.v1.KeyValue"


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, ["n1"]) as nodes:
        await nodes.start()
        yield nodes


@pytest.fixture
async def channel(nodes: Nodes) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        yield channel


def meter_of(nodes: Nodes, kind: str, service: str, method: str) -> MethodMeter:
    calls = nodes.local("n1").telemetry.calls
    assert calls is not None
    return calls.methods[kind, service, method]


async def test_unary_calls_and_scans_are_counted_with_their_seconds(nodes: Nodes, channel: Any) -> None:
    stub = key_value_pb2_grpc.KeyValueStub(channel)
    for _ in range(2):
        await stub.Batch(encode_batch(1, [puts({b"a": b"1"})]))
    pages = [page async for page in stub.Scan(encode_scan(ScanQuery("default")))]
    batch, scan = meter_of(nodes, "unary", KEY_VALUE, "Batch"), meter_of(nodes, "server_stream", KEY_VALUE, "Scan")
    await until(lambda: scan.handled == {"OK": 1})
    assert (batch.started, batch.handled, batch.durations.count) == (2, {"OK": 2}, 2) and len(pages) == 1


async def test_bug_in_others_a_stream_that_writes_through_its_context_goes_on_working(nodes: Nodes, channel: Any) -> None:
    """Health's Watch is a coroutine that streams: OpenTelemetry's interceptor breaks it."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=KEY_VALUE))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    meter = meter_of(nodes, "server_stream", "grpc.health.v1.Health", "Watch")
    assert (meter.started, dict(meter.handled)) == (1, {})
    watch.cancel()
    await until(lambda: meter.handled == {"Canceled": 1})


async def test_reflection_goes_on_working(nodes: Nodes, channel: Any) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    found = {service.name for service in (await call.read()).list_services_response.service}
    assert KEY_VALUE in found
    await call.done_writing()
    meter = meter_of(nodes, "bidi_stream", "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo")
    await until(lambda: meter.handled == {"OK": 1})


async def test_a_handler_that_sets_a_status_or_breaks_is_counted_so(nodes: Nodes, channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    await until(lambda: meter_of(nodes, "unary", "grpc.health.v1.Health", "Check").handled == {"NotFound": 1})


async def test_a_method_that_nobody_serves_makes_no_series(nodes: Nodes, channel: Any) -> None:
    for number in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(f"/made.up/Method{number}")(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    calls = nodes.local("n1").telemetry.calls
    assert calls is not None and not any(service == "made.up" for _, service, _ in calls.methods)


class Breaking(admin_pb2_grpc.AdminServicer):
    async def Describe(self, request: admin_pb2.DescribeRequest, context: Any) -> admin_pb2.DescribeReply:
        raise ZeroDivisionError

    async def Status(self, request: admin_pb2.StatusRequest, context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


async def test_defects_are_unknown_and_aborts_are_what_they_say() -> None:
    ticks = iter(range(100))
    meter = CallMeter(lambda: float(next(ticks)))
    server = grpc.aio.server(interceptors=[CallCounter(meter)])
    admin_pb2_grpc.add_AdminServicer_to_server(Breaking(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Describe(admin_pb2.DescribeRequest())
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Status(admin_pb2.StatusRequest())

    def handled() -> dict[str, dict[str, int]]:
        return {method: dict(one.handled) for (_, _, method), one in meter.methods.items()}

    # The caller hears of an abort before the handler has ended, and a stopping server cancels what has not.
    await until(lambda: handled() == {"Describe": {"Unknown": 1}, "Status": {"ResourceExhausted": 1}})
    await server.stop(None)
    assert [one.durations.total for one in meter.methods.values()] == [1.0, 1.0]
