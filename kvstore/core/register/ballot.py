"""Ballots, stamps and versions as bytes that order as they must (safety rule 16).

    ballot    round u64 | node tag u64 | incarnation u64      24 bytes; zeros: none
    stamp     ballot | sequence u64                           32 bytes; of one accept
    version   round u64 | sequence u64 | 4 bytes of the incarnation    20 bytes; of one value

A round is promised to one ballot only (`may_promise`), so that no two ballots with a majority share one: versions of a key, which
begin with round and sequence, then order as bytes. The incarnation is drawn for each life of a proposer: no ballot has two lives.
"""

from __future__ import annotations

from struct import Struct

from xxhash import xxh3_64_intdigest

GROUP_BYTES = 6
BALLOT_BYTES = 24
STAMP_BYTES = 32
VERSION_BYTES = 20
NO_BALLOT = bytes(BALLOT_BYTES)
NO_STAMP = bytes(STAMP_BYTES)
NO_VERSION = bytes(VERSION_BYTES)
SEQUENCE_MAX = 1 << 40
"""A proposer takes a new ballot before it: round * 2^40 + sequence is a fencing token."""

_BALLOT = Struct(">QQQ")


def node_tag(node: str) -> int:
    """64 bits that stand for a node in its ballots."""
    return xxh3_64_intdigest(node.encode())


def make_ballot(round_: int, tag: int, incarnation: int) -> bytes:
    """The ballot of that round by the node with `tag` in the life `incarnation`."""
    return _BALLOT.pack(round_, tag, incarnation)


def round_of(ballot: bytes) -> int:
    """Its round; works for stamps and versions as well."""
    return int.from_bytes(ballot[:8], "big")


def tag_of(ballot: bytes) -> int:
    """Whose it is; works for stamps as well."""
    return int.from_bytes(ballot[8:16], "big")


def sequence_of(stamp: bytes) -> int:
    """The sequence of a stamp."""
    return int.from_bytes(stamp[24:], "big")


def version_of(ballot: bytes, sequence: int) -> bytes:
    """The version of the value that is made with this sequence."""
    return ballot[:8] + sequence.to_bytes(8, "big") + ballot[16:20]


def may_promise(ballot: bytes, promised: bytes) -> bool:
    """Whether an acceptor that has promised `promised` serves `ballot`: the same one, or one of a later round."""
    return ballot == promised or ballot[:8] > promised[:8]
