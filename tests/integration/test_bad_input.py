"""Nodes that must not work together, started beside a healthy one: each gets a typed error, and the healthy one goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvproto.errors import ClusterError, Code, DuplicateNode, KvError, SettingsMismatch, StoreInUse, UserError, WrongCluster
from kvstore import assembly
from kvstore.config import NamespaceConfig, load_config
from kvstore.node import Node
from tests.support.cluster import ONE, gets, puts
from tests.support.nodes import Nodes, free_ports


@pytest.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    """n1 runs and takes writes; its ring has a second member that does not run. So n1 does not know whether its directory is its
    first one, and answers no reads yet."""
    monkeypatch.setattr(assembly, "STOP_GRACE_S", 0.05)
    async with Nodes(tmp_path) as nodes:
        await nodes.start("n1")
        await serves_still(nodes)
        yield nodes
        await serves_still(nodes)


async def serves_still(nodes: Nodes) -> None:
    assert (await nodes.run("n1", puts({b"k": b"v"}, **ONE)))[0].error is None


async def refused(node: Node) -> KvError:
    with pytest.raises(KvError) as caught:
        await node.start()
    return caught.value


async def test_a_second_process_under_the_id_of_one_that_lives(nodes: Nodes) -> None:
    await nodes.start("n2")
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    error = await refused(Node(nodes.config("n2", listen=address, advertise=address, data=nodes.root / "elsewhere")))
    assert isinstance(error, DuplicateNode) and error.subject == "n2"
    assert (await nodes.run("n2", gets(b"k")))[0].value == b"v", "the first one goes on"


async def test_the_same_directory_twice(nodes: Nodes) -> None:
    error = await refused(Node(nodes.config("n1")))
    assert isinstance(error, StoreInUse) and error.retryable and "this process" in error.message


async def test_the_data_of_another_cluster(nodes: Nodes) -> None:
    await nodes.start("n2")
    await nodes.stop("n2")
    error = await refused(Node(nodes.config("n2", cluster=replace(nodes.settings, id="other"))))
    assert isinstance(error, WrongCluster) and "'test'" in error.message and "'other'" in error.message


async def test_the_data_of_another_node(nodes: Nodes) -> None:
    await nodes.start("n2")
    await nodes.stop("n2")
    error = await refused(Node(nodes.config("n2", node_id="n3", peers={"n1": nodes.addresses["n1"]})))
    assert isinstance(error, ClusterError) and "'n2'" in error.message and "'n3'" in error.message


async def test_a_node_of_another_cluster(nodes: Nodes) -> None:
    error = await refused(Node(nodes.config("n2", cluster=replace(nodes.settings, id="other"))))
    assert isinstance(error, WrongCluster) and error.code is Code.WRONG_CLUSTER
    assert "'test'" in error.message and "'other'" in error.message


async def test_different_cluster_settings_are_named_one_by_one(nodes: Nodes) -> None:
    settings = replace(
        nodes.settings,
        partitions=16,
        key_bytes_max=100,
        namespaces={"default": NamespaceConfig(n=1), "more": NamespaceConfig(id=2, name="more")},
    )
    error = await refused(Node(nodes.config("n2", cluster=settings)))
    assert isinstance(error, SettingsMismatch)
    for named in (
        "cluster.partitions is 8 here and 16 there",
        "cluster.key_bytes_max",
        "cluster.namespaces.default.n",
        "cluster.namespaces.more",
    ):
        assert named in error.message, error.message


async def test_bug_a_node_that_the_others_do_not_know_started_all_the_same(nodes: Nodes) -> None:
    """1. n9 greets n1, which does not know it. 2. The refusal had the wire code of "unavailable" and arrived as such: not now, but
    perhaps later. 3. n9 started with a ring of its own."""
    error = await refused(Node(nodes.config("n2", node_id="n9")))
    assert isinstance(error, ClusterError) and error.subject == "n9" and "[peers]" in error.message


async def test_bug_an_address_behind_which_another_node_lives_was_taken_for_one_that_is_down(nodes: Nodes) -> None:
    """As above, for a refusal by the node that was reached instead of the one that was meant."""
    peers = {"n3": nodes.addresses["n1"]}
    error = await refused(Node(nodes.config("n2", peers=peers)))
    assert isinstance(error, ClusterError) and error.subject == "n3" and "this is node n1" in error.message


async def test_an_address_that_is_taken(nodes: Nodes) -> None:
    error = await refused(Node(nodes.config("n2", listen=nodes.addresses["n1"], advertise=nodes.addresses["n1"])))
    assert isinstance(error, UserError) and error.subject == nodes.addresses["n1"] and "in use" in error.message


async def test_an_address_of_another_machine(nodes: Nodes) -> None:
    error = await refused(Node(nodes.config("n2", listen="192.0.2.1:7400")))
    assert isinstance(error, UserError) and error.subject == "192.0.2.1:7400"


async def test_an_address_that_others_can_reach_without_tls(nodes: Nodes, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('node_id = "n2"\nlisten = "0.0.0.0:7400"\ndata = "data"\n')
    with pytest.raises(UserError, match=r"listen: .*can be reached from other machines"):
        load_config(file)


async def test_a_refused_node_lets_go_of_its_directory_and_can_start_once_corrected(nodes: Nodes) -> None:
    await refused(Node(nodes.config("n2", cluster=replace(nodes.settings, key_bytes_max=100))))
    await nodes.start("n2")
    assert (await nodes.run("n2", gets(b"k")))[0].value == b"v"


async def test_a_data_path_that_is_a_file(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    error = await refused(Node(nodes.config("n2", data=tmp_path / "file")))
    assert error.code is Code.STORAGE_FAILED and "is a file" in error.message


async def test_a_directory_that_holds_something_else(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_text("sea")
    error = await refused(Node(nodes.config("n2", data=tmp_path / "holiday")))
    assert error.code is Code.STORAGE_FAILED and "photo.jpg" in error.message
    assert (tmp_path / "holiday" / "photo.jpg").read_text() == "sea"
