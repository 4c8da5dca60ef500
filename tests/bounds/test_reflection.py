"""Somebody without our files: a process that cannot import any stub of ours puts and gets with nothing but server reflection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bounds.rig import BoundedNode, bounded_node

STRANGER = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("kvproto", "kvclient", "kvstore", "kvchaos"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

with grpc.insecure_channel(sys.argv[1]) as channel:
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"kvproto.v1.KeyValue", "kvproto.v1.Admin", "kvproto.v1.Peer", "grpc.health.v1.Health"} <= services, services
    method = descriptor_pool.DescriptorPool(database).FindServiceByName("kvproto.v1.KeyValue").FindMethodByName("Batch")
    Request, Reply = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    batch = channel.unary_unary("/kvproto.v1.KeyValue/Batch", Request.SerializeToString, Reply.FromString)
    kinds = method.input_type.fields_by_name["groups"].message_type.fields_by_name["kind"].enum_type.values_by_name

    def ask(kind, **columns):
        request = Request(batch_id=1)
        request.groups.add(kind=kinds[kind].number, namespace="default", **columns)
        (reply,) = batch(request, timeout=20).replies
        assert not reply.HasField("error"), reply
        return reply

    put = ask("KIND_PUT", keys=[b"who"], values=[b"a stranger"])
    assert len(put.versions) == 20 and put.receipt.durable
    assert list(ask("KIND_GET", keys=[b"who"]).values) == [b"a stranger"]
    assert not [name for name in sys.modules if name.startswith("kv")]
print("done")
"""


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[BoundedNode]:
    async with bounded_node(tmp_path) as node:
        yield node


async def test_a_stranger_puts_and_gets_by_reflection_alone(node: BoundedNode, tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error::UserWarning", "-c", STRANGER, node.address],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.stdout == "done\n", done.stderr
