"""Whether a node lives, and whether it serves: what its http address answers, and why not."""

from __future__ import annotations

from collections.abc import Callable

from kvstore.local_node import LocalNode

COMMIT_STUCK_S = 30.0
"""A commit that takes longer will not end by waiting: the disk hangs, or the commit thread is gone."""

LinkStates = Callable[[], tuple[tuple[str, str, int], ...]]


class Condition:
    """One node's, as of now. `link_states` gives (id, state, queued operations) of every peer."""

    def __init__(self, local: LocalNode, link_states: LinkStates) -> None:
        self._local = local
        self._link_states = link_states
        self.node_id = local.config.node_id
        self.logs = local.telemetry.logs

    def why_unhealthy(self) -> str | None:
        """What only a new process can mend; None while it lives. That its event loop turns is shown by the answer itself."""
        committer = self._local.committer
        if committer.failure is not None:
            return committer.failure.message
        stuck_s = committer.stuck_s()
        if stuck_s > COMMIT_STUCK_S:
            return f"a commit has not ended for {stuck_s:.0f} s"
        return None

    def why_not_ready(self) -> str | None:
        """Why clients should be sent elsewhere: it is starting, it is stopping, or it is unhealthy. Peers that are away are no
        reason: every node would say so at once, and those that still reach a quorum would be left."""
        stopped = self._local.coordinator.stopped
        return stopped.message if stopped is not None else self.why_unhealthy()

    def peers(self) -> dict[str, str]:
        """The state of the link to each peer."""
        return {node: state for node, state, _ in self._link_states()}
