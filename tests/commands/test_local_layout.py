"""Where the nodes of a local cluster are, and what is kept between its runs."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import pytest

from kvproto.errors import ClusterError, UserError
from kvstore.commands.local_layout import CLUSTER_FILE, FORMAT, ClusterLayout, plan_layout, read_cluster_file
from kvstore.commands.ports import find_free_port_pairs, why_not_listen
from kvstore.config import load_config
from kvstore.runtime import SystemClock
from kvstore.transport.certificates import read_node_pem


def layout(root: Path, nodes: int | None = 3, base_port: int = 7400, kept: dict[str, object] | None = None) -> ClusterLayout:
    return plan_layout(root, nodes=nodes, base_port=base_port, preset=None, rng=random.Random(1), kept=kept)


def test_ports_are_ten_apart_with_http_one_above(tmp_path: Path) -> None:
    found = [(place.id, place.address, place.http) for place in layout(tmp_path).nodes]
    assert found == [
        ("n1", "127.0.0.1:7400", "127.0.0.1:7401"),
        ("n2", "127.0.0.1:7410", "127.0.0.1:7411"),
        ("n3", "127.0.0.1:7420", "127.0.0.1:7421"),
    ]


def test_the_cluster_id_is_drawn_once_and_kept(tmp_path: Path) -> None:
    first = layout(tmp_path)
    assert first.cluster_id != plan_layout(tmp_path, nodes=3, base_port=7400, preset=None, rng=random.Random(2)).cluster_id
    kept: dict[str, object] = {"cluster_id": first.cluster_id, "preset": "pa-el", "nodes": [{}, {}]}
    again = layout(tmp_path, nodes=None, kept=kept)
    assert (again.cluster_id, again.preset, len(again.nodes)) == (first.cluster_id, "pa-el", 2)


def test_another_number_of_nodes_over_old_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="holds a cluster of 2 nodes, not 3"):
        layout(tmp_path, nodes=3, kept={"nodes": [{}, {}]})


@pytest.mark.parametrize("base_port", [65_530, 70_000])
def test_a_base_port_without_room_is_refused(tmp_path: Path, base_port: int) -> None:
    with pytest.raises(UserError, match="--base-port"):
        layout(tmp_path, base_port=base_port)


def test_free_ports_are_free_in_pairs_and_below_those_of_outgoing_connections(tmp_path: Path) -> None:
    found = find_free_port_pairs(5, rng=random.Random(7))
    assert len(set(found)) == 5
    assert all(why_not_listen(f"127.0.0.1:{port + offset}") is None for port in found for offset in (0, 1))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert max(found) + 1 < server.getsockname()[1]


def test_a_taken_port_of_a_pair_is_passed_over(tmp_path: Path) -> None:
    first = find_free_port_pairs(1, rng=random.Random(7))[0]
    with socket.create_server(("127.0.0.1", first + 1)):
        assert find_free_port_pairs(1, rng=random.Random(7))[0] != first


def test_a_port_shared_by_a_server_counts_as_taken(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert why_not_listen(address) == f"{address} is in use by another process"


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    reason = why_not_listen("192.0.2.1:7400")
    assert reason is not None
    assert reason.startswith("cannot listen on 192.0.2.1:7400: ")


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": FORMAT + 1})])
def test_a_cluster_file_that_is_not_ours_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / CLUSTER_FILE).write_text(content)
    with pytest.raises(ClusterError, match=CLUSTER_FILE):
        read_cluster_file(tmp_path)


def test_no_cluster_file_is_a_new_cluster(tmp_path: Path) -> None:
    assert read_cluster_file(tmp_path) is None


def test_a_cluster_with_tls_has_certificates_that_its_nodes_accept_and_keeps_them(tmp_path: Path) -> None:
    def made() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}

    planned = plan_layout(tmp_path, nodes=2, base_port=7400, preset=None, rng=random.Random(1), tls=True)
    planned.write_configs()
    first = made()
    for place in planned.nodes:
        config = load_config(place.config)
        assert config.tls is not None
        read_node_pem(config.tls, node_id=place.id, members=config.nodes, now_ms=SystemClock().now_ms())
    assert {(tmp_path / "tls" / name).stat().st_mode & 0o777 for name in first if name.endswith(".key")} == {0o600}
    again = layout(tmp_path, nodes=None, kept={"nodes": [{}, {}], "tls": True})
    again.write_configs()
    assert again.tls and made() == first
    (tmp_path / "tls" / "client.key").unlink()
    again.write_configs()
    assert made().keys() == first.keys() and made()["ca.pem"] != first["ca.pem"], (
        "an authority's key is not kept: all are made anew"
    )


def test_a_cluster_without_tls_has_no_certificates(tmp_path: Path) -> None:
    planned = layout(tmp_path)
    planned.write_configs()
    assert planned.certificates is None and not (tmp_path / "tls").exists()
    assert load_config(planned.nodes[0].config).tls is None


def test_a_namespace_may_be_linearizable_whatever_the_preset_of_the_default_one(tmp_path: Path) -> None:
    for preset, mode in (("pa-el", "eventual"), ("pc-el", "linearizable")):
        policies = {"orders": "linearizable", "tags": "set"}
        planned = plan_layout(tmp_path, nodes=1, base_port=7400, preset=preset, rng=random.Random(1), policies=policies)
        planned.write_configs()
        spaces = load_config(planned.nodes[0].config).cluster.namespaces
        modes = {name: (space.mode, space.preset) for name, space in spaces.items() if name != "tags"}
        assert modes == {"default": (mode, preset), "orders": ("linearizable", "pc-ec")}
        assert (spaces["tags"].mode, spaces["tags"].policy) == ("eventual", "set")


def test_namespaces_with_policies_are_kept_and_more_may_come(tmp_path: Path) -> None:
    first = plan_layout(tmp_path, nodes=1, base_port=7400, preset=None, rng=random.Random(1), policies={"tags": "set"})
    kept: dict[str, object] = {"policies": dict(first.policies), "nodes": [{}]}
    again = plan_layout(
        tmp_path, nodes=1, base_port=7400, preset=None, rng=random.Random(1), policies={"hits": "counter"}, kept=kept
    )
    again.write_configs()
    spaces = load_config(again.nodes[0].config).cluster.namespaces
    assert {name: (space.id, space.policy) for name, space in spaces.items()} == {
        "default": (1, "siblings"),
        "tags": (2, "set"),
        "hits": (3, "counter"),
    }
