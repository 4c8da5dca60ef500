"""The faults of a world, by name (world.py says how they are used). Each is an event of the log, and takes effect at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvstore.simulation.connection import LinkSettings
from kvstore.simulation.disk import Backup, SimDisk
from kvstore.simulation.machine import Machine
from kvstore.simulation.network import Network
from kvstore.simulation.process import Process


class Faults:
    """The half of a `World` that breaks things and makes them whole."""

    network: Network
    machines: dict[str, Machine]
    clients: dict[str, Process]

    def event(self, kind: str, **facts: Any) -> None:
        """Adds to the log, at this moment."""
        raise NotImplementedError

    def process(self, name: str) -> Process:
        """The living process of a node or client."""
        raise NotImplementedError

    # --- nodes, disks, clocks

    def crash(self, name: str, *, keep: int | None = None, silent: bool = False) -> None:
        """Kills a node's process, wherever it is. Of the writes no sync has covered the first `keep` survive (None: drawn).
        `silent`: the machine goes with it, so that no connection is reset and others learn it by keepalive only."""
        self.machines[name].crash(keep, silently=silent)

    def pause(self, name: str) -> None:
        """Stops a node or client from running; its messages and timers wait (SIGSTOP)."""
        process = self.process(name)
        if not process.is_paused:
            self.event("fault", f="pause", node=name)
            process.pause()
            self.network.silence(process, lambda: process.is_paused)

    def resume(self, name: str) -> None:
        """Lets a paused node or client run again."""
        self.event("fault", f="resume", node=name)
        self.process(name).resume()

    def wipe(self, name: str) -> None:
        """Empties a node's disk; the node must be down."""
        assert self.machines[name].node is None, f"{name} runs"
        self.event("fault", f="wipe", node=name)
        self.disk(name).wipe()

    def backup(self, name: str) -> Backup:
        """A copy of a node's disk as it is now."""
        return self.disk(name).backup()

    def restore(self, name: str, backup: Backup) -> None:
        """Puts an older copy back; the node must be down."""
        self.event("fault", f="restore", node=name)
        self.disk(name).restore(backup)

    def disk(self, name: str) -> SimDisk:
        """A node's disk, for its faults: `fail_next_write`, `slow_ms`, `flip_bit`, `unreadable`."""
        return self.machines[name].disk

    def skew(self, name: str, ms: int) -> None:
        """Sets a node's wall clock `ms` ahead of (or behind) the true time, at once."""
        self.event("fault", f="skew", node=name, ms=ms)
        self.machines[name].clock.skew_ms = ms

    # --- links

    def set_link(self, source: str, target: str, **changes: float) -> None:
        """Changes a directed link (`LinkSettings`: delay_ms, jitter_ms, loss, retransmit_ms) for what is sent from now on."""
        link = self.network.link(source, target)
        current = {name: getattr(link.settings, name) for name in LinkSettings.__dataclass_fields__}
        link.settings = LinkSettings(**{**current, **changes})
        self.event("fault", f="link", source=source, target=target, **changes)

    def cut(self, source: str, target: str) -> None:
        """Nothing passes from `source` to `target`; what was on its way may be lost with its connection."""
        self._block(source, target, "cut")

    def stall(self, source: str, target: str) -> None:
        """Nothing passes from `source` to `target` until it is healed; all of it arrives then, however late."""
        self._block(source, target, "stalled")

    def heal(self, source: str, target: str) -> None:
        """Everything passes from `source` to `target` again."""
        self.event("fault", f="heal", source=source, target=target)
        self.network.unblock(source, target)

    def partition(self, *groups: Iterable[str]) -> None:
        """Cuts every link between nodes or clients of different groups, both ways."""
        sides = [list(group) for group in groups]
        for at, side in enumerate(sides):
            for other in [name for index, names in enumerate(sides) if index != at for name in names]:
                for name in side:
                    self.cut(name, other)

    def isolate(self, name: str) -> None:
        """Cuts a node off from all other nodes, both ways; clients still reach it."""
        self.partition([name], [other for other in self.machines if other != name])

    def heal_all(self) -> None:
        """Frees every link and resumes every paused process; settings of links, disks and clocks stay."""
        for link in self.network.links():
            if link.blocked:
                self.heal(link.source, link.target)
        for machine in self.machines.values():
            if machine.process is not None and machine.process.is_paused:
                self.resume(machine.name)
        for process in self.clients.values():
            if process.is_paused:
                self.resume(process.name)

    def reset(self, left: str, right: str) -> None:
        """Resets every connection between the two; what was on its way is lost."""
        self.event("fault", f="reset", left=left, right=right, connections=self.network.reset(left, right))

    def _block(self, source: str, target: str, how: str) -> None:
        self.event("fault", f=how, source=source, target=target)
        self.network.block(source, target, how)
