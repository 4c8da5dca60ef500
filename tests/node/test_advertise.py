"""What clients are told of where the nodes are: what each says of itself, not where its peers happen to dial it."""

from __future__ import annotations

from pathlib import Path

import grpc.aio

from kvproto.admin_codec import decode_cluster
from kvproto.v1 import admin_pb2, admin_pb2_grpc
from kvstore.config import NodeConfig
from tests.support.nodes import Nodes
from tests.support.waiting import until

TOLD = {"n1": "127.0.0.1:41", "n2": "127.0.0.1:42", "n3": "127.0.0.1:43"}


class Behind(Nodes):
    """Nodes that clients reach at other addresses than their peers."""

    def config(self, node: str, **changes: object) -> NodeConfig:
        return super().config(node, advertise=TOLD[node], **changes)


async def told_by(nodes: Nodes, node: str) -> dict[str, str]:
    async with grpc.aio.insecure_channel(nodes.addresses[node]) as channel:
        info = decode_cluster(await admin_pb2_grpc.AdminStub(channel).Describe(admin_pb2.DescribeRequest()))
    return {member.id: member.address for member in info.members}


async def test_bug_clients_were_told_where_a_node_dials_its_peers_and_not_what_those_advertise(tmp_path: Path) -> None:
    async with Behind(tmp_path, ["n1", "n2", "n3"]) as nodes:
        await nodes.start()
        assert [await told_by(nodes, node) for node in nodes.ids] == [TOLD, TOLD, TOLD]


async def test_a_peer_that_was_never_met_is_told_as_it_is_configured(tmp_path: Path) -> None:
    async with Behind(tmp_path, ["n1", "n2"]) as nodes:
        await nodes.start_one("n1")
        assert await told_by(nodes, "n1") == {"n1": TOLD["n1"], "n2": nodes.addresses["n2"]}
        await nodes.start_one("n2")
        await until(nodes.is_linked)
        assert await told_by(nodes, "n1") == {"n1": TOLD["n1"], "n2": TOLD["n2"]}
