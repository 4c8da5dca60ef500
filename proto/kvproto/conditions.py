"""What has to hold for a conditional write, as bytes of one column (`OperationGroup.conditions`). Pure, and the same on both sides.

The first byte says what is asked: b"" nothing · 0x01 absent · 0x02 and 20 bytes, the version is this · 0x03 and a value, the value
is this · 0x04 present · 0x05 and two big-endian signed 64-bit numbers, the result of an increment lies between them, both included.
Made by `kvclient`, judged by whoever holds the committed record (consistency.md, section 4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from kvproto.columns import VERSION_BYTES
from kvproto.errors import BadRequest

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_BOUNDS = struct.Struct(">qq")


class Test(IntEnum):
    """What a condition asks; the number is its first byte."""

    __test__ = False  # pytest: not a class of tests

    ABSENT = 1
    VERSION = 2
    VALUE = 3
    PRESENT = 4
    BETWEEN = 5


ABSENT = bytes((Test.ABSENT,))
PRESENT = bytes((Test.PRESENT,))


@dataclass(slots=True, frozen=True)
class Condition:
    """A condition that was read: `operand` is the version or the value; `low` and `high` are of BETWEEN."""

    test: Test
    operand: bytes = b""
    low: int = INT64_MIN
    high: int = INT64_MAX

    def holds(self, version: bytes | None, value: bytes | None) -> bool:
        """Whether it holds of a key with this committed version and value, both None if there is none. BETWEEN is about a result,
        not about what is there: see `allows`."""
        match self.test:
            case Test.ABSENT:
                return value is None
            case Test.PRESENT:
                return value is not None
            case Test.VERSION:
                return value is not None and version == self.operand
            case Test.VALUE:
                return value is not None and value == self.operand
            case Test.BETWEEN:
                return True

    def allows(self, result: int) -> bool:
        """Whether an increment may have this result."""
        return self.low <= result <= self.high


def version_is(version: bytes) -> bytes:
    """The key holds exactly this version (20 bytes)."""
    assert len(version) == VERSION_BYTES, "a version has 20 bytes"
    return bytes((Test.VERSION,)) + version


def value_is(value: bytes) -> bytes:
    """The key holds exactly this value."""
    return bytes((Test.VALUE,)) + value


def between(low: int = INT64_MIN, high: int = INT64_MAX) -> bytes:
    """The result of an increment is neither below `low` nor above `high`, which are signed 64-bit numbers."""
    return bytes((Test.BETWEEN,)) + _BOUNDS.pack(low, high)


def read_condition(condition: bytes) -> Condition | None:
    """What `condition` asks; None: nothing. Raises `BadRequest` for bytes that are none, or one of a newer peer: a condition that
    is not understood must not be taken to hold."""
    if not condition:
        return None
    first, operand = condition[0], condition[1:]
    if first in (Test.ABSENT, Test.PRESENT) and not operand:
        return Condition(Test(first))
    if first == Test.VERSION and len(operand) == VERSION_BYTES:
        return Condition(Test.VERSION, operand)
    if first == Test.VALUE:
        return Condition(Test.VALUE, operand)
    if first == Test.BETWEEN and len(operand) == _BOUNDS.size:
        low, high = _BOUNDS.unpack(operand)
        return Condition(Test.BETWEEN, low=low, high=high)
    raise BadRequest(f"{condition[:24].hex()} is no condition that this version knows", actual=len(condition), subject="conditions")
