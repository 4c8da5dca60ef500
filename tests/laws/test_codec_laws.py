"""Laws of the codec: what a group says arrives, and what a newer peer says is tolerated."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from kvproto.codec import decode_groups, decode_scan, encode_batch, encode_scan
from kvproto.columns import Kind, Level, OperationGroup, ScanQuery, Sloppy
from kvproto.v1 import key_value_pb2

COLUMN = st.lists(st.binary(max_size=5), max_size=3)
MILLISECONDS = st.lists(st.integers(0, 2**32 - 1), max_size=2)
GROUPS = st.builds(
    OperationGroup,
    st.sampled_from(Kind),
    st.text(max_size=5),
    COLUMN,
    values=COLUMN,
    contexts=COLUMN,
    request_ids=st.binary(max_size=16),
    ttls_ms=MILLISECONDS,
    timeouts_ms=MILLISECONDS,
    level=st.sampled_from(Level),
    r=st.integers(0, 9),
    w=st.integers(0, 9),
    explain=st.booleans(),
    attempt=st.integers(0, 9),
    fields=COLUMN,
    amounts=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
    conditions=COLUMN,
    seen=COLUMN,
    bound_ms=st.integers(0, 2**32 - 1),
    sloppy=st.sampled_from(Sloppy),
)
QUERIES = st.builds(
    ScanQuery, st.text(max_size=5), level=st.sampled_from(Level), bound_ms=st.integers(0, 9), sloppy=st.sampled_from(Sloppy)
)


def plain(group: OperationGroup) -> list[object]:
    values = [getattr(group, field.name) for field in fields(group) if field.name != "ids_ahead_ms"]  # which does not travel
    return [value if isinstance(value, str | bytes | int) else list(value) for value in values]


@given(st.lists(GROUPS, max_size=3))
def test_every_column_of_a_group_arrives(groups: list[OperationGroup]) -> None:
    sent = key_value_pb2.BatchRequest.FromString(encode_batch(1, groups).SerializeToString())
    assert [plain(group) for group in decode_groups(sent)] == [plain(group) for group in groups]


@given(QUERIES)
def test_every_option_of_a_scan_arrives(query: ScanQuery) -> None:
    assert decode_scan(key_value_pb2.ScanRequest.FromString(encode_scan(query).SerializeToString())) == query


@given(st.integers(-(2**31), 2**31 - 1))
def test_numbers_that_this_version_does_not_know_are_as_if_not_said(number: int) -> None:
    message = key_value_pb2.BatchRequest()
    message.groups.add(kind=Kind.GET, level=number, sloppy=number)  # type: ignore[arg-type,unused-ignore]
    (group,) = decode_groups(message)
    assert group.level is (Level(number) if number in [*Level] else Level.PRESET)
    assert group.sloppy is (Sloppy(number) if number in [*Sloppy] else Sloppy.UNSPECIFIED)
