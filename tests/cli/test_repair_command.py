"""`kv repair`: a row a node, a bar meanwhile, and 5 when not all of it was compared."""

from __future__ import annotations

from kvclient.cli.repair import what_is_left
from kvproto.columns import LossAccepted, RepairProgress
from tests.cli.conftest import Kv
from tests.cli.fake_store import FakeClient, make_status


def row(node: str, **changes: object) -> RepairProgress:
    values: dict[str, object] = {"number": 1, "over": True, "partitions": 8, "compared": 8, **changes}
    return RepairProgress(node, **values)  # type: ignore[arg-type]


def test_a_row_for_each_node(kv: Kv, store: FakeClient) -> None:
    store.admin.repairs = [row("n1", differing=2, differences=7, repaired=7, elapsed_s=2.5), row("n2")]
    done = kv("repair")
    assert done.code == 0
    assert [line.split() for line in done.text.splitlines()] == [
        ["node", "partitions", "differing", "keys", "repaired", "unknown", "s", "unreachable"],
        ["n1", "8", "2", "7", "7", "0", "2.5", "-"],
        ["n2", "8", "0", "0", "0", "0", "0.0", "-"],
    ]
    assert store.admin.repaired == ["default"]


def test_as_json(kv: Kv, store: FakeClient) -> None:
    store.admin.repairs = [row("n1", differences=1, repaired=1)]
    told = kv("repair", "-o", "json", "--namespace", "users").rows
    assert told[0]["id"] == "n1"
    assert told[0]["repaired"] == 1
    assert told[0]["unreachable"] == []
    assert store.admin.repaired == ["users"]


def test_every_namespace(kv: Kv, store: FakeClient) -> None:
    kv("repair", "--all")
    assert store.admin.repaired == [""]


def test_what_could_not_be_compared_ends_5_and_is_named(kv: Kv, store: FakeClient) -> None:
    store.admin.repairs = [row("n1", unreachable=("n3",)), row("n2", unknown=4, compared=4)]
    done = kv("repair")
    assert done.code == 5
    assert "n1 has not compared with n3" in done.stderr
    assert "n2 could not compare 4 partitions" in done.stderr
    assert what_is_left([row("n1", differences=3, repaired=1)]) == ["n1 has not repaired 2 keys"]


# --- --accept-loss


def both_lost(store: FakeClient) -> None:
    lost = {"rebuilding": "registers lost"}
    store.admin.statuses = [[make_status("n1"), make_status("n2", **lost), make_status("n3", **lost)]]


def test_a_loss_is_accepted_by_the_nodes_that_wait(kv: Kv, store: FakeClient) -> None:
    both_lost(store)
    store.admin.waiting = [LossAccepted("n3", 512)]
    done = kv("repair", "--accept-loss", "n2", "--yes")
    assert (done.code, done.text) == (0, "n3 goes on without n2: 512 groups of registers are admitted again\n")
    assert store.admin.given_up == [("n2",)] and not store.admin.repaired
    told = kv("-o", "json", "repair", "--accept-loss", "n2", "--accept-loss", "n2", "--yes")
    assert told.rows == [{"id": "n3", "without": ["n2"], "waiting": 512}]


def test_a_loss_that_nobody_waits_for_ends_5(kv: Kv, store: FakeClient) -> None:
    both_lost(store)
    done = kv("repair", "--accept-loss", "n2", "--yes")
    assert done.code == 5 and "no node waits for n2" in done.stderr


def test_nothing_is_given_up_without_being_asked(kv: Kv, store: FakeClient) -> None:
    both_lost(store)
    done = kv("repair", "--accept-loss", "n2")
    assert done.code == 2 and "say --yes" in done.stderr and not store.admin.given_up


def test_a_node_that_has_its_registers_is_not_given_up(kv: Kv, store: FakeClient) -> None:
    both_lost(store)
    done = kv("repair", "--accept-loss", "n1", "--yes")
    assert done.code == 2 and "n1 answers and has its registers" in done.stderr and not store.admin.given_up
    assert kv("repair", "--accept-loss", "n9", "--yes").code == 2


def test_a_node_with_a_damaged_register_may_be_given_up(kv: Kv, store: FakeClient) -> None:
    store.admin.statuses = [[make_status("n1", quarantined=1), make_status("n2", rebuilding="registers lost"), make_status("n3")]]
    store.admin.waiting = [LossAccepted("n2", 512)]
    assert kv("repair", "--accept-loss", "n1", "--yes").code == 0
