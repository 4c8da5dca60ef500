"""Which ports can be listened on: one clear sentence before a node starts, and free ones for a local cluster.

gRPC would share a port with a second server (SO_REUSEPORT) instead of failing, so it is asked for here without that option.
"""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

from kvproto.errors import UserError
from kvstore.config.addresses import split_address

FREE_FIRST = 10_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_FIRST_DEFAULT = 32_768
ATTEMPTS_MAX = 2_000
HTTP_OFFSET = 1


def why_not_listen(address: str) -> str | None:
    """One sentence on why nobody can listen on host:port now, or None when it is free. Listens on nothing afterwards."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As a server would: a port that only has old connections in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"{address} is in use by another process"
        return f"cannot listen on {address}: {error.strerror or error}"
    return None


def find_free_port_pairs(count: int, *, rng: random.Random, host: str = "127.0.0.1") -> list[int]:
    """`count` ports p with p and p+1 both free now, drawn at random.

    They lie below the range that the system hands to outgoing connections: a port of that range can be taken by anybody's
    connection, even by a client's attempt to reach the very node that is down, while that node is away. Raises `UserError` when
    none are left.
    """
    last = _ephemeral_first() - HTTP_OFFSET - 1
    found: list[int] = []
    for _ in range(ATTEMPTS_MAX):
        if len(found) == count:
            return found
        port = rng.randrange(FREE_FIRST, last, HTTP_OFFSET + 1)
        if port not in found and not any(why_not_listen(f"{host}:{port + offset}") for offset in range(HTTP_OFFSET + 1)):
            found.append(port)
    raise UserError(f"no {count} free pairs of ports found between {FREE_FIRST} and {last}; give --base-port")


def _ephemeral_first() -> int:
    try:
        first = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return EPHEMERAL_FIRST_DEFAULT
    return first if first > FREE_FIRST + 1_000 else EPHEMERAL_FIRST_DEFAULT
