"""Pages of the digests of what an owner holds of a group, for another that holds something else. Pure.

    page    more u8 | count u32 | keys, length u32 each | the bytes of all | digests 16 each

What differs in two looks is handed to the group's proposer, which has it accepted again: what one holds is never copied to another
(safety rule 17).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from struct import Struct, error
from typing import NamedTuple

from xxhash import xxh3_128_intdigest

from kvstore.core.register.held import digest_of, verify
from kvstore.core.register.messages import column, read_column

_HEAD = Struct(">?I")
DIGEST_BYTES = 16


class Listing(NamedTuple):
    """Store keys in order with the digests of what is held of them. `more`: there are others behind the last."""

    more: bool
    keys: Sequence[bytes]
    digests: Sequence[int]


def read_listing(pairs: Iterable[tuple[bytes, bytes]], cursor: bytes, count_max: int, lost_seed: int) -> Listing:
    """The listing behind `cursor`, of `pairs` that begin there or behind it. What is damaged has a digest of its key and of
    `lost_seed`, 64 bits that are nobody else's: with one digest for all of them two would be nothing (that of a group is their
    XOR)."""
    keys: list[bytes] = []
    digests: list[int] = []
    for store_key, held in pairs:
        if store_key == cursor:
            continue
        if len(keys) >= count_max:
            return Listing(True, keys, digests)
        keys.append(store_key)
        digests.append(digest_of(store_key, held) if verify(held) else xxh3_128_intdigest(store_key, lost_seed))
    return Listing(False, keys, digests)


def differing(one: Listing, other: Listing) -> tuple[dict[bytes, tuple[int, int]], bytes | None]:
    """Keys of which the two hold something else, with both digests, 0 for nothing; and up to which key that is known, None: to the
    end."""
    ends = [listing.keys[-1] for listing in (one, other) if listing.more]
    end = min(ends, default=None)
    here, there = _upto(one, end), _upto(other, end)
    found = {key: (here.get(key, 0), there.get(key, 0)) for key in here.keys() | there.keys()}
    return {key: found[key] for key in sorted(found) if found[key][0] != found[key][1]}, end


def _upto(listing: Listing, end: bytes | None) -> Mapping[bytes, int]:
    return {key: digest for key, digest in zip(listing.keys, listing.digests, strict=True) if end is None or key <= end}


def encode_listing(listing: Listing) -> bytes:
    """Its bytes."""
    digests = b"".join([digest.to_bytes(DIGEST_BYTES, "big") for digest in listing.digests])
    return b"".join([_HEAD.pack(listing.more, len(listing.keys)), *column(listing.keys), digests])


def decode_listing(data: bytes, cursor: bytes) -> Listing:
    """The listing behind `cursor` in `data`. Raises `ValueError` when it does not add up."""
    try:
        more, count = _HEAD.unpack_from(data)
        keys, at = read_column(data, _HEAD.size, count)
    except error as failure:
        raise ValueError(str(failure)) from failure
    if len(data) != at + DIGEST_BYTES * count or (more and not keys):
        raise ValueError(f"a listing of {len(data)} bytes does not add up")
    if sorted({cursor, *keys}) != [cursor, *keys]:
        raise ValueError("the keys of a listing are not in order")
    digests = [int.from_bytes(data[begin : begin + DIGEST_BYTES], "big") for begin in range(at, len(data), DIGEST_BYTES)]
    return Listing(more, keys, digests)
