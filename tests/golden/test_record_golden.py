"""Records and context tokens as they lie on disks and in clients' hands: these bytes mean the same for ever.

record_v1.json holds the bytes of each example beside what they mean, written out. A red test means that data of an older version
would be misread. Then the format needs a new version byte and its own file of examples; these stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvstore.core.record import (
    decode,
    decode_context,
    encode,
    encode_context,
    floor_ms,
    read_siblings,
    read_single,
    verify,
)
from kvstore.core.versions import Context, Record, Sibling

EXAMPLES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("record_v1.json").read_text("utf-8"))
RECORDS = sorted(name for name, example in EXAMPLES.items() if "siblings" in example["means"])
TOKENS = sorted(set(EXAMPLES) - set(RECORDS))


def vector_of(rows: dict[str, int]) -> dict[bytes, int]:
    return {bytes.fromhex(actor): counter for actor, counter in rows.items()}


def record_of(means: dict[str, Any]) -> Record:
    siblings = [
        Sibling(bytes.fromhex(dot), bytes.fromhex(request_id), hlc, expires_ms, tombstone, bytes.fromhex(value))
        for dot, request_id, hlc, expires_ms, tombstone, value in means["siblings"]
    ]
    retries = {bytes.fromhex(row): frozenset(map(bytes.fromhex, dots)) for row, dots in means["retries"].items()}
    return Record(vector_of(means["vector"]), tuple(siblings), retries, means["floor_ms"])


def context_of(means: dict[str, Any]) -> Context:
    return Context(vector_of(means["vector"]), frozenset(map(bytes.fromhex, means["dots"])), means["overwrite"])


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_keeps_its_bytes_and_its_meaning(name: str) -> None:
    data, record = bytes.fromhex(EXAMPLES[name]["bytes"]), record_of(EXAMPLES[name]["means"])
    record.check()
    assert verify(data)
    assert decode(data) == record
    assert encode(record) == data


@pytest.mark.parametrize("name", TOKENS)
def test_a_context_token_keeps_its_bytes_and_its_meaning(name: str) -> None:
    data, context = bytes.fromhex(EXAMPLES[name]["bytes"]), context_of(EXAMPLES[name]["means"])
    assert decode_context(data) == context
    assert encode_context(context) == data


def test_the_examples_show_every_part_of_the_format() -> None:
    records = [record_of(EXAMPLES[name]["means"]) for name in RECORDS]
    assert {len(record.siblings) for record in records} == {1, 3}
    assert any(len(record.vector) > 1 for record in records) and any(record.floor_ms for record in records)
    assert any(len(dots) > 1 for record in records for dots in record.retries.values())
    siblings = [sibling for record in records for sibling in record.siblings]
    assert {sibling.tombstone for sibling in siblings} == {True, False}
    assert any(sibling.expires_ms for sibling in siblings) and any(len(sibling.value) > 255 for sibling in siblings)
    assert any(int.from_bytes(sibling.dot[12:], "big") > 2**32 for sibling in siblings)


def test_the_byte_readers_find_what_the_examples_say() -> None:
    single = read_single(bytes.fromhex(EXAMPLES["one value"]["bytes"]), 0)
    assert single is not None and single[0] == b"hello"
    deleted = read_single(bytes.fromhex(EXAMPLES["deleted, ids remembered, floor"]["bytes"]), 0)
    assert deleted is not None and deleted[0] is None
    assert floor_ms(bytes.fromhex(EXAMPLES["deleted, ids remembered, floor"]["bytes"])) == 1_700_000_000_000
    assert floor_ms(bytes.fromhex(EXAMPLES["horizon"]["bytes"])) == 1_700_000_000_009
    live, _ = read_siblings(bytes.fromhex(EXAMPLES["siblings of one id and another"]["bytes"]), 0)
    assert [sibling.value for sibling in live] == [b"twice", b"other"]
