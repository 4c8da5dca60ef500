"""put, get and del, as people and programs see them (contract.md, section 2)."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from kvclient.levels import Bounded
from kvproto.errors import QuorumUnreachable, TooLarge
from tests.cli.conftest import Kv
from tests.cli.fake_store import RECEIPT, FakeClient


def _make_siblings(kv: Kv, key: str = "cart") -> None:
    assert kv("put", key, "apples").code == 0
    assert kv("put", key, "pears", "--context", "").code == 0


def test_what_was_put_is_got(kv: Kv) -> None:
    put = kv("put", "alice", "hello")
    assert (put.code, put.text) == (0, "stored alice (2 of 3 replicas, on disk)\n")
    assert kv("get", "alice") == kv("get", "--", "alice")
    assert kv("get", "alice").stdout == b"hello\n"


def test_a_value_comes_from_stdin_as_it_is(kv: Kv) -> None:
    data = bytes(range(256)) + b"\r\n"
    assert kv("put", "blob", "-", stdin=data).code == 0
    assert kv("get", "blob", "-o", "raw").stdout == data


def test_a_key_of_any_bytes_can_be_typed(kv: Kv, store: FakeClient) -> None:
    assert kv("put", b"\xff\x00k".decode("utf-8", "surrogateescape"), "v").code == 0
    assert list(store.default.cells) == [b"\xff\x00k"]


def test_a_missing_key_ends_3_and_prints_nothing_on_stdout(kv: Kv) -> None:
    missing = kv("get", "nobody")
    assert (missing.code, missing.stdout, missing.stderr) == (3, b"", "kv: nobody has no value\n")


def test_json_of_a_found_and_of_a_missing_key(kv: Kv) -> None:
    kv("put", "alice", "héllo")
    (row,) = kv("-o", "json", "get", "alice").rows
    assert set(row) == {"key", "found", "value", "siblings", "context", "version", "expires_at", "receipt"}
    assert (row["key"], row["found"], row["value"], row["siblings"], row["expires_at"]) == ("alice", True, "héllo", [], None)
    assert (row["version"], row["context"]) == (f"{1:040x}", base64.b64encode(b"1").decode())
    assert row["receipt"]["level"] == "quorum"
    assert row["receipt"]["acknowledged"] == ["n1", "n2"]
    missing = kv("-o", "json", "get", "nobody")
    assert missing.code == 3
    assert (missing.rows[0]["found"], missing.rows[0]["value"], missing.rows[0]["version"]) == (False, None, None)
    assert missing.stderr == ""


def test_json_of_bytes_that_are_no_text_is_base64(kv: Kv) -> None:
    kv("put", b"\xfe".decode("utf-8", "surrogateescape"), "-", stdin=b"\xff\x00")
    (row,) = kv("get", b"\xfe".decode("utf-8", "surrogateescape"), "-o", "json").rows
    assert "key" not in row
    assert "value" not in row
    assert base64.b64decode(row["key_base64"]) == b"\xfe"
    assert base64.b64decode(row["value_base64"]) == b"\xff\x00"


def test_several_keys_print_a_row_each_in_order_and_end_3_if_one_is_missing(kv: Kv) -> None:
    kv("put", "b", "2")
    kv("put", "a", "1\t1")
    both = kv("get", "b", "a")
    assert (both.code, both.text) == (0, "b\t2\na\t1\\t1\n")
    some = kv("get", "b", "x", "a")
    assert (some.code, some.text) == (3, "b\t2\nx\t(not found)\na\t1\\t1\n")
    assert [row["found"] for row in kv("get", "b", "x", "-o", "json").rows] == [True, False]
    assert kv("get", "b", "x", "-o", "raw").stdout == b"2\n\n"


def test_siblings_are_printed_with_versions_and_how_to_resolve_them_and_end_4(kv: Kv) -> None:
    _make_siblings(kv)
    got = kv("get", "cart")
    assert got.code == 4
    assert got.text == f"cart\t{1:040x}\tapples\ncart\t{2:040x}\tpears\n"
    resolve = got.stderr.splitlines()[-1].removeprefix("resolve them with: kv ").replace("VALUE", "both").split()
    assert resolve[:2] == ["put", "cart"]
    assert kv(*resolve).code == 0
    assert kv("get", "cart").stdout == b"both\n"


def test_json_of_siblings_holds_all_and_no_single_value(kv: Kv) -> None:
    _make_siblings(kv)
    got = kv("get", "cart", "-o", "json")
    (row,) = got.rows
    assert got.code == 4
    assert (row["found"], row["value"], row["version"]) == (True, None, None)
    assert row["siblings"] == [{"value": "apples", "version": f"{1:040x}"}, {"value": "pears", "version": f"{2:040x}"}]


def test_a_missing_key_weighs_more_than_siblings(kv: Kv) -> None:
    _make_siblings(kv)
    assert kv("get", "cart", "nobody").code == 3


def test_delete_removes_and_deleting_what_is_not_there_succeeds(kv: Kv) -> None:
    kv("put", "alice", "1")
    assert kv("del", "alice").text == "deleted alice (2 of 3 replicas, on disk)\n"
    assert kv("get", "alice").code == 3
    assert kv("del", "alice").code == 0
    assert kv("del", "x", "y").code == 0


def test_touch_gives_another_time_to_live_and_says_when_there_is_nothing(kv: Kv) -> None:
    kv("put", "alice", "1", "--ttl", "60")
    assert kv("touch", "alice", "--ttl", "0").text == "touched alice (2 of 3 replicas, on disk)\n"
    assert kv("get", "alice", "-o", "json").rows[0]["expires_at"] is None
    missing = kv("touch", "nobody", "--ttl", "60")
    assert (missing.code, missing.stdout) == (3, b"")
    assert "nobody has no value" in missing.stderr
    assert kv("touch", "alice").code == 2


def test_delete_with_a_context_leaves_what_it_had_not_seen(kv: Kv) -> None:
    seen = kv("put", "cart", "apples", "-o", "json").rows[0]["context"]
    kv("put", "cart", "pears", "--context", "")
    assert kv("del", "cart", "--context", seen).code == 0
    assert kv("get", "cart").stdout == b"pears\n"
    several = kv("del", "cart", "other", "--context", seen)
    assert (several.code, several.stdout) == (2, b"")
    assert "of one key, but 2 were given" in several.stderr


def test_json_and_raw_of_a_write(kv: Kv) -> None:
    (row,) = kv("put", "a", "1", "-o", "json").rows
    assert set(row) == {"key", "version", "context", "receipt"}
    assert kv("put", "a", "1", "-o", "raw").text == f"{2:040x}\n"


def test_what_is_asked_for_reaches_the_client_and_nothing_else(kv: Kv, store: FakeClient) -> None:
    kv("put", "a", "1", "--ttl", "60", "--w", "3", "--context", "MQ==")
    kv("get", "a")
    kv("get", "a", "--level", "one", "--explain", "--timeout", "2.5")
    assert [options for _, options in store.default.calls] == [{"ttl_s": 60.0, "w": 3, "context": b"1"}, {}, {"explain": True}]
    assert store.connected[0] == {"at": "127.0.0.1:7400", "timeout_s": None, "level": None, "sloppy": None}
    assert store.connected[2] == {"at": "127.0.0.1:7400", "timeout_s": 2.5, "level": "one", "sloppy": None}


@pytest.mark.parametrize("where", ["before", "behind"])
def test_the_dial_is_the_clients_whichever_side_of_the_command_it_stands(kv: Kv, store: FakeClient, where: str) -> None:
    for options in (
        ["--level", "timeline", "--no-sloppy"],
        ["--bound-ms", "50", "--sloppy"],
        ["--level", "bounded", "--bound-ms", "9"],
    ):
        assert kv(*([*options, "get", "a"] if where == "before" else ["get", "a", *options])).code == 3
    told = [(client["level"], client["sloppy"]) for client in store.connected]
    assert told == [("timeline", False), (Bounded(50), True), (Bounded(9), None)]


def test_a_level_and_a_bound_that_do_not_go_together_are_refused(kv: Kv, store: FakeClient) -> None:
    for options in (["--level", "bounded"], ["--level", "one", "--bound-ms", "5"]):
        refused = kv("get", "a", *options)
        assert (refused.code, refused.stdout) == (2, b"") and "bound" in refused.stderr
    assert store.connected == []


def test_a_level_beside_a_number_of_replicas_is_refused(kv: Kv, store: FakeClient) -> None:
    for command in (["get", "a", "--r", "2"], ["put", "a", "1", "--w", "2"], ["del", "a", "--w", "2"]):
        refused = kv(*command, "--level", "one")
        assert refused.code == 2
        assert "give one of them" in refused.stderr
    assert store.default.calls == []


def test_a_write_that_leaves_siblings_says_so(kv: Kv) -> None:
    _make_siblings(kv, "a")
    assert kv("put", "a", "third", "--context", "").stderr == "a now has 3 siblings: see kv get a\n"
    assert kv("put", "a", "all").stderr == ""


@pytest.mark.parametrize("condition", [["--if-absent"], ["--if-version", "00" * 20]])
def test_conditions_need_a_linearizable_namespace(kv: Kv, store: FakeClient, condition: list[str]) -> None:
    refused = kv("put", "a", "1", *condition, "-o", "json")
    assert refused.code == 2
    assert refused.error["code"] == "WRONG_MODE"
    assert "linearizable" in refused.error["message"]
    assert len(store.default.calls) == 1
    assert store.default.cells == {}


def test_a_context_that_is_no_base64_is_refused(kv: Kv) -> None:
    refused = kv("put", "a", "1", "--context", "***")
    assert refused.code == 2
    assert "--context is not base64" in refused.stderr


def test_a_degraded_answer_and_an_explanation_are_told_on_stderr(kv: Kv, store: FakeClient) -> None:
    kv("put", "a", "1")
    store.default.receipt = replace(RECEIPT, degraded=True, acknowledged=("n1",), explanation=("n1: version 1", "n2: silent"))
    got = kv("get", "a", "--explain")
    assert got.stdout == b"1\n"
    assert got.stderr.splitlines() == [
        "degraded: 1 of 3 replicas answered, fewer than the preset asks for",
        "explain: level quorum: 2 of 3 had to answer; n1 had (degraded); n1 coordinated in ring epoch 7",
        "  n1  *                         version 1             zone a",
        "  n2: silent",
    ]
    assert kv("get", "a", "-o", "json").rows[0]["receipt"]["explanation"] == ["n1: version 1", "n2: silent"]


def test_some_keys_failing_prints_the_others_and_ends_by_the_gravest_error(kv: Kv, store: FakeClient) -> None:
    kv("put", "a", "1")
    store.default.failing = {
        b"b": QuorumUnreachable("1 of 2 answered", needed=2, received=1, contacted=3),
        b"c": TooLarge("too large"),
    }
    got = kv("get", "a", "b", "c")
    assert (got.code, got.text) == (5, "a\t1\n")
    assert got.stderr.splitlines() == ["kv: b: 1 of 2 answered", "kv: c: too large"]
    deleted = kv("del", "a", "c")
    assert (deleted.code, deleted.text) == (2, "deleted a (2 of 3 replicas, on disk)\n")


def test_control_characters_never_reach_a_terminal(kv: Kv) -> None:
    kv("put", "evil", "-", stdin=b"\x1b[2Jgone\nsecond \xff line\n")
    assert kv("get", "evil", terminal=True).text == "\\x1b[2Jgone\nsecond \\xff line\n\n"
    assert kv("get", "evil").stdout == b"\x1b[2Jgone\nsecond \xff line\n\n"
    kv("put", "other", "1")
    assert kv("get", "evil", "other", terminal=True).text == "evil\t\\x1b[2Jgone\\nsecond \\xff line\\n\nother\t1\n"
