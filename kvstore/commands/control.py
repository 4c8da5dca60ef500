"""Acting on a running local cluster from another process: one JSON line each way over a Unix socket only its user can open.

The process that started the nodes does the acting, because only a parent can tell its own children from a pid used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from kvproto.errors import ClusterError, KvError, error_class
from kvstore.commands.local_cluster import LocalCluster
from kvstore.commands.local_layout import read_cluster_file

SOCKET = "control.sock"


@contextlib.asynccontextmanager
async def serve_control(cluster: LocalCluster) -> AsyncIterator[Path]:
    """Listens for actions while the block runs; the socket's path is written into cluster.json."""
    # A folder of its own: a socket's path may have about 100 bytes only, and mkdtemp's folders are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="kv-dev-"))

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write((json.dumps(await _answer(cluster, await reader.readline())) + "\n").encode())
            await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_unix_server(on_connection, path=folder / SOCKET)
        async with server:
            cluster.control = folder / SOCKET
            cluster.write_file()
            yield folder / SOCKET
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _answer(cluster: LocalCluster, line: bytes) -> dict[str, object]:
    try:
        asked = json.loads(line)
        return {"node": await cluster.act(str(asked["action"]), str(asked["node"]))}
    except KvError as error:
        return {"error": {"code": int(error.code), "message": error.message}}
    except (ValueError, KeyError, TypeError):
        return {"error": {"code": int(ClusterError.code), "message": "not an action on a node"}}


async def send_action(root: Path, action: str, node_id: str) -> dict[str, object]:
    """Asks the `kv dev` that runs on `root`; the node's row afterwards. Raises its error, or `ClusterError` when none runs."""
    reader_writer = await _connect(root)
    if reader_writer is None:
        raise ClusterError(f"no kv dev is running on {root}: start it with kv dev --data {root}", subject=str(root))
    reader, writer = reader_writer
    try:
        writer.write((json.dumps({"action": action, "node": node_id}) + "\n").encode())
        line = await reader.readline()
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    if not line:
        raise ClusterError(f"kv dev on {root} ended before it answered", subject=str(root))
    answer = json.loads(line)
    if "error" in answer:
        raise error_class(answer["error"]["code"])(answer["error"]["message"], subject=node_id)
    node: dict[str, object] = answer["node"]
    return node


async def is_running(root: Path) -> bool:
    """Whether a `kv dev` runs on `root` now."""
    reader_writer = await _connect(root)
    if reader_writer is None:
        return False
    reader_writer[1].close()
    return True


async def _connect(root: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    path = (read_cluster_file(root) or {}).get("control")
    if not isinstance(path, str):
        return None
    try:
        return await asyncio.open_unix_connection(path)
    except OSError:
        return None  # left behind by one that was killed
