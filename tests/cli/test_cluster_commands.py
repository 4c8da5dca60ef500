"""status and ring: a row a node, waiting for convergence, shares and owners."""

from __future__ import annotations

import re

import pytest

from kvclient.cli import cluster
from kvclient.cli.tables import bar
from kvproto.columns import PeerOpinion
from kvproto.errors import QuorumUnreachable
from kvproto.partitions import partition_of, partition_shift
from tests.cli.conftest import Kv
from tests.cli.fake_store import FakeClient, make_status

FIELDS = [
    "id",
    "address",
    "zone",
    "state",
    "ring_epoch",
    "keys",
    "hints_pending",
    "hints_dropped",
    "oldest_hint_s",
    "divergent_partitions",
    "quarantined",
    "version",
]
REPAIR_FIELDS = ["rebuilding", "trees_unknown", "differences", "repaired", "set_aside", "rounds"]


def test_status_as_json_has_the_promised_fields_in_order(kv: Kv) -> None:
    status = kv("-o", "json", "status")
    assert status.code == 0
    assert [list(row) for row in status.rows] == [[*FIELDS, *REPAIR_FIELDS, "incarnation", "health", "peers"]] * 3
    assert status.rows[1] | {"keys": 0} == {
        **dict.fromkeys([*FIELDS, *REPAIR_FIELDS], 0),
        "rebuilding": "",
        "rounds": [],
        "incarnation": 0,
        "health": 0,
        "peers": [],
        "id": "n2",
        "address": "n2:7400",
        "zone": "a",
        "state": "alive",
        "ring_epoch": 7,
        "version": "0.1.0",
    }


def test_status_for_people_has_a_row_a_node_and_no_colour_off_a_terminal(kv: Kv, store: FakeClient) -> None:
    store.admin.statuses = [[make_status("n1", keys=12345), make_status("n2", state="dead", hints_pending=3)]]
    status = kv("status")
    rows = status.text.splitlines()
    assert len(rows) == 3
    assert rows[1].split()[:6] == ["n1", "n1:7400", "a", "alive", "7", "12,345"]
    assert rows[2].split() == ["n2", "n2:7400", "a", "dead", "-", "-", "-", "0.1.0"]
    assert "\x1b" not in status.text
    assert "dropped" not in status.text
    assert "\x1b[" in kv("status", terminal=True).text


def test_trouble_has_columns_and_a_narrow_terminal_cuts_nothing(kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    store.admin.statuses = [[make_status("n1", hints_dropped=7, oldest_hint_s=61.2, divergent_partitions=5, quarantined=1)]]
    header, row = kv("status", terminal=True).text.splitlines()
    assert re.sub("\x1b\\[[0-9;]*m", "", header).split()[-6:] == ["dropped", "oldest", "s", "divergent", "quarantined", "version"]
    assert row.split()[-5:] == ["7", "61", "5", "1", "0.1.0"]


def opinions(**states: str) -> tuple[PeerOpinion, ...]:
    return tuple(PeerOpinion(node, state, 3, 12.5, 1, 0.25) for node, state in states.items())


def test_a_node_that_most_of_the_others_avoid_is_slow_or_suspect_and_one_that_is_silent_dead(kv: Kv, store: FakeClient) -> None:
    store.admin.statuses = [
        [
            make_status("n1", opinions=opinions(n2="slow", n3="dead", n4="dead")),
            make_status("n2", opinions=opinions(n1="alive", n3="suspect", n4="dead")),
            make_status("n3", opinions=opinions(n1="suspect", n2="slow", n4="alive")),
            make_status("n4", state="dead"),
        ]
    ]
    states = {row["id"]: row["state"] for row in kv("status", "-o", "json").rows}
    assert states == {"n1": "alive", "n2": "slow", "n3": "suspect", "n4": "dead"}
    lines = kv("status").text.splitlines()
    assert lines[0].endswith("seen as")
    assert lines[1].endswith("suspect by n3") and lines[2].endswith("slow by n1, n3") and lines[4].endswith("dead by n1, n2")


def test_status_of_peers_has_a_row_an_opinion(kv: Kv, store: FakeClient) -> None:
    store.admin.statuses = [[make_status("n1", opinions=opinions(n2="slow")), make_status("n2", opinions=opinions(n1="alive"))]]
    rows = kv("status", "--peers", "-o", "json").rows
    figures = {"incarnation": 3, "since_s": 12.5, "flaps": 1, "latency_ms": 0.25}
    assert rows == [
        {"node": "n1", "peer": "n2", "state": "slow", **figures},
        {"node": "n2", "peer": "n1", "state": "alive", **figures},
    ]
    assert kv("status", "--peers", "-o", "raw").text.splitlines()[0].split("\t") == ["n1", "n2", "slow", "3", "12.5", "1", "0.25"]
    assert re.split(r" +", kv("status", "--peers").text.splitlines()[1].strip()) == ["n1", "n2", "slow", "12", "1", "0.2", "3"]


def test_raw_status_is_fields_with_tabs(kv: Kv) -> None:
    columns = kv("status", "-o", "raw").text.splitlines()[0].split("\t")
    assert columns[: len(FIELDS)] == ["n1", "n1:7400", "a", "alive", "7", "12"] + ["0"] * 2 + [
        "0.0",
        "0",
        "0",
        "0.1.0",
    ]


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        ({"state": "dead"}, "n2 is dead"),
        ({"state": "suspect"}, "n2 is suspect"),
        ({"hints_pending": 4}, "n2 has 4 hints"),
        ({"divergent_partitions": 2}, "n2 has 2 divergent partitions"),
        ({"ring_epoch": 8}, "ring epochs 7, 8"),
    ],
)
def test_waiting_ends_5_at_its_timeout_and_says_what_is_in_the_way(
    kv: Kv, store: FakeClient, obstacle: dict[str, object], words: str
) -> None:
    store.admin.statuses = [[make_status("n1"), make_status("n2", **obstacle)]]
    waited = kv("status", "--wait", "converged", "--timeout", "0.05")
    assert waited.code == 5
    assert words in waited.stderr
    assert len(waited.text.splitlines()) == 3


def test_waiting_ends_0_once_converged(kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "POLL_INTERVAL_S", 0.001)
    converged = [make_status("n1"), make_status("n2", state="slow")]
    store.admin.statuses = [QuorumUnreachable("nobody there"), [make_status("n1"), make_status("n2", hints_pending=1)], converged]
    waited = kv("status", "--wait", "converged", "-o", "json")
    assert (waited.code, waited.stderr) == (0, "")
    assert [row["state"] for row in waited.rows] == ["alive", "slow"]


def test_status_of_a_cluster_out_of_reach_ends_5(kv: Kv, store: FakeClient) -> None:
    store.admin.statuses = [QuorumUnreachable("none of 1 nodes answered", contacted=1)]
    status = kv("status", "-o", "json")
    assert status.code == 5
    assert status.error == {
        "code": "QUORUM_UNREACHABLE",
        "message": "none of 1 nodes answered",
        "retryable": True,
        "may_have_applied": False,
        "contacted": 1,
    }
    assert kv("status", "--wait", "converged", "--timeout", "0.05").code == 5


def test_ring_shows_each_members_share(kv: Kv) -> None:
    rows = kv("ring", "-o", "json").rows
    assert [(row["id"], row["partitions_first"], row["partitions"], row["share"]) for row in rows] == [
        ("n1", 3, 5, 0.3125),
        ("n2", 3, 6, 0.375),
        ("n3", 2, 5, 0.3125),
    ]
    text = kv("ring").text
    assert "8 partitions, 2 replicas each, ring epoch 7" in text
    assert "37.5%" in text
    assert "█" in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert len(kv("ring", "-o", "raw").text.splitlines()) == 3


def test_ring_tells_who_owns_a_key(kv: Kv) -> None:
    partition = partition_of(b"alice", partition_shift(8))
    owners = [f"n{partition % 3 + 1}", f"n{(partition + 1) % 3 + 1}"]
    assert kv("ring", "--key", "alice", "-o", "json").rows == [
        {"key": "alice", "partition": partition, "owners": owners, "ring_epoch": 7}
    ]
    assert kv("ring", "--key", "alice", "-o", "raw").text.split() == owners
    assert f"partition {partition}, owned by {owners[0]} ({owners[0]}:7400)" in kv("ring", "--key", "alice").text


def test_a_bar_is_as_long_as_the_share_and_always_as_wide() -> None:
    assert [bar(share, 4) for share in (0.0, 0.25, 0.28125, 1.0, 7.0)] == ["    ", "█   ", "█▏  ", "████", "████"]


def test_a_node_that_is_being_admitted_again_has_not_converged_and_two_that_wait_for_each_other_are_told_of(
    kv: Kv, store: FakeClient
) -> None:
    lost = {"rebuilding": "registers lost"}
    assert cluster.obstacles([make_status("n1", **lost), make_status("n2")]) == [
        "n1 has lost its registers and is being admitted again"
    ]
    both = [make_status("n1", **lost), make_status("n2", **lost), make_status("n3")]
    assert cluster.obstacles(both) == ["n1 and n2 have lost their registers"]
    store.admin.statuses = [both]
    told = kv("status", "--wait", "converged", "--timeout", "600")
    assert told.code == 5, "at once: nothing comes of waiting"
    hinted = [make_status("n1", **lost), make_status("n2", **lost), make_status("n3", hints_pending=1)]
    assert cluster.is_hopeless(both) and not cluster.is_hopeless(hinted), "what can be waited for is waited for first"
    goes_on = [both[0], make_status("n2", rebuilding="registers lost, admitted again without n1"), both[2]]
    assert not cluster.is_hopeless(goes_on)
    assert cluster.obstacles(goes_on)[-1] == "n2: registers lost, admitted again without n1"
    assert "waiting is no use" in told.stderr and "kv repair --accept-loss n1" in told.stderr
    assert "n1 and n2 have lost their registers and wait for each other" in told.stderr
