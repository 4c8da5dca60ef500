"""What an owner lists of a group, damaged registers among it."""

from __future__ import annotations

from functools import reduce
from operator import xor

from kvstore.core.register import held as registers
from kvstore.core.register.ballot import make_ballot
from kvstore.core.register.listing import read_listing
from kvstore.core.register.payload import encode

GROUP = b"\x00\x01\x00\x00\x00\x02"
HELD = registers.encode(make_ballot(3, 1, 1) + bytes(8), encode(b"v" * 20, b"v"))
DAMAGED = HELD[:-1] + b"?"


def digest(*pairs: tuple[bytes, bytes], lost: int = 77) -> int:
    return reduce(xor, read_listing(pairs, GROUP, 9, lost).digests, 0)


def test_bug_two_damaged_registers_of_a_group_came_to_the_digest_of_none() -> None:
    """1. A home replica misses writes of a key. 2. Bits flip in two registers of the group at the one that has them: both had the
    same digest, and the group's, their XOR, was that of a group without any. 3. The first one, which had been as empty once, took
    that for a proof that it missed nothing, and answered alone what had been overwritten for seconds (`kv sim run --scenario
    timeline --seed 62951`)."""
    one, two = (GROUP + b"a", DAMAGED), (GROUP + b"b", DAMAGED)
    assert digest(one, two) not in (0, digest(one), digest(two))
    assert digest(one, two) != digest(one, two, lost=78), "it is nobody else's"


def test_what_is_whole_has_the_same_digest_everywhere() -> None:
    assert digest((GROUP + b"a", HELD)) == digest((GROUP + b"a", HELD), lost=78) != digest((GROUP + b"a", DAMAGED))
