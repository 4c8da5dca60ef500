"""What an acceptor stores of one register: what it accepted, and the last that it knows to be committed.

    format u8 | crc32c u32 | accepted stamp 32 | committed stamp 32 | accepted bytes u32 | accepted payload | committed payload

The committed stamp is zeros if no commit is known, and the accepted one if that is committed: then its payload is not repeated. The
checksum covers everything behind it. The format is none of those of eventual records, so that neither is ever taken for the other.
"""

from __future__ import annotations

from struct import Struct

import google_crc32c

from kvstore.core.register.ballot import NO_STAMP

FORMAT = 0x81

_HEAD = Struct(">32s32sI")
_PREFIX = Struct(">BI")
_BODY = _PREFIX.size
_HEAD_BYTES = _BODY + _HEAD.size

checksum = google_crc32c.value


def encode(stamp: bytes, payload: bytes, committed_stamp: bytes = NO_STAMP, committed: bytes = b"") -> bytes:
    """The bytes of a register; `committed` only where its stamp is another one than `stamp`."""
    body = _HEAD.pack(stamp, committed_stamp, len(payload)) + payload + committed
    return _PREFIX.pack(FORMAT, checksum(body)) + body


def verify(held: bytes) -> bool:
    """Whether checksum, format and lengths are right."""
    if len(held) < _HEAD_BYTES or held[0] != FORMAT:
        return False
    if checksum(held[_BODY:]) != int.from_bytes(held[1:_BODY], "big"):
        return False
    return _HEAD_BYTES + int.from_bytes(held[69:73], "big") <= len(held)


def stamp(held: bytes) -> bytes:
    """Of what was accepted."""
    return held[5:37]


def accepted(held: bytes) -> bytes:
    """The payload that was accepted."""
    return held[_HEAD_BYTES : _HEAD_BYTES + int.from_bytes(held[69:73], "big")]


def committed(held: bytes, watermark: bytes) -> tuple[bytes, bytes] | None:
    """Stamp and payload of the last that is known to be committed; None: nothing is. Everything of the watermark's ballot up to its
    sequence is committed (safety rule 19)."""
    accepted_stamp = held[5:37]
    if accepted_stamp == held[37:69] or (accepted_stamp[:24] == watermark[:24] and accepted_stamp <= watermark):
        return accepted_stamp, accepted(held)
    if held[37:69] == NO_STAMP:
        return None
    return held[37:69], held[_HEAD_BYTES + int.from_bytes(held[69:73], "big") :]


def over(held: bytes, new_stamp: bytes, new_payload: bytes, watermark: bytes) -> bytes:
    """The register with another accept on top of what it holds; what of that is committed is kept beside."""
    known = committed(held, watermark)
    return encode(new_stamp, new_payload) if known is None else encode(new_stamp, new_payload, *known)
