"""What `kv dump` writes and `kv load` reads is what keys hold, under every policy: as text, and through a real store."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Iterable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvclient import AsyncClient
from kvclient.cli.load import Loader
from kvclient.cli.options import Options, Output
from kvclient.cli.progress_file import Progress
from kvclient.cli.transfer_rows import Row, decode_row, encode_row, line_of
from kvclient.cli.typed_rows import Held, TypedRow
from kvproto.columns import Cell
from kvproto.errors import BadRequest

AT = (
    "embedded::memory:{}?namespaces=hits:counter,hits2:counter,tags:set,tags2:set,carts:map,carts2:map,"
    "last:lww,last2:lww,plain2:siblings"
)


names = st.binary(min_size=1, max_size=6)
expiries = st.none() | st.floats(1.0, 1e10)
numbers = st.integers(-(2**70), 2**70)
counters = st.builds(lambda number: (Held(Cell.COUNTER, b"", b"%d" % number),), numbers)
sets = st.dictionaries(st.binary(max_size=6), expiries, min_size=1, max_size=4).map(
    lambda members: tuple(Held(Cell.ELEMENT, b"", value, ends_s) for value, ends_s in members.items())
)


def _fields(drawn: dict[tuple[Cell, bytes], tuple[bytes, int, dict[bytes, float | None], float | None]]) -> tuple[Held, ...]:
    cells: list[Held] = []
    for (kind, field), (value, number, members, ends_s) in drawn.items():
        if kind is Cell.COUNTER:
            cells.append(Held(kind, field, b"%d" % number))
        elif kind is Cell.REGISTER:
            cells.append(Held(kind, field, value, ends_s))
        else:
            cells += [Held(kind, field, member, ends) for member, ends in members.items()]
    return tuple(cells)


maps = st.dictionaries(
    st.tuples(st.sampled_from(list(Cell)), names),
    st.tuples(
        st.binary(max_size=6),
        st.integers(-(2**40), 2**40),
        st.dictionaries(st.binary(max_size=6), expiries, min_size=1, max_size=3),
        expiries,
    ),
    min_size=1,
    max_size=4,
).map(_fields)


class _Scanned:
    """An entry with these cells, as a scan yields it."""

    def __init__(self, row: TypedRow) -> None:
        self.key, self.policy = row.key, row.policy
        self.cells = [(cell.kind, cell.field, cell.value, cell.expires_at) for cell in row.cells]


@given(key=names, cells=counters | sets | maps)
def test_every_typed_row_survives_its_line(key: bytes, cells: tuple[Held, ...]) -> None:
    row = TypedRow(key, cells)
    line = line_of(_Scanned(row)).encode()  # type: ignore[arg-type]
    assert b"\n" not in line
    read = decode_row(line)
    assert isinstance(read, TypedRow)
    assert (read.key, _sorted(read.cells)) == (key, _sorted(cells))


@given(key=names, values=st.lists(st.tuples(st.binary(max_size=6), expiries), min_size=2, max_size=3))
def test_every_sibling_keeps_its_own_expiry(key: bytes, values: list[tuple[bytes, float | None]]) -> None:
    ends = tuple(ends_s for _, ends_s in values)
    row = Row(key, tuple(value for value, _ in values), expiries=ends)
    read = decode_row(encode_row(row).encode())
    assert isinstance(read, Row)
    assert read.living(0.0) == row.living(0.0)


numbered = count()
SPACES = {"default": "plain2", "last": "last2", "hits": "hits2", "tags": "tags2", "carts": "carts2"}


async def _lines(client: AsyncClient, name: str) -> list[bytes]:
    return [line_of(entry).encode() async for entry in client.namespace(name).scan()]


async def _load(client: AsyncClient, name: str, lines: Iterable[bytes]) -> None:
    loader = Loader(client.namespace(name), Options(namespace=name, output=Output.HUMAN))
    await loader.load(io.BytesIO(b"".join(line + b"\n" for line in lines)), Progress("test"), 0, total_bytes=None)


def _is_same(one: bytes, other: bytes) -> bool:
    """Equal but for a second of what is left to live, which travels as a duration."""
    left, right = decode_row(one), decode_row(other)
    if isinstance(left, Row) and isinstance(right, Row):
        pairs = zip(sorted(left.living(0.0), key=str), sorted(right.living(0.0), key=str), strict=True)
        return left.key == right.key and all(a[0] == b[0] and _near(a[1], b[1]) for a, b in pairs)
    assert isinstance(left, TypedRow) and isinstance(right, TypedRow)
    cells = zip(_sorted(left.cells), _sorted(right.cells), strict=True)
    return left.key == right.key and all(
        (a.kind, a.field, a.value) == (b.kind, b.field, b.value) and _near(a.expires_at, b.expires_at) for a, b in cells
    )


def _near(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else math.isclose(one, other, abs_tol=2.0)


def _sorted(cells: Iterable[Held]) -> list[Held]:
    return sorted(cells, key=lambda cell: (cell.kind, cell.field, cell.value))


ttls = st.none() | st.integers(1000, 100_000)
steps = st.lists(
    st.tuples(st.sampled_from(sorted(SPACES)), st.integers(0, 2), st.integers(-5, 5), st.integers(0, 3), ttls, st.integers(0, 2)),
    max_size=12,
)


async def _do(client: AsyncClient, name: str, step: tuple[int, int, int, int | None, int]) -> None:
    key_at, by, element, ttl_s, kind = step
    space, key, ttl = client.namespace(name), f"k{key_at}", None if ttl_s is None else float(ttl_s)
    if name.startswith(("default", "plain")):
        await space.put(key, b"v%d" % by, ttl_s=ttl, context=b"" if kind else None)
    elif name.startswith("last"):
        await space.put(key, b"v%d" % by, ttl_s=ttl)
    elif name.startswith("hits"):
        await space.increment(key, by)
    elif name.startswith("tags"):
        await (space.remove(key, b"e%d" % element) if by < -3 else space.add(key, b"e%d" % element, ttl_s=ttl))
    elif by == 5:
        await space.delete_field(key, f"f{element}")
    elif kind == 0:
        await space.put_field(key, f"f{element}", b"v%d" % by, ttl_s=ttl)
    elif kind == 1:
        await space.increment(key, by, field=f"f{element}")
    else:
        await space.add(key, b"e%d" % by, field=f"f{element}", ttl_s=ttl)


@settings(max_examples=25, deadline=None)
@given(wanted=steps, there=steps)
def test_a_dump_loads_into_whatever_is_there_and_twice_changes_nothing(
    wanted: list[tuple[str, int, int, int, int | None, int]], there: list[tuple[str, int, int, int, int | None, int]]
) -> None:
    async def scenario() -> None:
        async with AsyncClient(AT.format(next(numbered))) as client:
            for name, *step in wanted:
                await _do(client, name, tuple(step))  # type: ignore[arg-type]
            for name, *step in there:
                await _do(client, SPACES[name], tuple(step))  # type: ignore[arg-type]
            for source, target in SPACES.items():
                lines = await _lines(client, source)
                for _ in range(2):
                    await _load(client, target, lines)
                    loaded = {decode_row(line).key: line for line in await _lines(client, target)}
                    for line in lines:
                        assert _is_same(line, loaded[decode_row(line).key]), (line, loaded)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"key": "a", "number": "5"}', "whole number"),
        (b'{"key": "a", "members": "b"}', "list of texts"),
        (b'{"key": "a", "fields": {}}', "list of objects"),
        (b'{"key": "a", "fields": [{"value": ""}]}', '"field"'),
        (b'{"key": "a", "fields": [{"field": "", "number": 1}]}', "without a name"),
        (b'{"key": "a", "members": [{"text": "b", "expires_at": "soon"}]}', "expires_at"),
    ],
)
def test_a_typed_line_that_cannot_be_read_is_named(line: bytes, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        decode_row(line)
