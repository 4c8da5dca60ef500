"""Free ports of the loopback interface for clusters whose addresses must be known before anything listens.

They lie below the range that the system hands to outgoing connections: while a node or a proxy is down, a port of that range could
be taken by anybody's connection, even by an attempt to reach the very node that is away.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
FIRST = 10_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_FIRST_DEFAULT = 32_768
ATTEMPTS_MAX = 200


def find_free_ports(count: int, rng: random.Random | None = None) -> list[int]:
    """`count` neighbouring ports that nobody listens on now; where they begin is drawn by the system, unless there is an `rng`.

    Neighbours, so that two runs that choose at the same moment have either all ports in common or, nearly always, none. Raises
    `OSError` when no such row of ports is found.
    """
    last = _ephemeral_first() - count
    for _ in range(ATTEMPTS_MAX):
        first = (rng or random.SystemRandom()).randrange(FIRST, last)
        ports = list(range(first, first + count))
        if all(map(is_free, ports)):
            return ports
    raise OSError(f"no {count} neighbouring free ports were found between {FIRST} and {last}")


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
