"""What an acceptor stores of one register: what it accepted, and what that came over, if that was known to be committed.

    format u8 | crc32c u32 | accepted stamp 32 | committed stamp 32 | accepted bytes u32 | accepted payload | committed payload

The committed stamp is zeros if no commit is known, and the accepted one if that is committed: then its payload is not repeated. The
checksum covers everything behind it. The format is none of those of eventual records, so that neither is ever taken for the other.
"""

from __future__ import annotations

from struct import Struct

import google_crc32c
from xxhash import xxh3_128_intdigest

from kvstore.core.register.ballot import NO_STAMP

FORMAT = 0x81

_HEAD = Struct(">32s32sI")
_PREFIX = Struct(">BI")
_BODY = _PREFIX.size
_HEAD_BYTES = _BODY + _HEAD.size

checksum = google_crc32c.value
from_bytes = int.from_bytes
"""Of big-endian bytes."""


def encode(stamp: bytes, payload: bytes, committed_stamp: bytes = NO_STAMP, committed: bytes = b"") -> bytes:
    """The bytes of a register; `committed` only where its stamp is another one than `stamp`."""
    body = _HEAD.pack(stamp, committed_stamp, len(payload)) + payload + committed
    return _PREFIX.pack(FORMAT, checksum(body)) + body


def verify(held: bytes) -> bool:
    """Whether checksum, format and lengths are right."""
    if len(held) < _HEAD_BYTES or held[0] != FORMAT:
        return False
    if checksum(held[_BODY:]) != from_bytes(held[1:_BODY]):
        return False
    return _HEAD_BYTES + from_bytes(held[69:73]) <= len(held)


def stamp(held: bytes) -> bytes:
    """Of what was accepted."""
    return held[5:37]


def accepted(held: bytes) -> bytes:
    """The payload that was accepted."""
    return held[_HEAD_BYTES : _HEAD_BYTES + from_bytes(held[69:73])]


def state(held: bytes) -> bytes:
    """Stamp and payload of what was accepted, one behind the other: what is the same at all who accepted it."""
    return held[5:37] + held[_HEAD_BYTES : _HEAD_BYTES + from_bytes(held[69:73])]


def digest_of(store_key: bytes, held: bytes) -> int:
    """Of one register as it is accepted: of its key and stamp, for one stamp has one payload wherever it was accepted."""
    return xxh3_128_intdigest(store_key + held[5:37])


def is_committed(held: bytes, watermark: bytes) -> bool:
    """Whether what was accepted is known to be committed. Everything of the watermark's ballot up to its sequence is."""
    accepted_stamp = held[5:37]
    return (accepted_stamp <= watermark and accepted_stamp[:24] == watermark[:24]) or accepted_stamp == held[37:69]


def beside(held: bytes) -> bytes | None:
    """The committed payload that an accept not known to be committed has come over; None: it was not known to be committed."""
    committed_stamp = held[37:69]
    if committed_stamp == NO_STAMP or committed_stamp == held[5:37]:
        return None
    return held[_HEAD_BYTES + from_bytes(held[69:73]) :]


def over(held: bytes, new_stamp: bytes, new_payload: bytes) -> bytes:
    """The register with another accept on top of what it holds, which is committed and kept beside. What was beside before is not:
    between the two something was accepted that may be committed as well, and a read must not go back behind it."""
    return encode(new_stamp, new_payload, held[5:37], held[_HEAD_BYTES : _HEAD_BYTES + from_bytes(held[69:73])])
