"""host:port, as people write it in a file or on a command line."""

from __future__ import annotations

import ipaddress

PORT_MAX = 65_535


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`; raises `ValueError` with a sentence that says what is missing."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{address!r} is not host:port, for example 127.0.0.1:7400")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{address!r}: an IPv6 address goes in brackets, for example [::1]:7400")
    if not port.isdecimal() or not 1 <= int(port) <= PORT_MAX:
        raise ValueError(f"{address!r}: the port must be a number between 1 and {PORT_MAX:,}")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it; a name other than localhost is taken for one that others can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
