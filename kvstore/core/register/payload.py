"""What a register holds: a value or a tombstone, its version, its expiry, and the last request ids with their results.

    flags u8 | version 20 | expires ms u64 | forgotten ms u64 | requests u8         38 bytes
    requests, in the order in which they were applied:  id 16 | version 20 | number i64     44 bytes each
    the value

The version belongs to the value: a touch and an adoption under another ballot keep it. Ids are dropped when there are more than
`REQUESTS_MAX` of them or when they are older than the retry window; `forgotten ms` is when the latest dropped one was issued, so
that a repeated operation whose id may have been dropped is refused whatever clock it is judged by (safety rule 8).
"""

from __future__ import annotations

from struct import Struct

from kvstore.core.register.ballot import NO_VERSION

REQUESTS_MAX = 32
REQUEST_BYTES = 44
TOMBSTONE = 1

_HEAD = Struct(">B20sQQB")
_REQUEST = Struct(">16s20sq")
_HEAD_BYTES = _HEAD.size

Request = tuple[bytes, int]
"""The version and the number that a request was answered."""


COUNT_AT = 37
"""Where a payload says, in one byte, how many requests it remembers."""
_NO_END = bytes(8)

from_bytes = int.from_bytes
"""Of big-endian bytes."""


class DamagedPayload(ValueError):
    """The bytes are no payload: their lengths do not add up."""


def encode(
    version: bytes, value: bytes, *, tombstone: bool = False, expires_ms: int = 0, forgotten_ms: int = 0, requests: bytes = b""
) -> bytes:
    """A payload; `requests` as it lies in one."""
    count = len(requests) // REQUEST_BYTES
    return _HEAD.pack(TOMBSTONE if tombstone else 0, version, expires_ms, forgotten_ms, count) + requests + value


def check(payload: bytes) -> None:
    """Raises `DamagedPayload` unless its lengths add up."""
    size_bytes = len(payload) - _HEAD_BYTES
    if size_bytes < 0 or payload[COUNT_AT] > REQUESTS_MAX or size_bytes < REQUEST_BYTES * payload[COUNT_AT]:
        raise DamagedPayload(f"{len(payload)} bytes")


def is_tombstone(payload: bytes) -> bool:
    """Whether it holds no value."""
    return payload[0] == TOMBSTONE


def version(payload: bytes) -> bytes:
    """Of its value or tombstone."""
    return payload[1:21]


def expires_ms(payload: bytes) -> int:
    """When its value ends; 0: never."""
    return from_bytes(payload[21:29])


def has_expired(payload: bytes, now_ms: int) -> bool:
    """Whether its value has ended and nobody has said so yet."""
    ends = payload[21:29]
    return ends != _NO_END and from_bytes(ends) <= now_ms and payload[0] != TOMBSTONE


def value(payload: bytes) -> bytes:
    """Its value; b"" of a tombstone."""
    return payload[_HEAD_BYTES + REQUEST_BYTES * payload[COUNT_AT] :]


def forgotten_ms(payload: bytes) -> int:
    """When the latest id that was dropped from it was issued."""
    return from_bytes(payload[29:37])


def request(payload: bytes, request_id: bytes) -> Request | None:
    """What the request was answered, if it is remembered."""
    end = _HEAD_BYTES + REQUEST_BYTES * payload[COUNT_AT]
    at = payload.find(request_id, _HEAD_BYTES, end)
    while at >= 0:
        if not (at - _HEAD_BYTES) % REQUEST_BYTES:
            _, known, number = _REQUEST.unpack_from(payload, at)
            return known, number
        at = payload.find(request_id, at + 1, end)  # found within a row: a value that looks like an id
    return None


def first_requests(payload: bytes, count: int) -> bytes:
    """The requests that will be dropped first, `REQUEST_BYTES` each."""
    return payload[_HEAD_BYTES : _HEAD_BYTES + REQUEST_BYTES * count]


def read_request(row: bytes) -> Request:
    """What the request was answered that lies in `row`."""
    _, known, number = _REQUEST.unpack(row)
    return known, number


def requests_ms(payload: bytes) -> int:
    """When the latest id that it remembers was issued; 0: it remembers none."""
    ends = range(_HEAD_BYTES, _HEAD_BYTES + REQUEST_BYTES * payload[COUNT_AT], REQUEST_BYTES)
    return max([from_bytes(payload[at : at + 6]) for at in ends], default=0)


def successor(
    base: bytes | None,
    new_version: bytes,
    new_value: bytes,
    *,
    tombstone: bool = False,
    ends_ms: int = 0,
    request_id: bytes = b"",
    number: int = 0,
    cutoff_ms: int = 0,
) -> bytes:
    """What follows `base` (None: nothing was there): another value, and the requests that are still to be remembered, those issued
    after `cutoff_ms`, with the one that made it, if it has an id."""
    requests, forgotten = b"", 0
    if base is not None:
        count = base[COUNT_AT]
        forgotten = from_bytes(base[29:37])
        if count:
            first = _HEAD_BYTES
            # They were applied about in the order in which they were issued, so the oldest are in front.
            while count and (count >= REQUESTS_MAX or from_bytes(base[first : first + 6]) <= cutoff_ms):
                forgotten = max(forgotten, from_bytes(base[first : first + 6]))
                first += REQUEST_BYTES
                count -= 1
            requests = base[first : first + REQUEST_BYTES * count]
    if request_id:
        requests += _REQUEST.pack(request_id, new_version, number)
    flags = TOMBSTONE if tombstone else 0
    return _HEAD.pack(flags, new_version, ends_ms, forgotten, len(requests) // REQUEST_BYTES) + requests + new_value


def absent(payload: bytes | None) -> bool:
    """Whether there is no value, as far as anybody has said so."""
    return payload is None or payload[0] == TOMBSTONE


def version_or_none(payload: bytes | None) -> bytes:
    """The version of what is there, tombstones included; zeros: nothing ever was, or nobody remembers."""
    return NO_VERSION if payload is None else payload[1:21]
