"""A node's own numbers, gathered from its parts when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproto.columns import NodeStatus
from kvstore import __version__

if TYPE_CHECKING:
    from kvstore.local_node import LocalNode


async def status_of(local: LocalNode, peers: tuple[tuple[str, str, int], ...], uptime_s: float) -> NodeStatus:
    """The numbers of `local`; `peers`: (id, state, queued operations) of each. Counting the keys reads them all, off the loop."""
    config, storage, returning = local.config, local.storage, local.returning
    registers, forest = local.linearizable.registers, storage.forest
    compared = None if local.mending is None else local.mending.anti_entropy
    divergent = 0 if compared is None else await compared.divergent_partitions()
    return NodeStatus(
        node_id=config.node_id,
        address=config.advertise,
        zone=config.zone,
        state="alive",
        ring_epoch=local.ring.view.ring.epoch,
        keys=await local.replica.count_keys(),
        version=__version__,
        hints_pending=storage.hints.count,
        hints_dropped=storage.hints.dropped,
        oldest_hint_s=storage.hints.oldest_s(),
        quarantined=storage.store.quarantined + registers.quarantined,
        peers=peers,
        commits=storage.committer.commits,
        commit_records=storage.committer.records,
        read_repairs=local.serving.read_repair.repaired,
        overloaded=local.serving.overloaded,
        uptime_s=uptime_s,
        divergent_partitions=divergent,
        rebuilding=returning.rebuilding.reason or (_loss_of(local) if registers.is_lost else ""),
        set_aside=returning.aside.kept,
        memory=storage.memory.uses(),
        trees_unknown=0 if forest is None else forest.unknown_count,
        differences=0 if compared is None else compared.differences,
        repaired=0 if compared is None else compared.repaired,
        rounds=() if compared is None else compared.last_rounds(),
    )


def _loss_of(local: LocalNode) -> str:
    """What keeps its acceptor from voting."""
    without = [] if local.mending is None else sorted(local.mending.readmitting.goes_on_without)
    return f"registers lost, admitted again without {' and '.join(without)}" if without else "registers lost"
