"""Free ports of the loopback interface for clusters whose addresses must be known before anything listens.

They lie below the range that the system hands to outgoing connections: while a node or a proxy is down, a port of that range could
be taken by anybody's connection, even by an attempt to reach the very node that is away.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
from collections import deque
from contextlib import ExitStack
from pathlib import Path

from kvchaos.go_builds import cache_folder

HOST = "127.0.0.1"
FIRST = 10_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_FIRST_DEFAULT = 32_768
ATTEMPTS_MAX = 200
BLOCK = 32
RESERVED_MAX = 16

_reserved: deque[ExitStack] = deque()


def find_free_ports(count: int, rng: random.Random | None = None) -> list[int]:
    """`count` neighbouring ports that nobody listens on now, nor is about to; where they begin is drawn by the system, unless there
    is an `rng`.

    A port that is free when it is chosen may be another's by the time somebody listens: runs on one machine that begin at the same
    moment choose among the same. So blocks of ports are locked by a file each, for as long as the process lives or until it has
    chosen `RESERVED_MAX` more times, when it listens on them or is done with them. Raises `OSError` when no such row of ports is
    found.
    """
    blocks = -(-count // BLOCK)
    last = (_ephemeral_first() - FIRST) // BLOCK - blocks
    for _ in range(ATTEMPTS_MAX):
        at = (rng or random.SystemRandom()).randrange(last + 1)
        ports = list(range(FIRST + at * BLOCK, FIRST + at * BLOCK + count))
        locks = ExitStack()
        if all(_lock(block, locks) for block in range(at, at + blocks)) and all(map(is_free, ports)):
            _reserved.append(locks)
            if len(_reserved) > RESERVED_MAX:
                _reserved.popleft().close()
            return ports
        locks.close()
    raise OSError(f"no {count} neighbouring free ports were found between {FIRST} and {_ephemeral_first()}")


def _lock(block: int, locks: ExitStack) -> bool:
    """Whether the block is ours, until `locks` is closed."""
    # Not a temporary folder: that may be a run's own, and then nobody else would see the lock.
    folder = cache_folder("kvstore-chaos") / "ports"
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / str(block), os.O_RDWR | os.O_CREAT, 0o600)
    locks.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether one could listen on it now; as a server would ask, for whom connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def address(port: int) -> str:
    """host:port."""
    return f"{HOST}:{port}"


def _ephemeral_first() -> int:
    try:
        first = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return EPHEMERAL_FIRST_DEFAULT
    return first if first > FIRST + 1_000 else EPHEMERAL_FIRST_DEFAULT
