"""Pages of what an acceptor holds of a group, for one that has lost its own (readmission.py). Pure.

    page    floor 32 | more u8 | count u32 | keys | states        keys, states: length u32 each | the bytes of all

A page is read after the ballot of whoever asks was promised durably: nothing of a lower ballot comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct, error
from typing import NamedTuple

from kvstore.core.register import held as register
from kvstore.core.register.ballot import STAMP_BYTES
from kvstore.core.register.held import verify
from kvstore.core.register.messages import column, read_column

_HEAD = Struct(">32s?I")


class Page(NamedTuple):
    """Store keys in order, with stamp and payload in one each. `more`: there are others behind the last. `floor`: the group's."""

    floor: bytes
    more: bool
    keys: Sequence[bytes]
    states: Sequence[bytes]

    @property
    def size_bytes(self) -> int:
        """Of its keys and states."""
        return sum(map(len, self.keys)) + sum(map(len, self.states))

    @property
    def lost(self) -> bytes | None:
        """A key of which nobody knows what was held."""
        return next((key for key, state in zip(self.keys, self.states, strict=True) if not state), None)


def read_page(pairs: Iterable[tuple[bytes, bytes]], cursor: bytes, floor: bytes, bytes_max: int) -> Page:
    """The page behind `cursor`, of `pairs` that begin there or behind it: about `bytes_max`, and one key at least. What is damaged
    has an empty state."""
    keys: list[bytes] = []
    states: list[bytes] = []
    size_bytes = 0
    for store_key, held in pairs:
        if store_key == cursor:
            continue
        if size_bytes >= bytes_max:
            return Page(floor, True, keys, states)
        state = register.stamp(held) + register.accepted(held) if verify(held) else b""
        keys.append(store_key)
        states.append(state)
        size_bytes += len(store_key) + len(state)
    return Page(floor, False, keys, states)


def encode_page(page: Page) -> bytes:
    """Its bytes."""
    return b"".join([_HEAD.pack(page.floor, page.more, len(page.keys)), *column(page.keys), *column(page.states)])


def decode_page(data: bytes, cursor: bytes) -> Page:
    """The page behind `cursor` in `data`. Raises `ValueError` when it does not add up."""
    try:
        floor, more, count = _HEAD.unpack_from(data)
        keys, at = read_column(data, _HEAD.size, count)
        states, at = read_column(data, at, count)
    except error as failure:
        raise ValueError(str(failure)) from failure
    if at != len(data) or (more and not keys) or any(len(state) <= STAMP_BYTES for state in states):
        raise ValueError(f"a page of {len(data)} bytes does not add up")
    if sorted({cursor, *keys}) != [cursor, *keys]:
        raise ValueError("the keys of a page are not in order")
    return Page(floor, more, keys, states)
