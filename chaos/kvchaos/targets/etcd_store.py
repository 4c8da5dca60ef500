"""One etcd member as a store of workloads: linearizable reads, and compare-and-set as a transaction.

Every answer but a refusal leaves a write's outcome unknown, and nothing is tried twice: an operation of the history is one request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from kvchaos.registers import Item, Stored, Swap
from kvchaos.targets.etcd_stubs import etcd_kv_pb2 as etcd
from kvproto.errors import AvailabilityError, ConditionFailed, DeadlineExceeded
from kvproto.options import CHANNEL_OPTIONS

# etcd's server treats pings on a connection without calls as abuse and answers with GOAWAY too_many_pings, whatever its flags say.
ETCD_CHANNEL_OPTIONS = [(name, 0 if name == "grpc.keepalive_permit_without_calls" else value) for name, value in CHANNEL_OPTIONS]


@dataclass(frozen=True, slots=True)
class _Method:
    name: str
    reply: Any


RANGE = _Method("Range", etcd.RangeResponse)
PUT = _Method("Put", etcd.PutResponse)
DELETE = _Method("DeleteRange", etcd.DeleteRangeResponse)
TXN = _Method("Txn", etcd.TxnResponse)


class EtcdStore:
    """Implements `kvchaos.registers.Register`, and `kvchaos.workloads.KeyValue`, whose contexts are revisions of the key here. Made
    inside a running event loop."""

    def __init__(self, address: str, *, node: str) -> None:
        self.node = node
        # A channel of its own: with a shared one a member that is gone would hold up clients of other tests.
        options = [*ETCD_CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(address, options=options)

    async def get(self, key: str, *, timeout_s: float) -> Item:
        """A linearizable read."""
        reply = await self._call(RANGE, etcd.RangeRequest(key=key.encode()), timeout_s, writes=False)
        return _item(reply)

    async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> Stored:
        """Overwrites; with a context only what it was read with. Raises `ConditionFailed` where that was replaced since."""
        put = etcd.PutRequest(key=key.encode(), value=value)
        if context is None:
            return _stored(await self._call(PUT, put, timeout_s, writes=True))
        target = etcd.Compare.MOD
        unchanged = etcd.Compare(key=key.encode(), target=target, result=etcd.Compare.EQUAL, mod_revision=int(context or b"0"))
        request = etcd.TxnRequest(compare=[unchanged], success=[etcd.RequestOp(request_put=put)])
        reply = await self._call(TXN, request, timeout_s, writes=True)
        if not reply.succeeded:
            raise ConditionFailed(f"{key} was written since")
        return _stored(reply)

    async def delete(self, key: str, *, timeout_s: float) -> Stored:
        """Deletes, whatever is there."""
        reply = await self._call(DELETE, etcd.DeleteRangeRequest(key=key.encode()), timeout_s, writes=True)
        # Deleting nothing makes no revision: its place among the commits is not known.
        return _stored(reply) if reply.deleted else Stored()

    async def compare_and_set(self, key: str, old: bytes | None, new: bytes, *, timeout_s: float) -> Swap:
        """Writes `new` where `old` is; else tells what is."""
        where, equal = key.encode(), etcd.Compare.EQUAL
        if old is None:
            condition = etcd.Compare(key=where, result=equal, target=etcd.Compare.VERSION, version=0)
        else:
            condition = etcd.Compare(key=where, result=equal, target=etcd.Compare.VALUE, value=old)
        request = etcd.TxnRequest(
            compare=[condition],
            success=[etcd.RequestOp(request_put=etcd.PutRequest(key=key.encode(), value=new))],
            failure=[etcd.RequestOp(request_range=etcd.RangeRequest(key=key.encode()))],
        )
        reply = await self._call(TXN, request, timeout_s, writes=True)
        if reply.succeeded:
            return Swap(applied=True, order=reply.header.revision)
        return Swap(applied=False, found=_item(reply.responses[0].response_range))

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close(None)

    async def _call(self, method: _Method, request: Any, timeout_s: float, *, writes: bool) -> Any:
        call = self._channel.unary_unary(
            f"/etcdserverpb.KV/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=method.reply.FromString,
        )
        try:
            return await call(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            said = f"{error.code().name}: {error.details()}"
            kind = DeadlineExceeded if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else AvailabilityError
            raise kind(said, may_have_applied=writes) from error


def _item(reply: Any) -> Item:
    if not reply.kvs:
        return Item(None, b"0", order=None)
    found = reply.kvs[0]
    return Item(found.value, str(found.mod_revision).encode(), order=found.mod_revision)


def _stored(reply: Any) -> Stored:
    return Stored(version=str(reply.header.revision), order=reply.header.revision)
