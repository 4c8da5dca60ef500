"""Quorums of a zone that are met elsewhere."""

from __future__ import annotations

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.columns import Level
from kvstore.coordinator.batch import SubBatch, in_zone


@bug("zone-quorum-anywhere", "answers from any zone count towards a zone's quorum (docs/adr/0016)", scenario="zones")
def count_anywhere(patch: Patch) -> None:
    """What was acknowledged in a zone may be on none of its nodes but one."""

    def counting(self: SubBatch) -> tuple[str, ...]:
        is_planned = self.need > 1  # how many it takes was found by the own zone
        return self.owners.nodes if is_planned or self.group.level is not Level.ZONE_QUORUM else in_zone(self.view, self.owners)

    patch.set(SubBatch, "counting", property(counting))
