"""The links to the peers, the hints and the ring: who is reached, what waits for it, and how long it takes to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import Metric

from kvstore.api.metrics.families import Row, counter, gauge, histogram
from kvstore.cluster.view import RingView
from kvstore.repair.pace import Pace
from kvstore.repair.reap_votes import ReapVotes
from kvstore.repair.reaping import Reaper
from kvstore.storage.freshness import Freshness
from kvstore.storage.hints import HintTable
from kvstore.transport.peer_link import PeerLink
from kvstore.transport.peers import FRAMES

PEER = ("peer",)


def collect_links(links: Mapping[str, PeerLink]) -> Iterator[Metric]:
    """Every link's own numbers. An operation here is a record to store or a key to compare."""

    def rows(number: Callable[[PeerLink], float]) -> list[Row]:
        return [((peer,), number(link)) for peer, link in sorted(links.items())]

    yield gauge("kv_peer_link_up", "1 while there is a stream to the peer.", PEER, rows(lambda link: link.is_up))
    frames = rows(lambda link: link.is_up and link.over == FRAMES)
    text = "1 while that stream is of frames, 0 while it is of gRPC, which costs twice as much."
    yield gauge("kv_peer_link_frames", text, PEER, frames)
    queued = rows(lambda link: link.queued_count)
    yield gauge("kv_peer_queue_operations", "Records and keys that wait for the next message.", PEER, queued)
    yield gauge("kv_peer_queue_bytes", "What they hold.", PEER, rows(lambda link: link.queued_bytes))
    in_flight = rows(lambda link: link.in_flight_count)
    yield gauge("kv_peer_messages_in_flight", "Messages without their whole answer.", PEER, in_flight)
    yield gauge("kv_peer_lag_seconds", "How long the oldest of these has been out.", PEER, rows(lambda link: link.lag_s()))
    shed: list[Row] = [
        ((peer, reason), number)
        for peer, link in sorted(links.items())
        for reason, number in (("overloaded", link.overloaded), ("expired", link.expired))
    ]
    yield counter("kv_peer_shed_operations", "Records and keys never sent: too many waited, or too long.", ("peer", "reason"), shed)
    yield from _collect_messages(links)


def _collect_messages(links: Mapping[str, PeerLink]) -> Iterator[Metric]:
    meters = [((peer,), link.meter) for peer, link in sorted(links.items()) if link.meter is not None]
    yield counter("kv_peer_messages", "Messages sent.", PEER, [(labels, meter.messages) for labels, meter in meters])
    operations: list[Row] = [
        ((*labels, outcome), number)
        for labels, meter in meters
        for outcome, number in (("answered", meter.answered), ("failed", meter.failed))
    ]
    yield counter(
        "kv_peer_operations", "Records and keys sent, by whether the message was answered.", ("peer", "outcome"), operations
    )
    yield histogram(
        "kv_peer_round_trip_seconds",
        "From sending a message to the first part of its answer; for records that includes the peer's disk.",
        PEER,
        [(labels, meter.round_trips) for labels, meter in meters],
    )


def collect_hints(hints: HintTable, replayed: int) -> Iterator[Metric]:
    """What is kept for home replicas that have missed it."""
    rows: list[Row] = [((target,), hints.pending(target)) for target in hints.targets]
    yield gauge("kv_hints_pending", "Records that a home replica is still to be handed.", ("target",), rows)
    yield gauge("kv_hints_held_bytes", "Of these, what we hold in the place of home replicas.", (), [((), hints.held_bytes)])
    yield gauge("kv_hints_oldest_seconds", "How long the oldest of them has waited.", (), [((), hints.oldest_s())])
    yield counter("kv_hints_handed_over", "Records handed over.", (), [((), replayed)])
    yield counter("kv_hints_dropped", "Records given up: too many, or too old. Anti-entropy's.", (), [((), hints.dropped)])


def collect_pace(pace: Pace) -> Iterator[Metric]:
    """How far work in the background is held back."""
    yield gauge(
        "kv_pace_limit_bytes",
        "Bytes of background work a second, as of now; less when clients keep us busy.",
        (),
        [((), pace.bytes_per_s)],
    )
    yield counter("kv_pace_turns", "Pieces of background work that were begun.", (), [((), pace.turns)])
    yield counter("kv_pace_waited_seconds", "How long they waited for their turns.", (), [((), pace.waited_s)])


def collect_endings(reaper: Reaper, votes: ReapVotes, freshness: Freshness) -> Iterator[Metric]:
    """What has expired, what became of tombstones, and what came too late."""
    yield counter("kv_expired", "Records whose values the sweep has ended.", (), [((), reaper.expired)])
    yield gauge("kv_tombstones", "Records that are nothing but tombstones, by the last whole sweep.", (), [((), reaper.tombstones)])
    yield gauge("kv_tombstones_waiting", "Of those this node reaps: between the two looks.", (), [((), reaper.waiting)])
    yield counter("kv_tombstones_reaped", "Tombstones forgotten here.", (), [((), votes.reaped)])
    kept: list[Row] = [(("objection",), reaper.objections), (("unanswered",), reaper.unanswered)]
    yield counter("kv_tombstones_kept", "Looks that a tombstone did not pass, by why.", ("reason",), kept)
    yield counter("kv_late_records", "Records of peers refused as read too long ago.", (), [((), freshness.refused)])


def collect_ring(view: RingView) -> Iterator[Metric]:
    """What the node goes by."""
    owned = sum(view.me in owners for owners in view.preference)
    yield gauge("kv_ring_epoch", "Number of the assignment in force.", (), [((), view.ring.epoch)])
    yield gauge("kv_ring_nodes", "Members of the ring.", (), [((), len(view.ring.members))])
    yield gauge("kv_ring_partitions", "Partitions there are.", (), [((), view.ring.partitions)])
    yield gauge("kv_ring_partitions_owned", "Partitions that this node is a home replica of.", (), [((), owned)])
