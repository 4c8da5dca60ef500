"""What the node thinks of its peers, and how its failure detector is doing."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from kvstore.api.metrics.families import Row, counter, gauge
from kvstore.membership.detection import FailureDetection
from kvstore.transport.detector_calls import DetectorCalls

STATES = ("alive", "slow", "suspect", "dead")
PEER = ("peer",)


def collect_membership(detection: FailureDetection, calls: DetectorCalls) -> Iterator[Metric]:
    """Every family of it."""
    opinions = detection.describe()
    states: list[Row] = [((one.id, state), one.state == state) for one in opinions for state in STATES]
    yield gauge("kv_membership_state", "1 for what this node takes the peer for, 0 for the rest.", ("peer", "state"), states)
    since: list[Row] = [((one.id,), one.since_s) for one in opinions]
    yield gauge("kv_membership_state_seconds", "For how long it has done so.", PEER, since)
    changes: list[Row] = [(labels, number) for labels, number in sorted(detection.changes.items())]
    yield counter("kv_membership_changes", "How often a peer was taken for something new.", ("peer", "state"), changes)
    flaps: list[Row] = [((one.id,), one.flaps) for one in opinions]
    yield counter("kv_membership_flaps", "How often it came back from the dead.", PEER, flaps)
    latencies: list[Row] = [((one.id,), one.latency_ms / 1000) for one in opinions]
    yield gauge("kv_membership_latency_seconds", "What answers of the peer take at present; slow is judged by it.", PEER, latencies)
    for name, text, number in (
        ("kv_membership_incarnation", "The node's own; it grows when the node was suspected.", detection.incarnation),
        ("kv_membership_health", "How far the failure detector doubts itself: 0 is well, 7 the most.", detection.health),
    ):
        yield gauge(name, text, (), [((), number)])
    yield counter("kv_membership_messages", "Messages sent to other failure detectors.", (), [((), calls.sent)])
    lost = "Of these, and of those not sent, the ones without an answer."
    yield counter("kv_membership_messages_lost", lost, (), [((), calls.lost)])
