"""Where in a LevelDB table the records of users lie: its index, read as LevelDB's table_format.md describes it. Pure.

A table ends with a footer of 48 bytes, which leads to the index: a block that has for each block of data a key that none in it
exceeds, and its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
SYSTEM_PREFIX = b"\xff" * 6
"""Of the keys that a node keeps for itself (docs/storage.md); they come behind all records."""


class Block(NamedTuple):
    """A block of data, without its checksum. `last_key`: none in it exceeds this."""

    last_key: bytes
    offset: int
    size_bytes: int


def blocks_of_users(table: bytes) -> list[Block]:
    """The blocks in which there are records and nothing else. Raises `ValueError` for what is no table."""
    if len(table) < FOOTER_BYTES or not table.endswith(MAGIC):
        raise ValueError("this is no LevelDB table")
    footer = memoryview(table)[-FOOTER_BYTES:]
    _, at = _handle(footer, 0)
    (offset, size_bytes), _ = _handle(footer, at)
    entries = _entries(memoryview(table)[offset : offset + size_bytes])
    return [Block(key, *_handle(value, 0)[0]) for key, value in entries if not key.startswith(SYSTEM_PREFIX)]


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + bytes(block[at : at + fresh])
        at += fresh + length
        yield key, block[at - length : at]


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size_bytes, at = _varint(data, at)
    return (offset, size_bytes), at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
