"""Stand-ins for what the comparison measures: an in-memory target, and an in-process server that speaks etcd's KV service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from kvchaos.targets.etcd_stubs import etcd_kv_pb2 as etcd


class MemoryTarget:
    """A `workload.Target` in a dictionary. Keys that end in one of `slow_endings` are never answered strictly."""

    def __init__(self, slow_endings: bytes = b"") -> None:
        self.items: dict[bytes, bytes] = {}
        self.slow_endings = slow_endings
        self.refuse = False

    async def put(self, key: bytes, value: bytes) -> None:
        await asyncio.sleep(0)
        if self.refuse:
            raise ConnectionError("refused")
        self.items[key] = value

    async def get(self, key: bytes) -> bytes:
        await asyncio.sleep(0)
        return self.items[key]

    async def put_many(self, items: dict[bytes, bytes]) -> None:
        await asyncio.sleep(0)
        self.items |= items

    async def get_many(self, keys: list[bytes]) -> list[bytes]:
        await asyncio.sleep(0)
        return [self.items[key] for key in keys]

    async def put_strict(self, key: bytes, value: bytes, *, timeout_s: float) -> None:
        if key[-1] in self.slow_endings:
            await asyncio.sleep(0)
            raise TimeoutError
        await self.put(key, value)

    async def close(self) -> None:
        self.items.clear()


class FakeEtcd:
    """One "member": keeps what it is given and how large each transaction was."""

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.calls = 0
        self.txn_sizes: list[int] = []
        self.address = ""

    async def put(self, request: etcd.PutRequest, context: object) -> etcd.PutResponse:
        self.calls += 1
        self.items[request.key] = request.value
        return etcd.PutResponse()

    async def range(self, request: etcd.RangeRequest, context: object) -> etcd.RangeResponse:
        self.calls += 1
        assert not request.serializable, "the comparison reads linearizably"
        found = [etcd.KeyValue(key=request.key, value=self.items[request.key])] if request.key in self.items else []
        return etcd.RangeResponse(kvs=found, count=len(found))

    async def txn(self, request: etcd.TxnRequest, context: object) -> etcd.TxnResponse:
        self.calls += 1
        self.txn_sizes.append(len(request.success))
        for operation in request.success:
            self.items[operation.request_put.key] = operation.request_put.value
        return etcd.TxnResponse(succeeded=True)


@asynccontextmanager
async def fake_etcd() -> AsyncIterator[FakeEtcd]:
    """A member that listens on a free port during the block."""
    fake, server = FakeEtcd(), grpc.aio.server()
    methods: dict[str, tuple[Any, Any, Any]] = {
        "Put": (fake.put, etcd.PutRequest, etcd.PutResponse),
        "Range": (fake.range, etcd.RangeRequest, etcd.RangeResponse),
        "Txn": (fake.txn, etcd.TxnRequest, etcd.TxnResponse),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            method, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )
        for name, (method, request, response) in methods.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("etcdserverpb.KV", handlers)])
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
