"""The checker: was every acknowledged write durable, on as many nodes as it has to be, before its acknowledgement? Pure.

Two claims are held against the evidence: the quorum's (W copies) and the receipt's (each node that it names).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tests.durability.evidence import Copy


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledged write. `at_ns`: when the client had it, CLOCK_MONOTONIC; `nodes`: those that the receipt names."""

    key: str
    value: bytes
    at_ns: int
    nodes: tuple[str, ...]


@dataclass(slots=True)
class SyncVerdict:
    """The counts. Margins are from the W-th copy's becoming durable to the acknowledgement; negative: that much too early."""

    checked: int = 0
    too_early: list[Ack] = field(default_factory=list)  # fewer than W durable copies when it was acknowledged
    claimed_unsynced: list[tuple[Ack, str]] = field(default_factory=list)  # named in the receipt, and not durable there by then
    margin_ns_min: int | None = None
    resting_on_names: int = 0  # fewer than W copies by the letter of POSIX: a new name had not been synced by itself yet

    @property
    def is_ok(self) -> bool:
        """Whether every acknowledgement came after what it promises."""
        return not self.too_early and not self.claimed_unsynced

    @property
    def violations(self) -> int:
        """How many acknowledgements came too early."""
        return len(self.too_early)


def check_acks(acks: Collection[Ack], copies: Mapping[str, Mapping[bytes, Copy]], *, w: int) -> SyncVerdict:
    """Judges `acks`; `copies` maps each node to the values it wrote."""
    verdict = SyncVerdict()
    for ack in acks:
        verdict.checked += 1
        held = {node: own[ack.value] for node, own in copies.items() if ack.value in own}
        durable = sorted(copy.durable_ns for copy in held.values() if copy.durable_ns is not None)
        if len(durable) < w:
            verdict.too_early.append(ack)
        else:
            margin_ns = ack.at_ns - durable[w - 1]
            verdict.margin_ns_min = margin_ns if verdict.margin_ns_min is None else min(verdict.margin_ns_min, margin_ns)
            if margin_ns < 0:
                verdict.too_early.append(ack)
        verdict.claimed_unsynced += [(ack, node) for node in ack.nodes if not _is_in_time(held.get(node), ack.at_ns)]
        verdict.resting_on_names += sum(copy.named_ns is not None and copy.named_ns <= ack.at_ns for copy in held.values()) < w
    return verdict


def _is_in_time(copy: Copy | None, at_ns: int) -> bool:
    return copy is not None and copy.durable_ns is not None and copy.durable_ns <= at_ns
