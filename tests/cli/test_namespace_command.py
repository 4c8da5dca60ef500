"""`kv namespace`: made, listed, shown and dropped while the cluster runs; nothing is dropped by a slip."""

from __future__ import annotations

import pytest

from kvproto.errors import DeadlineExceeded, KvError, NamespaceExists, QuorumUnreachable
from tests.cli.conftest import Kv
from tests.cli.fake_store import FakeClient


def test_what_was_asked_for_reaches_the_nodes_and_nothing_else(kv: Kv, store: FakeClient) -> None:
    settings = ("--preset", "pa-el", "--n", "2", "--ttl", "1.5", "--policy", "set", "--quota-operations", "7", "--quota-bytes", "9")
    assert kv("namespace", "create", "orders", *settings).code == 0
    wanted = {"preset": "pa-el", "n": 2, "ttl_s": 1.5, "policy": "set", "quota_operations_per_s": 7, "quota_bytes_per_s": 9}
    assert store.admin.wanted == [("orders", wanted)]
    assert kv("namespace", "create", "users", "--timeout", "2").code == 0
    assert store.admin.wanted[1] == ("users", {"timeout_s": 2.0})


def test_sizes_are_told_in_units(kv: Kv, store: FakeClient) -> None:
    kept = ("--storage", "memory", "--max-bytes", "64MiB", "--value-bytes-max", "65536")
    assert kv("namespace", "create", "cache", *kept).code == 0
    assert store.admin.wanted == [("cache", {"storage": "memory", "max_bytes": 64 << 20, "value_bytes_max": 65536})]
    for wrong in ("64 MB", "much", "0", "1.5GiB", "-1"):
        assert kv("namespace", "create", "other", "--storage", "memory", "--max-bytes", wrong).code == 2
    assert len(store.admin.wanted) == 1


def test_as_json_each_is_an_object(kv: Kv) -> None:
    (made,) = kv("-o", "json", "namespace", "create", "orders", "--preset", "pc-ec").rows
    assert (made["name"], made["preset"], made["id"], made["configured"]) == ("orders", "pc-ec", 0x40000000, False)
    assert kv("-o", "json", "namespace", "list").rows == [made] == kv("-o", "json", "namespace", "show", "orders").rows


def test_people_get_a_table_and_a_sentence(kv: Kv) -> None:
    done = kv("namespace", "create", "orders", "--preset", "pc-ec")
    assert [line.split() for line in done.text.splitlines()][1][:3] == ["orders", "pc-ec", "siblings"]
    assert done.stderr == "kv: created 'orders'\n"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (NamespaceExists("namespace 'orders' exists with other settings: n is 3 and not 1", subject="orders"), 2),
        (QuorumUnreachable("no majority", needed=2, received=1), 5),
        (DeadlineExceeded("nobody told", may_have_applied=True), 6),
    ],
)
def test_the_exit_code_tells_what_became_of_it(kv: Kv, store: FakeClient, refusal: KvError, code: int) -> None:
    store.admin.refusal = refusal
    refused = kv("namespace", "create", "orders", "-o", "json")
    assert (refused.code, refused.error["code"]) == (code, refusal.code.name)


def test_an_unknown_name_ends_2(kv: Kv) -> None:
    assert kv("namespace", "show", "nowhere").code == 2
    assert kv("namespace", "drop", "nowhere", "--yes").code == 2


def test_a_setting_that_there_is_not_is_refused_before_anybody_is_asked(kv: Kv, store: FakeClient) -> None:
    assert kv("namespace", "create", "orders", "--preset", "pc-xx").code == 2
    assert kv("namespace", "create", "orders", "--n", "0").code == 2
    assert kv("namespace", "make", "orders").code == 2
    assert store.connected == []


def test_a_script_has_to_say_yes(kv: Kv, store: FakeClient) -> None:
    kv("namespace", "create", "orders")
    refused = kv("namespace", "drop", "orders")
    assert (refused.code, "--yes" in refused.stderr, len(store.admin.cluster.namespaces)) == (2, True, 1)
    assert kv("namespace", "drop", "orders", "--yes").code == 0
    assert store.admin.cluster.namespaces == ()


@pytest.mark.parametrize(("typed", "code", "left"), [(b"orders\n", 0, 0), (b"y\n", 2, 1), (b"\n", 2, 1)])
def test_on_a_terminal_the_name_is_typed_again(kv: Kv, store: FakeClient, typed: bytes, code: int, left: int) -> None:
    kv("namespace", "create", "orders")
    asked = kv("namespace", "drop", "orders", stdin=typed, typed=True)
    assert (asked.code, len(store.admin.cluster.namespaces)) == (code, left)
    assert "for ever" in asked.stderr


def test_an_embedded_store_has_them_too_and_remembers_them(kv_here: Kv) -> None:
    assert kv_here("namespace", "create", "orders", "--preset", "pc-ec").code == 0
    assert kv_here("-n", "orders", "put", "k", "1", "--if-absent").code == 0
    assert kv_here("-n", "orders", "put", "k", "2", "--if-absent").code == 4
    assert [row["name"] for row in kv_here("-o", "json", "namespace", "list").rows] == ["default", "orders"]
    assert kv_here("namespace", "create", "orders", "--preset", "pa-el").code == 2
    assert kv_here("namespace", "drop", "default", "--yes").code == 2
    assert kv_here("namespace", "drop", "orders", "--yes").code == 0
    assert kv_here("-n", "orders", "get", "k").code == 2
    assert kv_here("namespace", "create", "orders").code == 0
    assert kv_here("-n", "orders", "get", "k").code == 3
