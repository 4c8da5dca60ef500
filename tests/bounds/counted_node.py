"""One node in a process of its own that tells what it holds: `python -m tests.bounds.counted_node FILE [OPEN_FILES_MAX]`.

Prints a line when it is ready, and a line of JSON with its counts for each line it is sent. Stops when its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path


async def serve(path: Path) -> None:
    from kvstore.config import load_config
    from kvstore.node import Node
    from kvstore.telemetry import configure_logging

    configure_logging(node_id="n1")
    node = Node(load_config(path))
    await node.start()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(counts(node)), flush=True)
    await node.stop()


def counts(node: object) -> dict[str, int]:
    local = node.local  # type: ignore[attr-defined]
    node.check()  # type: ignore[attr-defined]
    return {
        "held_bytes": local.serving.intake.held_bytes,
        "connections": local.serving.intake.connections,
        "refused": local.serving.intake.refused,
        "in_flight": local.coordinator.in_flight,
        "committing": local.committer.queued_count,
        "staged": len(local.store.pending),
        "tasks": len(asyncio.all_tasks()),
    }


if __name__ == "__main__":
    from kvproto.options import EVENT_ENGINE_OFF

    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
    os.environ.setdefault("GRPC_EXPERIMENTS", EVENT_ENGINE_OFF)  # as `kv serve` does
    from kvstore.event_loop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1])))
