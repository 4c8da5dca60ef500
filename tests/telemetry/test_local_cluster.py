"""Each node of a local cluster answers at the http address that `kv dev` tells of it."""

from __future__ import annotations

from pathlib import Path

from kvstore.commands.local_cluster import LocalCluster
from tests.commands.conftest import plan
from tests.telemetry.http_client import fetch, fetch_json


async def test_every_node_of_kv_dev_serves_its_http_address(tmp_path: Path) -> None:
    cluster = LocalCluster(plan(tmp_path, nodes=2))
    await cluster.start()
    try:
        for row in cluster.rows():
            status, ready = await fetch_json(str(row["http"]), "/ready")
            assert (status, ready["node"], ready["ready"]) == (200, row["id"], True)
            assert "kv_build_info" in (await fetch(str(row["http"]), "/metrics"))[2]
    finally:
        await cluster.stop()
