"""Old bytes stay decodable and today's bytes are those that were agreed (contract.md, gRPC).

wire_v1.json keeps for every message of kvproto.v1 a filled example's bytes and their meaning, oldest first. After adding a field:
`python -m tests.golden.regenerate`, which appends and never overwrites.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from kvproto.v1 import key_value_pb2
from tests.golden import wire

TABLE = wire.load()
EXAMPLES = [(name, position) for name, examples in TABLE["messages"].items() for position in range(len(examples))]


def kept(name: str, position: int = -1) -> dict[str, Any]:
    """An example of the table."""
    found: dict[str, Any] = TABLE["messages"][name][position]
    return found


def test_every_message_has_an_example() -> None:
    assert set(TABLE["messages"]) >= set(wire.MESSAGES), "run python -m tests.golden.regenerate"


def test_no_message_that_was_ever_sent_is_gone() -> None:
    assert set(TABLE["messages"]) <= set(wire.MESSAGES)


@pytest.mark.parametrize("name", wire.MESSAGES)
def test_an_example_sets_every_field_of_its_message(name: str) -> None:
    message = wire.fill(wire.MESSAGES[name]())
    assert {field.name for field, _ in message.ListFields()} == {field.name for field in message.DESCRIPTOR.fields}


@pytest.mark.parametrize("name", wire.MESSAGES)
def test_todays_bytes_are_the_agreed_ones(name: str) -> None:
    assert wire.example(name) == kept(name)


@pytest.mark.parametrize(("name", "position"), EXAMPLES)
def test_old_bytes_decode_to_what_they_meant(name: str, position: int) -> None:
    old = kept(name, position)
    message = wire.MESSAGES[name].FromString(bytes.fromhex(old["hex"]))
    assert wire.fields_of(message) == old["fields"]
    assert len(UnknownFieldSet(message)) == 0  # type: ignore[no-untyped-call,unused-ignore]


@pytest.mark.parametrize(("name", "position"), EXAMPLES)
def test_old_bytes_are_sent_on_unchanged(name: str, position: int) -> None:
    old = bytes.fromhex(kept(name, position)["hex"])
    assert wire.MESSAGES[name].FromString(old).SerializeToString(deterministic=True) == old


@pytest.mark.parametrize("name", TABLE["enums"])
def test_names_of_enums_keep_their_numbers(name: str) -> None:
    today = wire.enums()[name]
    assert {key: today.get(key) for key in TABLE["enums"][name]} == TABLE["enums"][name]


def test_methods_keep_their_paths_and_types() -> None:
    today = wire.methods()
    assert {path: today.get(path) for path in TABLE["methods"]} == TABLE["methods"]


def test_the_table_is_up_to_date() -> None:
    assert wire.extended(TABLE) == TABLE, "run python -m tests.golden.regenerate"


@pytest.mark.parametrize("name", wire.MESSAGES)
def test_a_field_of_a_newer_peer_is_tolerated(name: str) -> None:
    newer_field_999 = b"\xba\x3e\x03new"
    message = wire.MESSAGES[name].FromString(bytes.fromhex(kept(name)["hex"]) + newer_field_999)
    assert wire.fields_of(message) == kept(name)["fields"]


def test_an_enum_value_of_a_newer_peer_is_tolerated() -> None:
    newer = key_value_pb2.Error(code=999, message="new")  # type: ignore[arg-type,unused-ignore]
    assert key_value_pb2.Error.FromString(newer.SerializeToString()).code == 999


def test_two_fields_of_one_type_have_different_examples() -> None:
    """Else two fields could swap their numbers unseen."""
    receipt = wire.fields_of(wire.fill(key_value_pb2.Receipt()))
    numbers = [receipt[name] for name in ("needed", "n", "n_asked", "ring_epoch", "server_time_ms")]
    assert len(set(map(str, numbers))) == len(numbers)


def test_extending_the_table_keeps_the_older_examples() -> None:
    older = copy.deepcopy(TABLE)
    older["messages"]["Error"] = [{"hex": "0801", "fields": {"code": "BAD_REQUEST"}}]
    assert wire.extended(older)["messages"]["Error"] == [older["messages"]["Error"][0], wire.example("Error")]
