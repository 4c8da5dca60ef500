"""The fault plane: what scenarios are written against, whatever injects the faults.

Every call returns when the fault has been injected, and writes into the history when it began and when it took. A fault counts once
`verify` has seen it: one that is healed unseen, or that cannot be seen, is an `InjectorFailure`, never a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kvchaos.faults.link_state import Direction, Kind, Link


class FaultPlane(Protocol):
    """Faults of the links between nodes, of those from sites of clients to nodes, and of the nodes' processes.

    Links keep what was done to them until `heal`, and cuts, delays and throttles add up.
    """

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Every node, up or down."""

    async def partition(
        self, groups: Sequence[Sequence[str]], *, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH
    ) -> None:
        """Cuts every link from one group to another. Groups name nodes and sites of clients; who is in none is not cut off."""

    async def isolate(self, node: str, *, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH) -> None:
        """Cuts a node off from all other nodes; clients still reach it."""

    async def bridge(self, node: str, *, kind: Kind = Kind.BLACKHOLE) -> None:
        """The other nodes fall into two halves that do not see each other; `node` sees both."""

    async def cut(self, *links: Link, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH) -> None:
        """Cuts these directed links: `source` cannot call `target`. What `target` calls at `source` is another link."""

    async def delay(self, link: Link, ms: int) -> None:
        """Each way takes `ms` longer, so a round trip twice that."""

    async def throttle(self, link: Link, kbytes_per_s: int) -> None:
        """Each connection carries at most so many thousand bytes a second each way."""

    async def reset(self, link: Link) -> None:
        """Every connection is reset as soon as something is sent on it."""

    async def truncate(self, link: Link, size_bytes: int, *, direction: Direction = Direction.RESPONSES) -> None:
        """Every connection is closed after so many bytes, in the middle of whatever they are."""

    async def pause(self, node: str) -> None:
        """SIGSTOP."""

    async def resume(self, node: str) -> None:
        """SIGCONT."""

    async def kill(self, *nodes: str) -> None:
        """SIGKILL to all of them at one moment."""

    async def restart(self, *nodes: str) -> None:
        """Starts them on the data they have; those that run are stopped cleanly before. Raises `RestartFailed`."""

    async def wipe(self, node: str) -> None:
        """Kills a node and deletes its data; it stays down until `restart`."""

    async def cut_power(self, *nodes: str) -> None:
        """Kills them at one moment and takes from their disks whatever was not synced; they stay down until `restart`. Once for
        each node, and only where disks are recorded (`ProxiedCluster(recorded=True)`)."""

    async def flip(self, node: str, part: str) -> None:
        """Flips bits on the disk of a node, up or down: in every block of records of its `tables`, or one in its newest `log`."""

    async def shorten(self, node: str) -> None:
        """Cuts the newest table of a node that is down to half."""

    async def skew(self, node: str, seconds: float) -> None:
        """Its wall clock is ahead of this machine's by so much, behind if negative; 0: right again. Timers go on as they were."""

    async def heal(self, *, unseen_ok: bool = False) -> None:
        """Every link and clock is as it was, and paused nodes go on; nodes that are down stay down.

        Raises `InjectorFailure`, after healing, for faults that no `verify` has seen, unless `unseen_ok`: for cuts that come and go
        quicker than one can look.
        """

    async def verify(self) -> None:
        """Looks at every link and asks every node that runs. Raises `InjectorFailure` naming each that is not as it should be."""
