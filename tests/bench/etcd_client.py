"""etcd through grpc.aio: the client a Python program would write, with our channel options and one channel to each member.

Operations go to the members in turn, as etcd's own Go client balances them. Reads are linearizable: Range, `serializable` unset.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import grpc

from kvchaos.targets.etcd_store import ETCD_CHANNEL_OPTIONS
from kvchaos.targets.etcd_stubs import etcd_kv_pb2 as etcd

TXN_PUTS = 64
"""Puts in one transaction; etcd refuses more than 128 by default."""


class EtcdClient:
    """A `workload.Target` over the members at `addresses` (host:port). Made inside a running event loop."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._channels = [grpc.aio.insecure_channel(address, options=ETCD_CHANNEL_OPTIONS) for address in addresses]
        self._turn = itertools.cycle(range(len(addresses)))
        self._puts = [
            channel.unary_unary(
                "/etcdserverpb.KV/Put",
                request_serializer=etcd.PutRequest.SerializeToString,
                response_deserializer=etcd.PutResponse.FromString,
            )
            for channel in self._channels
        ]
        self._ranges = [
            channel.unary_unary(
                "/etcdserverpb.KV/Range",
                request_serializer=etcd.RangeRequest.SerializeToString,
                response_deserializer=etcd.RangeResponse.FromString,
            )
            for channel in self._channels
        ]
        self._txns = [
            channel.unary_unary(
                "/etcdserverpb.KV/Txn",
                request_serializer=etcd.TxnRequest.SerializeToString,
                response_deserializer=etcd.TxnResponse.FromString,
            )
            for channel in self._channels
        ]

    async def put(self, key: bytes, value: bytes) -> None:
        """One Put. Raises grpc.aio.AioRpcError."""
        await self._puts[next(self._turn)](etcd.PutRequest(key=key, value=value))

    async def get(self, key: bytes) -> bytes:
        """One linearizable Range. Raises KeyError if there is no such key, grpc.aio.AioRpcError."""
        reply = await self._ranges[next(self._turn)](etcd.RangeRequest(key=key))
        if not reply.kvs:
            raise KeyError(key)
        value: bytes = reply.kvs[0].value
        return value

    async def put_many(self, items: dict[bytes, bytes]) -> None:
        """Transactions of 64 puts, all in flight together. Raises the first one's grpc.aio.AioRpcError."""
        operations = [etcd.RequestOp(request_put=etcd.PutRequest(key=key, value=value)) for key, value in items.items()]
        await asyncio.gather(*(self._txn(operations[first : first + TXN_PUTS]) for first in range(0, len(operations), TXN_PUTS)))

    async def get_many(self, keys: list[bytes]) -> list[bytes]:
        """Ranges of one key each, all under way together."""
        return list(await asyncio.gather(*(self.get(key) for key in keys)))

    async def put_strict(self, key: bytes, value: bytes, *, timeout_s: float) -> None:
        """A Put with a deadline; every etcd put is strict."""
        await self._puts[next(self._turn)](etcd.PutRequest(key=key, value=value), timeout=timeout_s)

    async def close(self) -> None:
        """Closes the channels."""
        await asyncio.gather(*(channel.close(None) for channel in self._channels))

    async def _txn(self, operations: list[etcd.RequestOp]) -> None:
        reply = await self._txns[next(self._turn)](etcd.TxnRequest(success=operations))
        assert reply.succeeded, "a transaction without conditions cannot fail"
