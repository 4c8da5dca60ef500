"""Columns to results: what fits, and what cannot be trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvclient.batches import Part, SinglesPart
from kvclient.contexts import ContextMemory, NamespaceContexts
from kvclient.decoding import decode_entries, decode_results
from kvclient.errors import KvError
from kvclient.shapes import Shape
from kvproto.columns import GroupReply, Kind, OperationGroup, Receipt

RECEIPT = Receipt(needed=2)


def versions(count: int, first: int = 0) -> bytes:
    return b"".join(number.to_bytes(20, "big") for number in range(first, first + count))


def memory() -> NamespaceContexts:
    return ContextMemory().namespace("n")


@given(st.lists(st.lists(st.tuples(st.binary(max_size=4), st.integers(0, 3)), max_size=3), max_size=8))
def test_the_general_path_gives_back_what_was_laid_out(held: list[list[tuple[bytes, int]]]) -> None:
    keys = [b"k%d" % number for number in range(len(held))]
    flat = [sibling for siblings in held for sibling in siblings]
    reply = GroupReply(
        group=0,
        counts=[len(siblings) for siblings in held],
        values=[value for value, _ in flat],
        versions=versions(len(flat)),
        contexts=[b"c%d" % number for number in range(len(held))],
        expires_ms=[expiry * 1000 for _, expiry in flat],
        receipt=RECEIPT,
    )
    entries = decode_entries(keys, reply)
    assert [entry.values for entry in entries] == [[value for value, _ in siblings] for siblings in held]
    assert [version for entry in entries for version in entry.versions] == [
        number.to_bytes(20, "big").hex() for number in range(len(flat))
    ]
    earliest = [min((expiry for _, expiry in siblings if expiry), default=None) for siblings in held]
    assert [entry.expires_at for entry in entries] == earliest
    assert [entry.context for entry in entries] == list(reply.contexts)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=8))
def test_the_fast_path_agrees_with_the_general_one(values: list[bytes]) -> None:
    keys = [b"k%d" % number for number in range(len(values))]
    plain = GroupReply(group=0, values=values, versions=versions(len(values)), receipt=RECEIPT)
    general = GroupReply(group=0, values=values, versions=plain.versions, receipt=RECEIPT, counts=[1] * len(values))
    for fast, slow in zip(decode_entries(keys, plain), decode_entries(keys, general), strict=True):
        assert (fast.value, fast.version, fast.context, fast.expires_at, fast.receipt) == (
            slow.value,
            slow.version,
            slow.context,
            slow.expires_at,
            slow.receipt,
        )


@pytest.mark.parametrize(
    "reply",
    [
        GroupReply(group=0, values=[b"1"], versions=versions(2)),
        GroupReply(group=0, values=[b"1", b"2"], versions=versions(1)),
        GroupReply(group=0, values=[b"1", b"2"], versions=versions(2), contexts=[b"c"]),
        GroupReply(group=0, values=[b"1", b"2"], versions=versions(2), counts=[1]),
        GroupReply(group=0, values=[b"1", b"2"], versions=versions(2), counts=[2, 1]),
        GroupReply(group=0, values=[b"1", b"2"], versions=versions(2), expires_ms=[1]),
    ],
)
def test_columns_that_do_not_fit_are_refused(reply: GroupReply) -> None:
    with pytest.raises(KvError, match="do not fit"):
        decode_entries([b"a", b"b"], reply)


def test_results_of_writes_remember_their_contexts() -> None:
    contexts = memory()
    reply = GroupReply(group=0, versions=versions(2), contexts=[b"\x01x", b""], counts=[1, 3], receipt=RECEIPT)
    first, second = decode_results([b"a", b"b"], reply, contexts)
    assert (first.context, first.siblings, first.receipt.needed) == (b"\x01x", 1, 2)
    assert (second.context, second.siblings, second.version) == (b"", 3, (1).to_bytes(20, "big").hex())
    assert contexts.token(b"a") == b"\x02x" and contexts.token(b"b") == b""
    with pytest.raises(KvError, match="do not fit"):
        decode_results([b"a"], reply, contexts)


class Waiting:
    """Stands for operations: takes what they would be given."""

    def __init__(self, count: int) -> None:
        self.failed: list[int] = []
        shape = Shape(Kind.GET, "n", memory())
        group = OperationGroup(Kind.GET, "n", [b"%d" % number for number in range(count)])
        self.part = Collecting(shape, group, 1.0, self._failed, ())

    def _failed(self, part: Part, positions: object, error: KvError) -> None:
        self.failed.extend(positions)  # type: ignore[arg-type]


class Collecting(SinglesPart):
    """A part that lists what it settles."""

    __slots__ = ("settled",)

    def _settle(self, positions: object, results: object) -> None:
        self.settled = [*getattr(self, "settled", []), *positions]  # type: ignore[misc]

    def _settle_all(self, results: object) -> None:
        self._settle(range(len(self.group.keys)), results)


@given(st.integers(1, 9), st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 11), max_size=6, unique=True)), max_size=8))
def test_each_position_is_settled_exactly_once_whatever_comes(count: int, messages: list[tuple[bool, list[int]]]) -> None:
    """Answers and errors about any positions, repeated and out of range, and an end: everyone hears exactly once."""
    waiting = Waiting(count)
    part = waiting.part
    for is_error, positions in messages:
        chosen = positions or None
        size = len(positions) or count
        reply = GroupReply(group=0, positions=chosen, values=[b"v"] * size, versions=versions(size))
        if is_error:
            reply.error = KvError("no")
        try:
            part.deliver(reply)
        except KvError:
            assert any(at >= count for at in positions)
    part.fail_open(KvError("the end"))
    assert sorted([*getattr(part, "settled", []), *waiting.failed]) == list(range(count))
    assert part.open_count == 0
