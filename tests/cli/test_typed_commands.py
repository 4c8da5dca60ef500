"""incr, sadd, hset and their like on a real client and a real node, as people and programs see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvclient.cli import connection
from kvproto.errors import DeadlineExceeded
from kvstore.embedded import open_embedded
from tests.cli.conftest import Kv

_connect = connection.connect


@pytest.fixture
def kv_here(kv: Kv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kv:
    monkeypatch.setattr(connection, "connect", _connect)
    monkeypatch.setattr("kvclient.async_client.open_embedded", open_embedded)
    monkeypatch.setenv("KV_AT", f"embedded:{tmp_path / 'store'}?namespaces=hits:counter,tags:set,carts:map")
    return kv


def test_a_counter_prints_what_it_holds(kv_here: Kv) -> None:
    assert kv_here("-n", "hits", "incr", "page").stdout == b"1\n"
    assert kv_here("-n", "hits", "incr", "page", "41").stdout == b"42\n"
    assert kv_here("-n", "hits", "incr", "page", "-2").stdout == b"40\n"
    assert kv_here("decr", "page", "5", "-n", "hits").stdout == b"35\n"
    assert kv_here("-n", "hits", "get", "page").stdout == b"35\n"
    (row,) = kv_here("-n", "hits", "-o", "json", "get", "page").rows
    assert (row["value"], row["number"], row["found"], row["siblings"]) == ("35", 35, True, [])
    (row,) = kv_here("-n", "hits", "-o", "json", "incr", "page").rows
    assert row["number"] == 36 and len(row["version"]) == 40 and row["receipt"]["needed"] == 1


def test_a_set_prints_a_member_a_line(kv_here: Kv) -> None:
    added = kv_here("-n", "tags", "sadd", "photo", "beach", "summer", "beach")
    assert (added.code, added.text) == (0, "added to photo (1 of 1 replicas, on disk)\n")
    assert kv_here("-n", "tags", "smembers", "photo").stdout == b"beach\nsummer\n" == kv_here("-n", "tags", "get", "photo").stdout
    assert kv_here("-n", "tags", "sismember", "photo", "beach").code == 0
    gone = kv_here("-n", "tags", "srem", "photo", "beach")
    assert gone.text == "removed from photo (1 of 1 replicas, on disk)\n"
    missing = kv_here("-n", "tags", "sismember", "photo", "beach")
    assert (missing.code, missing.stdout) == (3, b"false\n")
    assert kv_here("-n", "tags", "-o", "json", "smembers", "photo").rows == [{"key": "photo", "members": ["summer"]}]
    assert kv_here("-n", "tags", "smembers", "nothing").code == 0
    assert kv_here("-n", "tags", "get", "nothing").code == 3


def test_members_that_are_no_text_are_base64_in_json_and_themselves_otherwise(kv_here: Kv) -> None:
    kv_here("-n", "tags", "sadd", "k", b"\xff\x00".decode("utf-8", "surrogateescape"))
    assert kv_here("-n", "tags", "smembers", "k").stdout == b"\xff\x00\n"
    assert kv_here("-n", "tags", "-o", "json", "get", "k").rows[0]["members"] == [{"text_base64": "/wA="}]


def test_a_map_prints_its_fields(kv_here: Kv) -> None:
    assert kv_here("-n", "carts", "hset", "alice", "city", "Oslo").text == "stored city of alice (1 of 1 replicas, on disk)\n"
    assert kv_here("-n", "carts", "incr", "alice", "3", "--field", "visits").stdout == b"3\n"
    assert kv_here("-n", "carts", "sadd", "alice", "fig", "pear", "--field", "items").code == 0
    assert kv_here("-n", "carts", "get", "alice").stdout == b"city=Oslo\nitems=fig\nitems=pear\nvisits=3\n"
    assert kv_here("-n", "carts", "hget", "alice", "city").stdout == b"Oslo\n"
    assert kv_here("-n", "carts", "smembers", "alice", "--field", "items").stdout == b"fig\npear\n"
    (row,) = kv_here("-n", "carts", "-o", "json", "get", "alice").rows
    assert row["fields"] == [
        {"field": "city", "value": "Oslo"},
        {"field": "visits", "number": 3},
        {"field": "items", "members": ["fig", "pear"]},
    ]
    assert kv_here("-n", "carts", "hdel", "alice", "city").code == 0
    assert kv_here("-n", "carts", "hget", "alice", "city").code == 3
    assert kv_here("-n", "carts", "-o", "json", "hget", "alice", "city").rows[0]["found"] is False


def test_several_keys_and_scans_name_the_key_on_each_line(kv_here: Kv) -> None:
    kv_here("-n", "tags", "sadd", "a", "1", "2")
    kv_here("-n", "tags", "sadd", "b", "3")
    assert kv_here("-n", "tags", "get", "a", "b").stdout == b"a\t1\na\t2\nb\t3\n" == kv_here("-n", "tags", "scan").stdout


@pytest.mark.parametrize(
    "command",
    [
        ("-n", "hits", "put", "k", "v"),
        ("-n", "hits", "sadd", "k", "v"),
        ("-n", "tags", "incr", "k"),
        ("-n", "carts", "incr", "k"),
        ("incr", "k"),
        ("-n", "hits", "incr", "k", "many"),
        ("-n", "hits", "incr", "k", "--feild", "f"),
    ],
)
def test_what_the_namespace_has_not_ends_2(kv_here: Kv, command: tuple[str, ...]) -> None:
    refused = kv_here(*command)
    assert (refused.code, refused.stdout) == (2, b"") and refused.stderr


def test_an_increment_of_unknown_outcome_ends_6(kv_here: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object, **__: object) -> None:
        raise DeadlineExceeded("sent, but not answered in time", may_have_applied=True)

    monkeypatch.setattr("kvclient.typed.AsyncTypes.increment", lost)
    assert kv_here("-n", "hits", "incr", "k").code == 6


def test_a_dump_of_a_set_comes_back_whatever_is_there_by_then(kv_here: Kv, tmp_path: Path) -> None:
    kv_here("-n", "tags", "sadd", "a", "1", "2")
    file = tmp_path / "dump.jsonl"
    assert kv_here("-n", "tags", "dump", str(file)).code == 0
    assert json.loads(file.read_text()) == {"key": "a", "value": None, "members": ["1", "2"]}
    kv_here("-n", "tags", "sadd", "a", "3")
    kv_here("-n", "tags", "srem", "a", "1")
    for _ in range(2):
        assert kv_here("-n", "tags", "load", str(file)).text == "loaded 1 keys\n"
        assert kv_here("-n", "tags", "dump").rows == [json.loads(file.read_text())]
    refused = kv_here("load", str(file))
    assert refused.code == 2, "a namespace of plain values has no sets"
