"""Network namespaces of one cluster: made, joined by a bridge in a namespace of its own, and removed; all of it blocks.

Their names begin with the process that made them, so that what a killed run has left is found and removed by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

from kvchaos.faults.failures import InjectorFailure

PREFIX = "kvchaos"
COMMAND_TIMEOUT_S = 20
_NAME = re.compile(rf"^{PREFIX}-(\d+)-")


def why_not() -> str:
    """Why there can be no namespaces on this machine, in words; "" where there can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces take root"
    missing = [program for program in ("ip", "iptables") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be found"
    probe = f"{PREFIX}-{os.getpid()}-probe"
    try:
        run("ip", "netns", "add", probe)
        try:
            inside(probe, "iptables", "-w", "-S")
        finally:
            run("ip", "netns", "del", probe)
    except InjectorFailure as failure:
        return str(failure)
    return ""


def run(*command: str) -> str:
    """What it wrote. Raises `InjectorFailure` with its last line."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InjectorFailure(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise InjectorFailure(f"{' '.join(command)} ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")
    return done.stdout


def inside(namespace: str, *command: str) -> str:
    """The same within a namespace."""
    return run(*entering(namespace), *command)


def entering(namespace: str) -> tuple[str, ...]:
    """What to put before a command; the program keeps the process id."""
    return ("ip", "netns", "exec", namespace)


class Network:
    """A bridge, a namespace for each of `nodes` and a leg of this machine; `addresses` of each, CIDR. Not made before `make`."""

    def __init__(self, nodes: Sequence[str], addresses: dict[str, Sequence[str]], own: Sequence[str], number: int) -> None:
        self.namespaces = {node: f"{PREFIX}-{os.getpid()}-{number}-{node}" for node in nodes}
        self._hub = f"{PREFIX}-{os.getpid()}-{number}-hub"
        self._leg = f"kvc{os.getpid()}n{number}"[:15]
        self._addresses = addresses
        self._own = own

    def make(self) -> None:
        """Makes all of it, or raises `InjectorFailure` and leaves nothing."""
        remove_left()
        try:
            for name in (self._hub, *self.namespaces.values()):
                run("ip", "netns", "add", name)
            run("ip", "-n", self._hub, "link", "add", "bridge", "type", "bridge")
            run("ip", "-n", self._hub, "link", "set", "bridge", "up")
            for node, name in self.namespaces.items():
                run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", node, "netns", self._hub)
                self._plug(node)
                self._set_up(("-n", name), "eth0", self._addresses[node])
                run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "link", "add", self._leg, "type", "veth", "peer", "name", "outside", "netns", self._hub)
            self._plug("outside")
            self._set_up((), self._leg, self._own)
        except InjectorFailure:
            self.remove()
            raise

    def remove(self) -> None:
        """Removes it; interfaces go with their namespaces. What is gone already stays so."""
        there = set(_names())
        for name in (*self.namespaces.values(), self._hub):
            if name in there:
                run("ip", "netns", "del", name)

    def _plug(self, port: str) -> None:
        run("ip", "-n", self._hub, "link", "set", port, "master", "bridge", "up")

    def _set_up(self, where: tuple[str, ...], interface: str, addresses: Sequence[str]) -> None:
        for address in addresses:
            run("ip", *where, "addr", "add", address, "dev", interface)
        run("ip", *where, "link", "set", interface, "up")


def remove_left() -> None:
    """Removes namespaces of processes that are gone."""
    for name in _names():
        made = _NAME.match(name)
        if made and not os.path.exists(f"/proc/{made.group(1)}"):
            run("ip", "netns", "del", name)


def _names() -> Iterator[str]:
    for line in run("ip", "netns", "list").splitlines():
        if line.strip():
            yield line.split()[0]
