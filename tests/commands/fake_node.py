"""A stand-in for `kv serve`: reads its node.toml, listens on its port, says it is ready, and ends as a node does.

What its data directory holds decides how it behaves, so that a test can make one node of a cluster fail: `refuse` ends it before
it is ready, `deaf` makes it ignore SIGTERM. It counts its starts and its clean stops there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from kvstore.config import load_config
from kvstore.config.addresses import split_address


def count(path: Path) -> None:
    path.write_text(str(int(path.read_text()) + 1 if path.exists() else 1))


def stop_at_end_of_stdin(stop: int) -> None:
    sys.stdin.buffer.read()
    os.write(stop, b"!")


def main() -> int:
    config_path = Path(sys.argv[sys.argv.index("--config") + 1])
    config = load_config(config_path)
    config.data.mkdir(parents=True, exist_ok=True)
    if (config.data / "refuse").exists():
        print("kv: the disk is on holiday", file=sys.stderr)
        return 2
    # A pipe that the system's handler writes to, not a `threading.Event`: setting one hangs when the signal comes while this thread
    # has the event's lock, and a signal that comes to the other thread, as it may just after SIGCONT, does not wake this one.
    stopped, stop = os.pipe()
    os.set_blocking(stop, False)
    signal.set_wakeup_fd(stop)
    if (config.data / "deaf").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: None)
    with socket.create_server(split_address(config.listen)):
        count(config.data / "starts")
        print(json.dumps({"event": "ready", "id": config.node_id, "pid": os.getpid()}), flush=True)
        threading.Thread(target=stop_at_end_of_stdin, args=(stop,), daemon=True).start()
        os.read(stopped, 1)
    count(config.data / "clean-stops")
    return 0


if __name__ == "__main__":
    # The reader of stdin may hold its lock for ever: leave without asking it.
    code = main()
    sys.stdout.flush()
    os._exit(code)
