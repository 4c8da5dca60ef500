"""A message whose large values stand beside it: what travels is the encoding of all of it, and no value is copied for that.

Protobuf copies a value when a message is given it, when the message becomes part of another one, and twice more when that is
encoded. But an encoding is its fields one behind the other, those of a repeated field in their order and otherwise in any, and two
encodings one behind the other are that of both messages merged (protobuf's documentation, "Encoding", message structure and "Last
One Wins"). So the message is encoded without its large field, and the field is written behind it: tag, length, and the value where
it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from kvproto.frames import Connection

LARGE_BYTES = 64 << 10
"""What is smaller is copied: calls cost more."""
BLOB_BYTES_MIN = 4 << 10
"""Likewise where the values of one field have fewer bytes on average."""

_LENGTH_DELIMITED = 2

MessageT = TypeVar("MessageT", bound=Message)


class LargeMessage(Generic[MessageT]):
    """`message` with the encoded fields `tail` behind it."""

    __slots__ = ("message", "tail")

    def __init__(self, message: MessageT, tail: list[bytes]) -> None:
        self.message = message
        self.tail = tail

    def size_bytes(self) -> int:
        """Of its encoding."""
        return self.message.ByteSize() + sum(map(len, self.tail))

    def whole(self) -> MessageT:
        """The same as one message."""
        both = type(self.message)()
        both.ParseFromString(b"".join([self.message.SerializeToString(), *self.tail]))
        return both


def whole(message: MessageT | LargeMessage[MessageT]) -> MessageT:
    """As one message, for who needs one."""
    return message.whole() if isinstance(message, LargeMessage) else message


async def write_frame(connection: Connection, message: Message | LargeMessage[Any]) -> None:
    """Sends `message` as a frame; see `Connection.write`."""
    if isinstance(message, LargeMessage):
        await connection.write(message.message.SerializeToString(), message.tail)
    else:
        await connection.write(message.SerializeToString())


def are_large(values: Sequence[bytes]) -> bool:
    """Whether the values of a repeated field are worth it."""
    size_bytes = sum(map(len, values))
    return size_bytes >= LARGE_BYTES and size_bytes >= BLOB_BYTES_MIN * len(values)


def repeated_bytes(number: int, values: Sequence[bytes]) -> list[bytes]:
    """The repeated bytes field `number` with all its `values`, in pieces."""
    pieces: list[bytes] = []
    for value in values:
        pieces += (_start(number, len(value)), value)
    return pieces


def submessage(number: int, message: Message, tail: Sequence[bytes]) -> list[bytes]:
    """One entry of the message field `number`: `message` with its own `tail`, in pieces."""
    body = message.SerializeToString()
    return [_start(number, len(body) + sum(map(len, tail))) + body, *tail]


def _start(number: int, size_bytes: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(size_bytes)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the highest bit of a byte set where more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
